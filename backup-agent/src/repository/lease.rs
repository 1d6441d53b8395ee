//! A writer at work: an object that keeps prune away from the packs the writer may adopt.

use super::trash::later;
use super::{Repository, layout};
use crate::error::Error;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use shared::clock::{Clock, Moment};
use shared::crash_point::reached;
use shared::model::{BackupId, DatabaseName};
use shared::store::{PutMode, Store, StoreError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A lease is renewed this often.
const RENEWAL: Duration = Duration::from_secs(300);
/// A lease that was not renewed for this long is no longer honoured.
pub const LEASE_TTL: Duration = Duration::from_secs(900);

/// What a lease says.
#[derive(Deserialize)]
struct Body {
    database: DatabaseName,
    parents: Vec<BackupId>,
}

/// A writer that may be at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Writer {
    pub key: String,
    pub database: DatabaseName,
    /// Backups whose packs it may adopt.
    pub parents: Vec<BackupId>,
}

impl Repository {
    /// All writers whose leases have not run out at `now`, the store's time. Fails when one cannot be read: what it
    /// builds on is then unknown.
    pub(crate) async fn writers(&self, now: Timestamp) -> Result<Vec<Writer>, Error> {
        let mut found = Vec::new();
        for meta in self.store().list(layout::LEASES).await? {
            if !layout::is_lease(&meta.key) || now >= later(meta.modified, LEASE_TTL) {
                continue;
            }
            let bytes = match self.store().get(&meta.key).await {
                Ok(bytes) => bytes,
                // The writer ended meanwhile.
                Err(StoreError::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let body: Body = serde_json::from_slice(&bytes)
                .map_err(|error| Error::Damaged(format!("the lease {} cannot be read: {error}", meta.key)))?;
            found.push(Writer { key: meta.key, database: body.database, parents: body.parents });
        }
        Ok(found)
    }
}

/// Held while a backup is written; renewed in the background.
pub struct Lease {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    key: String,
    renewed: Arc<Mutex<Moment>>,
    renewal: tokio::task::JoinHandle<()>,
}

impl Lease {
    /// Announces a writer that may adopt packs named by `parents`.
    pub async fn take(
        repository: &Repository,
        database: &DatabaseName,
        parents: &[BackupId],
    ) -> Result<Self, StoreError> {
        let (store, clock) = (repository.store().clone(), repository.clock().clone());
        let key = layout::lease(&layout::random_name());
        let body = Bytes::from(
            serde_json::json!({"database": database, "parents": parents, "started_at": clock.now()}).to_string(),
        );
        let before = Moment::now(&*clock);
        reached("backup: before the lease");
        store.put(&key, body.clone(), PutMode::Replace).await?;
        reached("backup: after the lease");
        let renewed = Arc::new(Mutex::new(before));
        let renewal = tokio::spawn(renew(store.clone(), clock.clone(), key.clone(), body, renewed.clone()));
        Ok(Lease { store, clock, key, renewed, renewal })
    }

    /// Whether the last renewal is recent enough that prune has certainly honoured the lease until now.
    pub fn is_fresh(&self) -> bool {
        self.renewed.lock().is_ok_and(|at| at.elapsed(&*self.clock) < LEASE_TTL)
    }

    /// Ends the lease. A lease that cannot be deleted runs out by itself.
    pub async fn release(self) {
        self.renewal.abort();
        reached("backup: before the lease ends");
        if let Err(error) = self.store.delete(&self.key).await {
            tracing::warn!(%error, "a lease could not be deleted; it runs out by itself");
        }
        reached("backup: after the lease ended");
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

async fn renew(store: Arc<dyn Store>, clock: Arc<dyn Clock>, key: String, body: Bytes, renewed: Arc<Mutex<Moment>>) {
    loop {
        clock.sleep(RENEWAL).await;
        let before = Moment::now(&*clock);
        reached("backup: before the lease is renewed");
        let renewal = store.put(&key, body.clone(), PutMode::Replace).await;
        reached("backup: after the lease is renewed");
        match renewal {
            Ok(()) => {
                if let Ok(mut at) = renewed.lock() {
                    *at = before;
                }
            }
            Err(error) => tracing::warn!(%error, "a lease could not be renewed; the next try follows"),
        }
    }
}
