//! Dumps of databases that are in use, or were left by a crash.

use super::{Place, goes_round, restore, sqlite3};
use rusqlite::Connection;
use shared::engine::Engine;
use shared::engine::sqlite::SqliteEngine;
use shared::model::Identity;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::test]
async fn frames_still_in_the_wal_are_in_the_dump_and_the_wal_stays() {
    let place = Place::new();
    let path = place.path("wal.db");
    let app = Connection::open(&path).unwrap();
    app.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(x)").unwrap();
    app.execute_batch(
        "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 3001) INSERT INTO t SELECT i FROM n",
    )
    .unwrap();
    let (file, wal) = (fs::read(&path).unwrap().len(), fs::metadata(place.path("wal.db-wal")).unwrap().len());
    let source = goes_round(&place, &path).await;
    assert_eq!(source.dump.fingerprint.tables["\"t\""].rows, 3001);
    assert_eq!(source.dump.facts["had_wal"], true);
    assert_eq!(source.dump.facts["journal_mode"], "wal");
    let after = (fs::read(&path).unwrap().len(), fs::metadata(place.path("wal.db-wal")).unwrap().len());
    assert_eq!((file, wal), after, "a dump must not checkpoint");
    assert!(place.names().iter().all(|name| name.starts_with("restored.db") || name.starts_with("wal.db")));
    drop(app);
}

#[tokio::test]
async fn a_wal_that_a_killed_application_left_is_read_and_kept() {
    let place = Place::new();
    let made = place.path("made.db");
    let app = Connection::open(&made).unwrap();
    app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    for suffix in ["", "-wal"] {
        fs::copy(place.path(&format!("made.db{suffix}")), place.path(&format!("left.db{suffix}"))).unwrap();
    }
    let wal = fs::read(place.path("left.db-wal")).unwrap();
    let source = place.dump(&place.path("left.db")).await.unwrap();
    assert_eq!(source.dump.fingerprint.tables["\"t\""].rows, 1);
    assert_eq!(fs::read(place.path("left.db-wal")).unwrap(), wal);
    drop(app);
}

/// Two accounts whose sum never changes; a copy that mixes two states shows another sum.
fn transfers(path: &Path, stop: &AtomicBool) -> u64 {
    let app = Connection::open(path).unwrap();
    app.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    let mut done = 0;
    while !stop.load(Ordering::SeqCst) {
        app.execute_batch(
            "BEGIN IMMEDIATE; UPDATE a SET x = x - 1 WHERE id = 1; UPDATE a SET x = x + 1 WHERE id = 9000; COMMIT",
        )
        .unwrap();
        done += 1;
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_is_one_state_while_an_application_writes() {
    for mode in ["WAL", "DELETE", "TRUNCATE", "PERSIST"] {
        let place = Place::new();
        let path = place.database(
            "live.db",
            &format!(
                "PRAGMA journal_mode = {mode}; CREATE TABLE a(id INTEGER PRIMARY KEY, x INTEGER, pad);
                 WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 9000)
                   INSERT INTO a SELECT i, 0, hex(zeroblob(600)) FROM n;"
            ),
        );
        let stop = Arc::new(AtomicBool::new(false));
        let writer = std::thread::spawn({
            let (path, stop) = (path.clone(), stop.clone());
            move || transfers(&path, &stop)
        });
        let options = shared::engine::DumpOptions { lock_timeout_s: 20, ..place.options() };
        let engine = SqliteEngine::new(path.clone());
        for round in 0..3 {
            let source = tests::memory::dump(&engine, &options).await.unwrap();
            let target = place.path(&format!("restored-{round}.db"));
            let found = restore(&source, &target).await.unwrap();
            assert_eq!(source.dump.fingerprint.differences(&found), [], "{mode}");
            assert_eq!(
                sqlite3(&target, "SELECT sum(x), count(*) FROM a; PRAGMA integrity_check"),
                "0|9000\nok\n",
                "{mode}"
            );
        }
        stop.store(true, Ordering::SeqCst);
        assert!(writer.join().unwrap() > 0, "the writer must have written");
    }
}

#[tokio::test]
async fn a_hot_journal_is_rolled_back_and_said() {
    let place = Place::new();
    let path = place.database(
        "hot.db",
        "CREATE TABLE t(x); WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         INSERT INTO t SELECT 'before ' || i FROM n;",
    );
    // A transaction spills its pages into the file and then dies.
    let mut app =
        Command::new("sqlite3").arg("-batch").arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    {
        use std::io::{BufRead, BufReader, Write};
        let input = app.stdin.as_mut().unwrap();
        writeln!(input, "PRAGMA cache_size = 2; BEGIN; UPDATE t SET x = 'after'; SELECT 'spilt';").unwrap();
        input.flush().unwrap();
        let mut line = String::new();
        BufReader::new(app.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "spilt\n");
    }
    app.kill().unwrap();
    app.wait().unwrap();
    assert!(fs::metadata(place.path("hot.db-journal")).unwrap().len() > 0, "no hot journal was made");
    let source = goes_round(&place, &path).await;
    assert_eq!(source.dump.facts["hot_journal_rolled_back"], true);
    assert!(source.dump.defects.join("\n").contains("hot journal"), "{:?}", source.dump.defects);
    assert_eq!(sqlite3(&place.path("restored.db"), "SELECT count(*) FROM t WHERE x LIKE 'before %'"), "20000\n");
}

#[tokio::test]
async fn a_link_and_the_file_behind_it_are_the_same_database() {
    let place = Place::new();
    let path = place.database("real.db", "CREATE TABLE t(x)");
    std::os::unix::fs::symlink("real.db", place.path("link.db")).unwrap();
    let by = |name: &str| SqliteEngine::new(place.path(name));
    let real = by("real.db").probe().await.unwrap();
    assert_eq!(real.identity, by("link.db").probe().await.unwrap().identity);
    assert!(matches!(real.identity, Identity::Sqlite { path: at, .. } if Path::new(&at) == path));
    place.dump(&place.path("link.db")).await.unwrap();
    assert_eq!(place.names(), ["link.db", "real.db"]);
}

#[tokio::test]
async fn dumps_of_an_unchanged_database_are_equal_byte_by_byte() {
    let place = Place::new();
    for mode in ["WAL", "DELETE"] {
        let path = place.database(
            &format!("{mode}.db"),
            &format!("PRAGMA journal_mode = {mode}; CREATE TABLE t(x); INSERT INTO t VALUES(zeroblob(900000))"),
        );
        let (one, two) = (place.dump(&path).await.unwrap(), place.dump(&path).await.unwrap());
        assert!(one.bytes(0) == two.bytes(0), "{mode}");
        assert_eq!(one.dump.fingerprint, two.dump.fingerprint);
    }
}

#[tokio::test]
async fn a_copy_that_a_killed_dump_left_is_swept_and_a_running_one_is_not() {
    let place = Place::new();
    let path = place.database("a.db", "CREATE TABLE t(x)");
    place.dump(&path).await.unwrap();
    let (dead, live) = (place.path("spool/copy-00000000.sqlite"), place.path("spool/copy-ffffffff.sqlite"));
    fs::write(&dead, "x").unwrap();
    let running = fs::File::create(&live).unwrap();
    running.lock().unwrap();
    place.dump(&path).await.unwrap();
    assert!(!dead.exists() && live.exists());
}
