//! Work that the TaskLog knows of: its lease is kept alive, its end is written down.

use crate::error::Error;
use crate::prune::Pruned;
use crate::repository::{Manifest, Verification, WriteProgress};
use crate::restore::Restored;
use crate::stop::{StopReason, Stopper};
use jiff::SignedDuration;
use shared::clock::Clock;
use shared::model::{Class, TaskReport, TaskState};
use shared::task_log::{Ending, TaskLease, TaskLog, TaskLogError, TaskProgress};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How many times a lease is renewed in the time it is valid.
const RENEWALS: u32 = 6;
/// The pause before a second try; it doubles from try to try, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// No pause is longer.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(15 * 60);

/// How far a task is, as the record is told with every heartbeat.
#[derive(Debug, Default)]
pub struct TaskMeter(Mutex<TaskProgress>);

impl TaskMeter {
    /// The step it is at, in words.
    pub fn step(&self, step: &str) {
        self.update(|progress| progress.step = Some(step.to_owned()));
    }

    fn update(&self, change: impl FnOnce(&mut TaskProgress)) {
        if let Ok(mut progress) = self.0.lock() {
            change(&mut progress);
        }
    }

    fn now(&self) -> TaskProgress {
        self.0.lock().map(|progress| progress.clone()).unwrap_or_default()
    }

    /// So many more bytes are done.
    pub fn add(&self, bytes: u64) {
        self.update(|progress| progress.bytes_done += bytes);
    }
}

impl WriteProgress for TaskMeter {
    fn expect(&self, bytes: u64) {
        self.update(|progress| progress.bytes_expected = Some(bytes));
    }

    fn advance(&self, bytes: u64, _rows: u64) {
        self.add(bytes);
    }
}

/// A lease that is kept alive.
#[derive(Clone)]
pub struct HeldLease {
    /// The record.
    pub log: Arc<dyn TaskLog>,
    /// The lease.
    pub lease: TaskLease,
    /// How long it is valid without being renewed.
    pub time: Duration,
    /// Whether the work goes on while the record does not answer; else it ends when the lease has run out by our own
    /// clock, because somebody else may have the task by then.
    pub bears_silence: Arc<AtomicBool>,
}

impl HeldLease {
    /// A lease of work that goes on while the record does not answer, as a backup does.
    pub fn bearing_silence(log: Arc<dyn TaskLog>, lease: TaskLease, time: Duration) -> Self {
        HeldLease { log, lease, time, bears_silence: Arc::new(AtomicBool::new(true)) }
    }
}

/// Renews a lease until dropped, and stops the work when it is lost, somebody wishes its end, or its time is over.
pub struct KeptAlive(tokio::task::JoinHandle<()>);

