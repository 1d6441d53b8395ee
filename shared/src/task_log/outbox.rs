//! The outbox: events somebody is to be told, at least once, in order.

use super::session::{Fault, Row, Session, args};
use super::{Delivered, Delivery, claim, events, rows};

/// Takes deliveries; see [`super::TaskLog::take_deliveries`].
///
/// Of one task and channel only the oldest is given out: nobody hears of an end before the beginning.
pub async fn take(s: &mut dyn Session, limit: u32, hold_us: i64) -> Result<Vec<Delivery>, Fault> {
    let now = s.now();
    let sql = format!(
        "SELECT d.id, d.job_id, d.seq, d.channel, d.attempts FROM event_delivery AS d
         WHERE d.state = 'pending' AND d.due_at <= $1 AND NOT EXISTS (
             SELECT 1 FROM event_delivery AS o
             WHERE o.job_id = d.job_id AND o.channel = d.channel AND o.state = 'pending' AND o.id < d.id)
         ORDER BY d.due_at, d.id LIMIT $2{}",
        s.skip_locked_delivery()
    );
    let mut taken = Vec::new();
    for row in s.rows(&sql, args![now, i64::from(limit)]).await? {
        let (id, job) = row.int("id").and_then(|id| Ok((id, row.text("job_id")?))).map_err(|e| s.damaged(e))?;
        // Counted when taken, so that one whose telling kills the program is seen as tried.
        let sql = "UPDATE event_delivery SET due_at = $2, attempts = attempts + 1 WHERE id = $1 AND state = 'pending'";
        if s.execute(sql, args![id, now.saturating_add(hold_us)]).await? == 0 {
            continue;
        }
        let event = s
            .row("SELECT * FROM task_event WHERE job_id = $1 AND seq = (SELECT seq FROM event_delivery WHERE id = $2)",
                args![job.as_str(), id])
            .await?;
        let task = rows::find(s, &job).await?;
        match delivery(&row, event.as_ref(), task.as_ref(), now) {
            Ok(delivery) => taken.push(delivery),
            Err(error) => claim::unreadable(s, &row, &error),
        }
    }
    Ok(taken)
}

fn delivery(row: &Row, event: Option<&Row>, task: Option<&Row>, now: i64) -> Result<Delivery, String> {
    Ok(Delivery {
        id: row.int("id")?,
        channel: row.text("channel")?,
        event: events::event(event.ok_or("its event is missing")?)?,
        task: rows::task(task.ok_or("the task is missing")?, now)?,
        attempts: u32::try_from(row.count("attempts")?).unwrap_or(u32::MAX),
    })
}

/// Notes what became of a delivery; see [`super::TaskLog::delivered`]. One that has gone with its task is no error.
pub async fn delivered(s: &mut dyn Session, id: i64, outcome: &Delivered) -> Result<(), Fault> {
    let now = s.now();
    let (state, due_at, error, done_at) = match outcome {
        Delivered::Done => ("done", None, None, Some(now.unsigned_abs())),
        Delivered::Again { at, error } => ("pending", Some(*at), Some(error.as_str()), None),
        Delivered::GivenUp { error } => ("given-up", None, Some(error.as_str()), Some(now.unsigned_abs())),
    };
    s.execute(
        "UPDATE event_delivery SET state = $2, due_at = coalesce($3, due_at), last_error = $4, done_at = $5
         WHERE id = $1 AND state = 'pending'",
        args![id, state, due_at, error, done_at],
    )
    .await?;
    Ok(())
}
