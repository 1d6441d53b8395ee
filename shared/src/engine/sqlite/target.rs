//! The place a restore goes to: which path it really is, and whether it is free.

use super::open::{SMALLEST, beside, immutable_uri, plain};
use crate::engine::EngineError;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// Links followed before they count as a circle, as in the kernel.
const MAX_LINKS: usize = 40;

/// Where the restored database goes. Nothing is there, or an empty file or database.
#[derive(Debug, Clone)]
pub(super) struct TargetPath {
    /// Its directory, canonical.
    pub dir: PathBuf,
    /// Its name there.
    pub name: OsString,
}

impl TargetPath {
    /// Follows links, so that a link stays a link and the file behind it is made.
    pub fn resolve(path: &Path) -> Result<TargetPath, EngineError> {
        let mut path = std::path::absolute(path).map_err(|error| refused(path, &error.to_string()))?;
        for _ in 0..MAX_LINKS {
            let name = path.file_name().map(OsStr::to_owned).ok_or_else(|| refused(&path, "it names no file"))?;
            let parent = path.parent().unwrap_or(Path::new("/"));
            let dir = parent.canonicalize().map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => refused(&path, "its directory does not exist")
                    .with_hint(format!("make it first: mkdir -p {}", parent.display())),
                _ => refused(&path, &error.to_string()),
            })?;
            if !dir.is_dir() {
                return Err(refused(&path, "its parent is not a directory"));
            }
            let file = dir.join(&name);
            match fs::read_link(&file) {
                Ok(next) => path = dir.join(next),
                Err(_) => return Ok(TargetPath { dir, name }),
            }
        }
        Err(refused(&path, "its links lead in a circle"))
    }

    /// The whole path.
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// The beginning of the names that unfinished restores into this target bear.
    pub fn restoring_prefix(&self) -> OsString {
        let mut prefix = self.name.clone();
        prefix.push(".restoring-");
        prefix
    }

    /// Refuses a target that holds anything. Returns what is there, if an empty file or database is.
    pub fn check_free(&self) -> Result<Option<Metadata>, EngineError> {
        let path = self.path();
        for suffix in ["-wal", "-journal", "-shm"] {
            let stale = beside(&path, suffix);
            if fs::symlink_metadata(&stale).is_ok() {
                return Err(refused(
                    &path,
                    &format!("{} lies there: SQLite would mix it into the restored database", stale.display()),
                )
                .with_hint(format!(
                    "make sure that no program uses it, then move {} away (it may hold the last changes of a lost \
                     database)",
                    stale.display()
                )));
            }
        }
        let meta = match fs::metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refused(&path, &error.to_string())),
        };
        if !meta.is_file() {
            let what = if meta.is_dir() { "it is a directory" } else { "it is not a regular file" };
            return Err(refused(&path, what));
        }
        if meta.len() > 0 {
            refuse_content(&path, meta.len())?;
        }
        Ok(Some(meta))
    }
}

/// Opened as a file that does not change, so that nothing is made beside it.
fn refuse_content(path: &Path, bytes: u64) -> Result<(), EngineError> {
    let choose = "choose a path that does not exist, or move the file away first";
    if bytes < SMALLEST {
        // SQLite would take it for an empty database.
        return Err(refused(path, "a file that is not an SQLite database is there").with_hint(choose));
    }
    let access = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let objects = Connection::open_with_flags(immutable_uri(path), access).and_then(|connection| {
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
    });
    match objects {
        Ok(0) => Ok(()),
        Ok(objects) => {
            Err(refused(path, &format!("it is not empty: it holds {objects} tables, indexes, views and triggers"))
                .with_hint(choose))
        }
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            Err(refused(path, "a file that is not an SQLite database is there").with_hint(choose))
        }
        Err(error) => Err(refused(path, &plain(&error)).with_hint(choose)),
    }
}

fn refused(path: &Path, why: &str) -> EngineError {
    EngineError::refused(format!("cannot restore into {}: {why}; it was not touched", path.display()))
}
