//! SQLite: restored into a file of its own, which becomes the database in one commit; what it was is copied beside it.

use super::{PATIENCE, Replaced, Site, step, unfinished};
use crate::error::Error;
use crate::restore::held_by;
use crate::target::read;
use serde::{Deserialize, Serialize};
use shared::connect;
use shared::crash_point;
use shared::engine::EngineError;
use shared::engine::sqlite::live::SqliteLive;
use shared::model::{DatabaseUrl, Phase};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The copy of what is replaced: about to be made, or made when the commit is announced.
#[derive(Debug, Serialize, Deserialize)]
struct Copy {
    /// Where it lies.
    kept: PathBuf,
}

/// Restores the backup into a file and makes it the database; looks first where a lost worker announced the commit.
pub(super) async fn replace(site: &mut Site<'_>, live: &SqliteLive, is_recovery: bool) -> Result<Replaced, Error> {
    if is_recovery {
        if let Some(Copy { kept }) = site.ledger.find(step::COMMIT, Phase::Intent)?
            && is_the_backup(site, live).await?
        {
            let rows = site.backup().await?.manifest().rows();
            return Ok(site.replaced(rows, Some(kept.display().to_string()), None));
        }
        site.settled = true;
        clear_copies(site)?;
    }
    let (file, rows) = restored(site, live).await?;
    site.begins("exchanging the content");
    let kept = kept_path(site, live)?;
    site.ledger.intent(step::KEEP, &Copy { kept: kept.clone() }).await?;
    let change = site.stop.or(live.replace(&kept, &file, PATIENCE)).await.map_err(|error| without(&kept, error))?;
    flush(&kept).map_err(|error| without(&kept, error))?;
    crash_point::reached("restore in place: what is replaced is kept");
    // The database is locked now: whoever took the task for lost would wait for this lock.
    if let Err(error) = site.ledger.still_ours().await {
        return Err(without(&kept, error));
    }
    site.ledger.intent(step::COMMIT, &Copy { kept: kept.clone() }).await?;
    site.ledger.rely_on_journal();
    let blocked = match change.commit().await {
        Ok(blocked) => Some(blocked),
        // The database itself says whether the commit was made.
        Err(error) => match is_the_backup(site, live).await {
            Ok(true) => None,
            Ok(false) => return Err(without(&kept, as_it_was(error))),
            Err(second) => return Err(unfinished(Error::failed(format!("{error}; {second}")))),
        },
    };
    site.ledger.done(step::COMMIT, &Copy { kept: kept.clone() }).await.map_err(unfinished)?;
    Ok(site.replaced(rows, Some(kept.display().to_string()), blocked))
}

/// Makes the copy of what is about to be replaced durable, with its name.
fn flush(kept: &Path) -> Result<(), Error> {
    let folder = kept.parent().unwrap_or(kept);
    let flushed = [kept, folder].into_iter().try_for_each(|path| File::open(path)?.sync_all());
    flushed.map_err(|error| Error::failed(format!("the copy {} could not be flushed: {error}", kept.display())))
}

async fn restored(site: &mut Site<'_>, live: &SqliteLive) -> Result<(PathBuf, u64), Error> {
    let folder = site.folder.join("restored");
    let wrong = |error| Error::failed(format!("{} cannot be made: {error}", folder.display()));
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(wrong(error)),
        _ => std::fs::create_dir_all(&folder).map_err(wrong)?,
    }
    let file = folder.join(live.path().file_name().unwrap_or_default());
    site.ledger.intent(step::RESTORE, &serde_json::json!({"place": "beside the journal"})).await?;
    let rows = site.restore_into(&*connect::engine(DatabaseUrl::Sqlite(file.clone()))).await?;
    site.ledger.done(step::RESTORE, &serde_json::json!({"rows": rows})).await?;
    Ok((file, rows))
}

/// Removes copies of tries that never came to their commit: the database is still what they hold. One of a try that did
/// may be all that is left of it; it stays, and is named.
fn clear_copies(site: &Site<'_>) -> Result<(), Error> {
    let paths = |step: &str| -> Result<Vec<PathBuf>, Error> {
        let notes = site.ledger.notes().iter().filter(|note| note.step == step && note.phase == Phase::Intent);
        notes.map(|note| read::<Copy>(note).map(|copy| copy.kept)).collect()
    };
    let committing = paths(step::COMMIT)?;
    for kept in paths(step::KEEP)? {
        if committing.contains(&kept) {
            tracing::warn!(file = %kept.display(), "an earlier try kept this copy of the database; it stays");
        } else {
            remove(&kept)?;
        }
    }
    Ok(())
}

/// Beside the database, a new one for every try: what an earlier one kept may be all that is left of it.
fn kept_path(site: &Site<'_>, live: &SqliteLive) -> Result<PathBuf, Error> {
    let job = site.ledger.job().to_string();
    let short = &job[job.len() - 8..];
    let mut name = live.path().file_name().unwrap_or_default().to_owned();
    name.push(format!(".replaced-{short}-{}", site.ledger.lease().epoch));
    let path = live.path().with_file_name(name);
    if std::fs::exists(&path).unwrap_or(true) {
        return Err(Error::refused(format!("{} exists already", path.display()), "move it away"));
    }
    Ok(path)
}

/// An error, after the copy of what was not replaced was removed again.
fn without(kept: &Path, error: impl Into<Error>) -> Error {
    let error = error.into();
    match remove(kept) {
        Ok(()) => error,
        Err(second) => Error::failed(format!("{error}; and {second}")),
    }
}

/// Removes a copy and what SQLite left beside it; one that is not there is fine.
fn remove(kept: &Path) -> Result<(), Error> {
    for end in ["", "-wal", "-shm", "-journal"] {
        let mut file = kept.as_os_str().to_owned();
        file.push(end);
        if let Err(error) = std::fs::remove_file(&file)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Error::failed(format!("{} could not be removed: {error}", kept.display())));
        }
    }
    Ok(())
}

fn as_it_was(error: EngineError) -> Error {
    Error::failed(format!("{error}; the database is as it was"))
}

/// Whether the database holds what the backup does.
async fn is_the_backup(site: &Site<'_>, live: &SqliteLive) -> Result<bool, Error> {
    let backup = site.backup().await?;
    let engine = connect::engine(DatabaseUrl::Sqlite(live.path().to_owned()));
    Ok(held_by(&backup, &*engine).await?.is_some())
}
