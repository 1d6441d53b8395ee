//! Live databases that are changed in one commit while others write.

use super::{Place, sqlite3};
use rusqlite::Connection;
use shared::engine::sqlite::live::{Held, SqliteLive, Until};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Adds row after row without any pause until told to stop; returns how many it was told are in.
fn writes(path: PathBuf, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let app = Connection::open(path).unwrap();
        app.busy_timeout(Duration::from_secs(60)).unwrap();
        let mut acknowledged = 0;
        while !stop.load(Ordering::SeqCst) {
            app.execute_batch("INSERT INTO t (x) VALUES ('written meanwhile')").unwrap();
            acknowledged += 1;
        }
        acknowledged
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_never_pauses_waits_for_a_change_and_loses_nothing() {
    let place = Place::new();
    let (path, copy) = (place.path("busy.db"), place.path("copy.db"));
    sqlite3(
        &path,
        "PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT);
         WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
         INSERT INTO t SELECT i, hex(randomblob(20)) FROM n",
    );
    let stop = Arc::new(AtomicBool::new(false));
    let writer = writes(path.clone(), stop.clone());
    let live = SqliteLive::open(&path).unwrap();
    // Copying takes longer than the writer needs for a row: no copy is the newest when the lock is had.
    let mut change = live.begin(&copy, Until::Committed, Duration::from_secs(30)).await.unwrap();
    assert!(change.blocked_since().is_some());
    let held = sqlite3(&path, "SELECT count(*) FROM t");
    sqlite3(&copy, "ALTER TABLE t ADD COLUMN y INTEGER DEFAULT 7");
    assert_eq!(sqlite3(&copy, "SELECT count(*) FROM t"), held, "the copy is the newest");
    assert_eq!(sqlite3(&path, "SELECT count(*) FROM t"), held, "nobody writes while it is held");
    assert_eq!(change.hold().await.unwrap(), Held::Yes);
    change.commit().await.unwrap();
    stop.store(true, Ordering::SeqCst);
    let acknowledged = writer.join().unwrap();
    assert!(acknowledged > 0);
    assert_eq!(sqlite3(&path, "SELECT count(*), count(y) FROM t"), format!("{0}|{0}\n", 200_000 + acknowledged));
    assert_eq!(sqlite3(&path, "PRAGMA integrity_check"), "ok\n");
}
