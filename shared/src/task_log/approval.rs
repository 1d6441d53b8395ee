//! A migration waits with its plan until a person approves that very plan.
//!
//! What waits is nobody's: it has no lease, keeps no database from others, and is never handed out. The row says which
//! plan it is and who approved it, the chain of events says the same, and the two are compared when the events are read.

use super::events::{self, Tell};
use super::session::{Fault, Row, Session, args};
use super::{Approval, TaskLease, TaskLogError, claim, hold, rows};
use crate::model::{JobId, Task, TaskEvent, TaskKind, TaskPlan, TaskReport, TaskState};

/// The event of an approval.
const APPROVED: &str = "approved";

/// Lets go of a task that is to wait; see [`super::TaskLog::wait_for_approval`].
pub async fn wait(s: &mut dyn Session, lease: &TaskLease, plan: &str, report: &TaskReport) -> Result<TaskState, Fault> {
    let (job, now) = (lease.job_id.to_string(), s.now());
    let row = rows::find(s, &job).await?.ok_or_else(|| hold::lease_lost(lease))?;
    let task = rows::task(&row, now).map_err(|error| s.damaged(format!("job {job}: {error}")))?;
    let was_stuck = row.opt_text("outcome").map_err(|error| s.damaged(error))?.as_deref() == Some("stuck");
    if task.kind != TaskKind::Migrate || was_stuck {
        let what = if was_stuck { "what was stuck" } else { task.kind.as_str() };
        let message = format!("job {job}: {what} cannot wait for approval; nothing was written");
        return Err(TaskLogError::Unusable { place: s.place().to_owned(), message, hint: None }.into());
    }
    // The try is given back: nothing was begun that concerns the database, so it may still expire, and begins anew.
    let changed = s
        .row(
            "UPDATE task_log SET state = 'waiting', plan_sha256 = $4, approved_by = NULL, approval_comment = NULL,
                 attempt = attempt - 1, lease_until = NULL, step = NULL, backup_id = $5, result = $6, error_class = $7,
                 error_message = $8
             WHERE job_id = $1 AND lease_epoch = $2 AND lease_worker = $3 AND state IN ('running', 'recovering')
             RETURNING cancel_requested_by",
            args![
                job.as_str(),
                lease.epoch,
                lease.worker.as_str(),
                plan,
                report.backup_id.as_deref(),
                report.result.as_ref().map(|value| value.to_string()).as_deref(),
                report.error_class.as_deref(),
                report.error_message.as_deref(),
            ],
        )
        .await?;
    let Some(changed) = changed else { return said_before(s, lease, &row, &task, plan) };
    let (class, message) = (report.error_class.as_deref(), report.error_message.as_deref());
    let epoch = i64::try_from(lease.epoch).unwrap_or(i64::MAX);
    claim::close_attempt(s, &job, epoch, TaskState::Waiting.as_str(), class, message).await?;
    events::append(s, &job, TaskState::Waiting.as_str(), &waits(plan, message), Tell::Channels).await?;
    // Wished for while it was worked on, and not heard in time.
    match changed.opt_text("cancel_requested_by").map_err(|error| s.damaged(error))? {
        Some(by) => hold::cancel(s, &lease.job_id, &by).await,
        None => Ok(TaskState::Waiting),
    }
}

/// The state, where this very wait was written before: by a call whose answer was lost on its way.
fn said_before(s: &dyn Session, lease: &TaskLease, row: &Row, task: &Task, plan: &str) -> Result<TaskState, Fault> {
    let epoch = row.count("lease_epoch").map_err(|error| s.damaged(error))?;
    let is_ours = epoch == lease.epoch && task.worker.as_deref() == Some(&lease.worker);
    let is_same = task.plan.as_ref().is_some_and(|known| known.digest == plan);
    let was_said = is_ours && is_same && matches!(task.state, TaskState::Waiting | TaskState::Cancelled);
    if was_said { Ok(task.state) } else { Err(hold::lease_lost(lease)) }
}

/// Approves the plan of a task; see [`super::TaskLog::approve`].
pub async fn approve(s: &mut dyn Session, job: &JobId, approval: &Approval) -> Result<(), Fault> {
    let (id, now) = (job.to_string(), s.now());
    claim::expire(s).await?;
    let row = rows::find(s, &id).await?.ok_or(TaskLogError::Unknown(*job))?;
    let task = rows::task(&row, now).map_err(|error| s.damaged(format!("job {job}: {error}")))?;
    if task.state != TaskState::Waiting {
        return Err(TaskLogError::NotWaiting { job: *job, state: task.state }.into());
    }
    let waits = task.plan.ok_or_else(|| s.damaged(format!("job {job} waits without a plan")))?.digest;
    if waits != approval.plan {
        return Err(TaskLogError::OtherPlan { job: *job, waits, plan: approval.plan.clone() }.into());
    }
    if is_among(&approval.by, &task.requested_by) {
        let (by, requested_by) = (approval.by.clone(), task.requested_by);
        return Err(TaskLogError::OwnWish { job: *job, by, requested_by }.into());
    }
    let changed = s
        .execute(
            "UPDATE task_log SET state = 'queued', approved_by = $3, approval_comment = $4, error_class = NULL,
                 error_message = NULL
             WHERE job_id = $1 AND state = 'waiting' AND plan_sha256 = $2",
            args![id.as_str(), waits.as_str(), approval.by.as_str(), approval.comment.as_deref()],
        )
        .await?;
    if changed == 0 {
        return Err(Fault::Race);
    }
    let told = approved(&waits, &approval.by, approval.comment.as_deref());
    events::append(s, &id, APPROVED, &told, Tell::Channels).await
}

