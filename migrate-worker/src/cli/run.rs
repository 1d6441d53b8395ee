//! `migrate-worker run`

use super::apply::{PROGRAM, open_world};
use crate::Error;
use crate::doors::amqp::Door;
use crate::leftovers;
use crate::story::Story;
use crate::worker::{self, MIGRATIONS, Performance};
use crate::world::World;
use backup_agent::agent::{self, Job, StoreSource};
use backup_agent::cli::{Done, Global};
use backup_agent::record::TaskMeter;
use backup_agent::stop::{self, Stop, StopReason, Stopper};
use clap::Args;
use shared::connect;
use shared::model::{DatabaseName, Task, TaskDoor, TaskKind, TaskState};
use shared::queue::amqp::Consumer;
use shared::task_log::{Claimed, TaskFilter, TaskLog, Wanted, Worker};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Takes jobs in from the message broker where one is configured, claims jobs of the record and does them, several
/// databases at once, one job per database
#[derive(Debug, Args)]
#[command(
    after_help = "Ends at SIGTERM or Ctrl-C: what has not begun to change a database is left to the next worker, \
                        what has is finished or taken back first."
)]
pub struct Run {
    /// End when nothing is left to do or to recover; takes nothing in from the broker
    #[arg(long)]
    until_idle: bool,
    /// Databases worked on at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
}

/// Pause between two looks for work.
const TURN: Duration = Duration::from_millis(500);
/// How long the last news may take to be told; the rest waits in the record.
const LAST_NEWS: Duration = Duration::from_secs(2);

impl Run {
    pub(super) async fn run(self, global: &Global) -> Done {
        let world = open_world(global).await?;
        let log = connect::task_log(&world.config, world.clock.clone()).await.map_err(Error::from)?;
        let databases = &world.config.databases;
        let broker = world.config.queue().map_err(Error::from)?;
        if databases.values().all(|database| database.migrations.is_none())
            && (broker.is_none() || databases.is_empty())
        {
            let hint = "add [database.NAME.migrations] with runner and directory";
            return Err(Error::refused("no configured database is migrated", hint).into());
        }
        let store = StoreSource::Configured(global.store().map(str::to_owned));
        let agent = Arc::new(agent::World::new(world.config.clone(), world.clock.clone(), store)?);
        let door = match broker {
            Some(settings) if !self.until_idle => {
                let door = Door::new(world.clone(), log.clone(), agent.notifier.clone()).map_err(Error::from)?;
                let consumer = Consumer::new(settings, Arc::new(door), world.clock.clone()).map_err(Error::failed)?;
                Some(OpenDoor::open(consumer))
            }
            _ => None,
        };
        let targets = databases.keys().cloned().collect();
        let (worker, at_work, telling) = (Worker::here(PROGRAM), JoinSet::new(), JoinSet::new());
        let mut loop_ = Loop { world, agent, log, worker, targets, at_work, telling, stoppers: Vec::new() };
        let done = loop_.turn(self.until_idle, self.parallel.into()).await;
        if let Some(door) = door {
            door.close().await;
        }
        if done.is_ok() {
            loop_.end().await;
        }
        Ok(done?)
    }
}

/// The broker's messages coming in.
struct OpenDoor {
    stop: watch::Sender<bool>,
    consuming: JoinHandle<()>,
}

impl OpenDoor {
    fn open(consumer: Consumer) -> Self {
        let (stop, stopped) = watch::channel(false);
        OpenDoor { stop, consuming: tokio::spawn(async move { consumer.run(stopped).await }) }
    }

    /// Takes nothing in any more; what is not acknowledged goes to other workers.
    async fn close(self) {
        let _ = self.stop.send(true);
        if self.consuming.await.is_err() {
            tracing::error!("taking messages in ended by a defect of this program");
        }
    }
}

/// The worker between two turns.
struct Loop {
    world: Arc<World>,
    /// What tasks that change no database work with.
    agent: Arc<agent::World>,
    log: Arc<dyn TaskLog>,
    worker: Worker,
    targets: Vec<DatabaseName>,
    at_work: JoinSet<()>,
    telling: JoinSet<()>,
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
            self.tell_news();
            let claimed = if self.at_work.len() < parallel { self.claim(until_idle).await? } else { None };
            if let Some(claimed) = claimed {
                self.begin(claimed);
                continue;
            }
            if until_idle && self.at_work.is_empty() && self.is_idle().await? {
                return Ok(());
            }
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                Some(_) = self.at_work.join_next() => {}
                () = tokio::time::sleep(TURN) => {}
            }
        }
    }

    /// The next task. A record that does not answer is waited for, unless the end is wanted when nothing is left to do.
    async fn claim(&self, until_idle: bool) -> Result<Option<Claimed>, Error> {
        // What a schedule asked for is the agent's, who knows what follows it.
        let wanted = Wanted { targets: Some(self.targets.clone()), scheduled: false, ..Wanted::kinds(TaskKind::ALL) };
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
        if !MIGRATIONS.contains(&claimed.task.kind) {
            let (agent, job) = (self.agent.clone(), Job::claimed(claimed, self.log.clone()));
            self.at_work.spawn(async move { drop(agent::attempt(agent, job, stopper, stop).await) });
            return;
        }
        self.migrate(claimed, stopper, stop, is_changing);
    }

    fn migrate(&mut self, claimed: Claimed, stopper: Stopper, stop: Stop, is_changing: Arc<AtomicBool>) {
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
        let tasks = self.log.tasks(&TaskFilter { states, ..TaskFilter::default() }).await?;
        let stuck: BTreeSet<_> =
            tasks.iter().filter(|task| task.state == TaskState::Stuck).map(|task| task.target.clone()).collect();
        let ours = |task: &Task| {
            let is_known = task.target.as_ref().is_none_or(|name| self.targets.contains(name));
            is_known && task.door != TaskDoor::Schedule
        };
        Ok(!tasks.iter().any(|task| ours(task) && !stuck.contains(&task.target)))
    }

    /// Tells those who wish to know what has happened, beside the work.
    fn tell_news(&mut self) {
        while self.telling.try_join_next().is_some() {}
        if self.telling.is_empty() {
            let (agent, log) = (self.agent.clone(), self.log.clone());
            self.telling.spawn(async move { news(&agent, &*log).await });
        }
    }

    /// Lets go of what changes nothing yet, and waits for the rest.
    async fn end(&mut self) {
        tracing::info!("ending: what changes a database is finished or taken back first");
        for (stopper, is_changing) in &self.stoppers {
            if !is_changing.load(Ordering::SeqCst) {
                stopper.stop(StopReason::Shutdown);
            }
        }
        while self.at_work.join_next().await.is_some() {}
        // Not cut off at once: what was taken from the outbox is kept from others for a while.
        let rest = async {
            while self.telling.join_next().await.is_some() {}
            news(&self.agent, &*self.log).await;
        };
        if tokio::time::timeout(LAST_NEWS, rest).await.is_err() {
            tracing::info!("some news wait in the record for the next start");
        }
    }
}

/// Makes all deliveries that are due.
async fn news(agent: &agent::World, log: &dyn TaskLog) {
    loop {
        match agent.notifier.deliver_due(log, &*agent.clock).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "what others are to be told waits in the record");
                return;
            }
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
