//! The backups of a migration, and their copies on this machine.

use super::preflight::Checked;
use crate::Error;
use crate::migration::facts::{BackedUp, State, step};
use crate::migration::halt::Halt;
use crate::migration::site::Site;
use backup_agent::backup::{BackupOptions, backup};
use backup_agent::choose;
use backup_agent::hold::hold;
use backup_agent::mirror::mirror;
use backup_agent::repository::{Manifest, Owner, Repository, StoredBackup, WriteProgress};
use shared::engine::{DumpOptions, Engine};
use std::sync::Arc;
use std::time::Instant;

/// A backup, opened from its copy on this machine.
pub struct Kept {
    /// `<database>/<id>` and the state it shows.
    pub note: BackedUp,
    /// The backup.
    pub stored: Arc<StoredBackup>,
}

/// Makes backup A while the application works.
pub async fn back_up(site: &mut Site, checked: &Checked) -> Result<BackedUp, Halt> {
    site.begins("backup");
    let begun = Instant::now();
    let manifest = take_backup(site, &*site.engine).await?;
    let name = format!("{}/{}", manifest.header.database, manifest.header.id);
    let state = State { schema: manifest.header.schema_digest.clone(), heads: checked.route.from.clone() };
    let note = BackedUp { backup: name, state };
    let rows = backup_agent::cli::text::count(manifest.rows());
    site.pace.backup = begun.elapsed();
    site.story.step("backup", &format!("{}, {rows} rows", note.backup), site.pace.backup);
    keep_here(site, &manifest).await?;
    site.ledger.done(step::BACKUP_A, &note).await?;
    Ok(note)
}

/// Makes a complete backup and puts it on hold.
pub async fn take_backup(site: &Site, engine: &dyn Engine) -> Result<Manifest, Halt> {
    let repository = site.world.repository().await?;
    let dump = DumpOptions { spool: site.world.config.spool(), clock: site.world.clock.clone(), ..Default::default() };
    let options = BackupOptions { dump, stop: site.stop.clone(), ..BackupOptions::default() };
    let progress: Arc<dyn WriteProgress> = site.meter.clone();
    let manifest = backup(&repository, &site.name, engine, &options, progress).await?;
    let (database, id) = (&manifest.header.database, &manifest.header.id);
    hold(&repository, database, id, &owner()?, &format!("of migration {}", site.ledger.job())).await?;
    Ok(manifest)
}

/// Who holds backups of migrations.
pub fn owner() -> Result<Owner, Error> {
    "migration".parse().map_err(|error| Error::failed(format!("{error}")))
}

/// Copies a backup with everything it names onto this machine, so that restoring it needs no store.
pub async fn keep_here(site: &Site, manifest: &Manifest) -> Result<Repository, Halt> {
    let repository = site.world.repository().await?;
    Ok(site.stop.or(mirror(&repository, manifest, &site.folder().join("way-back"))).await?)
}

/// Opens a backup of the task: from its copy here, else from the store.
pub async fn open_backup(site: &Site, note: &BackedUp) -> Result<Kept, Error> {
    let stored =
        match Repository::open(Arc::new(shared::store::fs::FsStore::create(&site.folder().join("way-back"))?)).await {
            Ok(here) => choose_in(&here, note).await,
            Err(error) => Err(error),
        };
    let stored = match stored {
        Ok(stored) => stored,
        Err(error) => {
            tracing::info!(%error, "the backup is not kept here; the store is asked");
            choose_in(&site.world.repository().await?, note).await?
        }
    };
    Ok(Kept { note: note.clone(), stored: Arc::new(stored) })
}

async fn choose_in(repository: &Repository, note: &BackedUp) -> Result<StoredBackup, Error> {
    let (database, id) = choose::key(repository, &note.backup).await?;
    let manifest = repository.manifest(&database, &id).await?;
    StoredBackup::open(repository, manifest).await
}
