//! Tasks come in.

use super::events::{self, Tell};
use super::session::{Fault, Row, Session, args};
use super::{Claimed, Submitted, TaskLogError, Worker, claim, rows, stuck};
use crate::model::{DatabaseName, JobId, NewTask, TaskKind, TaskState, canonical_json};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

/// The digest of what a task asks for: the same for everybody who asks for the same.
fn digest(task: &NewTask) -> String {
    let target = task.target.as_ref().map(|name| name.as_str());
    let (run_at, expires_at) = (task.run_at, task.expires_at);
    let spec = canonical_json(&task.spec);
    digest_of(task.kind.as_str(), target, &spec, task.unique_key.as_deref(), run_at, expires_at, task.deadline_s)
}

fn digest_of(
    kind: &str,
    target: Option<&str>,
    spec: &str,
    unique_key: Option<&str>,
    run_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    deadline_s: Option<u64>,
) -> String {
    // To the microsecond, as the record keeps them.
    let time = |at: Option<Timestamp>| at.map(|at| Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at));
    // The names in their order; `spec` is canonical already, and is not read again, so that no double is rounded.
    let fields = [
        ("deadline_s", canonical_json(&json!(deadline_s))),
        ("expires_at", canonical_json(&json!(time(expires_at)))),
        ("kind", canonical_json(&json!(kind))),
        ("run_at", canonical_json(&json!(time(run_at)))),
        ("spec", spec.to_owned()),
        ("target", canonical_json(&json!(target))),
        ("unique_key", canonical_json(&json!(unique_key))),
    ];
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    hex::encode(Sha256::digest(format!("{{{}}}", fields.join(",")).as_bytes()))
}

/// The digest of what a row of the record asks for.
pub fn digest_of_row(row: &Row) -> Result<String, String> {
    let (kind, target, unique_key) = (row.text("kind")?, row.opt_text("target")?, row.opt_text("unique_key")?);
    let spec = row.text("spec")?;
    let (run_at, expires_at, deadline_s) =
        (row.opt_time("run_at")?, row.opt_time("expires_at")?, row.opt_count("deadline_s")?);
    Ok(digest_of(&kind, target.as_deref(), &spec, unique_key.as_deref(), run_at, expires_at, deadline_s))
}

/// Inserts a task; see [`super::TaskLog::submit`].
pub async fn submit(s: &mut dyn Session, task: &NewTask) -> Result<Submitted, Fault> {
    let digest = digest(task);
    // A slot that only repeats what waits already is done with too: nobody is to ask for it again.
    note_slot(s, task).await?;
    if let Some(known) = known_digest(s, &task.job_id).await? {
        return if known == digest { Ok(Submitted::Same) } else { Err(TaskLogError::Conflict(task.job_id).into()) };
    }
    if let Some(key) = &task.unique_key {
        s.lock_word(key).await?;
        let now = s.now();
        let waiting = s
            .row(
                "SELECT job_id FROM task_log WHERE unique_key = $1 AND state IN ('scheduled', 'queued', 'waiting')
                     AND (expires_at IS NULL OR expires_at > $2 OR attempt > 0)
                 ORDER BY created_at, job_id LIMIT 1",
                args![key.as_str(), now],
            )
            .await?;
        if let Some(row) = waiting {
            return Ok(Submitted::Superseded(rows::parsed(s, &row, "job_id")?));
        }
    }
    if let Some(helped) = &task.stuck_job {
        stuck::check(s, task, helped).await?;
    }
    insert(s, task, &digest).await?;
    Ok(Submitted::New)
}

/// Inserts a task and claims it; see [`super::TaskLog::submit_claimed`].
pub async fn submit_claimed(
    s: &mut dyn Session,
    task: &NewTask,
    worker: &Worker,
    lease_us: i64,
) -> Result<Claimed, Fault> {
    let digest = digest(task);
    note_slot(s, task).await?;
    if known_digest(s, &task.job_id).await?.is_some() {
        return Err(TaskLogError::Conflict(task.job_id).into());
    }
    if let Some(helped) = &task.stuck_job {
        stuck::lock(s, helped).await?;
        stuck::check(s, task, helped).await?;
        if let Some(obstacle) = stuck::obstacle(s, helped).await? {
            return Err(obstacle.into());
        }
    }
    if let (Some(target), None, true) = (&task.target, task.stuck_job, claim::is_exclusive(task)) {
        free(s, target).await?;
    }
    insert(s, task, &digest).await?;
    claim::register(s, worker).await?;
    claim::take(s, &task.job_id.to_string(), worker, lease_us).await
}

