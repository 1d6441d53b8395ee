//! Brings a forgotten backup back.

use crate::error::Error;
use crate::repository::{MarkKind, Repository, Trashed, layout};
use bytes::Bytes;
use shared::clock::Moment;
use shared::crash_point;
use shared::model::{BackupId, DatabaseName};
use shared::store::{PutMode, Store, StoreError};
use std::time::Duration;

/// Brings a forgotten backup back, with its marks. Its copy stays in the trash and grows old there.
///
/// Only in the first half of the grace time, so that no prune can have begun to remove its packs, and only with every
/// pack there. Safe to repeat: a crash leaves the backup forgotten, or incomplete until the next try.
pub async fn unforget(repository: &Repository, database: &DatabaseName, id: &BackupId) -> Result<(), Error> {
    let began = Moment::now(&**repository.clock());
    let now = repository.store_now().await?;
    let copy = newest_copy(repository, database, id).await?;
    let name = copy.name();
    let Some(left) = Duration::try_from(copy.returns_until().duration_since(now)).ok().filter(|left| !left.is_zero())
    else {
        return Err(Error::refused(
            format!("backup {name} could be brought back until {}; its packs may be about to go", copy.returns_until()),
            None,
        ));
    };
    let (manifest, bytes) = repository.trashed_manifest(&copy).await?;
    repository.check_packs(&manifest).await.map_err(|error| with_state(error, &name, "stays forgotten"))?;
    // A mark that came too late must not call it complete before its packs were looked at again.
    repository.unmark_verified(database, id).await?;
    let is_mine = put_back(repository, database, id, bytes).await?;
    let checked = if began.elapsed(&**repository.clock()) >= left {
        Err(Error::failed("it was brought back too late, so its packs may be about to go"))
    } else {
        repository.check_packs(&manifest).await
    };
    if let Err(error) = checked {
        let state = withdraw(repository, database, id, is_mine).await?;
        return Err(with_state(error, &name, state));
    }
    crash_point::reached("unforget: before the verified mark");
    repository.mark(database, id, MarkKind::Verified, "every pack found when it was brought back").await?;
    crash_point::reached("unforget: after the verified mark");
    Ok(())
}

/// The copy that can be brought back longest. Refuses where there is none, or where the backup is there and complete.
async fn newest_copy(repository: &Repository, database: &DatabaseName, id: &BackupId) -> Result<Trashed, Error> {
    let copies = repository.store().list(&layout::trash_of_backup(database, id)).await?;
    let copy = copies.into_iter().filter_map(Trashed::of).max_by_key(Trashed::returns_until);
    let there = repository.backup(database, id).await?;
    // One that is there without a verified mark is what an interrupted forget or unforget leaves.
    let is_back = there.as_ref().is_some_and(|backup| copy.is_none() || backup.is_verified());
    match copy {
        _ if is_back => Err(Error::refused(format!("backup {database}/{id} is not forgotten"), None)),
        Some(copy) => Ok(copy),
        None => Err(Error::refused(
            format!("there is no forgotten backup {database}/{id}"),
            "backup-agent list --trash shows what can be brought back",
        )),
    }
}

/// Puts the manifest where it was; returns whether it was this call that did.
async fn put_back(
    repository: &Repository,
    database: &DatabaseName,
    id: &BackupId,
    manifest: Bytes,
) -> Result<bool, Error> {
    crash_point::reached("unforget: before the manifest");
    let put = repository.store().put(&layout::manifest(database, id), manifest, PutMode::Create).await;
    crash_point::reached("unforget: after the manifest");
    match put {
        Ok(()) => Ok(true),
        Err(StoreError::Exists { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes the manifest away again, unless somebody else put it there or found it complete.
async fn withdraw(
    repository: &Repository,
    database: &DatabaseName,
    id: &BackupId,
    is_mine: bool,
) -> Result<&'static str, Error> {
    let marks = repository.marks(database, id).await?;
    if !is_mine || marks.has(MarkKind::Verified) {
        return Ok("was left as it is, because somebody else brought it back, too");
    }
    crash_point::reached("unforget: before it is withdrawn");
    repository.store().delete(&layout::manifest(database, id)).await?;
    crash_point::reached("unforget: after it was withdrawn");
    Ok("stays forgotten")
}

/// The same error with what became of the backup.
fn with_state(error: Error, name: &str, state: &str) -> Error {
    let text = format!("backup {name} cannot be brought back: {error}; it {state}");
    match error {
        Error::Damaged(_) => Error::Damaged(text),
        Error::Store(_) | Error::Failed { .. } => Error::failed(text),
        other => other,
    }
}
