//! The steps of tasks in the record.

use super::{Record, micros};
use crate::model::{JobId, StepNote};
use crate::task_log::session::{Database, Mode};
use crate::task_log::{Claimed, StepLog, TaskLease, TaskLogError, TaskOutput, Worker, steps, stuck};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

#[async_trait]
impl<D: Database> StepLog for Record<D> {
    async fn note_step(&self, lease: &TaskLease, note: &StepNote) -> Result<(), TaskLogError> {
        let asked = Arc::new((lease.clone(), note.clone()));
        self.run(Mode::Write, move |s| {
            let asked = asked.clone();
            Box::pin(async move { steps::note(s, &asked.0, &asked.1).await })
        })
        .await
    }

    async fn steps(&self, job: &JobId) -> Result<Vec<StepNote>, TaskLogError> {
        let job = *job;
        self.run(Mode::Read, move |s| Box::pin(async move { steps::read(s, &job).await })).await
    }

    async fn put_output(&self, lease: &TaskLease, step: &str, text: &str) -> Result<(), TaskLogError> {
        let asked = Arc::new((lease.clone(), step.to_owned(), text.to_owned()));
        self.run(Mode::Write, move |s| {
            let asked = asked.clone();
            Box::pin(async move { steps::put_output(s, &asked.0, &asked.1, &asked.2).await })
        })
        .await
    }

    async fn outputs(&self, job: &JobId) -> Result<Vec<TaskOutput>, TaskLogError> {
        let job = *job;
        self.run(Mode::Read, move |s| Box::pin(async move { steps::outputs(s, &job).await })).await
    }

    async fn holder(&self, job: &JobId) -> Result<Option<(Worker, bool)>, TaskLogError> {
        let job = *job;
        self.run(Mode::Read, move |s| Box::pin(async move { steps::holder(s, &job).await })).await
    }

    async fn take_stuck(&self, job: &JobId, worker: &Worker, lease: Duration) -> Result<Claimed, TaskLogError> {
        let asked = Arc::new((*job, worker.clone()));
        self.run(Mode::Write, move |s| {
            let asked = asked.clone();
            Box::pin(async move { stuck::take(s, &asked.0, &asked.1, micros(lease)).await })
        })
        .await
    }
}
