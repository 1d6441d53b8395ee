//! Makes a backup.

use crate::error::Error;
use crate::repository::{BackupWriter, Manifest, Repository, WriteProgress};
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
}

/// Reads `engine`'s database in one snapshot into the repository and returns the manifest of a complete backup.
///
/// On failure no backup exists; what was uploaded is reused by the next one that finds it, or removed by prune.
pub async fn backup(
    repository: &Repository,
    name: &DatabaseName,
    engine: &dyn Engine,
    options: &BackupOptions,
    progress: Arc<dyn WriteProgress>,
) -> Result<Manifest, Error> {
    let probe = engine.probe().await?;
    let writer = BackupWriter::begin(repository, name, &probe.identity, options.new_identity, progress).await?;
    match engine.dump(writer.sink(), &options.dump).await {
        Ok(dump) => writer.commit(dump).await,
        Err(error) => {
            writer.abandon().await;
            Err(error.into())
        }
    }
}
