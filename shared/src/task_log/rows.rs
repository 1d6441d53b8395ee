//! A row of the record as a task.

use super::session::{Fault, Row, Session, args};
use super::{Worker, worker};
use crate::model::{Reply, Task, TaskPlan, TaskReport, TaskState};
use std::str::FromStr;

/// The state as it is now: what waits for its time is queued when that has come.
pub const STATE_NOW: &str = "CASE WHEN t.state IN ('scheduled', 'queued')
    THEN CASE WHEN coalesce(t.again_at, t.run_at, 0) > $1 THEN 'scheduled' ELSE 'queued' END ELSE t.state END";

/// A SELECT of tasks up to its FROM, with the time now as `$1`.
pub fn select() -> String {
    format!(
        "SELECT t.*, {STATE_NOW} AS state_now, w.host AS worker_host, w.boot_id AS worker_boot_id, w.pid AS worker_pid,
             w.start_ticks AS worker_start_ticks
         FROM task_log AS t LEFT JOIN worker AS w ON w.id = t.lease_worker"
    )
}

/// The task of a row of [`select`]; says what is wrong with the row.
pub fn task(row: &Row, now: i64) -> Result<Task, String> {
    let state: TaskState = row.text("state_now")?.parse()?;
    let target = row.opt_text("target")?;
    let limit = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(Task {
        job_id: row.text("job_id")?.parse()?,
        kind: row.text("kind")?.parse()?,
        target: target.map(|name| name.parse().map_err(|error| format!("{error}"))).transpose()?,
        state,
        step: row.opt_text("step")?,
        spec: json(&row.text("spec")?, "spec")?,
        run_at: row.opt_time("again_at")?.or(row.opt_time("run_at")?),
        deadline_s: row.opt_count("deadline_s")?,
        priority: u8::try_from(row.count("priority")?).map_err(|error| format!("priority: {error}"))?,
        attempt: limit(row.count("attempt")?),
        max_attempts: limit(row.count("max_attempts")?),
        door: row.text("door")?.parse()?,
        requested_by: row.text("requested_by")?,
        stuck_job: row.opt_text("stuck_job")?.map(|job| job.parse()).transpose()?,
        reply: reply(row)?,
        plan: plan(row)?,
        worker: row.opt_text("lease_worker")?,
        is_lapsed: is_held(row, state)? && is_lapsed(row, now)?,
        cancel_requested: row.opt_int("cancel_requested_at")?.is_some(),
        created_at: row.time("created_at")?,
        started_at: row.opt_time("started_at")?,
        finished_at: row.opt_time("finished_at")?,
        report: TaskReport {
            backup_id: row.opt_text("backup_id")?,
            rows: row.opt_count("rows_done")?,
            bytes_in: row.opt_count("bytes_in")?,
            bytes_out: row.opt_count("bytes_out")?,
            result: row.opt_text("result")?.map(|text| json(&text, "result")).transpose()?,
            error_class: row.opt_text("error_class")?,
            error_message: row.opt_text("error_message")?,
        },
    })
}

fn reply(row: &Row) -> Result<Option<Reply>, String> {
    let correlation_id = row.opt_text("correlation_id")?;
    Ok(row.opt_text("reply_to")?.map(|to| Reply { to, correlation_id }))
}

/// The plan a row waits with, or waited with last.
pub fn plan(row: &Row) -> Result<Option<TaskPlan>, String> {
    let (approved_by, comment) = (row.opt_text("approved_by")?, row.opt_text("approval_comment")?);
    Ok(row.opt_text("plan_sha256")?.map(|digest| TaskPlan { digest, approved_by, comment }))
}

/// Whether somebody has a lease of it, be it over. What waits to be recovered has none.
fn is_held(row: &Row, state: TaskState) -> Result<bool, String> {
    let is_active = matches!(state, TaskState::Running | TaskState::Recovering);
    Ok(is_active && (state == TaskState::Running || row.opt_text("lease_worker")?.is_some()))
}

/// Whether the lease of a held task counts no more: its time is over, or its holder's process is.
pub fn is_lapsed(row: &Row, now: i64) -> Result<bool, String> {
    Ok(row.opt_int("lease_until")?.is_none_or(|until| until <= now) || holder_is_gone(row)?)
}

/// Whether the process that holds a task has ended for certain.
pub fn holder_is_gone(row: &Row) -> Result<bool, String> {
    let (Some(host), Some(boot_id)) = (row.opt_text("worker_host")?, row.opt_text("worker_boot_id")?) else {
        return Ok(false);
    };
    Ok(worker::is_gone(&host, &boot_id, row.int("worker_pid")?, row.int("worker_start_ticks")?))
}

/// The worker of a row of its table, and whether its process has ended for certain.
pub fn worker(row: &Row) -> Result<(Worker, bool), String> {
    let (pid, start_ticks) = (row.int("pid")?, row.int("start_ticks")?);
    let worker = Worker {
        id: row.text("id")?,
        program: row.text("program")?,
        host: row.text("host")?,
        boot_id: row.text("boot_id")?,
        pid: u32::try_from(pid).map_err(|_| format!("pid is {pid}"))?,
        start_ticks: row.count("start_ticks")?,
    };
    let is_gone = worker::is_gone(&worker.host, &worker.boot_id, pid, start_ticks);
    Ok((worker, is_gone))
}

fn json<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("{what} is no JSON: {error}"))
}

/// The names of the channels a task tells.
pub fn channels(row: &Row) -> Result<Vec<String>, String> {
    json(&row.text("channels")?, "channels")
}

/// Words as an SQL list. They are ours, never somebody's input.
pub fn list<T: Copy>(words: &[T], word: fn(T) -> &'static str) -> String {
    words.iter().map(|item| format!("'{}'", word(*item))).collect::<Vec<_>>().join(", ")
}

/// One value of type `T` from a text of ours.
pub fn parsed<T: FromStr<Err = String>>(s: &dyn Session, row: &Row, name: &str) -> Result<T, Fault> {
    row.text(name).and_then(|text| text.parse()).map_err(|error| s.damaged(error))
}

/// The row of one task, with the time now.
pub async fn find(s: &mut dyn Session, job: &str) -> Result<Option<Row>, Fault> {
    let now = s.now();
    s.row(&format!("{} WHERE t.job_id = $2", select()), args![now, job]).await
}
