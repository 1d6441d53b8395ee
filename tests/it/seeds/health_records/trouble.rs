//! What goes wrong: nothing is changed, and it is said why.

use super::super::desk::Door;
use super::{Practice, SECRET};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tests::sqlite::sqlite_dump_text;

fn one_report_that_breaks_the_script_stops_all_of_it(door: Door) {
    let mut practice = Practice::new(door);
    practice.sqlite3("UPDATE report SET created_at = NULL WHERE id = 6543");
    let before = practice.dump();
    let refused = practice.desk.upgrade("health", "refused");
    refused.says(&[
        "the rehearsal failed",
        "ERROR: the migration failed and was rolled back: report 6543 has no created_at",
    ]);
    assert_eq!(practice.dump(), before);
    // Once more as from the beginning: no column is there already.
    practice.sqlite3("UPDATE report SET created_at = '2024-02-29 10:00:00' WHERE id = 6543");
    practice.desk.upgrade("health", "succeeded");
    let identifier = practice.sqlite3("SELECT unique_identifier FROM report WHERE id = 6543");
    assert_eq!(identifier, "328-6543-1-20240229-6543");
}

#[test]
fn one_report_that_breaks_the_script_stops_all_of_it_by_command() {
    one_report_that_breaks_the_script_stops_all_of_it(Door::Command);
}

#[test]
fn one_report_that_breaks_the_script_stops_all_of_it_by_message() {
    one_report_that_breaks_the_script_stops_all_of_it(Door::Message);
}

fn a_script_that_counts_wrong_is_found_out_by_the_checks(door: Door) {
    let mut practice = Practice::of(door, 500);
    practice.edit_script("created_at).strftime(\"%Y%m%d\")", "created_at).strftime(\"%Y-%m-%d\")");
    let before = practice.dump();
    practice.desk.upgrade("health", "refused").says(&["identifiers have their form", "1-1-2-2023-02-01-1"]);
    assert_eq!(practice.dump(), before);
}

#[test]
fn a_script_that_counts_wrong_is_found_out_by_the_checks_by_command() {
    a_script_that_counts_wrong_is_found_out_by_the_checks(Door::Command);
}

#[test]
fn a_script_that_counts_wrong_is_found_out_by_the_checks_by_message() {
    a_script_that_counts_wrong_is_found_out_by_the_checks(Door::Message);
}

fn a_script_killed_halfway_leaves_the_database_as_it_was(door: Door) {
    let mut practice = Practice::of(door, 2000);
    let before = practice.dump();
    // All columns are there, no report is done; only where it counts: the rehearsal's copy lies in another folder.
    let kill = "migrate_health_records(db)\n        if '/apply/' in database_path(): os.kill(os.getpid(), 9)";
    practice.edit_script(
        "migrate_health_records(db)\n        migrate_reports",
        &format!("{kill}\n        migrate_reports"),
    );
    practice.desk.upgrade("health", "restored").says(&["command was ended by a signal"]);
    assert_eq!(practice.dump(), before);
}

#[test]
fn a_script_killed_halfway_leaves_the_database_as_it_was_by_command() {
    a_script_killed_halfway_leaves_the_database_as_it_was(Door::Command);
}

#[test]
fn a_script_killed_halfway_leaves_the_database_as_it_was_by_message() {
    a_script_killed_halfway_leaves_the_database_as_it_was(Door::Message);
}

#[test]
fn a_command_killed_halfway_is_taken_back_or_finished_by_the_next() {
    let practice = Practice::of(Door::Command, 2000);
    practice.sqlite3("PRAGMA journal_mode = WAL");
    let (before, by_hand) = (practice.dump(), practice.migrated_by_hand());
    for (place, outcome) in [
        ("promote: a copy is made", "restored"),
        ("promote: the live database is locked", "restored"),
        ("promote: after the commit", "succeeded"),
    ] {
        practice.desk.agent.killed_at(place, &["apply", "health"]);
        let job = practice.desk.newest("health");
        practice.desk.agent.ok(&["run", "--until-idle"]);
        practice.desk.ended(&job, "").is(outcome);
        let left = practice.dump();
        assert!(left == if outcome == "restored" { &*before } else { &*by_hand }, "{place}: neither before nor after");
    }
}

