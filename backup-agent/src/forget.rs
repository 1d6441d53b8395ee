//! Lets backups go: into the trash first, from where they can be brought back for a time.

use crate::error::Error;
use crate::guards::{GuardOptions, time_refusals};
use crate::repository::{LEASE_TTL, Listed, MIN_GRACE, ManifestError, MarkKind, Repository, later, layout};
use jiff::Timestamp;
use serde::Serialize;
use shared::crash_point;
use shared::model::{BackupId, DatabaseName};
use shared::store::{PutMode, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// What somebody, a person or retention, says about one backup of a database.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Which one.
    pub id: BackupId,
    /// Whether it stays.
    pub keep: bool,
    /// Why, for a person.
    pub reasons: Vec<String>,
}

/// What is to be forgotten, as a value: printing it is the dry run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ForgetPlan {
    /// Every backup that was looked at, oldest first.
    pub backups: Vec<Planned>,
    /// Why nothing may be forgotten at all.
    pub refusals: Vec<String>,
}

/// What becomes of one backup.
#[derive(Debug, Clone, Serialize)]
pub struct Planned {
    /// Database it is of.
    pub database: DatabaseName,
    /// Its id.
    pub id: BackupId,
    /// Whether it goes.
    pub forget: bool,
    /// Why it goes or stays.
    pub reasons: Vec<String>,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.forget { "forget" } else { "keep  " };
        write!(f, "{word}  {}/{}", self.database, self.id)?;
        if self.reasons.is_empty() { Ok(()) } else { write!(f, "  {}", self.reasons.join(", ")) }
    }
}

impl ForgetPlan {
    /// Backups that go.
    pub fn forgotten(&self) -> impl Iterator<Item = &Planned> {
        self.backups.iter().filter(|backup| backup.forget)
    }
}

/// More than so many, and a larger part than [`MANY_PERCENT`], go only with a person's yes.
const MANY: usize = 3;
const MANY_PERCENT: usize = 30;

/// Plans what retention's verdicts on all backups of a database come to: what must not go stays. A backup without a
/// verdict stays. `yes`: a person has allowed to forget many at once.
pub async fn forget_plan(
    repository: &Repository,
    database: &DatabaseName,
    verdicts: Vec<Verdict>,
    yes: bool,
    guards: &GuardOptions,
) -> Result<ForgetPlan, Error> {
    let now = repository.store_now().await?;
    let backups = repository.backups_given_out(database).await?;
    let mine = guards.intervals.get_key_value(database).map(|(name, interval)| (name.clone(), *interval));
    let guards = GuardOptions { intervals: mine.into_iter().collect(), spool: guards.spool.clone() };
    let mut plan = plan_one(repository, &backups, verdicts, now).await?;
    plan.refusals.extend(too_many(database, plan.forgotten().count(), backups.len(), yes));
    plan.refusals.extend(time_refusals(repository, now, &backups, &guards).await?);
    Ok(plan)
}

/// Plans to forget backups a person has named. One that must not go is a refusal.
pub async fn named_plan(
    repository: &Repository,
    named: &[(DatabaseName, BackupId)],
    yes: bool,
) -> Result<ForgetPlan, Error> {
    let now = repository.store_now().await?;
    let mut wanted: BTreeMap<&DatabaseName, BTreeSet<&BackupId>> = BTreeMap::new();
    for (database, id) in named {
        wanted.entry(database).or_default().insert(id);
    }
    let mut all = ForgetPlan::default();
    for (database, ids) in wanted {
        let backups = repository.backups_given_out(database).await?;
        let verdict = |id: &BackupId| Verdict { id: id.clone(), keep: false, reasons: vec!["named".into()] };
        let plan = plan_one(repository, &backups, ids.into_iter().map(verdict).collect(), now).await?;
        for line in plan.backups.into_iter().filter(|line| named.contains(&(line.database.clone(), line.id.clone()))) {
            if !line.forget {
                let why = line.reasons.join(", ");
                all.refusals.push(format!("backup {}/{} cannot be forgotten: {why}", line.database, line.id));
            }
            all.backups.push(line);
        }
        let forgotten = all.forgotten().filter(|line| line.database == *database).count();
        all.refusals.extend(too_many(database, forgotten, backups.len(), yes));
    }
    Ok(all)
}

async fn plan_one(
    repository: &Repository,
    backups: &[Listed],
    verdicts: Vec<Verdict>,
    now: Timestamp,
) -> Result<ForgetPlan, Error> {
    let mut verdicts: BTreeMap<BackupId, Verdict> =
        verdicts.into_iter().map(|verdict| (verdict.id.clone(), verdict)).collect();
    let protected = protected(backups, now);
    let writers = repository.writers(now).await?;
    let line = |backup: &Listed| {
        let verdict = verdicts.remove(&backup.id);
        let wanted = verdict.as_ref().is_some_and(|verdict| !verdict.keep);
        let mut reasons = verdict.map_or_else(|| vec!["nothing said about it".into()], |verdict| verdict.reasons);
        let stays = protected.get(&backup.id);
        if wanted && let Some(stays) = stays {
            reasons = stays.clone();
        }
        let is_parent = |writer: &crate::repository::Writer| {
            writer.database == backup.database && writer.parents.contains(&backup.id)
        };
        if wanted && stays.is_none() && writers.iter().any(is_parent) {
            reasons
                .push("in use: a backup that is running builds on it, so its packs stay until that has ended".into());
        }
        let forget = wanted && stays.is_none();
        Planned { database: backup.database.clone(), id: backup.id.clone(), forget, reasons }
    };
    Ok(ForgetPlan { backups: backups.iter().map(line).collect(), refusals: Vec::new() })
}

