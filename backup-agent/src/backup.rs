//! Makes a backup.

use crate::error::Error;
use crate::repository::{BackupWriter, Manifest, Repository, WriteProgress};
use crate::stop::Stop;
use shared::engine::{DumpOptions, Engine};
use shared::model::DatabaseName;
use std::sync::Arc;

/// What may be decided about one backup.
#[derive(Debug, Clone, Default)]
pub struct BackupOptions {
    /// How the database is read.
    pub dump: DumpOptions,
    /// The name's earlier backups are of another database, and that is meant.
    pub new_identity: bool,
    /// Ends the work early.
    pub stop: Stop,
}

/// Reads `engine`'s database in one snapshot into the repository and returns the manifest of a complete backup.
///
/// On failure, and when `options.stop` asks for the end while the database is read, no backup exists; what was uploaded is reused by the next one that finds it, or removed by prune.
pub async fn backup(
    repository: &Repository,
    name: &DatabaseName,
    engine: &dyn Engine,
    options: &BackupOptions,
    progress: Arc<dyn WriteProgress>,
) -> Result<Manifest, Error> {
    let stop = &options.stop;
    let probe = stop.or(engine.probe()).await?;
    let writer = BackupWriter::begin(repository, name, &probe.identity, options.new_identity, progress).await?;
    match stop.or(engine.dump(writer.sink(), &options.dump)).await {
        // What is left is short; ended here it would leave a lease to run out.
        Ok(dump) => writer.commit(dump).await,
        Err(error) => {
            writer.abandon().await;
            Err(error)
        }
    }
}
