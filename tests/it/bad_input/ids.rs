//! Backups and databases that are not there, not unique, or not the ones they were.

use super::*;

#[test]
fn an_unknown_backup_is_refused_by_every_command() {
    let (agent, _source, id) = one_backup();
    let before = left(&agent);
    for unknown in ["small/20200101T000000Z-000000", "other/20200101T000000Z-000000", "20200101T000000Z-000000", "x"] {
        for arguments in [
            vec!["show", unknown],
            vec!["export", unknown],
            vec!["verify", unknown],
            vec!["restore", unknown, "--into", "sqlite:new.db"],
        ] {
            let run = refuses(&agent, &arguments, "holds no backup");
            says(&run, "hint: backup-agent list shows what there is");
        }
    }
    for odd in ["../../etc/passwd", "small/../small", "Small/x", "small/", "/", "", "small/*"] {
        let run = agent.run(&["show", odd]);
        assert!(matches!(run.code, Some(2 | 3)), "{odd:?}: {:?} {}", run.code, run.stderr);
    }
    refuses(&agent, &["restore", "other", "--at", "latest", "--into", "sqlite:new.db"], "holds no backup of other");
    refuses(&agent, &["drill", "other"], "holds no backup of other");
    assert_eq!(left(&agent), before);
    // A beginning that is unique will do.
    agent.ok(&["show", &id[..id.len() - 3]]);
}

#[test]
fn an_ambiguous_beginning_is_refused() {
    let (agent, source, first) = one_backup();
    let second = agent.ok(&["backup", &source.url()]).stdout.trim().to_owned();
    let common = common_beginning(&first, &second);
    for arguments in [vec!["show", common], vec!["export", common], vec!["restore", common, "--into", "sqlite:new.db"]]
    {
        let run = refuses(&agent, &arguments, "is not unique: 2 backups begin so");
        says(&run, "hint: give more of the id");
    }
    assert!(!agent.home().join("new.db").exists());
    agent.ok(&["backup", &source.url(), "--name", "other"]);
    let run = refuses(&agent, &["show", "2"], "is not unique: 3 backups begin so");
    says(&run, "<database>/<id>");
}

fn common_beginning<'a>(left: &'a str, right: &str) -> &'a str {
    let length = left.bytes().zip(right.bytes()).take_while(|(a, b)| a == b).count();
    &left[..length]
}

#[test]
fn a_list_of_a_database_without_backups_is_empty() {
    let (agent, _source, _id) = one_backup();
    assert_eq!(agent.json(&["list", "other"]), serde_json::json!([]));
    assert_eq!(agent.ok(&["list", "other"]).stdout, "");
}

#[test]
fn a_name_whose_backups_are_of_another_database_is_refused_unless_meant() {
    let (agent, _source, _id) = one_backup();
    // The same file name in another folder is another database.
    let other = small();
    let run = refuses(&agent, &["backup", &other.url()], "the backups named small are of another database");
    says(&run, &text(other.path()));
    says(&run, "hint: choose another --name, or say --new-identity if the database has moved");
    assert_eq!(agent.json(&["list"]).as_array().unwrap().len(), 1);
    assert!(!agent.store_dir().join("leases").exists(), "a refused backup holds no lease");
    agent.ok(&["backup", &other.url(), "--new-identity"]);
    // From then on the new one is the one.
    agent.ok(&["backup", &other.url()]);
    assert_eq!(agent.json(&["list"]).as_array().unwrap().len(), 3);
}

#[test]
fn database_names_that_do_not_fit_demand_a_name() {
    let agent = Agent::new();
    for name in ["My App.db", "UPPER.db", "ünï.db", ".db", "a.b.db", "-x.db", "it's.db", "new\nline.db", "😀.db"] {
        std::fs::copy(small().path(), agent.home().join(name)).unwrap();
        let url = format!("sqlite:{name}");
        misused(&agent, &["backup", &url], "--name");
        assert!(!agent.store_dir().exists());
        let id = agent.ok(&["backup", &url, "--name", "fits"]).stdout.trim().to_owned();
        agent.ok(&["restore", &id, "--into", "sqlite:restored it's \"new\".db"]);
        std::fs::remove_file(agent.home().join("restored it's \"new\".db")).unwrap();
        std::fs::remove_dir_all(agent.store_dir()).unwrap();
    }
    for name in ["", "A", "-a", "_a", "a/b", "..", "a b", &"a".repeat(42)] {
        agent.run(&["backup", &small().url(), "--name", name]).expect_code(2);
    }
    assert!(!agent.store_dir().exists());
}
