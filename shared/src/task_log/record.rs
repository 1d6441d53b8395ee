//! The record in a database, whichever that is.

mod step_log;

use super::session::{Database, Fault, Mode, Session, args};
use super::{
    Approval, Claimed, Delivered, Delivery, Ending, Renewal, Submitted, TaskFilter, TaskLease, TaskLog, TaskLogError,
    TaskProgress, Wanted, Worker, approval, claim, events, hold, outbox, rows, submit, tidy,
};
use crate::crash_point;
use crate::model::{JobId, NewTask, Task, TaskEvent, TaskKind, TaskReport, TaskState};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// How often a transaction is begun anew because another one was faster.
const RACES: u32 = 50;

/// The record of all tasks in a database.
pub struct Record<D> {
    database: Arc<D>,
}

impl<D: Database> Record<D> {
    /// The record in `database`, whose tables are there.
    pub(super) fn new(database: D) -> Self {
        Record { database: Arc::new(database) }
    }

    /// Runs one transaction to its end, whether or not somebody still waits for it.
    async fn run<T, W>(&self, mode: Mode, work: W) -> Result<T, TaskLogError>
    where
        T: Send + 'static,
        W: for<'a> Fn(&'a mut dyn Session) -> BoxFuture<'a, Result<T, Fault>> + Send + Sync + 'static,
    {
        let database = self.database.clone();
        // A task of its own: dropping the caller does not stop it halfway.
        let done = tokio::spawn(async move {
            for _ in 0..RACES {
                let mut session = database.begin(mode).await?;
                let fault = match work(&mut *session).await {
                    Ok(value) => match session.commit().await {
                        Ok(()) => return Ok(value),
                        Err(fault) => fault,
                    },
                    Err(fault) => {
                        session.rollback().await;
                        fault
                    }
                };
                match fault {
                    Fault::Error(error) => return Err(error),
                    Fault::Race => tokio::task::yield_now().await,
                }
            }
            let message = format!("others were faster {RACES} times; nothing was written");
            Err(TaskLogError::Unavailable { place: database.place(), message })
        });
        done.await.unwrap_or_else(|error| {
            Err(TaskLogError::Unavailable { place: self.database.place(), message: format!("{error}") })
        })
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[async_trait]
impl<D: Database> TaskLog for Record<D> {
    async fn submit(&self, task: &NewTask) -> Result<Submitted, TaskLogError> {
        let task = Arc::new(task.clone());
        crash_point::reached("task log: before a task is submitted");
        let submitted = self.run(Mode::Write, move |s| {
            let task = task.clone();
            Box::pin(async move { submit::submit(s, &task).await })
        });
        let submitted = submitted.await?;
        crash_point::reached("task log: after a task is submitted");
        Ok(submitted)
    }

    async fn submit_claimed(&self, task: &NewTask, worker: &Worker, lease: Duration) -> Result<Claimed, TaskLogError> {
        let asked = Arc::new((task.clone(), worker.clone()));
        crash_point::reached("task log: before a task is submitted and claimed");
        let claimed = self.run(Mode::Write, move |s| {
            let asked = asked.clone();
            Box::pin(async move { submit::submit_claimed(s, &asked.0, &asked.1, micros(lease)).await })
        });
        let claimed = claimed.await?;
        crash_point::reached("task log: after a task is submitted and claimed");
        Ok(claimed)
    }

    async fn claim(&self, worker: &Worker, wanted: &Wanted, lease: Duration) -> Result<Option<Claimed>, TaskLogError> {
        let asked = Arc::new((worker.clone(), wanted.clone()));
        let claimed = self.run(Mode::Write, move |s| {
            let asked = asked.clone();
            Box::pin(async move {
                let claimed = claim::claim(s, &asked.0, &asked.1, micros(lease)).await?;
                if claimed.is_some() {
                    crash_point::reached("task log: before a task is claimed");
                }
                Ok(claimed)
            })
        });
        let claimed = claimed.await?;
        if claimed.is_some() {
            crash_point::reached("task log: after a task is claimed");
        }
        Ok(claimed)
    }

    async fn renew(&self, lease: &TaskLease, time: Duration, progress: &TaskProgress) -> Result<Renewal, TaskLogError> {
        let asked = Arc::new((lease.clone(), progress.clone()));
        self.run(Mode::Write, move |s| {
            let asked = asked.clone();
            Box::pin(async move { hold::renew(s, &asked.0, micros(time), &asked.1).await })
        })
        .await
    }

    async fn finish(&self, lease: &TaskLease, ending: &Ending) -> Result<(), TaskLogError> {
        let asked = Arc::new((lease.clone(), ending.clone()));
        crash_point::reached("task log: before a task is finished");
        let finished = self.run(Mode::Write, move |s| {
            let asked = asked.clone();
            Box::pin(async move { hold::finish(s, &asked.0, &asked.1).await })
        });
        finished.await?;
        crash_point::reached("task log: after a task is finished");
        Ok(())
    }

    async fn wait_for_approval(
        &self,
        lease: &TaskLease,
        plan: &str,
        report: &TaskReport,
    ) -> Result<TaskState, TaskLogError> {
        let asked = Arc::new((lease.clone(), plan.to_owned(), report.clone()));
        crash_point::reached("task log: before a task waits for approval");
        let waits = self.run(Mode::Write, move |s| {
            let asked = asked.clone();
            Box::pin(async move { approval::wait(s, &asked.0, &asked.1, &asked.2).await })
        });
        let state = waits.await?;
        crash_point::reached("task log: after a task waits for approval");
        Ok(state)
    }

    async fn approve(&self, job: &JobId, approval: &Approval) -> Result<(), TaskLogError> {
        let asked = Arc::new((*job, approval.clone()));
        crash_point::reached("task log: before a task is approved");
        let approved = self.run(Mode::Write, move |s| {
            let asked = asked.clone();
            Box::pin(async move { approval::approve(s, &asked.0, &asked.1).await })
        });
        approved.await?;
        crash_point::reached("task log: after a task is approved");
        Ok(())
    }

    async fn cancel(&self, job: &JobId, by: &str) -> Result<TaskState, TaskLogError> {
        let asked = Arc::new((*job, by.to_owned()));
        self.run(Mode::Write, move |s| {
            let asked = asked.clone();
            Box::pin(async move { hold::cancel(s, &asked.0, &asked.1).await })
        })
        .await
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>, TaskLogError> {
        let filter = Arc::new(filter.clone());
        self.run(Mode::Read, move |s| {
            let filter = filter.clone();
            Box::pin(async move { tasks(s, &filter).await })
        })
        .await
    }

    async fn events(&self, job: &JobId) -> Result<Vec<TaskEvent>, TaskLogError> {
        let job = *job;
        self.run(Mode::Read, move |s| Box::pin(async move { events::read(s, &job).await })).await
    }

    async fn last_slot(&self, schedule: &str) -> Result<Option<Timestamp>, TaskLogError> {
        let schedule = Arc::new(schedule.to_owned());
        self.run(Mode::Read, move |s| {
            let schedule = schedule.clone();
            Box::pin(async move {
                let row = s.row("SELECT last_slot FROM schedule WHERE name = $1", args![schedule.as_str()]).await?;
                row.map(|row| row.time("last_slot").map_err(|error| s.damaged(error))).transpose()
            })
        })
        .await
    }

    async fn take_deliveries(&self, limit: u32, hold: Duration) -> Result<Vec<Delivery>, TaskLogError> {
        self.run(Mode::Write, move |s| Box::pin(async move { outbox::take(s, limit, micros(hold)).await })).await
    }

    async fn delivered(&self, id: i64, outcome: &Delivered) -> Result<(), TaskLogError> {
        let outcome = Arc::new(outcome.clone());
        self.run(Mode::Write, move |s| {
            let outcome = outcome.clone();
            Box::pin(async move { outbox::delivered(s, id, &outcome).await })
        })
        .await
    }

    async fn tidy(&self) -> Result<u64, TaskLogError> {
        let mut removed = 0;
        loop {
            let batch = self.run(Mode::Write, |s| Box::pin(async move { tidy::batch(s).await })).await?;
            removed += batch;
            if batch == 0 {
                return Ok(removed);
            }
        }
    }

    fn describe(&self) -> String {
        self.database.place()
    }
}

/// The tasks asked for; a row that cannot be read is named, and an error only where just that one was asked for.
async fn tasks(s: &mut dyn Session, filter: &TaskFilter) -> Result<Vec<Task>, Fault> {
    let now = s.now();
    let mut sql = format!("{} WHERE t.created_at IS NOT NULL", rows::select());
    let mut values = args![now];
    if let Some(job) = &filter.job_id {
        values.push(job.to_string().into());
        sql.push_str(&format!(" AND t.job_id = ${}", values.len()));
    }
    if let Some(target) = &filter.target {
        values.push(target.as_str().into());
        sql.push_str(&format!(" AND t.target = ${}", values.len()));
    }
    if !filter.kinds.is_empty() {
        sql.push_str(&format!(" AND t.kind IN ({})", rows::list(&filter.kinds, TaskKind::as_str)));
    }
    if !filter.states.is_empty() {
        let states = rows::list(&filter.states, TaskState::as_str);
        sql.push_str(&format!(" AND {} IN ({states})", rows::STATE_NOW));
    }
    sql.push_str(" ORDER BY t.created_at DESC, t.job_id DESC");
    if filter.limit > 0 {
        sql.push_str(&format!(" LIMIT {}", filter.limit));
    }
    let mut found = Vec::new();
    for row in s.rows(&sql, values).await? {
        match (rows::task(&row, now), &filter.job_id) {
            (Ok(task), _) => found.push(task),
            (Err(error), Some(job)) => return Err(s.damaged(format!("job {job}: {error}"))),
            (Err(error), None) => claim::unreadable(s, &row, &error),
        }
    }
    Ok(found)
}
