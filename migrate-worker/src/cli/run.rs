//! `migrate-worker run`

use super::apply::{PROGRAM, open_world};
use crate::Error;
use crate::leftovers;
use crate::story::Story;
use crate::worker::{self, KINDS, Performance};
use crate::world::World;
use backup_agent::cli::{Done, Global};
use backup_agent::record::TaskMeter;
use backup_agent::stop::{self, StopReason, Stopper};
use clap::Args;
use shared::connect;
use shared::model::{DatabaseName, TaskState};
use shared::task_log::{Claimed, TaskFilter, TaskLog, Wanted, Worker};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// Claims tasks of the record and does them, several databases at once, one task per database
#[derive(Debug, Args)]
#[command(
    after_help = "Ends at SIGTERM or Ctrl-C: what has not begun to change a database is left to the next worker, \
                        what has is finished or taken back first."
)]
pub struct Run {
    /// End when nothing is left to do or to recover
    #[arg(long)]
    until_idle: bool,
    /// Databases worked on at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
}

/// Pause between two looks for work.
const TURN: Duration = Duration::from_millis(500);

impl Run {
    pub(super) async fn run(self, global: &Global) -> Done {
        let world = open_world(global).await?;
        let log = connect::task_log(&world.config, world.clock.clone()).await.map_err(Error::from)?;
        let databases = world.config.databases.iter().filter(|(_, database)| database.migrations.is_some());
        let targets: Vec<DatabaseName> = databases.map(|(name, _)| name.clone()).collect();
        if targets.is_empty() {
            let hint = "add [database.NAME.migrations] with runner and directory";
            return Err(Error::refused("no configured database is migrated", hint).into());
        }
        let mut loop_ =
            Loop { world, log, worker: Worker::here(PROGRAM), targets, at_work: JoinSet::new(), stoppers: Vec::new() };
        loop_.turn(self.until_idle, self.parallel.into()).await?;
        Ok(())
    }
}

/// The worker between two turns.
struct Loop {
    world: Arc<World>,
    log: Arc<dyn TaskLog>,
    worker: Worker,
    targets: Vec<DatabaseName>,
    at_work: JoinSet<()>,
    stoppers: Vec<(Stopper, Arc<AtomicBool>)>,
}

impl Loop {
    async fn turn(&mut self, until_idle: bool, parallel: usize) -> Result<(), Error> {
        let no_signal = |error: std::io::Error| Error::failed(format!("signals cannot be heard: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
        leftovers::sweep(&self.world, &*self.log).await;
        tracing::info!(databases = self.targets.len(), "waiting for tasks");
        loop {
            let claimed = if self.at_work.len() < parallel { self.claim(until_idle).await? } else { None };
            if let Some(claimed) = claimed {
                self.begin(claimed);
                continue;
            }
            if until_idle && self.at_work.is_empty() && self.is_idle().await? {
                return Ok(());
            }
            tokio::select! {
                _ = terminate.recv() => return self.end().await,
                _ = interrupt.recv() => return self.end().await,
                Some(_) = self.at_work.join_next() => {}
                () = tokio::time::sleep(TURN) => {}
            }
        }
    }

    /// The next task. A record that does not answer is waited for, unless the end is wanted when nothing is left to do.
    async fn claim(&self, until_idle: bool) -> Result<Option<Claimed>, Error> {
        let wanted = Wanted { kinds: KINDS.to_vec(), targets: Some(self.targets.clone()), only_lost: false };
        match self.log.claim(&self.worker, &wanted, self.world.config.lease()).await {
            Ok(claimed) => Ok(claimed),
            Err(error) if until_idle => Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "the record does not answer; it is asked again");
                Ok(None)
            }
        }
    }

    fn begin(&mut self, claimed: Claimed) {
        let (stopper, stop) = stop::channel();
        let is_changing = Arc::new(AtomicBool::new(false));
        self.stoppers.retain(|(_, changing)| Arc::strong_count(changing) > 1);
        self.stoppers.push((stopper.clone(), is_changing.clone()));
        let target = claimed.task.target.as_ref().map_or_else(|| "-".to_owned(), |name| name.to_string());
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
        self.at_work.spawn(async move {
            let job = claimed.task.job_id;
            if let Err(error) = worker::perform(with, claimed).await {
                tracing::warn!(%job, %error, "left to whoever claims it next");
            }
        });
    }

    /// Whether nothing of ours waits, is done, or must be recovered. What waits for a stuck database waits for a person.
    async fn is_idle(&self) -> Result<bool, Error> {
        let states = vec![TaskState::Queued, TaskState::Running, TaskState::Recovering, TaskState::Stuck];
        let tasks = self.log.tasks(&TaskFilter { kinds: KINDS.to_vec(), states, ..TaskFilter::default() }).await?;
        let stuck: BTreeSet<_> =
            tasks.iter().filter(|task| task.state == TaskState::Stuck).map(|task| task.target.clone()).collect();
        let ours = |target: &Option<DatabaseName>| target.as_ref().is_some_and(|name| self.targets.contains(name));
        Ok(!tasks.iter().any(|task| ours(&task.target) && !stuck.contains(&task.target)))
    }

    /// Lets go of what changes nothing yet, and waits for the rest.
    async fn end(&mut self) -> Result<(), Error> {
        tracing::info!("ending: what changes a database is finished or taken back first");
        for (stopper, is_changing) in &self.stoppers {
            if !is_changing.load(Ordering::SeqCst) {
                stopper.stop(StopReason::Shutdown);
            }
        }
        while self.at_work.join_next().await.is_some() {}
        Ok(())
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
