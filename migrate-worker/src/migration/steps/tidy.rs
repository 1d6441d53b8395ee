//! Removes what a migration needed and nobody needs any more.

use super::back_up::owner;
use crate::Error;
use crate::migration::site::Site;
use backup_agent::hold::release;

/// Removes the task's folder. Best effort: what stays is named, and the next task of the database is not disturbed.
pub async fn tidy(site: &Site) {
    let folder = site.folder();
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "what the migration needed could not be removed");
        }
        _ => {}
    }
}

/// Releases the backups that earlier migrations of the database put on hold; `keep` (`<database>/<id>`) stays. Best
/// effort: what stays on hold is named.
pub async fn release_earlier(site: &Site, keep: &str) {
    if let Err(error) = release_but(site, keep).await {
        tracing::warn!(%error, "backups of earlier migrations stay on hold");
    }
}

/// Releases the backup (`<database>/<id>`) of a task that changed nothing. Best effort.
pub async fn release_unused(site: &Site, backup: &str) {
    let released = async {
        let (repository, owner) = (site.world.repository().await?, owner()?);
        let (database, id) = backup_agent::choose::key(&repository, backup).await?;
        release(&repository, &database, &id, &owner).await
    };
    if let Err(error) = released.await {
        tracing::warn!(%error, backup, "the backup stays on hold");
    }
}

async fn release_but(site: &Site, keep: &str) -> Result<(), Error> {
    let (repository, owner) = (site.world.repository().await?, owner()?);
    for backup in repository.backups(&site.name).await? {
        let is_kept = format!("{}/{}", backup.database, backup.id) == keep;
        if !is_kept && backup.marks.holds().iter().any(|hold| hold.owner == owner) {
            release(&repository, &site.name, &backup.id, &owner).await?;
        }
    }
    Ok(())
}
