//! Claims tasks of the record and has them done, several at once.

use crate::Error;
use async_trait::async_trait;
use backup_agent::stop::{self, Stop, StopReason, Stopper};
use shared::model::{DatabaseName, Task, TaskDoor, TaskKind, TaskState};
use shared::task_log::{Claimed, TaskFilter, TaskLog, Wanted, Worker};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Pause between two looks for work.
const TURN: Duration = Duration::from_millis(500);

/// Does claimed tasks.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Does a task and writes its end into the record. What it leaves without an end is found lapsed by the next claim.
    async fn execute(&self, claimed: Claimed, control: Control);
}

/// How the work on one task is ended early.
#[derive(Debug, Clone)]
pub struct Control {
    /// Ends the work.
    pub stopper: Stopper,
    /// Hears of that.
    pub stop: Stop,
    /// Whether a database is being changed: then the work is finished or taken back, whatever happens.
    pub is_changing: Arc<AtomicBool>,
}

/// What is claimed, by whom, and who does it.
pub struct Pool {
    /// The record.
    pub log: Arc<dyn TaskLog>,
    /// This process.
    pub worker: Worker,
    /// Databases whose tasks are claimed.
    pub targets: Vec<DatabaseName>,
    /// How long a claim holds without being renewed.
    pub lease: Duration,
    /// Tasks done at once.
    pub parallel: usize,
    /// Does them.
    pub executor: Arc<dyn Executor>,
}

/// When a pool has done enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// When it is stopped.
    Stopped,
    /// When nothing is left to do or to recover, too.
    Idle,
}

impl Pool {
    /// Works until `stopped` completes, or nothing is left where that is enough.
    ///
    /// What changes no database yet is let go of then, what does is waited for. Fails where the record does not answer
    /// and the end was to come when nothing is left; otherwise that is waited for.
    pub async fn work(&self, until: Until, stopped: impl Future<Output = ()>) -> Result<AtWork, Error> {
        let mut stopped = std::pin::pin!(stopped);
        let mut at_work = AtWork::default();
        loop {
            let claimed = if at_work.tasks.len() < self.parallel { self.claim(until).await? } else { None };
            if let Some(claimed) = claimed {
                at_work.begin(self.executor.clone(), claimed);
                // Whoever finds one task after the other hears of the end, too.
                tokio::select! {
                    biased;
                    () = stopped.as_mut() => return Ok(at_work),
                    () = std::future::ready(()) => {}
                }
                continue;
            }
            if until == Until::Idle && at_work.tasks.is_empty() && self.is_idle().await? {
                return Ok(at_work);
            }
            tokio::select! {
                () = stopped.as_mut() => return Ok(at_work),
                Some(_) = at_work.tasks.join_next() => {}
                () = tokio::time::sleep(TURN) => {}
            }
        }
    }

    async fn claim(&self, until: Until) -> Result<Option<Claimed>, Error> {
        // What a schedule asked for is the agent's, who knows what follows it.
        let wanted = Wanted { targets: Some(self.targets.clone()), scheduled: false, ..Wanted::kinds(TaskKind::ALL) };
        match self.log.claim(&self.worker, &wanted, self.lease).await {
            Ok(claimed) => Ok(claimed),
            Err(error) if until == Until::Idle => Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "the record does not answer; it is asked again");
                Ok(None)
            }
        }
    }

    /// Whether nothing of ours waits, is done, or must be recovered. What waits for a stuck database waits for a person.
    async fn is_idle(&self) -> Result<bool, Error> {
        let states = vec![TaskState::Queued, TaskState::Running, TaskState::Recovering, TaskState::Stuck];
        let tasks = self.log.tasks(&TaskFilter { states, ..TaskFilter::default() }).await?;
        let stuck: BTreeSet<_> =
            tasks.iter().filter(|task| task.state == TaskState::Stuck).map(|task| task.target.clone()).collect();
        let ours = |task: &Task| {
            let is_known = task.target.as_ref().is_none_or(|name| self.targets.contains(name));
            is_known && task.door != TaskDoor::Schedule
        };
        Ok(!tasks.iter().any(|task| ours(task) && !stuck.contains(&task.target)))
    }
}

/// Tasks that have begun.
#[derive(Default)]
pub struct AtWork {
    tasks: JoinSet<()>,
    controls: Vec<Control>,
}

impl AtWork {
    fn begin(&mut self, executor: Arc<dyn Executor>, claimed: Claimed) {
        while self.tasks.try_join_next().is_some() {}
        let (stopper, stop) = stop::channel();
        let control = Control { stopper, stop, is_changing: Arc::default() };
        self.controls.retain(|control| Arc::strong_count(&control.is_changing) > 1);
        self.controls.push(control.clone());
        self.tasks.spawn(async move { executor.execute(claimed, control).await });
    }

    /// Lets go of what changes nothing yet, and waits for the rest.
    pub async fn end(mut self) {
        for control in &self.controls {
            if !control.is_changing.load(Ordering::SeqCst) {
                control.stopper.stop(StopReason::Shutdown);
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }
}
