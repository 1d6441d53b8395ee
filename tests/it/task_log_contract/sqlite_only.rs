//! What only a file can have: another's contents, a full or write-protected disk, somebody's lock.

use super::*;
use shared::model::Class;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn clock() -> FakeClock {
    FakeClock::at("2025-06-01T12:00:00Z".parse().unwrap())
}

/// The error of opening `path`, which must be one of a record that cannot be used.
async fn refused(path: &Path) -> String {
    let opened = open_sqlite(path, &clock()).await;
    let error = opened.err().unwrap_or_else(|| panic!("{} was opened", path.display()));
    assert!(matches!(error, TaskLogError::Unusable { .. }) && error.class() == Class::Permanent, "{error}");
    assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    error.to_string()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_new_file_is_the_owners_alone_and_opens_again() {
    let world = World::sqlite();
    let missing = world.file().parent().unwrap().join("no/such/state.db");
    assert!(refused(&missing).await.contains("directory"));
    let existing = SqliteTaskLog::open_existing(&world.file(), Arc::new(clock())).await.err().unwrap();
    assert!(matches!(existing, TaskLogError::Missing { .. }), "{existing}");
    assert_eq!(names(world.file().parent().unwrap()), Vec::<String>::new());

    let log = world.open().await;
    assert_eq!(log.describe(), world.file().display().to_string());
    assert_eq!(std::fs::metadata(world.file()).unwrap().permissions().mode() & 0o777, 0o600);
    submit(&*log, &backup("shop")).await;
    for name in names(world.file().parent().unwrap()) {
        let mode = std::fs::metadata(world.file().with_file_name(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
        assert!(name.starts_with("state.db"), "{name} was left");
    }
    assert_eq!(world.sql("PRAGMA journal_mode"), "wal");
    // A reader sees it and cannot write.
    let reader = SqliteTaskLog::open_existing(&world.file(), Arc::new(clock())).await.unwrap();
    assert_eq!(reader.tasks(&TaskFilter::default()).await.unwrap().len(), 1);
    let error = reader.submit(&backup("lite")).await.unwrap_err();
    assert!(matches!(error, TaskLogError::Unusable { .. }), "{error}");
    drop(log);
    assert_eq!(world.open().await.tasks(&TaskFilter::default()).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_make_the_file_at_once_all_have_the_same() {
    let world = Arc::new(World::sqlite());
    let openers: Vec<_> = (0..6)
        .map(|at| {
            let world = world.clone();
            tokio::spawn(async move { submit(&*world.open().await, &backup(&format!("shop{at}"))).await })
        })
        .collect();
    for opener in openers {
        opener.await.unwrap();
    }
    assert_eq!(world.open().await.tasks(&TaskFilter::default()).await.unwrap().len(), 6);
    assert!(names(world.file().parent().unwrap()).iter().all(|name| name.starts_with("state.db")));
}

#[tokio::test]
async fn what_is_not_ours_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let contents: [(&str, &dyn Fn()); 5] = [
        ("text", &|| std::fs::write(&path, "no database at all, but long enough to be one".repeat(50)).unwrap()),
        ("empty", &|| std::fs::write(&path, "").unwrap()),
        ("plain", &|| drop(tests::sqlite::sqlite3(&path, "CREATE TABLE t (a)").unwrap())),
        ("wal", &|| drop(tests::sqlite::sqlite3(&path, "PRAGMA journal_mode = WAL; CREATE TABLE t (a)").unwrap())),
        ("other", &|| {
            drop(tests::sqlite::sqlite3(&path, "PRAGMA application_id = 7; CREATE TABLE task_log (a)").unwrap())
        }),
    ];
    for (name, make) in contents {
        make();
        let before = (std::fs::read(&path).unwrap(), std::fs::metadata(&path).unwrap().modified().unwrap());
        assert!(refused(&path).await.contains("not touched"), "{name}");
        let after = (std::fs::read(&path).unwrap(), std::fs::metadata(&path).unwrap().modified().unwrap());
        assert!(before == after, "{name} was touched");
        assert_eq!(names(folder.path()), ["state.db"], "{name}");
        std::fs::remove_file(&path).unwrap();
    }
    std::fs::create_dir(&path).unwrap();
    refused(&path).await;
}

#[tokio::test]
async fn tables_of_a_later_version_are_refused() {
    let world = World::sqlite();
    drop(world.open().await);
    world.sql("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (999, 'x', 1, x'00', 0)");
    assert!(refused(&world.file()).await.contains("later version"));
}

/// Nothing of a call is written when another program has the file, and the answer comes in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_somebody_else_has_locked_is_told_in_time_and_nothing_is_half_written() {
    let world = World::sqlite();
    let log = world.open().await;
    let task = backup("shop");
    submit(&*log, &task).await;
    let claimed = claim(&*log, LONG).await.unwrap();
    let before = world.contents();
    let mut other = rusqlite::Connection::open(world.file()).unwrap();
    let lock = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let begun = Instant::now();
    let ending = done();
    let (finished, submitted) =
        tokio::join!(log.finish(&claimed.lease, &ending), async { log.submit(&backup("lite")).await });
    for error in [finished.unwrap_err(), submitted.unwrap_err()] {
        assert!(matches!(error, TaskLogError::Unavailable { .. }) && error.class() == Class::Transient, "{error}");
    }
    assert!(begun.elapsed() > Duration::from_secs(5) && begun.elapsed() < Duration::from_secs(15), "{begun:?}");
    // Reading goes on.
    assert_eq!(one(&*log, task.job_id).await.state, TaskState::Running);
    drop(lock);
    assert_eq!(world.contents(), before);
    log.finish(&claimed.lease, &done()).await.unwrap();
    assert_eq!(whats(&*log, task.job_id).await, ["queued", "running", "succeeded"]);
}

#[tokio::test]
async fn a_file_that_vanished_is_told_and_one_put_back_is_used() {
    let world = World::sqlite();
    let log = world.open().await;
    submit(&*log, &backup("shop")).await;
    drop(log);
    let log = world.open().await;
    let away = world.file().with_file_name("away.db");
    std::fs::rename(world.file(), &away).unwrap();
    for replaced in [false, true] {
        if replaced {
            std::fs::write(world.file(), "another").unwrap();
        }
        let error = log.submit(&backup("lite")).await.unwrap_err();
        assert!(matches!(error, TaskLogError::Unusable { .. }), "{error}");
    }
    std::fs::rename(&away, world.file()).unwrap();
    submit(&*log, &backup("lite")).await;
    assert_eq!(log.tasks(&TaskFilter::default()).await.unwrap().len(), 2);
}

/// Set for the run of a test inside a name space of its own: the folder on a small disk.
const SMALL_DISK: &str = "HOLDFAST_TEST_SMALL_DISK";

/// Runs this very test again where `folder` is a disk of 700 KiB.
fn on_a_small_disk(test: &str) {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=700k tmpfs \"$0\" || exit 99; exec \"$@\"";
    let run = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("task_log_contract::sqlite_only::{test}"), "--nocapture"])
        .env(SMALL_DISK, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn a_full_disk_is_told_and_the_record_goes_on_when_there_is_space() {
    let Some(folder) = std::env::var_os(SMALL_DISK) else {
        return on_a_small_disk("a_full_disk_is_told_and_the_record_goes_on_when_there_is_space");
    };
    let path = Path::new(&folder).join("state.db");
    let log = open_sqlite(&path, &clock()).await.unwrap();
    submit(&log, &backup("first")).await;
    let filler = Path::new(&folder).join("filler");
    let room = vec![7_u8; 1 << 20];
    std::fs::write(&filler, room).unwrap_err();
    let mut stored = 1;
    let error = loop {
        match log.submit(&backup(&format!("shop{stored}"))).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "the disk does not fill");
    };
    assert!(matches!(error, TaskLogError::Unavailable { .. }) && error.class() == Class::Transient, "{error}");
    assert!(error.to_string().contains("no space left"), "{error}");
    assert_eq!(log.tasks(&TaskFilter::default()).await.unwrap().len(), stored);
    std::fs::remove_file(&filler).unwrap();
    submit(&log, &backup("last")).await;
    assert_eq!(log.tasks(&TaskFilter::default()).await.unwrap().len(), stored + 1);
    for task in log.tasks(&TaskFilter::default()).await.unwrap() {
        assert_eq!(whats(&log, task.job_id).await, ["queued"]);
    }
}

#[tokio::test]
async fn a_write_protected_disk_is_told() {
    let Some(folder) = std::env::var_os(SMALL_DISK) else {
        return on_a_small_disk("a_write_protected_disk_is_told");
    };
    let path = Path::new(&folder).join("state.db");
    let log = open_sqlite(&path, &clock()).await.unwrap();
    submit(&log, &backup("shop")).await;
    drop(log);
    // The files are closed by a thread of the driver.
    until(async || {
        let mount = Command::new("mount").args(["-o", "remount,ro"]).arg(&folder).output().unwrap();
        mount.status.success()
    })
    .await;
    let error = match open_sqlite(&path, &clock()).await {
        Err(error) => error,
        Ok(log) => log.submit(&backup("lite")).await.unwrap_err(),
    };
    assert!(matches!(error, TaskLogError::Unusable { .. }) && error.class() == Class::Permanent, "{error}");
    assert!(error.to_string().starts_with(&path.display().to_string()) && error.hint().is_some(), "{error}");
    let error = open_sqlite(&path.with_file_name("new.db"), &clock()).await.err().unwrap();
    assert!(matches!(error, TaskLogError::Unusable { .. }), "{error}");
}
