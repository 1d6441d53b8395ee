//! What happened to a task: a chain of events, each sealed by a hash over the one before it.

use super::TaskLogError;
use super::session::{Fault, Row, Session, args, clean};
use super::{approval, rows, submit};
use crate::model::{JobId, TaskEvent};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// Whether those who wish to know of a task are told of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    /// A row of the outbox for every channel of the task.
    Channels,
    /// It stands in the record only.
    Nobody,
}

/// Adds an event to a task whose row this transaction has written, so that nobody else adds one meanwhile.
pub async fn append(s: &mut dyn Session, job: &str, what: &str, detail: &str, tell: Tell) -> Result<(), Fault> {
    let now = s.now();
    let head = s.row("SELECT event_seq, event_hash, channels FROM task_log WHERE job_id = $1", args![job]).await?;
    let head = head.ok_or_else(|| s.damaged(format!("job {job} has gone")))?;
    let read = |row: &Row| Ok((row.int("event_seq")?, row.text("event_hash")?, rows::channels(row)?));
    let (seq, before, channels) = read(&head).map_err(|error: String| s.damaged(format!("job {job}: {error}")))?;
    let (seq, detail) = (seq + 1, clean(detail));
    let hash = seal(&before, job, seq, now, what, &detail);
    s.execute(
        "INSERT INTO task_event (job_id, seq, at, what, detail, hash) VALUES ($1, $2, $3, $4, $5, $6)",
        args![job, seq, now, what, detail, hash.as_str()],
    )
    .await?;
    s.execute("UPDATE task_log SET event_seq = $2, event_hash = $3 WHERE job_id = $1", args![job, seq, hash]).await?;
    if tell == Tell::Channels {
        for channel in channels {
            let sql = "INSERT INTO event_delivery (job_id, seq, channel, due_at) VALUES ($1, $2, $3, $4)";
            s.execute(sql, args![job, seq, channel, now]).await?;
        }
    }
    Ok(())
}

/// The hash of an event: over a JSON array of the hash before it and all it says.
fn seal(before: &str, job: &str, seq: i64, at: i64, what: &str, detail: &str) -> String {
    let text = serde_json::json!([before, job, seq, at, what, detail]).to_string();
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// An event of a row with `seq`, `at`, `what` and `detail`.
pub fn event(row: &Row) -> Result<TaskEvent, String> {
    Ok(TaskEvent { seq: row.count("seq")?, at: row.time("at")?, what: row.text("what")?, detail: row.text("detail")? })
}

/// All events of a task, from the task's request to the newest, the chain checked.
pub async fn read(s: &mut dyn Session, job: &JobId) -> Result<Vec<TaskEvent>, Fault> {
    let id = job.to_string();
    let task = rows::find(s, &id).await?.ok_or(TaskLogError::Unknown(*job))?;
    let rows = s.rows("SELECT * FROM task_event WHERE job_id = $1 ORDER BY seq", args![id.as_str()]).await?;
    check(&id, &task, &rows).map_err(|error| s.damaged(format!("job {job}: {error}")))
}

fn check(id: &str, task: &Row, rows: &[Row]) -> Result<Vec<TaskEvent>, String> {
    let mut hash = task.text("spec_sha256")?;
    if submit::digest_of_row(task)? != hash {
        return Err("what was asked for is not what was recorded".into());
    }
    let mut events = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let event = event(row)?;
        hash = seal(&hash, id, row.int("seq")?, row.int("at")?, &event.what, &event.detail);
        if event.seq != at as u64 + 1 || row.text("hash")? != hash {
            return Err(format!("event {} is not what was recorded", at + 1));
        }
        events.push(event);
    }
    if task.count("event_seq")? != events.len() as u64 || task.text("event_hash")? != hash {
        return Err(format!("events are missing after the {}th", events.len()));
    }
    if !approval::is_as_told(rows::plan(task)?.as_ref(), &events) {
        return Err("its plan or its approval is not what was recorded".into());
    }
    Ok(events)
}

/// A moment in microseconds.
pub fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}
