//! Forgotten backups, which can be brought back for a time.

use super::{Manifest, Repository, layout};
use crate::error::Error;
use jiff::{SignedDuration, Timestamp};
use shared::model::{BackupId, DatabaseName};
use shared::store::{ObjectMeta, StoreError};
use std::collections::BTreeMap;
use std::time::Duration;

/// The shortest grace time. Writers assume it, whatever grace a prune on another host was told: what they build on must
/// be safe from all of them.
pub const MIN_GRACE: Duration = Duration::from_secs(24 * 3600);

/// A forgotten backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trashed {
    /// Database it was of.
    pub database: DatabaseName,
    /// Its id.
    pub id: BackupId,
    /// When it was forgotten, by the store's clock.
    pub forgotten_at: Timestamp,
    /// How long it is kept, counted from then.
    pub grace: Duration,
    /// Length of the manifest in bytes.
    pub manifest_bytes: u64,
    /// The object that holds the manifest.
    pub(crate) key: String,
}

impl Trashed {
    /// What a listed object of the trash says; none for an object that is none of ours.
    pub(crate) fn of(meta: ObjectMeta) -> Option<Self> {
        let (database, id, grace_s) = layout::parse_trash(&meta.key)?;
        // No shorter than what writers assume, whatever a key says.
        let grace = Duration::from_secs(grace_s).max(MIN_GRACE);
        let manifest_bytes = meta.size_bytes;
        Some(Trashed { database, id, forgotten_at: meta.modified, grace, manifest_bytes, key: meta.key })
    }

    /// Until when it can be brought back: the first half of the grace time.
    pub fn returns_until(&self) -> Timestamp {
        later(self.forgotten_at, self.grace / 2)
    }

    /// From when on prune may remove it.
    pub fn kept_until(&self) -> Timestamp {
        later(self.forgotten_at, self.grace)
    }

    /// `<database>/<id>`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.database, self.id)
    }
}

/// A moment so much later; the last one there is where there is none.
pub(crate) fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

impl Repository {
    /// Backups that were forgotten and not brought back, oldest first; of one database or of all.
    pub async fn trash(&self, database: Option<&DatabaseName>) -> Result<Vec<Trashed>, StoreError> {
        let (trash, backups) = match database {
            Some(database) => (layout::trash_of(database), layout::backups_of(database)),
            None => (layout::TRASH.to_owned(), layout::BACKUPS.to_owned()),
        };
        let trash = self.store.list(&trash).await?;
        let there = self.store.list(&backups).await?;
        let mut found: BTreeMap<(DatabaseName, BackupId), Trashed> = BTreeMap::new();
        for copy in trash.into_iter().filter_map(Trashed::of) {
            let name = (copy.database.clone(), copy.id.clone());
            match found.get(&name) {
                Some(other) if other.returns_until() >= copy.returns_until() => {}
                _ => drop(found.insert(name, copy)),
            }
        }
        for meta in there {
            // A backup that was brought back leaves its copy in the trash to grow old.
            layout::parse_manifest(&meta.key).map(|name| found.remove(&name));
        }
        let mut list: Vec<Trashed> = found.into_values().collect();
        list.sort_by(|a, b| (&a.id, &a.database).cmp(&(&b.id, &b.database)));
        Ok(list)
    }

    /// The manifest of a forgotten backup, and its bytes.
    pub(crate) async fn trashed_manifest(&self, copy: &Trashed) -> Result<(Manifest, bytes::Bytes), Error> {
        let bytes = self.store.get(&copy.key).await?;
        Ok((self.decode(&copy.database, &copy.id, &bytes)?, bytes))
    }
}
