//! Keeps a backup from being forgotten, by anybody, until it is released.

use crate::error::Error;
use crate::repository::{Hold, MarkKind, Owner, Repository};
use shared::crash_point;
use shared::model::{BackupId, DatabaseName};
use shared::store::Store;

/// Puts a backup on hold. Several owners may hold one backup, and one owner may hold it several times.
///
/// Refuses where there is no such backup. Fails when somebody forgot it at the same moment; the hold then stays and
/// counts again when the backup is brought back.
pub async fn hold(
    repository: &Repository,
    database: &DatabaseName,
    id: &BackupId,
    owner: &Owner,
    reason: &str,
) -> Result<Hold, Error> {
    let name = format!("{database}/{id}");
    let Some(before) = repository.backup(database, id).await? else {
        return Err(Error::refused(format!("there is no backup {name}"), "backup-agent list shows what there is"));
    };
    crash_point::reached("hold: before the mark");
    let held = repository.mark_hold(database, id, owner, reason).await?;
    crash_point::reached("hold: after the mark");
    // Whoever forgets takes the verified mark away before looking for holds the last time: if it still stands now, this
    // hold will be seen.
    let after = repository.backup(database, id).await?;
    let was = before.marks.has(MarkKind::Verified);
    if after.is_some_and(|after| !was || after.marks.has(MarkKind::Verified)) {
        return Ok(held);
    }
    Err(Error::Failed {
        message: format!("backup {name} is just being forgotten; its hold is noted and counts when it is back"),
        hint: Some(format!("look with backup-agent list --trash; backup-agent unforget {name} brings it back")),
    })
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
