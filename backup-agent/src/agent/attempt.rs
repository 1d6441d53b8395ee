//! One try of one task, from its claim to its end.

use super::World;
use super::work::{Try, perform};
use crate::error::Error;
use crate::record::{HeldLease, KeptAlive, TaskMeter, ending, succeeded, write_end};
use crate::stop::{Stop, Stopper};
use jiff::Timestamp;
use shared::model::{NewTask, Task, TaskEvent, TaskReport, TaskState};
use shared::task_log::{Claimed, Ending, TaskLease, TaskLog, TaskLogError};
use std::sync::Arc;
use std::time::Duration;

/// A task to be tried.
pub struct Job {
    /// The task.
    pub task: NewTask,
    /// Number of the try, from 1.
    pub attempt: u32,
    /// Tries it has.
    pub max_attempts: u32,
    /// Whether somebody else had begun it and was lost.
    pub is_recovery: bool,
    /// The record and the lease, where the record knows of it.
    pub record: Option<(Arc<dyn TaskLog>, TaskLease)>,
}

/// A try that ended.
pub struct Ended {
    /// The task.
    pub task: NewTask,
    /// Number of the try.
    pub attempt: u32,
    /// How it ended.
    pub ending: Ending,
    /// How long it took.
    pub seconds: f64,
    /// Whether the record knows of the task.
    pub was_recorded: bool,
}

impl Job {
    /// A claimed task.
    pub fn claimed(claimed: Claimed, record: Arc<dyn TaskLog>) -> Self {
        let Claimed { task, lease, is_recovery } = claimed;
        if is_recovery {
            tracing::warn!(job = %task.job_id, kind = %task.kind, "its worker was lost; it is done again");
        }
        let (attempt, max_attempts) = (task.attempt, task.max_attempts);
        let task = NewTask {
            job_id: task.job_id,
            spec: task.spec,
            deadline_s: task.deadline_s,
            max_attempts,
            door: task.door,
            requested_by: task.requested_by,
            ..NewTask::new(task.kind, task.target)
        };
        Job { task, attempt, max_attempts, is_recovery, record: Some((record, lease)) }
    }
}

/// Does the work, keeps the lease alive meanwhile, and writes down how it ended.
pub async fn run(world: Arc<World>, job: Job, stopper: Stopper, stop: Stop) -> Ended {
    let Job { task, attempt, max_attempts, is_recovery, record } = job;
    let (began_at, began) = (world.clock.now(), world.clock.monotonic());
    let target = task.target.as_ref().map_or("-", |name| name.as_str()).to_owned();
    tracing::info!(job = %task.job_id, kind = %task.kind, %target, attempt, "begins");
    let meter = Arc::new(TaskMeter::default());
    let deadline = task.deadline_s.map_or(world.config.agent.deadline.0, Duration::from_secs);
    let held = record
        .as_ref()
        .map(|(log, lease)| HeldLease::bearing_silence(log.clone(), lease.clone(), world.config.lease()));
    let alive = KeptAlive::begin(held.clone(), world.clock.clone(), Some(deadline), meter.clone(), stopper.clone());
    if record.is_none() {
        tell(&world, &task, attempt, TaskState::Running, began_at, None).await;
    }
    let result = perform(&world, &task, Try { held, is_recovery, meter, stop, stopper }).await;
    let ending = match &result {
        Ok(report) => succeeded(report.clone()),
        Err(error) => ending(error, attempt, max_attempts, &*world.clock),
    };
    drop(alive);
    let seconds = world.clock.monotonic().saturating_sub(began).as_secs_f64();
    match &result {
        Ok(report) => {
            let backup = report.backup_id.as_deref().unwrap_or("-");
            tracing::info!(job = %task.job_id, kind = %task.kind, %target, backup, seconds, "done");
        }
        Err(error) => {
            let again = ending.again_at.map(|at| at.to_string());
            tracing::error!(job = %task.job_id, kind = %task.kind, %target, %error, again, "failed");
        }
    }
    match &record {
        Some(_) if matches!(result, Err(Error::Unfinished(_))) => {
            tracing::error!(job = %task.job_id, "left to whoever claims it next: its database is in the middle of it");
        }
        Some((log, lease)) => match write_end(&**log, lease, &ending, &*world.clock).await {
            None => {}
            Some(error @ TaskLogError::LeaseLost { .. }) => {
                world.health.lease_lost();
                tracing::warn!(%error, "somebody else has the task; its end was not recorded by us");
            }
            Some(error) => tracing::warn!(job = %task.job_id, %error, "the end of the task could not be recorded"),
        },
        None if ending.state != TaskState::Queued => {
            tracing::warn!(job = %task.job_id, kind = %task.kind, %target, "done without the record");
            tell(&world, &task, attempt, ending.state, began_at, Some(&ending.report)).await;
        }
        None => {}
    }
    Ended { task, attempt, ending, seconds, was_recorded: record.is_some() }
}

/// Tells the channels directly, because there is no outbox without the record.
async fn tell(
    world: &World,
    task: &NewTask,
    attempt: u32,
    state: TaskState,
    began_at: Timestamp,
    report: Option<&TaskReport>,
) {
    let now = world.clock.now();
    let report = report.cloned().unwrap_or_default();
    let event = TaskEvent {
        seq: if state == TaskState::Running { 1 } else { 2 },
        at: now,
        what: state.to_string(),
        detail: report.error_message.clone().unwrap_or_default(),
    };
    let told = Task {
        job_id: task.job_id,
        kind: task.kind,
        target: task.target.clone(),
        state,
        step: None,
        spec: task.spec.clone(),
        run_at: task.run_at,
        deadline_s: task.deadline_s,
        priority: task.priority,
        attempt,
        max_attempts: task.max_attempts,
        door: task.door,
        requested_by: task.requested_by.clone(),
        stuck_job: None,
        reply: None,
        plan: None,
        worker: None,
        is_lapsed: false,
        cancel_requested: false,
        created_at: began_at,
        started_at: Some(began_at),
        finished_at: state.is_terminal().then_some(now),
        report,
    };
    world.notifier.tell(&told, &event, &*world.clock).await;
}
