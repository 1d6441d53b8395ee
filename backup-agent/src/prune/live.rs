//! Who needs which packs.

use crate::error::Error;
use crate::repository::{Repository, Trashed, layout};
use jiff::Timestamp;
use shared::model::{BackupId, DatabaseName};
use shared::store::{Store, StoreError};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

type Name = (DatabaseName, BackupId);

/// Manifests that were read before; they never change.
#[derive(Default)]
pub struct Known(HashMap<String, Arc<[String]>>);

/// Packs that must stay, as of one look at the store.
pub struct Live {
    packs: HashSet<String>,
    backups: BTreeSet<Name>,
    expired: Vec<String>,
}

impl Live {
    /// Reads all leases, manifests and the trash; `now` is the store's time, or an earlier one. Fails where one of them
    /// cannot be read, or where nobody knows which packs a writer may be building on.
    ///
    /// The order counts. What a lease names was there before it. A manifest that is moved to the trash is in one of the
    /// two whenever the trash is looked at last; one that is brought back stays in the trash, too.
    pub async fn read(
        repository: &Repository,
        known: &mut Known,
        now: Timestamp,
        grace: Duration,
    ) -> Result<Self, Error> {
        let writers = repository.writers(now).await?;
        let mut live = Live { packs: HashSet::new(), backups: BTreeSet::new(), expired: Vec::new() };
        for meta in repository.store().list(layout::BACKUPS).await? {
            let Some(name) = layout::parse_manifest(&meta.key) else { continue };
            if let Some(packs) = known.packs_of(repository, &meta.key, &name).await? {
                live.packs.extend(packs.iter().cloned());
                live.backups.insert(name);
            }
        }
        let parents: BTreeSet<Name> = writers
            .iter()
            .flat_map(|writer| writer.parents.iter().map(|id| (writer.database.clone(), id.clone())))
            .collect();
        let held = held(repository).await?;
        let mut kept = BTreeSet::new();
        for copy in repository.store().list(layout::TRASH).await?.into_iter().filter_map(Trashed::of) {
            let name = (copy.database.clone(), copy.id.clone());
            let is_old = now >= copy.kept_until() && now >= crate::repository::later(copy.forgotten_at, grace);
            // A copy whose backup is there again is of no use to its holder.
            let is_wanted = parents.contains(&name) || (held.contains(&name) && !live.backups.contains(&name));
            if is_old && !is_wanted {
                live.expired.push(copy.key);
                continue;
            }
            if let Some(packs) = known.packs_of(repository, &copy.key, &name).await? {
                live.packs.extend(packs.iter().cloned());
                kept.insert(name);
            }
        }
        live.backups.append(&mut kept);
        for (database, id) in parents {
            if !live.backups.contains(&(database.clone(), id.clone())) {
                return Err(Error::failed(format!(
                    "a backup of {database} that is running builds on {id}, which is nowhere to be found; nothing was removed"
                )));
            }
        }
        Ok(live)
    }

    /// Whether a pack must stay.
    pub fn needs(&self, uuid: &str) -> bool {
        self.packs.contains(uuid)
    }

    /// Whether a backup is there or can still be brought back.
    pub fn knows(&self, database: &DatabaseName, id: &BackupId) -> bool {
        self.backups.contains(&(database.clone(), id.clone()))
    }

    /// Objects of the trash whose time is over.
    pub fn expired(&self) -> &[String] {
        &self.expired
    }
}

impl Known {
    /// The packs a manifest names; none when it is gone.
    async fn packs_of(
        &mut self,
        repository: &Repository,
        key: &str,
        (database, id): &Name,
    ) -> Result<Option<Arc<[String]>>, Error> {
        if let Some(packs) = self.0.get(key) {
            return Ok(Some(packs.clone()));
        }
        let bytes = match repository.store().get(key).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let manifest = repository.decode(database, id, &bytes)?;
        let packs: Arc<[String]> = manifest.packs.into_iter().map(|pack| pack.uuid).collect();
        self.0.insert(key.to_owned(), packs.clone());
        Ok(Some(packs))
    }
}

/// Backups with a hold, whatever their state.
async fn held(repository: &Repository) -> Result<BTreeSet<Name>, Error> {
    let marks = repository.store().list(layout::MARKS).await?;
    let hold = |key: &str| {
        let (database, id, kind) = layout::parse_any_mark(key)?;
        kind.starts_with("hold-").then_some((database, id))
    };
    Ok(marks.iter().filter_map(|meta| hold(&meta.key)).collect())
}
