//! A configured database that is to be changed: what it is, and the right to be its one owner.
//!
//! The right is a lock at the database itself, whatever record of tasks is used. Who takes over a task first ends who
//! had it before, as far as the journal tells: the process, where it runs on this machine, and the session that holds
//! the lock.

use crate::error::Error;
use crate::journal::ledger::Ledger;
use crate::stop::{Stop, StopReason, Stopper};
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::clock::Clock;
use shared::config::Config;
use shared::crash_point;
use shared::engine::EngineError;
use shared::engine::postgres::{LockHolder, PostgresLive, PostgresLock, Unfenced};
use shared::engine::sqlite::live::{SqliteLive, SqliteLock};
use shared::model::{Class, DatabaseName, DatabaseUrl, Phase, StepNote};
use shared::task_log::Worker;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Steps of the journal that tell who had the database.
pub mod step {
    /// The task was begun, or begun anew.
    pub const BEGIN: &str = "begin";
    /// The lock at the database is held.
    pub const LOCK: &str = "lock";
    /// Its owner let go of the task in good order. Who had it until then was not lost, and may do something else by now.
    pub const LET_GO: &str = "let-go";
}

/// How often it is asked whether a server still knows the lock.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a server that has restarted may take until the lock can be taken again.
const TAKE_AGAIN: Duration = Duration::from_secs(60);

/// How long a server that does not answer is waited for, to remove a copy from it: nobody else would.
pub const RESTART: Duration = Duration::from_secs(60);

/// How long a server that does not answer is waited for, once a database was changed or its exchange announced.
pub const SERVER_AWAY: Duration = Duration::from_secs(300);

/// A database that is to be changed.
pub enum Live {
    /// A file.
    Sqlite(SqliteLive),
    /// A database of a server.
    Postgres(Box<PostgresLive>),
}

impl Live {
    /// The database `name` of the configuration, at `url`. Connects to nothing; an SQLite file must be there.
    pub fn open(config: &Config, name: &DatabaseName, url: &DatabaseUrl) -> Result<Self, Error> {
        let url = match url {
            DatabaseUrl::Sqlite(path) => return Ok(Live::Sqlite(SqliteLive::open(path)?)),
            DatabaseUrl::Postgres(url) => url,
        };
        let admin = match config.admin_url(name)? {
            Some(DatabaseUrl::Postgres(admin)) => admin,
            Some(DatabaseUrl::Sqlite(_)) => {
                return Err(Error::refused("admin_url is of another kind of database than url", None));
            }
            None => url.clone(),
        };
        Ok(Live::Postgres(Box::new(PostgresLive::new(url.clone(), admin))))
    }
}

/// Who began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The database.
    pub database: DatabaseName,
    /// Process that holds the locks.
    pub worker: Worker,
}

/// The right to change the database; ends with the value.
pub enum Lock {
    /// A lock beside the file.
    Sqlite {
        /// Held by the kernel.
        _lock: SqliteLock,
    },
    /// A session.
    Postgres {
        /// Held by a task that looks after it.
        _lock: Watched,
    },
}

