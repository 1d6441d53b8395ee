//! The commands, as a user runs them, and killed at every point.

use std::path::Path;
use std::time::{Duration, SystemTime};
use tests::agent::Agent;
use tests::sqlite::TestFile;

fn changed() -> TestFile {
    let file = TestFile::named("shop.db");
    file.sqlite3("CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)");
    change(&file);
    file
}

fn change(file: &TestFile) {
    file.sqlite3("DELETE FROM t; INSERT INTO t SELECT value, randomblob(9000) FROM generate_series(1, 20)");
}

fn backup(agent: &Agent, file: &TestFile) -> String {
    change(file);
    agent.ok(&["backup", &file.url(), "--name", "shop"]).stdout.trim().to_owned()
}

/// Makes everything below a directory so much older.
fn age(dir: &Path, by: Duration) {
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age(&path, by);
        } else {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - by).unwrap();
        }
    }
}

fn count(agent: &Agent, folder: &str) -> usize {
    fn files(dir: &Path) -> usize {
        let entries = std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
    }
    files(&agent.store_dir().join(folder))
}

#[test]
fn a_backup_goes_comes_back_and_goes_for_good() {
    let (agent, file) = (Agent::new(), changed());
    let (old, new) = (backup(&agent, &file), backup(&agent, &file));
    let dry = agent.ok(&["forget", &old]);
    assert!(dry.stdout.starts_with(&format!("forget  {old}")) && dry.stderr.contains("nothing was changed"), "{dry:?}");
    assert!(agent.ok(&["list"]).stdout.contains(&old));
    agent.ok(&["forget", &old, "--apply"]);
    assert!(!agent.ok(&["list"]).stdout.contains(&old));
    let trash = agent.ok(&["list", "--trash"]).stdout;
    assert!(trash.contains(&old) && trash.contains("can come back until"), "{trash}");
    for command in
        [&["verify", &*old][..], &["restore", &old, "--into", "sqlite:x.db"], &["show", &old], &["hold", &old]]
    {
        let run = agent.run(command).expect_code(3);
        assert!(run.stderr.contains("was forgotten") && run.stderr.contains(&format!("unforget {old}")), "{run:?}");
    }
    agent.ok(&["unforget", &old]);
    agent.ok(&["restore", &old, "--into", "sqlite:back.db"]);
    let run = agent.run(&["forget", &old, "--apply"]).expect_code(3);
    assert!(run.stderr.contains("the newest proven backup"), "{}", run.stderr);
    agent.ok(&["restore", &new, "--into", "sqlite:newest.db"]);
    agent.ok(&["forget", &old, "--apply"]);
    assert_eq!(count(&agent, "packs"), 2);
    age(&agent.store_dir(), Duration::from_secs(80 * 3600));
    assert_eq!(agent.run(&["unforget", &old]).code, Some(3));
    let dry = agent.ok(&["prune"]);
    assert!(dry.stdout.contains("removable   1 pack") && count(&agent, "packs") == 2, "{dry:?}");
    assert!(agent.ok(&["prune", "--grace", "90h"]).stdout.contains("removable   0 packs"));
    agent.ok(&["prune", "--apply"]);
    assert_eq!((count(&agent, "packs"), count(&agent, "trash"), count(&agent, "leases")), (1, 0, 0));
    agent.ok(&["restore", &new, "--into", "sqlite:new.db"]);
    assert!(agent.ok(&["list", "--trash"]).stdout.is_empty());
}