/// The backups of one database that must not go, and why. Only newer backups take this from one, so that two who forget
/// at once cannot leave none.
fn protected(backups: &[Listed], now: Timestamp) -> BTreeMap<BackupId, Vec<String>> {
    let mut found: BTreeMap<BackupId, Vec<String>> = BTreeMap::new();
    let mut add = |backup: &Listed, why: String| found.entry(backup.id.clone()).or_default().push(why);
    for backup in backups {
        for hold in backup.marks.holds() {
            let reason = if hold.reason.is_empty() { String::new() } else { format!(" ({})", hold.reason) };
            add(backup, format!("on hold by {}{reason}", hold.owner));
        }
        if let Err(Error::Manifest { source: ManifestError::Future(version), .. }) = &backup.manifest {
            add(backup, format!("of format version {version}, which this program does not know"));
        }
        if !backup.marks.has(MarkKind::Verified) && now < later(backup.written_at, LEASE_TTL) {
            add(backup, "it may be being written right now".into());
        }
    }
    if let Some(newest) = backups.iter().rev().find(|backup| backup.proven_at().is_some()) {
        add(newest, "the newest proven backup".into());
    }
    if let Some(newest) = backups.iter().rev().find(|backup| backup.is_complete()) {
        add(newest, "the newest complete backup".into());
    }
    found
}

fn too_many(database: &DatabaseName, forgotten: usize, all: usize, yes: bool) -> Option<String> {
    (!yes && forgotten > MANY && forgotten * 100 > all * MANY_PERCENT)
        .then(|| format!("{forgotten} of {all} backups of {database} would go, which needs a person's yes (--yes)"))
}

/// What forgetting did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Forgotten {
    /// What is in the trash now.
    pub forgotten: Vec<Planned>,
    /// What was planned to go but stays, because that changed meanwhile.
    pub kept: Vec<Planned>,
}

/// Does what a plan says; refuses one with refusals. `grace` is how long the backups stay in the trash, at least a day.
///
/// Looks at every guard again. Safe to repeat: a crash leaves backups complete, incomplete or forgotten, and every pack.
pub async fn apply(repository: &Repository, plan: &ForgetPlan, grace: Duration) -> Result<Forgotten, Error> {
    if !plan.refusals.is_empty() {
        return Err(Error::refused(plan.refusals.join("; "), None));
    }
    let mut done = Forgotten::default();
    let databases: BTreeSet<&DatabaseName> = plan.forgotten().map(|line| &line.database).collect();
    for database in databases {
        let protected = protected(&repository.backups_given_out(database).await?, repository.store_now().await?);
        let lines: Vec<&Planned> = plan.forgotten().filter(|line| line.database == *database).collect();
        for line in lines {
            let stays = match protected.get(&line.id) {
                Some(reasons) => Some(reasons.clone()),
                None => forget_one(repository, database, &line.id, grace).await?.map(|why| vec![why]),
            };
            match stays {
                Some(reasons) => done.kept.push(Planned { forget: false, reasons, ..line.clone() }),
                None => done.forgotten.push(line.clone()),
            }
        }
    }
    Ok(done)
}

/// Moves one manifest to the trash, or returns why it stays.
async fn forget_one(
    repository: &Repository,
    database: &DatabaseName,
    id: &BackupId,
    grace: Duration,
) -> Result<Option<String>, Error> {
    let (store, manifest) = (repository.store(), layout::manifest(database, id));
    let bytes = match store.get(&manifest).await {
        Ok(bytes) => bytes,
        // Somebody else was quicker.
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // The copy first: from now on the trash keeps the packs, whatever becomes of the manifest.
    let copy = layout::trash(database, id, grace.max(MIN_GRACE).as_secs(), &layout::random_name());
    crash_point::reached("forget: before the copy in the trash");
    store.put(&copy, bytes.clone(), PutMode::Create).await?;
    crash_point::reached("forget: after the copy in the trash");
    // A store may give out less than it holds. Both are read again while the manifest is still there: a copy that is
    // not whole could neither be brought back nor tell prune which packs are needed.
    let again = match store.get(&manifest).await {
        Ok(again) => again,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if again != bytes || store.get(&copy).await? != bytes {
        store.delete(&copy).await?;
        let what = format!("backup {database}/{id} was not forgotten: its manifest was read in two different forms");
        return Err(Error::Damaged(what));
    }
    let marks = repository.marks(database, id).await?;
    if let Some(hold) = marks.holds().first() {
        store.delete(&copy).await?;
        return Ok(Some(format!("on hold by {}", hold.owner)));
    }
    // From here on nobody takes it for a parent.
    crash_point::reached("forget: before the verified mark goes");
    repository.unmark_verified(database, id).await?;
    crash_point::reached("forget: after the verified mark is gone");
    if let Some(hold) = repository.marks(database, id).await?.holds().first() {
        if marks.has(MarkKind::Verified) {
            repository.mark(database, id, MarkKind::Verified, "put on hold while it was to be forgotten").await?;
        }
        store.delete(&copy).await?;
        return Ok(Some(format!("on hold by {}", hold.owner)));
    }
    crash_point::reached("forget: before the manifest goes");
    store.delete(&manifest).await?;
    crash_point::reached("forget: after the manifest is gone");
    Ok(None)
}
