//! Stores that are missing, not repositories, or not writable.

use super::*;

#[test]
fn a_missing_store_is_named_by_its_absolute_path_and_not_made() {
    let agent = Agent::new().with_store(Some("file:no/store"));
    let place = text(agent.home().join("no/store"));
    for arguments in [
        vec!["list"],
        vec!["list", "--json"],
        vec!["show", "x/20250131T030000Z-1a2b3c"],
        vec!["verify"],
        vec!["drill"],
        vec!["export", "x/20250131T030000Z-1a2b3c"],
        vec!["restore", "x", "--at", "latest", "--into", "sqlite:new.db"],
    ] {
        let run = refuses(&agent, &arguments, &place);
        says(&run, "no such directory");
        says(&run, "hint: ");
    }
    assert_eq!(left(&agent), Vec::<String>::new());

    let default = Agent::new().with_store(None);
    refuses(&default, &["list"], &text(default.home().join("holdfast-store")));
    assert_eq!(left(&default), Vec::<String>::new());
}

#[test]
fn a_folder_that_is_no_repository_is_refused_by_commands_that_only_read() {
    let agent = Agent::new();
    std::fs::create_dir(agent.store_dir()).unwrap();
    std::fs::write(agent.store_dir().join("notes.txt"), "mine").unwrap();
    for arguments in [vec!["list"], vec!["verify"], vec!["restore", "x", "--at", "latest", "--into", "sqlite:new.db"]] {
        let run = refuses(&agent, &arguments, "holds no Holdfast repository");
        says(&run, &text(agent.store_dir()));
    }
    assert_eq!(left(&agent), ["store/notes.txt"]);
}

#[test]
fn a_store_that_is_a_file_is_refused() {
    let agent = Agent::new();
    std::fs::write(agent.store_dir(), "mine").unwrap();
    for arguments in [vec!["list"], vec!["init"], vec!["backup", &small().url()]] {
        let run = agent.run(&arguments);
        assert!(matches!(run.code, Some(1 | 3)), "{}: {:?}", run.arguments, run.code);
        says(&run, &text(agent.store_dir()));
    }
    assert_eq!(std::fs::read_to_string(agent.store_dir()).unwrap(), "mine");
}

#[test]
fn an_unwritable_store_is_told_with_the_way_out_and_holds_what_it_held() {
    let (agent, source, id) = one_backup();
    let other = agent.home().join("app.db");
    std::fs::copy(source.path(), &other).unwrap();
    set_mode(&other, 0o644);
    read_only(&agent.store_dir());
    let before = left(&agent);
    set_mode(agent.home(), 0o755);
    let run =
        unprivileged(&agent, &["backup", "sqlite:app.db", "--spool", "/tmp/holdfast-test-unwritable"]).expect_code(1);
    says(&run, &text(agent.store_dir()));
    says(&run, "ermission denied");
    says(&run, "hint: give this user the right to write there");
    assert_eq!(left(&agent), before);
    // Reading needs no right to write.
    let listed = unprivileged(&agent, &["list", "--json"]).expect_code(0);
    assert_eq!(listed.json()[0]["id"], id.as_str());

    let closed = agent.home().join("closed");
    std::fs::create_dir(&closed).unwrap();
    set_mode(&closed, 0o555);
    let agent = agent.with_store(Some("file:closed/store"));
    let run = unprivileged(&agent, &["init"]).expect_code(1);
    says(&run, &text(closed.join("store")));
    assert!(!closed.join("store").exists());
}

fn read_only(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { read_only(&path) } else { set_mode(&path, 0o444) }
    }
    set_mode(folder, 0o555);
}

#[test]
fn a_store_url_of_another_kind_is_refused() {
    for url in ["ftp://host/x", "/just/a/path", "s3://", "s3://key:secret@bucket/x"] {
        let agent = Agent::new().with_store(Some(url));
        let run = agent.run(&["list"]);
        assert!(matches!(run.code, Some(2 | 3)), "{url}: {:?}", run.code);
        says(&run, "store URL");
        run.never_says("secret@");
        assert_eq!(left(&agent), Vec::<String>::new());
    }
}

#[test]
fn another_codec_for_an_existing_repository_is_refused() {
    let (agent, _source, _id) = one_backup();
    refuses(&agent, &["init", "--codec", "zstd"], "holds a repository with codec gzip");
    agent.ok(&["init"]);
}
