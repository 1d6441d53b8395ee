//! The lock beside a database: one owner at a time, whatever record of tasks it uses.

use crate::crash_point;
use crate::engine::EngineError;
use crate::engine::sqlite::open::beside;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// The right to change a database; ends with the value, or with the process.
///
/// The file `<database>.holdfast-lock` is never removed: two owners could then lock two files of one name.
#[derive(Debug)]
pub struct SqliteLock {
    _file: File,
}

impl SqliteLock {
    pub(super) fn take(database: &Path, who: &str, patience: Duration) -> Result<Self, EngineError> {
        let path = beside(database, ".holdfast-lock");
        let no_lock =
            |error: std::io::Error| EngineError::refused(format!("{} cannot be locked: {error}", path.display()));
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
        let mut file = options.open(&path).map_err(no_lock)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if crash_point::is_off("target-lock") => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < patience => std::thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Err(held_by(database, &mut file)),
                Err(TryLockError::Error(error)) => return Err(no_lock(error)),
            }
        }
        crash_point::reached("lock: held, not yet signed");
        // For those who wait: whose it is. Only words; the lock itself is the kernel's.
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(who.as_bytes())).map_err(no_lock)?;
        Ok(SqliteLock { _file: file })
    }
}

fn held_by(database: &Path, file: &mut File) -> EngineError {
    let mut who = String::new();
    // What the owner wrote is only a courtesy.
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut who));
    let who = if who.trim().is_empty() { "somebody who left no name".to_owned() } else { who.trim().to_owned() };
    EngineError::refused(format!("{} is being changed by {who}; it was not touched", database.display()))
        .with_hint("wait for it; two records of tasks (url of [state]) may know the same database")
}
