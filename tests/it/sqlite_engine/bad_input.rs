//! What is not a database, or cannot be read, is refused by name and left as it was.

use super::{NAMESPACE, Place, refusal, run_again, small_disk};
use rusqlite::Connection;
use shared::engine::sqlite::SqliteEngine;
use shared::engine::{Engine, EngineError};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn what_is_not_a_database_is_refused_and_not_touched() {
    let place = Place::new();
    let mut encrypted = vec![0x5a; 8192];
    encrypted[0] = 1;
    let mut wrong_magic = b"SQLite format 4\0".to_vec();
    wrong_magic.resize(4096, 0);
    for (name, body, said) in [
        ("empty", Vec::new(), "empty (0 bytes)"),
        ("one", vec![b'x'], "1 bytes only: not an SQLite database"),
        ("zero", vec![0], "not an SQLite database"),
        ("magic", wrong_magic, "not an SQLite database"),
        ("encrypted", encrypted, "or it is encrypted"),
        ("text", b"id,name\n1,x\n".repeat(100), "not an SQLite database"),
    ] {
        let path = place.path(name);
        fs::write(&path, &body).unwrap();
        for message in [refusal(place.dump(&path).await), refusal(SqliteEngine::new(path.clone()).probe().await)] {
            assert!(message.contains(said) && message.contains(name), "{message}");
            assert!(!message.contains('\n'));
        }
        assert_eq!(fs::read(&path).unwrap(), body);
        fs::remove_file(&path).unwrap();
        assert_eq!(place.names(), Vec::<String>::new(), "{name}");
    }
}

#[tokio::test]
async fn a_log_beside_an_empty_file_survives() {
    let place = Place::new();
    fs::write(place.path("a.db"), "").unwrap();
    fs::write(place.path("a.db-wal"), "the only copy").unwrap();
    fs::write(place.path("a.db-journal"), "the only copy").unwrap();
    refusal(place.dump(&place.path("a.db")).await);
    assert_eq!(place.names(), ["a.db", "a.db-journal", "a.db-wal"]);
}

#[tokio::test]
async fn a_missing_file_and_a_directory_are_named() {
    let place = Place::new();
    let message = refusal(place.dump(&place.path("none.db")).await);
    assert!(message.contains("no database file") && message.contains("none.db"), "{message}");
    let message = refusal(place.dump(&place.path("no/such/dir.db")).await);
    assert!(message.contains("no database file"), "{message}");
    fs::create_dir(place.path("dir")).unwrap();
    let message = refusal(place.dump(&place.path("dir")).await);
    assert!(message.contains("is a directory"), "{message}");
    std::os::unix::fs::symlink("nowhere", place.path("dangling")).unwrap();
    refusal(place.dump(&place.path("dangling")).await);
    assert_eq!(place.names(), ["dangling", "dir"]);
}

#[tokio::test]
async fn a_file_this_user_may_not_read_is_refused() {
    let place = Place::new();
    let path = place.database("closed.db", "CREATE TABLE t(x)");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&path).is_ok() {
        // Root may read everything: the test runs again as nobody.
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        return run_again(&nobody, "sqlite_engine::bad_input::a_file_this_user_may_not_read_is_refused");
    }
    let message = refusal(place.dump(&path).await);
    assert!(message.contains("cannot be opened") && message.contains("mode 000"), "{message}");
}

#[tokio::test]
async fn a_damaged_page_of_a_table_is_an_error_that_names_the_remedy() {
    let place = Place::new();
    let path = place.database(
        "damaged.db",
        "CREATE TABLE t(x); WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         INSERT INTO t SELECT 'row ' || i FROM n;",
    );
    let mut bytes = fs::read(&path).unwrap();
    bytes[40 * 4096..41 * 4096].fill(0xee);
    fs::write(&path, &bytes).unwrap();
    let error = place.dump(&path).await.unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(error.hint().unwrap().contains(".recover"));
    assert_eq!(place.names(), ["damaged.db"]);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn an_exclusive_lock_is_waited_for_and_then_named() {
    let place = Place::new();
    let path = place.database("busy.db", "CREATE TABLE t(x)");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let error = place.dump(&path).await.unwrap_err();
    assert!(matches!(error, EngineError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("busy.db") && error.hint().is_some(), "{error}");
    other.execute_batch("COMMIT").unwrap();
    place.dump(&path).await.unwrap();
}

#[tokio::test]
async fn a_full_spool_is_an_error_that_leaves_nothing() {
    let place = Place::new();
    let path = place.database("big.db", "CREATE TABLE t(x); INSERT INTO t VALUES(zeroblob(3000000))");
    let full = place.path("full");
    fs::create_dir(&full).unwrap();
    if !small_disk(&full) {
        return run_again(&NAMESPACE, "sqlite_engine::bad_input::a_full_spool_is_an_error_that_leaves_nothing");
    }
    let options = shared::engine::DumpOptions { spool: full.join("spool"), ..place.options() };
    let error = tests::memory::dump(&SqliteEngine::new(path), &options).await.unwrap_err();
    let left = fs::read_dir(full.join("spool")).unwrap().count();
    assert!(std::process::Command::new("umount").arg(&full).status().unwrap().success());
    assert!(error.to_string().contains("no space left in the spool directory"), "{error}");
    assert!(error.hint().is_some());
    assert_eq!(left, 0);
}
