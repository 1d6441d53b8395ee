//! Keeps a backup from being forgotten, by anybody, until it is released.

use crate::error::Error;
use crate::repository::{Hold, Owner, Repository, layout};
use shared::crash_point;
use shared::model::{BackupId, DatabaseName};
use shared::store::Store;

/// Puts a backup on hold. Several owners may hold one backup, and one owner may hold it several times.
///
/// Refuses where there is no such backup. Fails when somebody forgot it at the same moment, or when it is not complete;
/// the hold then stays and counts when the backup is brought back or verified.
pub async fn hold(
    repository: &Repository,
    database: &DatabaseName,
    id: &BackupId,
    owner: &Owner,
    reason: &str,
) -> Result<Hold, Error> {
    let name = format!("{database}/{id}");
    if repository.backup(database, id).await?.is_none() {
        return Err(Error::refused(format!("there is no backup {name}"), "backup-agent list shows what there is"));
    }
    crash_point::reached("hold: before the mark");
    let held = repository.mark_hold(database, id, owner, reason).await?;
    crash_point::reached("hold: after the mark");
    // Whoever forgets puts a copy into the trash before looking for holds: where there is none yet, this hold will be
    // seen. A copy older than the manifest is of a time before the backup was brought back.
    let copies = repository.store().list(&layout::trash_of_backup(database, id)).await?;
    let there = repository.backup(database, id).await?;
    let Some(there) = there.filter(|there| copies.iter().all(|copy| copy.modified < there.written_at)) else {
        return Err(Error::Failed {
            message: format!("backup {name} is being forgotten, or that was interrupted; its hold is noted"),
            hint: Some(format!("if backup-agent list --trash shows it, backup-agent unforget {name} brings it back")),
        });
    };
    // Whoever withdraws one that came too late takes the mark first, and then looks for holds.
    if !there.is_verified() {
        return Err(Error::Failed {
            message: format!("backup {name} is not complete, and whoever writes it may withdraw it; its hold is noted"),
            hint: Some(format!("backup-agent verify {name} completes it if everything is there")),
        });
    }
    Ok(held)
}

/// Takes back all holds of one owner on a backup, a forgotten one too, and returns how many there were.
pub async fn release(
    repository: &Repository,
    database: &DatabaseName,
    id: &BackupId,
    owner: &Owner,
) -> Result<usize, Error> {
    let marks = repository.marks(database, id).await?;
    let mine: Vec<&Hold> = marks.holds().iter().filter(|hold| hold.owner == *owner).collect();
    for hold in &mine {
        crash_point::reached("release: before the mark goes");
        repository.store().delete(&hold.key).await?;
        crash_point::reached("release: after the mark is gone");
    }
    Ok(mine.len())
}
