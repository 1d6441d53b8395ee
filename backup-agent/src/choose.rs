//! Chooses the backup a person means.

use crate::error::Error;
use crate::repository::{Manifest, Repository, Trashed};
use jiff::Timestamp;
use shared::model::{At, BackupId, DatabaseName};

/// A backup that was chosen, and what a person should hear about the choice.
#[derive(Debug)]
pub struct Chosen {
    /// Its manifest.
    pub manifest: Manifest,
    /// Packs of it that somebody found damaged; only a backup chosen by its id has any.
    pub damaged_packs: usize,
    /// Newer backups that a time would have meant, but that are not complete.
    pub passed_over: Vec<BackupId>,
}

/// Finds which backup `<database>/<id>`, a unique beginning of one, or an id alone means. Reads no manifest, so that one
/// with a damaged manifest can be meant, too.
pub async fn key(repository: &Repository, text: &str) -> Result<(DatabaseName, BackupId), Error> {
    let (database, id) = match text.split_once('/') {
        Some((database, id)) => (Some(database), id),
        None => (None, text),
    };
    let databases: Vec<DatabaseName> = match database {
        Some(name) => vec![name.parse().map_err(|error| Error::refused(format!("{error}"), None))?],
        None => repository.databases().await?,
    };
    let mut found: Vec<(DatabaseName, BackupId)> = Vec::new();
    for database in databases {
        for backup in repository.ids(&database).await? {
            if backup.as_str().starts_with(id) && !id.is_empty() {
                found.push((database.clone(), backup));
            }
        }
    }
    match found.len() {
        0 => Err(no_backup(repository, text).await?),
        1 => Ok(found.remove(0)),
        several => Err(Error::refused(
            format!("{text} is not unique: {several} backups begin so"),
            "give more of the id, or <database>/<id>",
        )),
    }
}

/// The error for a backup that is not there: it may have been forgotten.
async fn no_backup(repository: &Repository, text: &str) -> Result<Error, Error> {
    let place = repository.store().describe();
    if let [copy] = forgotten(repository, text).await?.as_slice() {
        return Ok(Error::Refused {
            message: format!("backup {} was forgotten at {}", copy.name(), copy.forgotten_at),
            hint: Some(if copy.returns_until() > repository.store_now().await? {
                format!("backup-agent unforget {} brings it back until {}", copy.name(), copy.returns_until())
            } else {
                format!(
                    "it could be brought back until {}; backup-agent list shows what there is",
                    copy.returns_until()
                )
            }),
        });
    }
    Ok(Error::refused(format!("{place} holds no backup {text}"), "backup-agent list shows what there is"))
}

/// Forgotten backups that `<database>/<id>`, a beginning of one, or an id alone means.
pub async fn forgotten(repository: &Repository, text: &str) -> Result<Vec<Trashed>, Error> {
    let (database, id) = match text.split_once('/') {
        Some((database, id)) => (Some(database.parse().map_err(|error| Error::refused(format!("{error}"), None))?), id),
        None => (None, text),
    };
    let mut found = repository.trash(database.as_ref()).await?;
    found.retain(|copy| copy.id.as_str().starts_with(id) && !id.is_empty());
    Ok(found)
}

/// Finds a backup by what [`key`] understands.
pub async fn by_name(repository: &Repository, text: &str) -> Result<Chosen, Error> {
    let (database, id) = key(repository, text).await?;
    let manifest = repository.manifest(&database, &id).await?;
    let damaged_packs = manifest.damaged(&repository.damaged_packs().await?);
    Ok(Chosen { manifest, damaged_packs, passed_over: Vec::new() })
}

/// Finds the backup of `database` meant by a time; only complete ones count.
///
/// A time to the second means all of that second: so a backup is found by the time its id says.
pub async fn by_time(repository: &Repository, database: &DatabaseName, at: &At) -> Result<Chosen, Error> {
    if let At::Id(id) = at {
        return by_name(repository, &format!("{database}/{id}")).await;
    }
    let backups = repository.backups(database).await?;
    let place = repository.store().describe();
    if backups.is_empty() {
        return Err(Error::refused(
            format!("{place} holds no backup of {database}"),
            "backup-agent list shows what there is",
        ));
    }
    let total = backups.len();
    // In order of their ids, which only ever grow: one backup dated in the future must not hide all later ones.
    let mut passed_over = Vec::new();
    let mut first = None;
    let mut newest = None;
    for backup in backups {
        if !backup.is_complete() {
            passed_over.push(backup.id);
            continue;
        }
        let Ok(manifest) = backup.manifest else { continue };
        let created_at = manifest.header.created_at;
        first = Some(first.map_or(created_at, |first: Timestamp| first.min(created_at)));
        let is_after = |instant: &Timestamp| match instant.subsec_nanosecond() {
            0 => created_at.as_second() > instant.as_second(),
            _ => created_at > *instant,
        };
        if !matches!(at, At::Instant(instant) if is_after(instant)) {
            newest = Some(manifest);
            passed_over.clear();
        }
    }
    match (newest, first) {
        (Some(manifest), _) => {
            passed_over.retain(|id| !matches!(at, At::Instant(instant) if id.second() > *instant));
            Ok(Chosen { manifest, damaged_packs: 0, passed_over })
        }
        (None, Some(first)) => Err(before_the_first(database, at, first)),
        (None, None) => Err(Error::refused(
            format!("none of the {total} backups of {database} in {place} is complete"),
            "backup-agent list says what is wrong with each; a damaged one may still be tried by its id",
        )),
    }
}

fn before_the_first(database: &DatabaseName, at: &At, first: Timestamp) -> Error {
    let asked = match at {
        At::Instant(instant) => instant.to_string(),
        _ => "that".into(),
    };
    Error::refused(
        format!("the first complete backup of {database} is of {first}; there is none at {asked}"),
        "choose a later time, or a backup by its id",
    )
}

impl Repository {
    /// Ids of all backups of a database, oldest first, whatever their state.
    pub async fn ids(&self, database: &DatabaseName) -> Result<Vec<BackupId>, Error> {
        let keys = self.store().list(&crate::repository::layout::backups_of(database)).await?;
        let mut ids: Vec<BackupId> = keys
            .iter()
            .filter_map(|meta| crate::repository::layout::parse_manifest(&meta.key))
            .map(|(_, id)| id)
            .collect();
        ids.sort();
        Ok(ids)
    }
}