#[test]
fn wrong_usage_and_refusals_change_nothing() {
    let (agent, file) = (Agent::new(), changed());
    let (old, new) = (backup(&agent, &file), backup(&agent, &file));
    for (command, code, text) in [
        (&["forget"][..], 2, "BACKUP"),
        (&["forget", "--apply"], 2, "BACKUP"),
        (&["forget", "shop", "--apply"], 2, "name the backups to forget"),
        (&["forget", "nothing/x", "--apply"], 3, "holds no backup"),
        (&["forget", &new, "--apply"], 3, "the newest complete backup"),
        (&["prune", "--grace", "23h"], 2, "at least 24h"),
        (&["prune", "--grace", "soon"], 2, "no length of time"),
        (&["hold", &old, "--owner", "Bob"], 2, "cannot own a hold"),
        (&["release", &old, "--owner", "bob"], 3, "nobody does"),
        (&["unforget", &old], 3, "is not forgotten"),
        (&["unforget", "shop/20200101"], 3, "holds no backup"),
    ] {
        let run = agent.run(command).expect_code(code);
        assert!(run.stderr.contains(text), "{command:?}: {}", run.stderr);
    }
    agent.ok(&["hold", &old, "--owner", "bob", "--reason", "audit"]);
    assert!(agent.ok(&["list"]).stdout.contains("on hold by bob"));
    assert!(agent.ok(&["show", &old]).stdout.contains("audit"));
    let run = agent.run(&["forget", &old, "--apply"]).expect_code(3);
    assert!(run.stderr.contains("on hold by bob (audit)"), "{}", run.stderr);
    assert!(agent.run(&["release", &old, "--owner", "eve"]).expect_code(3).stderr.contains("bob does"));
    agent.ok(&["release", &old, "--owner", "bob"]);
    agent.ok(&["forget", &old, "--apply"]);
}

/// Kills `command` at its first, second, … point, each time on a copy of the same store, and runs it again to its end.
fn killed_everywhere(agent: &Agent, command: &[&str], check: impl Fn(&Agent)) {
    let copy = |from: &str, to: &str| {
        let done = std::process::Command::new("cp").args(["-a", from, to]).current_dir(agent.home()).status().unwrap();
        assert!(done.success());
    };
    let fresh = || {
        for dir in ["store", "holdfast-spool"] {
            let _ = std::fs::remove_dir_all(agent.home().join(dir));
        }
        copy("saved", "store");
    };
    copy("store", "saved");
    let mut points = 0;
    for at in 1..100 {
        fresh();
        let killed =
            agent.command(command).env("HOLDFAST_CRASH_AT", at.to_string()).output().unwrap().status.code().is_none();
        if !killed {
            break;
        }
        points += 1;
        agent.ok(&["verify"]);
        let again = agent.run(command);
        // What was done already is refused, and nothing else is.
        assert!(matches!(again.code, Some(0 | 3)), "{command:?} killed at {at}: {again:?}");
        check(agent);
    }
    assert!(points >= 4, "{command:?} has only {points} points");
    fresh();
    agent.ok(command);
    check(agent);
    std::fs::remove_dir_all(agent.home().join("saved")).unwrap();
}

#[test]
fn killed_at_every_point_forget_unforget_hold_release_and_prune_lose_nothing_and_can_be_repeated() {
    let (agent, file) = (Agent::new(), changed());
    let (old, new) = (backup(&agent, &file), backup(&agent, &file));
    killed_everywhere(&agent, &["forget", &old, "--apply"], |agent| {
        let list = agent.ok(&["list"]).stdout;
        assert!(!list.contains(&old) && list.contains(&new), "{list}");
        agent.ok(&["unforget", &old]);
        agent.ok(&["verify"]);
    });
    agent.ok(&["forget", &old, "--apply"]);
    killed_everywhere(&agent, &["unforget", &old], |agent| {
        assert!(!agent.ok(&["list"]).stdout.contains("incomplete"));
        agent.ok(&["restore", &old, "--into", "sqlite:back.db", "--no-proof"]);
        std::fs::remove_file(agent.home().join("back.db")).unwrap();
    });
    agent.ok(&["forget", &old, "--apply"]);
    age(&agent.store_dir(), Duration::from_secs(80 * 3600));
    killed_everywhere(&agent, &["prune", "--apply"], |agent| {
        assert_eq!((count(agent, "packs"), count(agent, "trash")), (1, 0));
        agent.ok(&["verify"]);
    });
}
