//! How every database stands: what can be restored, how old that is, and what went wrong last.

use crate::agent::{Entry, schedule_name};
use crate::error::Error;
use crate::policy::{DatabasePolicy, DrillPolicy, Policies};
use crate::repository::{Listed, Repository};
use crate::schedule::Schedule;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shared::model::{BackupId, DatabaseName, Task, TaskKind, TaskState};
use shared::task_log::{TaskFilter, TaskLog, TaskLogError};
use std::collections::{BTreeMap, BTreeSet};

/// One database at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatabaseStatus {
    /// Its name.
    pub database: DatabaseName,
    /// Backups there are, complete or not.
    pub backups: usize,
    /// Of these, such as are not complete or need a damaged pack.
    pub unusable: usize,
    /// The newest complete backup.
    pub newest_complete: Option<Kept>,
    /// The newest proven backup.
    pub newest_proven: Option<Kept>,
    /// Bytes of all packs its backups name and of their manifests.
    pub stored_bytes: u64,
    /// When the agent makes the next backup.
    pub next_backup: Option<Timestamp>,
    /// When the agent proves the next one, where drills have times of their own.
    pub next_drill: Option<Timestamp>,
    /// The last task that failed, if none of its kind succeeded since.
    pub last_error: Option<LastError>,
    /// Why it is stale; empty = it is not.
    pub stale: Vec<String>,
}

/// A backup that is there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kept {
    /// Its id.
    pub id: BackupId,
    /// When its snapshot was taken.
    pub created_at: Timestamp,
    /// When it was last proven.
    pub proven_at: Option<Timestamp>,
}

/// A failure that stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LastError {
    /// What failed.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// What it said, in one line.
    pub message: String,
}

/// How many of a database's newest tasks are looked at for a failure that stands.
const LOOKED_AT: u32 = 50;

/// How these databases stand. A record that is not there only leaves out the last error.
pub async fn of_all(
    repository: &Repository,
    policies: &Policies,
    record: Option<&dyn TaskLog>,
    databases: &[DatabaseName],
) -> Result<Vec<DatabaseStatus>, Error> {
    let mut found = Vec::new();
    for database in databases {
        let backups = repository.backups(database).await?;
        let tasks = match record {
            Some(record) => tasks_of(record, database).await.unwrap_or_default(),
            None => Vec::new(),
        };
        found.push(of_one(database, &backups, policies, &tasks, repository.clock().now()));
    }
    Ok(found)
}

async fn tasks_of(record: &dyn TaskLog, database: &DatabaseName) -> Result<Vec<Task>, TaskLogError> {
    let filter = TaskFilter { target: Some(database.clone()), limit: LOOKED_AT, ..TaskFilter::default() };
    record.tasks(&filter).await
}

/// How one database stands, from its backups and its tasks, the newest task first.
pub fn of_one(
    database: &DatabaseName,
    backups: &[Listed],
    policies: &Policies,
    tasks: &[Task],
    now: Timestamp,
) -> DatabaseStatus {
    let policy = policies.databases.get(database);
    let newest_complete = backups.iter().rev().find(|backup| backup.is_complete()).and_then(kept);
    let newest_proven = backups.iter().rev().find(|backup| backup.proven_at().is_some()).and_then(kept);
    let mut stale = Vec::new();
    if let Some(policy) = policy {
        let age_of = |kept: &Option<Kept>| kept.as_ref().map(|kept| now.duration_since(kept.id.second()));
        let backup = policy.schedule.as_ref().map(|schedule| (schedule, "complete backup", age_of(&newest_complete)));
        let proof = proof_schedule(policy).map(|schedule| (schedule, "proven backup", age_of(&newest_proven)));
        stale.extend(
            backup.into_iter().chain(proof).filter_map(|(schedule, what, age)| too_old(schedule, what, age, now)),
        );
    }
    let next = |kind| {
        let name = schedule_name(kind, Some(database));
        Entry::all(policies).iter().find(|entry| entry.name == name).and_then(|entry| entry.next(now))
    };
    DatabaseStatus {
        database: database.clone(),
        backups: backups.len(),
        unusable: backups.iter().filter(|backup| !backup.is_complete()).count(),
        newest_complete,
        newest_proven,
        stored_bytes: stored_bytes(backups),
        next_backup: next(TaskKind::Backup),
        next_drill: next(TaskKind::Drill),
        last_error: last_error(tasks),
        stale,
    }
}

fn kept(backup: &Listed) -> Option<Kept> {
    let created_at = backup.manifest.as_ref().ok()?.header.created_at;
    Some(Kept { id: backup.id.clone(), created_at, proven_at: backup.proven_at() })
}

/// The schedule proofs follow, where they follow one.
fn proof_schedule(policy: &DatabasePolicy) -> Option<&Schedule> {
    match &policy.drill {
        DrillPolicy::AfterBackup => policy.schedule.as_ref(),
        DrillPolicy::At(schedule) => Some(schedule),
        DrillPolicy::Never => None,
    }
}

/// Two intervals: one run may be under way or have failed and be tried again; two mean that something is wrong.
fn too_old(schedule: &Schedule, what: &str, age: Option<SignedDuration>, now: Timestamp) -> Option<String> {
    let interval = SignedDuration::try_from(schedule.interval(now)).unwrap_or(SignedDuration::MAX);
    match age {
        None => Some(format!("there is no {what}")),
        Some(age) if age > interval.saturating_mul(2) => Some(format!(
            "the newest {what} is {} hours old, more than two intervals of {} hours",
            age.as_hours(),
            interval.as_hours()
        )),
        Some(_) => None,
    }
}

/// The bytes that would be free if this database had no backups, but for packs nobody names.
fn stored_bytes(backups: &[Listed]) -> u64 {
    let manifests: u64 = backups.iter().map(|backup| backup.manifest_bytes).sum();
    let named = backups.iter().filter_map(|backup| backup.manifest.as_ref().ok()).flat_map(|manifest| &manifest.packs);
    let packs: BTreeMap<&str, u64> = named.map(|pack| (pack.uuid.as_str(), pack.bytes)).collect();
    manifests + packs.values().sum::<u64>()
}

/// The newest failure of a kind of task that has not succeeded since.
fn last_error(tasks: &[Task]) -> Option<LastError> {
    let mut decided = BTreeSet::new();
    tasks.iter().find_map(|task| {
        let failed =
            matches!(task.state, TaskState::Failed | TaskState::Refused | TaskState::Expired | TaskState::Stuck);
        let tried_again = task.state == TaskState::Queued && task.report.error_message.is_some();
        if !(failed || tried_again || task.state == TaskState::Succeeded) || !decided.insert(task.kind) {
            return None;
        }
        let message = task.report.error_message.clone().filter(|_| failed || tried_again)?;
        let at = task.finished_at.or(task.started_at).unwrap_or(task.created_at);
        Some(LastError { kind: task.kind.to_string(), at, message })
    })
}
