//! Does the tasks of the record: migrations by the saga, everything else as the agent does it.

use crate::pool::{Control, Executor};
use crate::story::Story;
use crate::worker::{self, MIGRATIONS, Performance};
use crate::world::World;
use async_trait::async_trait;
use backup_agent::agent::{self, Job};
use backup_agent::record::TaskMeter;
use shared::task_log::{Claimed, TaskLog, Worker};
use std::sync::Arc;
use std::time::Duration;

/// What the worker's tasks are done with.
pub struct Tasks {
    /// What migrations work with.
    pub world: Arc<World>,
    /// What tasks that change no database work with.
    pub agent: Arc<agent::World>,
    /// The record.
    pub log: Arc<dyn TaskLog>,
    /// This process.
    pub worker: Worker,
}

#[async_trait]
impl Executor for Tasks {
    async fn execute(&self, claimed: Claimed, control: Control) {
        let Control { stopper, stop, is_changing } = control;
        if !MIGRATIONS.contains(&claimed.task.kind) {
            let job = Job::claimed(claimed, self.log.clone());
            drop(agent::attempt(self.agent.clone(), job, stopper, stop).await);
            return;
        }
        let (job, target) = (claimed.task.job_id, claimed.task.target.as_ref());
        let target = target.map_or_else(|| "-".to_owned(), |name| name.to_string());
        let with = Performance {
            world: self.world.clone(),
            log: self.log.clone(),
            worker: self.worker.clone(),
            story: Arc::new(Logged { target }),
            meter: Arc::new(TaskMeter::default()),
            stopper,
            stop,
            is_changing,
        };
        if let Err(error) = worker::perform(with, claimed).await {
            tracing::warn!(%job, %error, "left to whoever claims it next");
        }
    }
}

/// The story of a task as lines of the log.
struct Logged {
    target: String,
}

impl Story for Logged {
    fn head(&self, line: &str) {
        tracing::info!(database = self.target, "{line}");
    }

    fn begins(&self, _step: &'static str) {}

    fn step(&self, step: &'static str, said: &str, took: Duration) {
        tracing::info!(database = self.target, seconds = took.as_secs_f64(), "{step}: {said}");
    }

    fn detail(&self, line: &str) {
        tracing::info!(database = self.target, "{line}");
    }

    fn end(&self, line: &str) {
        for line in line.lines() {
            tracing::info!(database = self.target, "{line}");
        }
    }

    fn bytes(&self, _bytes: u64) {}
}
