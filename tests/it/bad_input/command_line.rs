//! Wrong usage, wrong configuration, and readers that go away.

use super::*;
use std::io::Read;

#[test]
fn wrong_usage_ends_with_2_and_makes_nothing() {
    let agent = Agent::new();
    let source = small();
    let url = source.url();
    for arguments in [
        vec![],
        vec!["no-such-command"],
        vec!["backup"],
        vec!["backup", &url, "--no-such-flag"],
        vec!["backup", &url, "--jobs", "0"],
        vec!["backup", &url, "--jobs", "many"],
        vec!["backup", &url, "second"],
        vec!["backup", "sqlite:"],
        vec!["backup", "mysql://host/db"],
        vec!["backup", "postgres://host"],
        vec!["backup", "postgres://host/db?options=-cx"],
        vec!["backup", "no-such-name"],
        vec!["backup", "./path/without/scheme.db"],
        vec!["restore", "small"],
        vec!["restore", "small", "--into", "elsewhere"],
        vec!["init", "--codec", "lzma"],
        vec!["drill", "--scratch", "elsewhere"],
        vec!["list", "Not A Name"],
    ] {
        let run = agent.run(&arguments).expect_code(2);
        assert!(!run.stderr.is_empty() && !run.stderr.contains("panicked"), "{arguments:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{arguments:?}");
    }
    assert_eq!(left(&agent), Vec::<String>::new());
}

