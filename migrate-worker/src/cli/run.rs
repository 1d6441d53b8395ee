//! `migrate-worker run`

use super::apply::{PROGRAM, open_world};
use crate::Error;
use crate::doors::amqp::Door;
use crate::executor::Tasks;
use crate::leftovers;
use crate::pool::{Pool, Until};
use backup_agent::agent::{self, StoreSource};
use backup_agent::cli::{Done, Global};
use clap::Args;
use shared::connect;
use shared::queue::amqp::Consumer;
use shared::task_log::{TaskLog, Worker};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

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

/// Pause between two looks for news.
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
        let worker = Worker::here(PROGRAM);
        let executor = Tasks { world: world.clone(), agent: agent.clone(), log: log.clone(), worker: worker.clone() };
        let pool = Pool {
            log: log.clone(),
            worker,
            targets: databases.keys().cloned().collect(),
            lease: world.config.lease(),
            parallel: self.parallel.into(),
            executor: Arc::new(executor),
        };
        let stopped = stopped().map_err(|error| Error::failed(format!("signals cannot be heard: {error}")))?;
        leftovers::sweep(&world, &*log).await;
        tracing::info!(databases = pool.targets.len(), "waiting for tasks");
        let until = if self.until_idle { Until::Idle } else { Until::Stopped };
        let news = News::begin(agent, log);
        let done = pool.work(until, stopped).await;
        if let Some(door) = door {
            door.close().await;
        }
        tracing::info!("ending: what changes a database is finished or taken back first");
        done?.end().await;
        news.end().await;
        Ok(())
    }
}

/// Completes at the first signal that ends a service.
fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
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

/// Tells those who wish to know what has happened, beside the work.
struct News {
    telling: JoinHandle<()>,
    last: Arc<Notify>,
}

impl News {
    fn begin(agent: Arc<agent::World>, log: Arc<dyn TaskLog>) -> Self {
        let last = Arc::new(Notify::new());
        let end = last.clone();
        let telling = tokio::spawn(async move {
            loop {
                tell_all(&agent, &*log).await;
                tokio::select! {
                    () = tokio::time::sleep(TURN) => {}
                    // What ended last is told, too.
                    () = end.notified() => return tell_all(&agent, &*log).await,
                }
            }
        });
        News { telling, last }
    }

    /// Tells what is left to tell, for a short while. Nothing is cut off before: what was taken from the outbox is kept
    /// from others for a while.
    async fn end(self) {
        self.last.notify_one();
        if tokio::time::timeout(LAST_NEWS, self.telling).await.is_err() {
            tracing::info!("some news wait in the record for the next start");
        }
    }
}

/// Makes all deliveries that are due.
async fn tell_all(agent: &agent::World, log: &dyn TaskLog) {
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