/// Whether `by` is one of those who asked: `anna`, or, of a signed message, `deployer (anna)`.
fn is_among(by: &str, requested_by: &str) -> bool {
    let same = |name: &str| name.trim().to_lowercase() == by.trim().to_lowercase();
    let parts = requested_by.strip_suffix(')').and_then(|names| names.split_once(" ("));
    same(requested_by) || parts.is_some_and(|(principal, says)| same(principal) || same(says))
}

fn waits(plan: &str, why: Option<&str>) -> String {
    why.map_or_else(|| format!("plan {plan}"), |why| format!("plan {plan}: {why}"))
}

fn approved(plan: &str, by: &str, comment: Option<&str>) -> String {
    let told = format!("plan {plan} by {by}");
    comment.map_or_else(|| told.clone(), |comment| format!("{told}: {comment}"))
}

/// Whether a row's plan and approval are those its events tell of.
pub fn is_as_told(plan: Option<&TaskPlan>, events: &[TaskEvent]) -> bool {
    let waited = events.iter().rposition(|event| event.what == TaskState::Waiting.as_str());
    let (Some(plan), Some(at)) = (plan, waited) else { return plan.is_none() && waited.is_none() };
    let begins = waits(&plan.digest, None);
    let is_same = events[at].detail.strip_prefix(&begins).is_some_and(|why| why.is_empty() || why.starts_with(": "));
    let told = events[at..].iter().find(|event| event.what == APPROVED).map(|event| event.detail.as_str());
    let by = plan.approved_by.as_deref();
    is_same && by.map(|by| approved(&plan.digest, by, plan.comment.as_deref())).as_deref() == told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_is_known_in_all_the_ways_it_is_written_down() {
        for (by, requested_by, expected) in [
            ("anna", "anna", true),
            ("Anna ", "anna", true),
            ("anna", "deployer (anna)", true),
            ("deployer", "deployer (anna)", true),
            ("deployer (anna)", "deployer (anna)", true),
            ("ann", "anna", false),
            ("ben", "deployer (anna)", false),
            ("ben", "", false),
            ("anna", "annabel", false),
        ] {
            assert_eq!(is_among(by, requested_by), expected, "{by} of {requested_by}");
        }
    }

    #[test]
    fn an_approval_that_the_events_do_not_tell_is_found() {
        let event = |seq, what: &str, detail: &str| {
            let at = jiff::Timestamp::UNIX_EPOCH;
            TaskEvent { seq, at, what: what.into(), detail: detail.into() }
        };
        let plan = |digest: &str, by: Option<&str>, comment: Option<&str>| TaskPlan {
            digest: digest.into(),
            approved_by: by.map(str::to_owned),
            comment: comment.map(str::to_owned),
        };
        let mut events = vec![event(1, "running", ""), event(2, "waiting", "plan ab")];
        assert!(is_as_told(Some(&plan("ab", None, None)), &events));
        for wrong in [plan("a", None, None), plan("abc", None, None), plan("ab", Some("ben"), None)] {
            assert!(!is_as_told(Some(&wrong), &events), "{wrong:?}");
        }
        assert!(!is_as_told(None, &events) && !is_as_told(Some(&plan("ab", None, None)), &events[..1]));
        assert!(is_as_told(None, &events[..1]));
        events.push(event(3, "approved", "plan ab by ben: late but good"));
        assert!(is_as_told(Some(&plan("ab", Some("ben"), Some("late but good"))), &events));
        for wrong in
            [plan("ab", Some("be"), Some("late but good")), plan("ab", Some("ben"), None), plan("ab", None, None)]
        {
            assert!(!is_as_told(Some(&wrong), &events), "{wrong:?}");
        }
        // What was approved before it waited again counts no more.
        events.push(event(4, "waiting", "plan cd: the plan is not the approved one"));
        assert!(is_as_told(Some(&plan("cd", None, None)), &events));
        assert!(!is_as_told(Some(&plan("cd", Some("ben"), Some("late but good"))), &events));
    }
}