impl KeptAlive {
    /// Begins; `lease` is none for work the record does not know of, which then only has its deadline.
    pub fn begin(
        lease: Option<HeldLease>,
        clock: Arc<dyn Clock>,
        deadline: Option<Duration>,
        meter: Arc<TaskMeter>,
        stopper: Stopper,
    ) -> Self {
        KeptAlive(tokio::spawn(async move {
            let heart = async {
                match lease {
                    Some(held) => beat(&held, &*clock, &meter, &stopper).await,
                    None => std::future::pending().await,
                }
            };
            let over = async {
                match deadline {
                    Some(deadline) => clock.sleep(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::pin!(heart);
            tokio::select! {
                () = &mut heart => return,
                () = over => stopper.stop(StopReason::Deadline),
            }
            // The lease is needed until the end has been written down.
            heart.await;
        }))
    }
}

impl Drop for KeptAlive {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Renews until the lease is lost.
async fn beat(held: &HeldLease, clock: &dyn Clock, meter: &TaskMeter, stopper: &Stopper) {
    let mut silent = false;
    let mut heard = clock.monotonic();
    loop {
        clock.sleep(held.time / RENEWALS).await;
        let asked = clock.monotonic();
        match held.log.renew(&held.lease, held.time, &meter.now()).await {
            Ok(renewal) => {
                (silent, heard) = (false, asked);
                if renewal.cancel_requested {
                    stopper.stop(StopReason::Cancelled);
                }
            }
            Err(TaskLogError::LeaseLost { .. }) => {
                stopper.stop(StopReason::LeaseLost);
                return;
            }
            Err(error) => {
                let is_over = clock.monotonic().saturating_sub(heard) > held.time;
                if is_over && !held.bears_silence.load(Ordering::SeqCst) {
                    stopper.stop(StopReason::LeaseLost);
                    return;
                }
                if !silent {
                    silent = true;
                    tracing::warn!(job = %held.lease.job_id, %error, "the record does not answer; the work goes on");
                }
            }
        }
    }
}

/// The end of a try that did what it should.
pub fn succeeded(report: TaskReport) -> Ending {
    Ending { state: TaskState::Succeeded, again_at: None, report }
}

/// The end of a try that failed: for good, or to be tried again.
pub fn ending(error: &Error, attempt: u32, max_attempts: u32, clock: &dyn Clock) -> Ending {
    let report = TaskReport {
        error_class: Some(class_word(error).to_owned()),
        error_message: Some(one_line(&error.to_string())),
        ..TaskReport::default()
    };
    let again_at = match error {
        Error::Stopped(StopReason::Shutdown) => Some(clock.now()),
        error if error.class() == Class::Transient => clock.now().checked_add(pause(attempt)).ok(),
        _ => None,
    };
    let state = match error {
        _ if again_at.is_some() && attempt < max_attempts => TaskState::Queued,
        Error::Stopped(StopReason::Cancelled) => TaskState::Cancelled,
        error if error.class() == Class::Refused => TaskState::Refused,
        _ => TaskState::Failed,
    };
    Ending { state, again_at: again_at.filter(|_| state == TaskState::Queued), report }
}

/// The pause after try number `attempt`, from 1.
pub fn pause(attempt: u32) -> SignedDuration {
    FIRST_PAUSE.saturating_mul(2_i32.saturating_pow(attempt.saturating_sub(1))).min(LONGEST_PAUSE)
}

/// The record's word for an error.
pub fn class_word(error: &Error) -> &'static str {
    match error {
        Error::Stopped(StopReason::Deadline) => "deadline",
        Error::Stopped(StopReason::LeaseLost) => "lost",
        Error::Stopped(StopReason::Cancelled) => "cancelled",
        error => match error.class() {
            Class::Transient => "transient",
            Class::Permanent => "permanent",
            Class::Corrupt => "corrupt",
            Class::Refused => "refused",
        },
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Writes an end down; tries a few times, because the work is done and only the note is missing.
///
/// Returns why it could not be written, where it could not.
pub async fn write_end(
    log: &dyn TaskLog,
    lease: &TaskLease,
    ending: &Ending,
    clock: &dyn Clock,
) -> Option<TaskLogError> {
    let mut last = None;
    for attempt in 0..3 {
        if attempt > 0 {
            clock.sleep(Duration::from_secs(1)).await;
        }
        match log.finish(lease, ending).await {
            Ok(()) => return None,
            Err(error @ TaskLogError::LeaseLost { .. }) => return Some(error),
            Err(error) => last = Some(error),
        }
    }
    last
}

/// What a backup gave.
pub fn of_backup(manifest: &Manifest) -> TaskReport {
    let header = &manifest.header;
    TaskReport {
        backup_id: Some(format!("{}/{}", header.database, header.id)),
        rows: Some(manifest.rows()),
        bytes_in: Some(header.raw_bytes),
        bytes_out: Some(header.new_bytes),
        result: Some(serde_json::json!({"defects": header.defects})),
        ..TaskReport::default()
    }
}

/// What a verification gave. Damage found is what it is for: the task succeeded, the command does not.
pub fn of_verification(found: &Verification) -> TaskReport {
    let damaged = found.backups.iter().filter(|backup| !backup.damage.is_empty()).count();
    let result = serde_json::json!({"backups": found.backups.len(), "damaged": damaged});
    TaskReport { bytes_in: Some(found.bytes), result: Some(result), ..TaskReport::default() }
}

/// What a prune gave.
pub fn of_prune(pruned: &Pruned) -> TaskReport {
    TaskReport { bytes_out: Some(pruned.bytes), result: Some(serde_json::json!(pruned)), ..TaskReport::default() }
}

/// What a restore or a drill gave.
pub fn of_restore(restored: &Restored, raw_bytes: u64) -> TaskReport {
    TaskReport {
        backup_id: Some(restored.backup.clone()),
        rows: Some(restored.rows),
        bytes_out: Some(raw_bytes),
        result: Some(
            serde_json::json!({"proven": restored.proven, "into": restored.into, "defects": restored.defects}),
        ),
        ..TaskReport::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::clock::SystemClock;

    #[test]
    fn only_what_may_pass_is_tried_again_and_not_for_ever() {
        let state = |error, attempt| ending(&error, attempt, 3, &SystemClock).state;
        assert_eq!(state(Error::Stopped(StopReason::Shutdown), 2), TaskState::Queued);
        assert_eq!(state(Error::Stopped(StopReason::Shutdown), 3), TaskState::Failed);
        assert_eq!(state(Error::failed("no"), 1), TaskState::Failed);
        assert_eq!(state(Error::refused("no", None), 1), TaskState::Refused);
        assert_eq!(state(Error::Stopped(StopReason::Cancelled), 1), TaskState::Cancelled);
        let late = ending(&Error::Stopped(StopReason::Deadline), 1, 3, &SystemClock);
        assert_eq!((late.state, late.report.error_class.as_deref()), (TaskState::Failed, Some("deadline")));
    }

    #[test]
    fn pauses_double_up_to_a_quarter_of_an_hour() {
        assert_eq!([1, 2, 3, 5, 40].map(|attempt| pause(attempt).as_secs()), [60, 120, 240, 900, 900]);
    }
}
