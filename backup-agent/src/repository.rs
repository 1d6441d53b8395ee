//! All backups in one store. The format is described in FORMAT.md.

mod chunk;
mod codec;
mod lease;
mod manifest;
mod marks;
mod open_restore;
mod pack;
mod read;
mod tarball;
mod trash;
mod verify;
mod write;

pub mod layout;

pub use codec::Codec;
pub use lease::LEASE_TTL;
pub(crate) use lease::Writer;
pub use manifest::{Header, Manifest, ManifestError, Table};
pub use marks::{Hold, InvalidOwner, Mark, MarkKind, Marks, Owner};
pub use read::StoredBackup;
pub(crate) use trash::later;
pub use trash::{MIN_GRACE, Trashed};
pub use verify::{Verification, Verified};
pub use write::{BackupWriter, WriteProgress};

use crate::error::Error;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::clock::{self, Clock};
use shared::crash_point::reached;
use shared::model::{BackupId, Class, DatabaseName};
use shared::store::{PutMode, Store, StoreError, probe_conditional_put};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// holdfast.json: what makes a store a repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RepositoryConfig {
    /// Format version of the repository.
    pub format: u32,
    /// Random id of the repository.
    pub repository_id: String,
    /// Codec of all members.
    pub codec: Codec,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether the store was seen to refuse a second conditional put.
    pub conditional_put: bool,
}

/// All backups in one store.
#[derive(Clone)]
pub struct Repository {
    store: Arc<dyn Store>,
    config: RepositoryConfig,
    clock: Arc<dyn Clock>,
}

/// A backup as a listing shows it.
#[derive(Debug)]
pub struct Listed {
    /// Database it is of.
    pub database: DatabaseName,
    /// Its id.
    pub id: BackupId,
    /// Length of the manifest object in bytes.
    pub manifest_bytes: u64,
    /// When the manifest was written, by the store's clock.
    pub written_at: Timestamp,
    /// What was noted about it.
    pub marks: Marks,
    /// The manifest, or why it cannot be used.
    pub manifest: Result<Manifest, Error>,
    /// Packs it needs that somebody found damaged.
    pub damaged_packs: usize,
}

impl Listed {
    /// Whether its manifest is readable and everything it needs was seen once: then it may be a parent. (What was
    /// found damaged since is not adopted.)
    pub fn is_verified(&self) -> bool {
        self.manifest.is_ok() && self.marks.has(MarkKind::Verified)
    }

    /// Whether it may be chosen by a time: verified, and nothing it needs was found damaged since.
    pub fn is_complete(&self) -> bool {
        self.is_verified() && self.damaged_packs == 0
    }

    /// When it was last proven, if the proof stands.
    pub fn proven_at(&self) -> Option<Timestamp> {
        if self.is_complete() { self.marks.proven_at() } else { None }
    }
}

impl Repository {
    /// Opens the repository in `store`. Fails with [`Error::Refused`] when there is none.
    pub async fn open(store: Arc<dyn Store>) -> Result<Self, Error> {
        match store.get(layout::CONFIG).await {
            Ok(bytes) => Self::with_config(store, &bytes),
            Err(StoreError::NotFound { place, .. }) => {
                // Some servers say the same of a missing bucket; a listing tells the two apart.
                store.list(layout::DAMAGED).await.map_err(Error::opening)?;
                Err(Error::refused(
                    format!("{place} holds no Holdfast repository"),
                    "check --store and the working directory; backup-agent init makes a repository",
                ))
            }
            Err(error) => Err(Error::opening(error)),
        }
    }

    /// Opens the repository in `store`, making it first where there is none. `codec` counts only for a new one.
    pub async fn open_or_init(store: Arc<dyn Store>, codec: Codec) -> Result<(Self, bool), Error> {
        match store.get(layout::CONFIG).await {
            Ok(bytes) => Ok((Self::with_config(store, &bytes)?, false)),
            Err(StoreError::NotFound { .. }) => Ok((Self::init(store, codec).await?, true)),
            Err(error) => Err(Error::opening(error)),
        }
    }

