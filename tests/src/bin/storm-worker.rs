//! A worker as `migrate-worker run` is, but for what it does: a task of kind verify puts its id and the epoch of its claim
//! into a table, where everybody can see how often it was done.
//!
//! `storm-worker EFFECTS [--acknowledge-first]` in a folder with holdfast.toml; EFFECTS is a SQLite file with the table
//! `effect (job, epoch)`. `--acknowledge-first` breaks the first rule of the door, so that a test can see that it looks.
#![allow(clippy::unwrap_used)]

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use backup_agent::agent::{self, StoreSource};
use backup_agent::record::{succeeded, write_end};
use migrate_worker::doors::amqp::Door;
use migrate_worker::executor::Tasks;
use migrate_worker::pool::{Control, Executor, Pool, Until};
use migrate_worker::world::World;
use shared::clock;
use shared::config::Config;
use shared::connect;
use shared::model::{TaskKind, TaskReport};
use shared::queue::amqp::Consumer;
use shared::queue::{Intake, Message, NotNow, Verdict};
use shared::task_log::{Claimed, Worker};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "sql-runner") {
        // A worker runs migrations of SQL by calling itself.
        let worker = std::env::current_exe()?.with_file_name("migrate-worker");
        return Err(std::process::Command::new(worker).args(arguments).exec().into());
    }
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let (effects, acknowledges_first) = match &arguments[..] {
        [effects] => (effects, false),
        [effects, flag] if flag == "--acknowledge-first" => (effects, true),
        _ => bail!("usage: storm-worker EFFECTS [--acknowledge-first]"),
    };
    let config = Config::load(None)?;
    let world = Arc::new(World::new(config.clone(), clock::system(), None));
    let log = connect::task_log(&config, clock::system()).await?;
    let agent = Arc::new(agent::World::new(config.clone(), clock::system(), StoreSource::Configured(None))?);
    let door = Arc::new(Door::new(world.clone(), log.clone(), agent.notifier.clone())?);
    let intake: Arc<dyn Intake> = if acknowledges_first { Arc::new(Careless(door)) } else { door };
    let settings = config.queue()?.context("no [queue]")?;
    let consumer = Consumer::new(settings, intake, clock::system()).map_err(anyhow::Error::msg)?;
    let (stop, stopped) = watch::channel(false);
    let consuming = tokio::spawn(async move { consumer.run(stopped).await });

    let worker = Worker::here("storm-worker");
    let tasks = Tasks { world, agent, log: log.clone(), worker: worker.clone() };
    let pool = Pool {
        log,
        worker,
        targets: config.databases.keys().cloned().collect(),
        lease: config.lease(),
        parallel: 4,
        executor: Arc::new(Noting { effects: effects.into(), tasks }),
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let at_work = pool.work(Until::Stopped, async move { terminate.recv().await.unwrap_or_default() }).await?;
    stop.send(true)?;
    consuming.await?;
    at_work.end().await;
    Ok(())
}

/// Notes what it does; leaves migrations to the real thing.
struct Noting {
    effects: PathBuf,
    tasks: Tasks,
}

#[async_trait]
impl Executor for Noting {
    async fn execute(&self, claimed: Claimed, control: Control) {
        if claimed.task.kind != TaskKind::Verify {
            return self.tasks.execute(claimed, control).await;
        }
        let (effects, job, epoch) = (self.effects.clone(), claimed.task.job_id.to_string(), claimed.lease.epoch);
        tokio::task::spawn_blocking(move || note(&effects, &job, epoch).unwrap()).await.unwrap();
        let ending = succeeded(TaskReport::default());
        if let Some(error) = write_end(&*self.tasks.log, &claimed.lease, &ending, &*clock::system()).await {
            tracing::warn!(job = %claimed.task.job_id, %error, "the end was not recorded");
        }
    }
}

/// Does what was not done before. Between the look and the deed there is time for somebody else who was given the same
/// task: only the record keeps them apart.
fn note(effects: &std::path::Path, job: &str, epoch: u64) -> rusqlite::Result<()> {
    let connection = rusqlite::Connection::open(effects)?;
    connection.busy_timeout(Duration::from_secs(60))?;
    let done: i64 = connection.query_row("SELECT count(*) FROM effect WHERE job = ?1", [job], |row| row.get(0))?;
    if done == 0 {
        std::thread::sleep(Duration::from_millis(2));
        connection.execute("INSERT INTO effect VALUES (?1, ?2)", (job, i64::try_from(epoch).unwrap()))?;
    }
    Ok(())
}

/// Says that it has a message before it has it.
struct Careless(Arc<Door>);

#[async_trait]
impl Intake for Careless {
    async fn take(&self, message: &Message) -> Result<Verdict, NotNow> {
        let (door, message) = (self.0.clone(), message.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            door.take(&message).await
        });
        Ok(Verdict::Taken)
    }

    async fn ready(&self) {
        self.0.ready().await;
    }
}
