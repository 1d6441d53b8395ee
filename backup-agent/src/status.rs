//! How every database stands: what can be restored, how old that is, and what went wrong last.

use jiff::Timestamp;
use serde::Serialize;
use shared::model::{BackupId, DatabaseName};

/// One database at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatabaseStatus {
    /// Its name.
    pub database: DatabaseName,
    /// Backups there are, complete or not.
    pub backups: usize,
    /// Of these, such as are not complete or need a damaged pack.
    pub unusable: usize,
    /// The newest complete backup.
    pub newest_complete: Option<Kept>,
    /// The newest proven backup.
    pub newest_proven: Option<Kept>,
    /// Bytes of all packs its backups name and of their manifests.
    pub stored_bytes: u64,
    /// When the agent makes the next backup.
    pub next_backup: Option<Timestamp>,
    /// When the agent proves the next one, where drills have times of their own.
    pub next_drill: Option<Timestamp>,
    /// The last task that failed, if none of its kind succeeded since.
    pub last_error: Option<LastError>,
    /// Why it is stale; empty = it is not.
    pub stale: Vec<String>,
}

/// A backup that is there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kept {
    /// Its id.
    pub id: BackupId,
    /// When its snapshot was taken.
    pub created_at: Timestamp,
    /// When it was last proven.
    pub proven_at: Option<Timestamp>,
}

/// A failure that stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LastError {
    /// What failed.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// What it said, in one line.
    pub message: String,
}