    async fn init(store: Arc<dyn Store>, codec: Codec) -> Result<Self, Error> {
        let probe_key = layout::probe(&layout::random_name());
        let config = RepositoryConfig {
            format: manifest::FORMAT_VERSION,
            repository_id: layout::random_name(),
            codec,
            created_at: Timestamp::now(),
            conditional_put: probe_conditional_put(&*store, &probe_key).await.map_err(Error::opening)?,
        };
        store.use_conditional_put(config.conditional_put);
        let body = serde_json::to_vec_pretty(&config).map_err(|error| Error::failed(error.to_string()))?;
        reached("init: before the configuration");
        match store.put(layout::CONFIG, body.into(), PutMode::Create).await {
            Ok(()) => reached("init: after the configuration"),
            // Somebody else made it at the same moment: theirs counts.
            Err(StoreError::Exists { .. }) => return Self::open(store).await,
            Err(error) => return Err(error.into()),
        }
        let repository = Repository { store, config, clock: clock::system() };
        repository.refresh_open_restore().await?;
        Ok(repository)
    }

    fn with_config(store: Arc<dyn Store>, bytes: &[u8]) -> Result<Self, Error> {
        let place = store.describe();
        let value: serde_json::Value = serde_json::from_slice(bytes)
            .map_err(|_| Error::Damaged(format!("{place}: {} is damaged: it is not JSON", layout::CONFIG)))?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(manifest::FORMAT_VERSION) => {}
            Some(format) => {
                return Err(Error::refused(
                    format!("{place} has repository format {format}; this program knows {}", manifest::FORMAT_VERSION),
                    "use the version of Holdfast that made it, or a newer one",
                ));
            }
            None => return Err(Error::Damaged(format!("{place}: {} is damaged: it names no format", layout::CONFIG))),
        }
        let config: RepositoryConfig = serde_json::from_value(value)
            .map_err(|error| Error::Damaged(format!("{place}: {} is damaged: {error}", layout::CONFIG)))?;
        store.use_conditional_put(config.conditional_put);
        Ok(Repository { store, config, clock: clock::system() })
    }

    /// Writes RESTORE.md and restore.sh where they are missing or of another version.
    pub async fn refresh_open_restore(&self) -> Result<(), Error> {
        for (key, text) in
            [(layout::RESTORE_MD, open_restore::RESTORE_MD), (layout::RESTORE_SH, open_restore::RESTORE_SH)]
        {
            let current = match self.store.get(key).await {
                Ok(bytes) => bytes == text.as_bytes(),
                Err(StoreError::NotFound { .. }) => false,
                Err(error) => return Err(error.into()),
            };
            if !current {
                reached("init: before a text of the open restore");
                self.store.put(key, Bytes::from_static(text.as_bytes()), PutMode::Replace).await?;
                reached("init: after a text of the open restore");
            }
        }
        Ok(())
    }

    /// The same with another clock.
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Repository { clock, ..self }
    }

    /// The clock that dates what is written.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The repository's own settings.
    pub fn config(&self) -> &RepositoryConfig {
        &self.config
    }

    /// The store behind it.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Names of all databases that have backups.
    pub async fn databases(&self) -> Result<Vec<DatabaseName>, Error> {
        let keys = self.store.list(layout::BACKUPS).await?;
        let names: BTreeSet<_> =
            keys.iter().filter_map(|meta| layout::parse_manifest(&meta.key)).map(|(name, _)| name).collect();
        Ok(names.into_iter().collect())
    }

    /// All backups of a database, oldest first, each with its manifest. A damaged manifest does not hide the others.
    pub async fn backups(&self, database: &DatabaseName) -> Result<Vec<Listed>, Error> {
        self.listed(database, &layout::backups_of(database), &layout::marks_of(database)).await
    }

    /// The same, for decisions: fails where the store did not give a manifest out, which says nothing about that backup.
    /// One that is damaged or of a version to come is an answer.
    pub async fn backups_given_out(&self, database: &DatabaseName) -> Result<Vec<Listed>, Error> {
        let unread = |error: &Error| matches!(error.class(), Class::Transient | Class::Permanent);
        let mut backups = self.backups(database).await?;
        let failed = backups.iter().position(|backup| backup.manifest.as_ref().is_err_and(unread));
        match failed.map(|at| backups.swap_remove(at).manifest) {
            Some(Err(error)) => Err(error),
            _ => Ok(backups),
        }
    }

    /// One backup with its manifest and marks; `None` where there is none. Reads nothing of the others.
    pub async fn backup(&self, database: &DatabaseName, id: &BackupId) -> Result<Option<Listed>, Error> {
        let (manifests, marks) = (layout::backup(database, id), layout::marks_of_backup(database, id));
        Ok(self.listed(database, &manifests, &marks).await?.pop())
    }

    async fn listed(&self, database: &DatabaseName, manifests: &str, marks: &str) -> Result<Vec<Listed>, Error> {
        let (keys, marks, damaged) =
            tokio::try_join!(self.store.list(manifests), self.list_marks(database, marks), self.damaged_packs(),)?;
        let mut marks = marks;
        let mut list = Vec::new();
        for meta in keys {
            let Some((_, id)) = layout::parse_manifest(&meta.key) else { continue };
            let manifest = self.manifest(database, &id).await;
            let damaged_packs = manifest.as_ref().map_or(0, |manifest| manifest.damaged(&damaged));
            list.push(Listed {
                database: database.clone(),
                marks: marks.remove(&id).unwrap_or_default(),
                id,
                manifest_bytes: meta.size_bytes,
                written_at: meta.modified,
                manifest,
                damaged_packs,
            });
        }
        list.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(list)
    }

    /// Reads one manifest and checks that it is the one its key says.
    pub async fn manifest(&self, database: &DatabaseName, id: &BackupId) -> Result<Manifest, Error> {
        let backup = format!("{database}/{id}");
        let bytes = match self.store.get(&layout::manifest(database, id)).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { place, .. }) => {
                return Err(Error::refused(
                    format!("{place} holds no backup {backup}"),
                    "backup-agent list shows what there is",
                ));
            }
            Err(error) => return Err(error.into()),
        };
        self.decode(database, id, &bytes)
    }

    /// Reads the bytes of a manifest and checks that it is this backup's.
    pub(crate) fn decode(&self, database: &DatabaseName, id: &BackupId, bytes: &[u8]) -> Result<Manifest, Error> {
        let backup = format!("{database}/{id}");
        let manifest = manifest::decode(bytes).map_err(|source| Error::Manifest { backup: backup.clone(), source })?;
        if manifest.header.database != *database || manifest.header.id != *id {
            let text = format!("it is the manifest of {}/{}", manifest.header.database, manifest.header.id);
            return Err(Error::Manifest { backup, source: ManifestError::Damaged(text) });
        }
        Ok(manifest)
    }

    /// Names of all packs somebody found damaged.
    pub async fn damaged_packs(&self) -> Result<HashSet<String>, StoreError> {
        let keys = self.store.list(layout::DAMAGED).await?;
        Ok(keys.iter().filter_map(|meta| layout::parse_damaged(&meta.key)).map(str::to_owned).collect())
    }

    /// The store's own time: that of an object written now.
    pub async fn store_now(&self) -> Result<Timestamp, StoreError> {
        let key = layout::probe(&layout::random_name());
        self.store.put(&key, Bytes::from_static(b"{}\n"), PutMode::Replace).await?;
        let meta = self.store.head(&key).await;
        // What cannot be deleted prune removes when it is old.
        let deleted = self.store.delete(&key).await;
        let now = meta?.modified;
        deleted?;
        Ok(now)
    }

    /// Notes that a pack is damaged, so that every listing names the backups that need it and no writer adopts it.
    pub async fn mark_damaged(&self, uuid: &str, what: &str) -> Result<(), StoreError> {
        let body = serde_json::json!({"pack": uuid, "found": what, "at": self.clock.now()}).to_string();
        reached("verify: before the note of damage");
        self.store.put(&layout::damaged(uuid), body.into(), PutMode::Replace).await?;
        reached("verify: after the note of damage");
        Ok(())
    }
}