/// Fails where another active task has the database.
async fn free(s: &mut dyn Session, target: &DatabaseName) -> Result<(), Fault> {
    // What must be recovered keeps the database in any case: that is left to those who can do it.
    claim::lapse(s, &[TaskKind::Rehearse, TaskKind::Backup], Some(target.as_str())).await?;
    let active = format!(
        "SELECT t.job_id, t.target, t.kind, t.state FROM task_log AS t WHERE t.target = $1 AND {} LIMIT 1",
        claim::active_and_exclusive("t")
    );
    match s.row(&active, args![target.as_str()]).await? {
        Some(row) => Err(stuck::busy(s, &row)?.into()),
        None => Ok(()),
    }
}

/// The digest of the task that has or had this id.
async fn known_digest(s: &mut dyn Session, job: &JobId) -> Result<Option<String>, Fault> {
    let row = s
        .row(
            "SELECT spec_sha256 FROM task_log WHERE job_id = $1
             UNION ALL SELECT spec_sha256 FROM job_tombstone WHERE job_id = $1",
            args![job.to_string()],
        )
        .await?;
    row.map(|row| row.text("spec_sha256").map_err(|error| s.damaged(error))).transpose()
}

async fn note_slot(s: &mut dyn Session, task: &NewTask) -> Result<(), Fault> {
    let Some(slot) = &task.slot else { return Ok(()) };
    s.execute(
        "INSERT INTO schedule (name, last_slot, job_id) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO UPDATE SET last_slot = excluded.last_slot, job_id = excluded.job_id
         WHERE excluded.last_slot > schedule.last_slot",
        args![slot.schedule.as_str(), events::micros(slot.at), task.job_id.to_string()],
    )
    .await?;
    Ok(())
}

async fn insert(s: &mut dyn Session, task: &NewTask, digest: &str) -> Result<(), Fault> {
    let (job, now) = (task.job_id.to_string(), s.now());
    let waits = task.run_at.is_some_and(|at| events::micros(at) > now);
    let state = if waits { TaskState::Scheduled } else { TaskState::Queued };
    let (slot_schedule, slot_at) = (task.slot.as_ref().map(|slot| slot.schedule.as_str()), task.slot.as_ref());
    s.execute(
        "INSERT INTO task_log (job_id, kind, target, state, priority, spec, spec_sha256, unique_key, run_at, expires_at,
             deadline_s, max_attempts, door, requested_by, labels, channels, slot_schedule, slot_at, event_hash,
             created_at, stuck_job, reply_to, correlation_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $7, $19, $20, $21,
             $22)",
        args![
            job.as_str(),
            task.kind.as_str(),
            task.target.as_ref().map(|name| name.as_str()),
            state.as_str(),
            i64::from(task.priority.min(9)),
            canonical_json(&task.spec),
            digest,
            task.unique_key.as_deref(),
            task.run_at,
            task.expires_at,
            task.deadline_s,
            i64::from(task.max_attempts.max(1)),
            task.door.as_str(),
            task.requested_by.as_str(),
            json!(task.labels).to_string(),
            json!(task.channels).to_string(),
            slot_schedule,
            slot_at.map(|slot| slot.at),
            now,
            task.stuck_job.map(|job| job.to_string()).as_deref(),
            task.reply.as_ref().map(|reply| reply.to.as_str()),
            task.reply.as_ref().and_then(|reply| reply.correlation_id.as_deref()),
        ],
    )
    .await?;
    let by = if task.requested_by.is_empty() { String::new() } else { format!(" by {}", task.requested_by) };
    events::append(s, &job, state.as_str(), &format!("asked for{by} ({})", task.door), Tell::Nobody).await
}
