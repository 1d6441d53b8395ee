//! The private copy a dump reads: taken by SQLite's online backup while applications write.

use super::open::{PAUSE, Source, needs_recovery, plain, sql_error};
use super::private::{PrivateFile, sweep};
use crate::engine::{DumpOptions, DumpSink, EngineError};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Instant;

/// Pages copied between two looks at the clock, where the source is locked while pages are copied.
const STEP_PAGES: i32 = 1000;

/// How often a writer may force the copy to begin anew before the source is locked until it is done.
const RESTARTS: u32 = 3;

/// A consistent copy of a database, and the instant it shows.
pub(super) struct PrivateCopy {
    /// The file; gone when this value is dropped.
    pub file: PrivateFile,
    /// The instant of the snapshot.
    pub snapshot_at: jiff::Timestamp,
}

/// Copies the source into a private file in `spool`, which is made with mode 0700 on first use.
///
/// Leaves nothing behind when it fails; a copy whose process was killed is removed by the next call.
pub(super) fn copy(source: &Source, options: &DumpOptions, sink: &dyn DumpSink) -> Result<PrivateCopy, EngineError> {
    let spool = &options.spool;
    let no_spool = |error: io::Error| {
        EngineError::failed(format!("the spool directory {} cannot be used: {error}", spool.display()))
    };
    DirBuilder::new().recursive(true).mode(0o700).create(spool).map_err(no_spool)?;
    let spool = spool.canonicalize().map_err(no_spool)?;
    let prefix = OsStr::new("copy-");
    sweep(&spool, prefix, ".sqlite").map_err(no_spool)?;
    let file = PrivateFile::create(&spool, prefix, ".sqlite").map_err(no_spool)?;
    let begun = options.clock.now();
    let target = run_patiently(source, &file, sink).map_err(|error| match error {
        CopyError::Sql(error) => copy_error(source, file.path(), error),
        CopyError::Other(error) => error,
    })?;
    // With a WAL the snapshot is that of the beginning; without one it is that of the last step.
    let snapshot_at = if source.wal { begun } else { options.clock.now() };
    target.close().map_err(|(_, error)| sql_error(file.path(), error))?;
    Ok(PrivateCopy { file, snapshot_at })
}

/// The copy needs neither journal nor fsync: nobody reads it after a crash.
fn open_target(path: &Path) -> rusqlite::Result<Connection> {
    let target =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE")?;
    Ok(target)
}

enum CopyError {
    Sql(rusqlite::Error),
    Other(EngineError),
}

/// A read-only connection may take a journal that its writer just deletes for one that a crash left; the backup then
/// fails for good and is begun anew.
fn run_patiently(source: &Source, file: &PrivateFile, sink: &dyn DumpSink) -> Result<Connection, CopyError> {
    let begun = Instant::now();
    let mut restarts = 0;
    loop {
        let mut target = open_target(file.path()).map_err(CopyError::Sql)?;
        match run(source, &mut target, sink, &mut restarts) {
            Err(CopyError::Sql(error)) if needs_recovery(&error) && begun.elapsed() < source.timeout => restarts += 1,
            done => return done.map(|()| target),
        }
        drop(target);
        let emptied = file.file().set_len(0);
        emptied.map_err(|error| CopyError::Other(EngineError::failed(format!("emptying the copy failed: {error}"))))?;
        std::thread::sleep(PAUSE);
    }
}

fn run(source: &Source, target: &mut Connection, sink: &dyn DumpSink, restarts: &mut u32) -> Result<(), CopyError> {
    let backup = Backup::new(&source.connection, target).map_err(CopyError::Sql)?;
    let mut moved = Instant::now();
    let mut done_before = 0;
    loop {
        if sink.cancelled() {
            return Err(CopyError::Other(cancelled()));
        }
        // A WAL lets writers go on during one long step; a rollback journal makes them wait for every step.
        let whole = source.wal || *restarts >= RESTARTS;
        match backup.step(if whole { -1 } else { STEP_PAGES }).map_err(CopyError::Sql)? {
            StepResult::Done => return Ok(()),
            StepResult::Busy | StepResult::Locked => {
                if moved.elapsed() >= source.timeout {
                    return Err(CopyError::Other(sql_error(&source.path, busy())));
                }
                std::thread::sleep(PAUSE);
            }
            _ => {
                moved = Instant::now();
                let progress = backup.progress();
                let done = progress.pagecount - progress.remaining;
                // SQLite begins again by itself when somebody else wrote: the pages done do not grow then.
                if done <= done_before {
                    *restarts += 1;
                }
                done_before = done;
            }
        }
    }
}

fn busy() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None)
}

pub(super) fn cancelled() -> EngineError {
    EngineError::failed("the dump was cancelled; no copy is left in the spool directory")
}

/// The backup reports errors of both files; a full disk can only be the copy's.
fn copy_error(source: &Source, copy: &Path, error: rusqlite::Error) -> EngineError {
    let spool = copy.parent().unwrap_or(copy).display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => EngineError::failed(format!(
            "no space left in the spool directory {spool} for a copy of {}: the copy was removed, the database was \
             only read",
            source.path.display()
        ))
        .with_hint("free space there or set another spool directory; the copy is as large as the database"),
        Some(ErrorCode::SystemIoFailure) => EngineError::failed(format!(
            "copying {} into {spool} failed: {}; the copy was removed",
            source.path.display(),
            plain(&error)
        )),
        _ => sql_error(&source.path, error),
    }
}
