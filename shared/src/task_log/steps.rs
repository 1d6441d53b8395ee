//! The journal of a task's steps, and what tools printed at them.

use super::session::{Fault, Row, Session, args};
use super::{TaskLease, TaskLogError, TaskOutput, Worker, hold, rows};
use crate::model::{JobId, Phase, StepNote, canonical_json};

/// What a tool printed is kept up to this many bytes from its beginning, and as many from its end.
const HALF_OUTPUT: usize = 1 << 20;

/// Writes a note down; see [`super::StepLog::note_step`].
pub async fn note(s: &mut dyn Session, lease: &TaskLease, note: &StepNote) -> Result<(), Fault> {
    let job = lease.job_id.to_string();
    hold::hold_fast(s, lease).await?;
    if note.epoch > lease.epoch {
        return Err(s.damaged(format!("job {job}: a note of epoch {} before its time ({})", note.epoch, lease.epoch)));
    }
    let known = s.row("SELECT * FROM task_step WHERE job_id = $1 AND seq = $2", args![job.as_str(), note.seq]).await?;
    if let Some(row) = known {
        let known = step(&row).map_err(|error| s.damaged(format!("job {job}: {error}")))?;
        let is_same = known.epoch == note.epoch
            && known.at.as_microsecond() == note.at.as_microsecond()
            && (&known.step, known.phase) == (&note.step, note.phase)
            && canonical_json(&known.data) == canonical_json(&note.data);
        let message =
            format!("job {job}: another note stands at place {} of its journal; nothing was written", note.seq);
        return if is_same { Ok(()) } else { Err(s.damaged(message)) };
    }
    s.execute(
        "INSERT INTO task_step (job_id, seq, epoch, at, step, phase, data) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        args![
            job.as_str(),
            note.seq,
            note.epoch,
            note.at.as_microsecond(),
            note.step.as_str(),
            word(note.phase),
            canonical_json(&note.data),
        ],
    )
    .await?;
    Ok(())
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Intent => "intent",
        Phase::Done => "done",
    }
}

fn step(row: &Row) -> Result<StepNote, String> {
    let phase = match row.text("phase")?.as_str() {
        "intent" => Phase::Intent,
        "done" => Phase::Done,
        other => return Err(format!("unknown phase {other:?}")),
    };
    Ok(StepNote {
        seq: row.count("seq")?,
        epoch: row.count("epoch")?,
        at: row.time("at")?,
        step: row.text("step")?,
        phase,
        data: serde_json::from_str(&row.text("data")?).map_err(|error| format!("data is no JSON: {error}"))?,
    })
}

/// The rows of a table of steps of a task, read by `read`.
async fn of_task<T>(
    s: &mut dyn Session,
    job: &JobId,
    table: &str,
    read: fn(&Row) -> Result<T, String>,
) -> Result<Vec<T>, Fault> {
    let id = job.to_string();
    rows::find(s, &id).await?.ok_or(TaskLogError::Unknown(*job))?;
    let rows = s.rows(&format!("SELECT * FROM {table} WHERE job_id = $1 ORDER BY seq"), args![id]).await?;
    let read: Result<Vec<T>, String> = rows.iter().map(read).collect();
    read.map_err(|error| s.damaged(format!("job {job}: {table}: {error}")))
}

/// All notes of a task; see [`super::StepLog::steps`].
pub async fn read(s: &mut dyn Session, job: &JobId) -> Result<Vec<StepNote>, Fault> {
    of_task(s, job, "task_step", step).await
}

/// Keeps what a tool printed; see [`super::StepLog::put_output`].
pub async fn put_output(s: &mut dyn Session, lease: &TaskLease, step: &str, text: &str) -> Result<(), Fault> {
    let (job, now) = (lease.job_id.to_string(), s.now());
    hold::hold_fast(s, lease).await?;
    s.execute(
        "INSERT INTO task_output (job_id, seq, step, at, text)
         VALUES ($1, (SELECT coalesce(max(seq), 0) + 1 FROM task_output WHERE job_id = $1), $2, $3, $4)",
        args![job, step, now, bounded(text)],
    )
    .await?;
    Ok(())
}

/// A text whose middle is left out where it is long.
fn bounded(text: &str) -> String {
    if text.len() <= 2 * HALF_OUTPUT {
        return text.to_owned();
    }
    let (head, tail) = (text.floor_char_boundary(HALF_OUTPUT), text.ceil_char_boundary(text.len() - HALF_OUTPUT));
    let left_out = tail - head;
    format!("{}\n[{left_out} bytes left out]\n{}", &text[..head], &text[tail..])
}

/// What tools printed; see [`super::StepLog::outputs`].
pub async fn outputs(s: &mut dyn Session, job: &JobId) -> Result<Vec<TaskOutput>, Fault> {
    let read = |row: &Row| Ok(TaskOutput { step: row.text("step")?, at: row.time("at")?, text: row.text("text")? });
    of_task(s, job, "task_output", read).await
}

/// Who holds a task or held it last; see [`super::StepLog::holder`].
pub async fn holder(s: &mut dyn Session, job: &JobId) -> Result<Option<(Worker, bool)>, Fault> {
    let id = job.to_string();
    rows::find(s, &id).await?.ok_or(TaskLogError::Unknown(*job))?;
    // The lease of a lost or ended try is cleared; the try itself still names its worker.
    let row = s
        .row(
            "SELECT w.* FROM task_attempt AS a JOIN worker AS w ON w.id = a.worker
             WHERE a.job_id = $1 ORDER BY a.epoch DESC LIMIT 1",
            args![id],
        )
        .await?;
    row.map(|row| rows::worker(&row).map_err(|error| s.damaged(format!("job {job}: {error}")))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_long_texts_the_middle_is_left_out_between_characters() {
        assert_eq!(bounded("short"), "short");
        let long = format!("a{}z", "€".repeat(HALF_OUTPUT));
        let kept = bounded(&long);
        assert!(kept.len() < 2 * HALF_OUTPUT + 100 && kept.starts_with("a€") && kept.ends_with("€z"));
        let note = kept.lines().nth(1).expect("a note");
        let said: usize = note.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number");
        assert_eq!(kept.len() - note.len() - 2 + said, long.len());
    }
}