#[test]
fn a_worker_killed_halfway_is_gone_on_for_by_the_next_and_the_message_is_not_done_twice() {
    let mut practice = Practice::of(Door::Message, 2000);
    practice.sqlite3("PRAGMA journal_mode = WAL");
    let (before, by_hand) = (practice.dump(), practice.migrated_by_hand());
    practice.desk.open();
    practice.desk.close();
    for (place, outcome) in
        [("promote: the live database is locked", "restored"), ("promote: after the commit", "succeeded")]
    {
        let job = practice.desk.send("health", serde_json::json!({}));
        practice.desk.agent.killed_at(place, &["run"]);
        practice.desk.open();
        practice.desk.end_of(&job).is(outcome);
        let left = practice.dump();
        assert!(left == if outcome == "restored" { &*before } else { &*by_hand }, "{place}: neither before nor after");
        practice.desk.close();
    }
}

fn without_a_secret_key_nothing_is_begun(door: Door) {
    let mut practice = Practice::of(door, 100);
    let before = practice.dump();
    practice.desk.set_env("SECRET_KEY", "");
    if door == Door::Command {
        let run = practice.desk.agent.run(&["apply", "health"]).expect_code(3);
        assert!(format!("{}{}", run.stdout, run.stderr).contains("variables that are not set: SECRET_KEY"), "{run:?}");
    } else {
        practice.desk.upgrade("health", "refused").says(&["variables that are not set: SECRET_KEY"]);
    }
    assert_eq!(practice.dump(), before);
    assert!(!practice.desk.agent.store_dir().exists(), "a backup was begun");

    practice.desk.set_env("SECRET_KEY", SECRET);
    practice.desk.set_env("HOLDFAST_LOG", "trace");
    practice.edit_script("print(\"migrated:\")", "print(os.environ[\"SECRET_KEY\"])");
    practice.desk.upgrade("health", "succeeded").says(&["***"]);
    practice.desk.close();
    for file in files_below(practice.desk.agent.home()) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "{} holds the secret", file.display());
    }
}

#[test]
fn without_a_secret_key_nothing_is_begun_by_command() {
    without_a_secret_key_nothing_is_begun(Door::Command);
}

#[test]
fn without_a_secret_key_nothing_is_begun_by_message() {
    without_a_secret_key_nothing_is_begun(Door::Message);
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let below = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    below.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// A process of the application that is in the middle of writing.
struct Celery(Child);

impl Celery {
    #[track_caller]
    fn writes(file: &Path) -> Self {
        let program = "import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute('BEGIN EXCLUSIVE')
print('held', flush=True)
sys.stdin.readline()";
        let mut python = Command::new("python3");
        python.args(["-c", program]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().expect("python3 is missing: run the tests by ops/test");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Celery(child)
    }
}

impl Drop for Celery {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn a_locked_database_is_refused_naming_who_has_it(door: Door) {
    let mut practice = Practice::of(door, 100);
    let before = practice.dump();
    let celery = Celery::writes(&practice.database());
    let refused = practice.desk.upgrade("health", "refused");
    refused.says(&[&format!("python3 (process {})", celery.0.id()), "hint: "]);
    drop(celery);
    assert_eq!(practice.dump(), before);
    practice.desk.upgrade("health", "succeeded");
}

#[test]
fn a_locked_database_is_refused_naming_who_has_it_by_command() {
    a_locked_database_is_refused_naming_who_has_it(Door::Command);
}

#[test]
fn a_locked_database_is_refused_naming_who_has_it_by_message() {
    a_locked_database_is_refused_naming_who_has_it(Door::Message);
}

fn a_file_that_is_missing_or_no_database_is_named(door: Door) {
    let mut practice = Practice::of(door, 100);
    std::fs::write(
        practice.database(),
        "no database at all, but long enough for a header of one hundred bytes, is it not?\n".repeat(3),
    )
    .unwrap();
    practice.desk.upgrade("health", "refused").says(&["health_records.db"]);
    std::fs::remove_file(practice.database()).unwrap();
    practice.desk.upgrade("health", "refused").says(&["health_records.db"]);
    assert!(!practice.database().exists(), "a database was made");
}

#[test]
fn a_file_that_is_missing_or_no_database_is_named_by_command() {
    a_file_that_is_missing_or_no_database_is_named(Door::Command);
}

#[test]
fn a_file_that_is_missing_or_no_database_is_named_by_message() {
    a_file_that_is_missing_or_no_database_is_named(Door::Message);
}

#[test]
fn the_rehearsal_alone_leaves_the_database_as_it_was() {
    let practice = Practice::of(Door::Command, 500);
    let before = practice.dump();
    let run = practice.desk.agent.ok(&["rehearse", "health"]);
    for words in ["+column processing_status", "+column unique_identifier", "table task_log: new, 0 rows"] {
        assert!(run.stdout.contains(words), "{words:?} is missing: {}", run.stdout);
    }
    assert_eq!(sqlite_dump_text(&practice.database()), before);
}
