//! What keeps prune and retention from acting on times that cannot be right.

use crate::error::Error;
use crate::repository::{Listed, Repository, later};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use shared::clock::Uptime;
use shared::crash_point;
use shared::model::DatabaseName;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the guards must know.
#[derive(Debug, Clone)]
pub struct GuardOptions {
    /// How far apart the backups of a database are made, where that is known.
    pub intervals: BTreeMap<DatabaseName, Duration>,
    /// Directory for notes of this machine.
    pub spool: PathBuf,
}

/// By so much may a clock differ from another one.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);
/// By so much may the store's clock run ahead of or behind the machine's uptime.
const JUMP: SignedDuration = SignedDuration::from_hours(48);
/// After so many intervals without a complete backup nothing is removed any more.
const MISSED: u32 = 3;

/// The store's time when it was last looked at, as kept in the spool.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LastSeen {
    store_time: Timestamp,
    uptime: Option<Uptime>,
    /// The store's time when a jump was noted after which no backup was made yet.
    jumped_at: Option<Timestamp>,
}

/// Why nothing may be removed now by its age; empty = it may. `now` is the store's time, `backups` are those of the
/// databases in question.
///
/// Also notes the store's time in the spool, so that a jump of it is seen the next time.
pub async fn time_refusals(
    repository: &Repository,
    now: Timestamp,
    backups: &[Listed],
    options: &GuardOptions,
) -> Result<Vec<String>, Error> {
    let mut refusals = Vec::new();
    let here = repository.clock().now();
    if here.duration_since(now).abs() > TOLERANCE {
        refusals.push(format!(
            "the clock of this machine ({here}) and that of the store ({now}) differ by more than 5 minutes"
        ));
    }
    for backup in backups {
        let created_at = backup.manifest.as_ref().ok().map(|manifest| manifest.header.created_at);
        let latest = created_at.into_iter().fold(backup.id.second(), Timestamp::max);
        if latest.duration_since(now) > TOLERANCE {
            refusals.push(format!("backup {}/{} lies in the future ({latest})", backup.database, backup.id));
        }
    }
    refusals
        .extend(options.intervals.iter().filter_map(|(database, interval)| missed(database, *interval, backups, now)));
    let file = options.spool.join(format!("prune-clock-{}.json", repository.config().repository_id));
    refusals.extend(jumped(&file, repository.clock().uptime(), now, backups, options)?);
    Ok(refusals)
}

/// A database whose backups do not come any more must not lose those it has.
fn missed(database: &DatabaseName, interval: Duration, backups: &[Listed], now: Timestamp) -> Option<String> {
    let mine: Vec<&Listed> = backups.iter().filter(|backup| backup.database == *database).collect();
    if mine.is_empty() {
        return None;
    }
    let complete = mine.iter().filter(|backup| backup.is_complete());
    let newest = complete.filter_map(|backup| Some(backup.manifest.as_ref().ok()?.header.created_at)).max();
    match newest {
        Some(newest) if later(newest, interval.saturating_mul(MISSED)) >= now => None,
        Some(newest) => {
            Some(format!("the newest complete backup of {database} is of {newest}, more than three intervals ago"))
        }
        None => Some(format!("no backup of {database} is complete")),
    }
}

/// Compares the store's clock with the machine's uptime since they were last noted, and notes them anew.
fn jumped(
    file: &Path,
    uptime: Option<Uptime>,
    now: Timestamp,
    backups: &[Listed],
    options: &GuardOptions,
) -> Result<Option<String>, Error> {
    let last = read(file)?;
    let mut jumped_at = last.as_ref().and_then(|last| last.jumped_at);
    if let Some(noted) = jumped_at
        && backups.iter().any(|backup| backup.is_complete() && backup.written_at > noted)
    {
        jumped_at = None;
    }
    if let Some(last) = last
        && jump(&last, uptime.as_ref(), now, options)
    {
        jumped_at = Some(now);
    }
    write(file, &LastSeen { store_time: now, uptime, jumped_at })?;
    Ok(jumped_at.map(|at| {
        format!("the store's clock has jumped (noted at {at}); nothing is removed until one new backup is complete")
    }))
}

fn jump(last: &LastSeen, uptime: Option<&Uptime>, now: Timestamp, options: &GuardOptions) -> bool {
    let passed = now.duration_since(last.store_time);
    match (&last.uptime, uptime) {
        (Some(before), Some(after)) if before.boot_id == after.boot_id => {
            let up = SignedDuration::try_from(after.time.saturating_sub(before.time)).unwrap_or(SignedDuration::MAX);
            (passed - up).abs() > JUMP
        }
        // After a start of the machine nothing tells how long it was off.
        _ => {
            let longest = options.intervals.values().max().map(|interval| interval.saturating_mul(2));
            let limit = longest.and_then(|limit| SignedDuration::try_from(limit).ok()).unwrap_or(JUMP);
            passed > limit || passed < -JUMP
        }
    }
}

fn read(file: &Path) -> Result<Option<LastSeen>, Error> {
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::Refused {
            message: format!("{} cannot be read: {error}", file.display()),
            hint: Some("it notes the store's time; if the clocks are right, delete it".into()),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::failed(format!("{} cannot be read: {error}; nothing was removed", file.display()))),
    }
}

fn write(file: &Path, seen: &LastSeen) -> Result<(), Error> {
    let dir = file.parent().unwrap_or(Path::new("."));
    let written = || -> std::io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut new = tempfile::NamedTempFile::new_in(dir)?;
        new.write_all(&serde_json::to_vec_pretty(seen)?)?;
        new.as_file().sync_all()?;
        crash_point::reached("guards: before the store's time is noted");
        new.persist(file)?;
        crash_point::reached("guards: after the store's time was noted");
        Ok(())
    };
    written().map_err(|error| {
        Error::failed(format!("the store's time cannot be noted in {}: {error}; nothing was removed", dir.display()))
    })
}