/// A session's lock, looked after until dropped.
pub struct Watched(JoinHandle<()>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Becomes the one owner of the database. Refuses, after `patience`, naming the owner. `stopper` hears where the lock is
/// lost to somebody else.
pub async fn lock(
    live: &Live,
    ledger: &mut Ledger,
    patience: Duration,
    stop: &Stop,
    stopper: &Stopper,
) -> Result<Lock, Error> {
    match live {
        Live::Sqlite(live) => {
            let who = format!("job {} (process {})", ledger.job(), std::process::id());
            Ok(Lock::Sqlite { _lock: stop.or(live.lock(&who, patience)).await? })
        }
        Live::Postgres(live) => {
            let lock = stop.or(live.lock(patience)).await?;
            // So that a successor, also on another host, can end exactly this session.
            ledger.done(step::LOCK, lock.holder()).await?;
            let watched = tokio::spawn(watch((**live).clone(), lock, stopper.clone()));
            Ok(Lock::Postgres { _lock: Watched(watched) })
        }
    }
}

/// Ends who had the task before and was lost: its process, where that runs on this machine and may only be stopped, and
/// the session by which it held the lock.
pub async fn end_the_lost(live: &Live, ledger: &Ledger) -> Result<(), Error> {
    if !crash_point::is_off("end-the-worker") {
        end_workers(ledger).await?;
    }
    let Live::Postgres(live) = live else { return Ok(()) };
    for note in earlier(ledger, step::LOCK, Phase::Done) {
        live.end_holder(&read::<LockHolder>(note)?).await?;
    }
    Ok(())
}

async fn end_workers(ledger: &Ledger) -> Result<(), Error> {
    for note in earlier(ledger, step::BEGIN, Phase::Intent) {
        let worker = read::<Begun>(note)?.worker;
        let (host, pid) = (worker.host.clone(), worker.pid);
        let ended = tokio::task::spawn_blocking(move || worker.end()).await;
        let cannot =
            |error: String| Error::failed(format!("process {pid} on {host} had the task and cannot be ended: {error}"));
        ended.map_err(|error| cannot(error.to_string()))?.map_err(|error| cannot(error.to_string()))?;
    }
    Ok(())
}

/// Notes of a step that were made under earlier leases, since the task was last let go of.
fn earlier<'a>(ledger: &'a Ledger, step: &'a str, phase: Phase) -> impl Iterator<Item = &'a StepNote> {
    let epoch = ledger.lease().epoch;
    let of_lost = since_let_go(ledger.notes()).iter();
    of_lost.filter(move |note| note.step == step && note.phase == phase && note.epoch < epoch)
}

/// The notes of those who had the task since it was last let go of in good order; all where it never was.
pub fn since_let_go(notes: &[StepNote]) -> &[StepNote] {
    let let_go = notes.iter().rposition(|note| note.step == step::LET_GO);
    &notes[let_go.map_or(0, |at| at + 1)..]
}

/// What a note of the journal holds.
pub fn read<T: DeserializeOwned>(note: &StepNote) -> Result<T, Error> {
    serde_json::from_value(note.data.clone()).map_err(|error| {
        Error::Damaged(format!("the journal's note {} ({}) cannot be understood: {error}", note.seq, note.step))
    })
}

/// A lock lost with its session (the server restarted, or somebody ended it) is taken again, since the task is still
/// ours by the record; where somebody else has it by then, the work ends.
async fn watch(live: PostgresLive, mut lock: PostgresLock, stopper: Stopper) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Err(error) = lock.check().await else { continue };
        tracing::warn!(%error, "the lock at the database is lost; it is taken again");
        match taken_again(&live).await {
            Some(again) => lock = again,
            None => return stopper.stop(StopReason::LeaseLost),
        }
    }
}

async fn taken_again(live: &PostgresLive) -> Option<PostgresLock> {
    let begun = Instant::now();
    while begun.elapsed() < TAKE_AGAIN {
        match live.lock(LOOK_EVERY).await {
            Ok(lock) => return Some(lock),
            Err(error) if error.class() == Class::Refused => {
                tracing::error!(%error, "somebody else has the lock at the database");
                return None;
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    None
}

/// Does what must be done in the end: a server that is away, restarting for instance, is waited for.
pub async fn insist<'a, T>(
    clock: &dyn Clock,
    patience: Duration,
    work: impl Fn() -> BoxFuture<'a, Result<T, EngineError>> + Send,
) -> Result<T, EngineError> {
    let begun = Instant::now();
    loop {
        match work().await {
            Err(error) if error.class() == Class::Transient && begun.elapsed() < patience => {
                tracing::info!(%error, "the server is waited for");
                clock.sleep(Duration::from_millis(500)).await;
            }
            done => return done,
        }
    }
}

/// Tells what could not be cleared away; nothing depends on it.
pub fn tell(unfenced: Unfenced) {
    for warning in unfenced.warnings {
        tracing::warn!("{warning}");
    }
}

/// Drops a copy on `server` and what an unfinished restore of it made; one that is not there is fine. `name` must be one
/// that we give to databases made for a while.
pub async fn drop_copy(server: &PostgresLive, name: &str) -> Result<(), EngineError> {
    // A restore that was not finished has made a database beside the one it was to become.
    let made = PostgresLive::new(server.admin_url().with_database(name), server.admin_url().clone());
    for scratch in made.leftovers().await?.iter().map(String::as_str).chain([name]) {
        server.drop_scratch(scratch).await?;
    }
    Ok(())
}
