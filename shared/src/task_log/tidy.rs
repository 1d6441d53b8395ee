//! What is so old that nobody asks for it any more goes.

use super::session::{Fault, Session, args};

/// How long an ended task stays.
const KEPT_US: i64 = 400 * 86_400 * 1_000_000;
/// So many of each database stay, whatever their age.
const NEWEST: i64 = 50;
/// So many go in one transaction.
pub const BATCH: u32 = 100;

/// Removes one batch of old tasks and leaves a tombstone for each; returns how many.
pub async fn batch(s: &mut dyn Session) -> Result<u64, Fault> {
    let now = s.now();
    let old = s
        .rows(
            &format!(
                "SELECT job_id FROM (
                     SELECT job_id, state, finished_at,
                         row_number() OVER (PARTITION BY target ORDER BY created_at DESC, job_id DESC) AS place
                     FROM task_log) AS ranked
                 WHERE place > $2 AND finished_at < $1
                     AND state IN ('succeeded', 'refused', 'restored', 'failed', 'cancelled', 'expired')
                 ORDER BY finished_at LIMIT {BATCH}"
            ),
            args![now.saturating_sub(KEPT_US), NEWEST],
        )
        .await?;
    for row in &old {
        let job = row.text("job_id").map_err(|error| s.damaged(error))?;
        s.execute(
            "INSERT INTO job_tombstone (job_id, kind, target, state, spec_sha256, last_seq, last_hash, created_at,
                 finished_at, removed_at)
             SELECT job_id, kind, target, state, spec_sha256, event_seq, event_hash, created_at, finished_at, $2
             FROM task_log WHERE job_id = $1",
            args![job.as_str(), now],
        )
        .await?;
        s.execute("DELETE FROM task_log WHERE job_id = $1", args![job]).await?;
    }
    if old.is_empty() {
        rest(s, now).await?;
    }
    Ok(old.len() as u64)
}

/// Workers nobody names any more, and tombstones as old again as what they stand for.
async fn rest(s: &mut dyn Session, now: i64) -> Result<(), Fault> {
    let before = now.saturating_sub(KEPT_US);
    let workers = "DELETE FROM worker WHERE last_seen_at < $1
         AND NOT EXISTS (SELECT 1 FROM task_log WHERE lease_worker = worker.id)
         AND NOT EXISTS (SELECT 1 FROM task_attempt WHERE worker = worker.id)";
    s.execute(workers, args![before]).await?;
    s.execute("DELETE FROM job_tombstone WHERE removed_at < $1", args![before]).await?;
    Ok(())
}
