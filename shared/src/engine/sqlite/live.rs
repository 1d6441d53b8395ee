//! A live SQLite database that is changed: locked against other owners, copied, and changed in one commit.
//!
//! Whatever changes the database works on the copy. The copy becomes the database by one transaction of SQLite's own
//! backup interface, so that whoever dies in between leaves it exactly as it was or exactly as it is to be.

mod change;
mod holders;
mod lock;

pub use change::{Change, Held, Until};
pub(super) use holders::holders;
pub use lock::SqliteLock;

use super::blocking;
use super::open::existing_file;
use crate::engine::EngineError;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// File systems on which SQLite's locks do not hold between machines, by their magic numbers (statfs(2)).
const NETWORK: [(u64, &str); 6] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
];

/// Links that are followed from one to the next.
const MOST_LINKS: usize = 8;

/// A live SQLite database that is to be changed.
#[derive(Debug, Clone)]
pub struct SqliteLive {
    path: PathBuf,
}

impl SqliteLive {
    /// The database at `path`, links resolved. Refuses what cannot be changed safely: a file with a second name, and
    /// one on a network file system.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let path = existing_file(path)?;
        let shown = path.display();
        let meta = fs::metadata(&path).map_err(|error| EngineError::refused(format!("{shown}: {error}")))?;
        if meta.nlink() > 1 {
            return Err(EngineError::refused(format!(
                "{shown} has {} names (hard links): programs that use another one would corrupt it",
                meta.nlink()
            ))
            .with_hint("keep one name; a symbolic link is fine"));
        }
        if let Some(kind) = network_file_system(&path) {
            return Err(on_network(&path, kind));
        }
        Ok(SqliteLive { path })
    }

    /// The database that is at `path`, or that somebody is about to make there: only to be locked meanwhile.
    pub fn to_be(path: &Path) -> Result<Self, EngineError> {
        if fs::metadata(path).is_ok_and(|meta| meta.len() > 0) {
            return SqliteLive::open(path);
        }
        let shown = path.display();
        let no_place = |error: std::io::Error| EngineError::refused(format!("{shown} cannot be reached: {error}"));
        let mut path = std::path::absolute(path).map_err(no_place)?;
        // As SQLite makes it: where a link points to, although nothing is there yet.
        for _ in 0..MOST_LINKS {
            let folder = path.parent().unwrap_or(Path::new("/")).canonicalize().map_err(no_place)?;
            path = folder.join(path.file_name().unwrap_or_default());
            match fs::read_link(&path) {
                Ok(target) => path = folder.join(target),
                Err(_) => break,
            }
        }
        match network_file_system(path.parent().unwrap_or(&path)) {
            Some(kind) => Err(on_network(&path, kind)),
            None => Ok(SqliteLive { path }),
        }
    }

    /// The canonical path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Becomes the one owner, for `patience` at most; `who` is told to others that wait. Refuses naming the owner.
    pub async fn lock(&self, who: &str, patience: Duration) -> Result<SqliteLock, EngineError> {
        let (path, who) = (self.path.clone(), who.to_owned());
        blocking(move || SqliteLock::take(&path, &who, patience)).await
    }

    /// Begins a change: makes a copy at `copy`, which must not exist, for others to work on.
    ///
    /// Waits `patience` for locks of others, then refuses naming them. See [`Until`] for who may write meanwhile.
    pub async fn begin(&self, copy: &Path, until: Until, patience: Duration) -> Result<Change, EngineError> {
        Change::begin(&self.path, copy, copy, until, patience).await
    }

    /// Begins to make the database what the file `source` holds: from here to the commit nobody writes.
    ///
    /// What is replaced is copied to `kept`, which must not exist and gets owner and mode of the database. Refuses, with
    /// nothing touched, where a database in WAL mode would get another page size, which SQLite cannot do.
    pub async fn replace(&self, kept: &Path, source: &Path, patience: Duration) -> Result<Change, EngineError> {
        let (live, made) = (self.path.clone(), kept.to_owned());
        blocking(move || like(&live, &made)).await?;
        Change::begin(&self.path, kept, source, Until::Committed, patience).await
    }
}

/// Makes an empty file with owner and mode of another one, so that a copy shows nobody what the original does not.
fn like(original: &Path, file: &Path) -> Result<(), EngineError> {
    use std::os::unix::fs::{OpenOptionsExt, fchown};
    let wrong = |error: std::io::Error| EngineError::failed(format!("{} cannot be made: {error}", file.display()));
    let meta = fs::metadata(original).map_err(wrong)?;
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(meta.mode() & 0o777).open(file);
    let made = made.map_err(wrong)?;
    // Only root can give a file away; whoever else runs this owns it, and may read the original anyway.
    let _ = fchown(&made, Some(meta.uid()), Some(meta.gid()));
    made.set_permissions(meta.permissions()).map_err(wrong)
}

fn on_network(path: &Path, kind: &str) -> EngineError {
    EngineError::refused(format!("{} lies on {kind}, where SQLite's locks do not hold", path.display()))
        .with_hint("move the database to a local disk")
}

fn network_file_system(path: &Path) -> Option<&'static str> {
    let found = rustix::fs::statfs(path).ok()?;
    // The number is signed or not by architecture; only its low 32 bits mean something.
    let magic = (found.f_type as u64) & 0xffff_ffff;
    NETWORK.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}
