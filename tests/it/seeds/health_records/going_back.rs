//! Back to what it was at a time, by command.

use super::super::desk::Door;
use super::Practice;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use tests::sqlite::sqlite_differences;

/// A new upload, by the columns that the old models have.
const UPLOAD: &str =
    "INSERT INTO health_record (user_id, filename, timestamp) VALUES (1, 'new.pdf', '2025-06-01 12:00:00')";

fn the_database_as_it_was_at_a_time_comes_back(door: Door) {
    let mut practice = Practice::of(door, 2000);
    // The application uses WAL, and what it wrote last is not in the file itself.
    practice.sqlite3("PRAGMA journal_mode = WAL");
    practice.desk.backup_agent(&["backup", "health"]).expect_code(0);
    let (night, at) = (practice.dump(), jiff::Timestamp::now().to_string());
    practice.sqlite3(UPLOAD);
    let day = practice.dump();
    let ended = practice.desk.upgrade("health", "succeeded");
    practice.sqlite3(UPLOAD);
    practice.desk.close();
    let inode = std::fs::metadata(practice.database()).unwrap().ino();

    let to_night = ["restore", "health", "--at", &at, "--in-place", "--yes"];
    practice.desk.backup_agent(&to_night).expect_code(0);
    assert_eq!(sqlite_differences(&night, &practice.dump()), Vec::<String>::new());
    // What was uploaded between is in the backup that was made for the migration.
    let to_day = ["restore", &ended.backup(), "--in-place", "--yes"];
    practice.desk.backup_agent(&to_day).expect_code(0);
    assert_eq!(sqlite_differences(&day, &practice.dump()), Vec::<String>::new());
    assert_eq!(std::fs::metadata(practice.database()).unwrap().ino(), inode, "another file took the database's place");

    // The old version runs on it, and the migration begins as from the beginning.
    let mut old = Command::new("python3");
    let done = old.arg("models_old_smoke.py").current_dir(practice.desk.file("app"));
    let done = done.env("HEALTH_RECORDS_DB", practice.database()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    practice.desk.upgrade("health", "succeeded");
    assert_eq!(practice.sqlite3("SELECT count(*) FROM health_record WHERE processing_status = 'completed'"), "2001");
}

#[test]
fn the_database_as_it_was_at_a_time_comes_back_after_a_command() {
    the_database_as_it_was_at_a_time_comes_back(Door::Command);
}

#[test]
fn the_database_as_it_was_at_a_time_comes_back_after_a_message() {
    the_database_as_it_was_at_a_time_comes_back(Door::Message);
}