#[test]
fn a_wrong_url_never_repeats_its_password() {
    let agent = Agent::new();
    for url in ["postgres://u:canary@host", "postgres://u:canary@h:port/d", "postgres://u@h/d?password=canary&x=1"] {
        agent.run(&["-vv", "backup", url]).expect_code(2).never_says("canary");
        agent.run(&["-vv", "restore", "x", "--into", url]).expect_code(2).never_says("canary");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let agent = Agent::new();
    let top = agent.ok(&["--help"]).stdout;
    assert!(top.contains("Exit codes: 0 done"), "{top}");
    for command in ["init", "backup", "list", "show", "restore", "verify", "drill", "export", "demo"] {
        let help = agent.ok(&[command, "--help"]).stdout;
        assert!(help.contains("Example: ") && help.contains("backup-agent"), "{help}");
        assert!(top.contains(command));
    }
    assert!(agent.ok(&["--version"]).stdout.starts_with("backup-agent "));
}

#[test]
fn mistakes_in_the_configuration_are_named_with_file_and_line() {
    let agent = Agent::new();
    let config = agent.home().join("holdfast.toml");
    for (text, why) in [
        ("[store]\nurll = \"file:x\"\n", "line 2: unknown field `urll`"),
        ("[stores]\n", "unknown field `stores`"),
        ("[database.shop]\nurl = \"sqlite:x\"\nkeep = 3\n", "line 3: unknown field `keep`"),
        ("[database.\"My Shop\"]\nurl = \"sqlite:x\"\n", "cannot name a database"),
        ("[database.shop]\nurl = \"mysql://u:canary@h/d\"\n", "url of [database.shop]"),
        ("[database.shop]\nurl = \"sqlite:x\"\nurl_env = \"X\"\n", "exactly one of"),
        ("[database.shop]\nurl_env = \"NOT_SET_ANYWHERE\"\n", "NOT_SET_ANYWHERE is not set"),
        ("[database.shop]\nurl_file = \"absent\"\n", "absent"),
        ("[database.shop]\nurl = \"postgres://u:canary@h/d\n", "line 2"),
        ("not toml at all", "line 1"),
    ] {
        std::fs::write(&config, text).unwrap();
        let run = agent.run(&["backup", "shop"]);
        assert!(matches!(run.code, Some(2 | 3)), "{text:?}: {:?} {}", run.code, run.stderr);
        says(&run, why);
        run.never_says("canary");
    }
    std::fs::remove_file(&config).unwrap();
    refuses(&agent, &["--config", "absent.toml", "list"], &super::text(agent.home().join("absent.toml")));
    assert_eq!(left(&agent), Vec::<String>::new());
}

#[test]
fn relative_paths_in_the_configuration_count_from_its_file() {
    let agent = Agent::new().with_store(None);
    let folder = agent.home().join("etc");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(small().path(), folder.join("app.db")).unwrap();
    let text = "[store]\nurl = \"file:backups\"\n[database.shop]\nurl = \"sqlite:app.db\"\n";
    std::fs::write(folder.join("holdfast.toml"), text).unwrap();
    let id = agent.ok(&["--config", "etc/holdfast.toml", "backup", "shop"]).stdout;
    assert!(id.starts_with("shop/"), "{id}");
    assert!(folder.join("backups/holdfast.json").is_file());
    // A store named on the command line counts from the working directory, and wins.
    agent.ok(&["--config", "etc/holdfast.toml", "--store", "file:here", "backup", "shop"]);
    assert!(agent.home().join("here/holdfast.json").is_file());
    agent.ok(&["--config", "etc/holdfast.toml", "drill", "shop"]);
}

#[test]
fn with_json_standard_output_is_one_document_and_nothing_else() {
    let (agent, source, id) = one_backup();
    for arguments in [
        vec!["-vv", "backup", &source.url(), "--json"],
        vec!["-vv", "list", "--json"],
        vec!["-vv", "show", &id, "--json"],
        vec!["-vv", "verify", "--json"],
        vec!["-vv", "restore", &id, "--into", "sqlite:a.db", "--json"],
        vec!["-vv", "restore", &id, "--into", "sqlite:b.db", "--preview", "--json"],
        vec!["-vv", "drill", "small", "--json"],
    ] {
        let run = agent.run(&arguments).expect_code(0);
        run.json();
    }
    // Without it, the id is all there is to read for a script.
    let run = agent.ok(&["backup", &source.url()]);
    assert_eq!(run.stdout.lines().count(), 1);
    assert!(agent.ok(&["-q", "backup", &source.url()]).stdout.starts_with("small/"));
}

/// Starts the program with a standard output (or error) that nobody reads any more.
fn with_reader_gone(agent: &Agent, arguments: &[&str], closed: &str) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = agent.command(arguments);
    match closed {
        "stdout" => command.stdout(writer),
        _ => command.stderr(writer),
    };
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said).unwrap();
    }
    (child.wait().unwrap().code(), said)
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    let (agent, source, id) = one_backup();
    for arguments in [
        vec!["list"],
        vec!["list", "--json"],
        vec!["show", &id],
        vec!["show", &id, "--json"],
        vec!["verify", "--json"],
        vec!["backup", &source.url()],
        vec!["backup", &source.url(), "--json"],
    ] {
        let (code, said) = with_reader_gone(&agent, &arguments, "stdout");
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
    let (code, said) = with_reader_gone(&agent, &["export", &id, "-o", "-"], "stdout");
    assert!(code.is_some_and(|code| code < 2) && !said.contains("panicked"), "{code:?} {said}");
    for (arguments, wanted) in [
        (vec!["backup", &source.url()], 0),
        (vec!["verify"], 0),
        (vec!["restore", &id, "--into", "sqlite:new.db"], 0),
        (vec!["show", "absent"], 3),
        (vec!["backup", "mysql://x/y"], 2),
    ] {
        let (code, _) = with_reader_gone(&agent, &arguments, "stderr");
        assert_eq!(code, Some(wanted), "{arguments:?}");
    }
    assert!(agent.home().join("new.db").exists());
}

#[test]
fn data_that_cannot_be_written_are_a_failure() {
    let (agent, _source, id) = one_backup();
    for arguments in [vec!["list"], vec!["show", &id, "--json"], vec!["export", &id, "-o", "-"]] {
        let mut command = agent.command(&arguments);
        command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("No space left on device"), "{arguments:?}: {said}");
    }
}
