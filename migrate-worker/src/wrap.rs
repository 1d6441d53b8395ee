//! Somebody's own command under the locks of a migration: for those who migrate in their container's entrypoint.
//!
//! The command works on the database itself; there is neither rehearsal nor a way back. What it gets is what keeps two
//! of them apart: the record's task, its lease, and the lock at the database. A second one finds nothing to do.

mod outcome;
mod spec;

pub use outcome::Ended;
pub use spec::{WRAP, WrapSpec};

use crate::Error;
use crate::gate;
use crate::migration::{After, Outcome, step};
use crate::worker::{Performance, record, words};
use crate::world::World;
use backup_agent::journal::ledger::Ledger;
use backup_agent::record::{HeldLease, KeptAlive};
use backup_agent::stop::StopReason;
use backup_agent::target::{self, Begun, Live, Lock};
use shared::engine::sqlite::live::SqliteLive;
use shared::model::{Class, DatabaseName, DatabaseUrl, Phase, Task};
use shared::subprocess::{Inherited, end_tagged};
use shared::task_log::{Claimed, TaskLogError};
use std::ffi::OsString;
use std::time::{Duration, Instant};
use tokio::signal::unix::SignalKind;
use tokio::sync::mpsc::UnboundedReceiver;

/// How long locks of others are waited for where nobody said.
const PATIENCE: Duration = Duration::from_secs(10);

/// A command as it was given: its program and the arguments.
#[derive(Debug, Clone)]
pub struct Wrapped {
    /// The program, as a shell would find it.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// How long the lock at the database is waited for.
    pub patience: Duration,
}

/// Runs a command under a claimed task and writes the task's end into the record; `signals` are passed on to it.
///
/// Fails where nothing more may be written, because somebody else has the task: the command has ended then.
pub async fn perform(
    with: Performance,
    claimed: Claimed,
    wrapped: &Wrapped,
    signals: &mut UnboundedReceiver<SignalKind>,
) -> Result<Ended, Error> {
    let (mut desk, _alive) = Desk::open(with, claimed).await?;
    let ended = match desk.begin(wrapped, signals).await {
        Ok(ended) => ended,
        Err(error) if is_lost(&error) => return Err(error),
        Err(error) => outcome::not_started(&error),
    };
    desk.end(ended).await
}

/// Whether somebody else has the task.
fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Stopped(StopReason::LeaseLost) | Error::TaskLog(TaskLogError::LeaseLost { .. }))
}

/// Ends a task whose with-lock was lost: its command first, where that still runs. What it did is not looked at.
pub async fn recover(with: Performance, claimed: Claimed) -> Result<Outcome, Error> {
    let is_recovery = claimed.is_recovery;
    let (mut desk, _alive) = Desk::open(with, claimed).await?;
    if let Some(told) = desk.ledger.find::<Outcome>(step::OUTCOME, Phase::Done)? {
        return desk.end(outcome::again(told)).await.map(|ended| ended.outcome);
    }
    if !is_recovery {
        // Its command stands in no record, so nobody but with-lock itself could run it.
        return desk.end(outcome::nobodys()).await.map(|ended| ended.outcome);
    }
    let live = desk.live()?;
    target::end_the_lost(&live, &desk.ledger).await?;
    desk.note_begin().await?;
    let _lock = desk.lock(&live, PATIENCE).await?;
    let number = end_command(desk.ledger.job().to_string()).await?;
    let lost = outcome::lost(&desk.name, number);
    desk.end(lost).await.map(|ended| ended.outcome)
}

async fn end_command(job: String) -> Result<usize, Error> {
    let ended = tokio::task::spawn_blocking(move || end_tagged(&job)).await;
    let running =
        |error: String| Error::failed(format!("its command may still be running and cannot be ended: {error}"));
    ended.map_err(|error| running(error.to_string()))?.map_err(|error| running(error.to_string()))
}

/// One task of with-lock, and everything it works with.
struct Desk {
    with: Performance,
    task: Task,
    name: DatabaseName,
    held: HeldLease,
    ledger: Ledger,
}

impl Desk {
    async fn open(with: Performance, claimed: Claimed) -> Result<(Self, KeptAlive), Error> {
        let Claimed { task, lease, .. } = claimed;
        let name = task.target.clone().ok_or_else(|| Error::refused("the task names no database", None))?;
        let (config, clock) = (&with.world.config, with.world.clock.clone());
        let bears_silence = with.is_changing.clone();
        let held = HeldLease { log: with.log.clone(), lease, time: config.lease(), bears_silence };
        let alive = KeptAlive::begin(Some(held.clone()), clock.clone(), None, with.meter.clone(), with.stopper.clone());
        let ledger = Ledger::open(&config.spool(), held.clone(), clock).await?;
        Ok((Desk { with, task, name, held, ledger }, alive))
    }

    fn live(&self) -> Result<Live, Error> {
        live(&self.with.world, &self.name)
    }

    async fn note_begin(&mut self) -> Result<(), Error> {
        let note = Begun { database: self.name.clone(), worker: self.with.worker.clone() };
        self.ledger.intent(step::BEGIN, &note).await
    }

    async fn lock(&mut self, live: &Live, patience: Duration) -> Result<Lock, Error> {
        let (stop, stopper) = (self.with.stop.clone(), self.with.stopper.clone());
        // Whom it waits for is known after a first try.
        match target::lock(live, &mut self.ledger, Duration::ZERO, &stop, &stopper).await {
            Err(error) if error.class() == Class::Refused && !patience.is_zero() => {
                self.with.story.detail(&format!("waiting: {}", error.facts()));
                target::lock(live, &mut self.ledger, patience, &stop, &stopper).await
            }
            locked => locked,
        }
    }

    async fn begin(&mut self, wrapped: &Wrapped, signals: &mut UnboundedReceiver<SignalKind>) -> Result<Ended, Error> {
        self.note_begin().await?;
        let live = self.live()?;
        self.with.meter.step("waiting for the lock");
        let _lock = tokio::select! {
            locked = self.lock(&live, wrapped.patience) => locked?,
            Some(signal) = signals.recv() => return Ok(outcome::told_to_end(signal)),
        };
        if let Some(nothing) = self.nothing_to_do().await {
            return Ok(nothing);
        }
        // From here on the lock at the database is enough: a silent record is no reason to cut a migration off.
        self.ledger.rely_on_journal();
        self.with.meter.step("running the command");
        self.run(wrapped, signals).await
    }

    /// That the database stands where the code expects it, where somebody said how it is migrated.
    async fn nothing_to_do(&self) -> Option<Ended> {
        let world = &self.with.world;
        world.migrations(&self.name).ok()?;
        match gate::stands(world, Some(&*self.with.log), &self.name, None).await {
            Ok(report) if report.verdict == gate::Verdict::AsExpected => Some(outcome::nothing_to_do(&report)),
            Ok(report) => {
                self.with.story.detail(&report.summary);
                None
            }
            Err(error) => {
                // A database that is about to be made cannot be asked, and the command knows best.
                self.with.story.detail(&format!("it is not known whether there is anything to do: {}", error.facts()));
                None
            }
        }
    }

    async fn run(&mut self, wrapped: &Wrapped, signals: &mut UnboundedReceiver<SignalKind>) -> Result<Ended, Error> {
        let begun = Instant::now();
        let job = self.ledger.job().to_string();
        let mut command = match Inherited::start(&wrapped.program, &wrapped.args, &job) {
            Ok(command) => command,
            Err(error) => return Ok(outcome::cannot_start(&self.program(), &error)),
        };
        let stop = self.with.stop.clone();
        loop {
            tokio::select! {
                status = command.wait() => {
                    let took = begun.elapsed();
                    let after = if matches!(&status, Ok(status) if status.success()) { self.after().await } else { None };
                    return Ok(outcome::of_command(&self.program(), status, took, after));
                }
                Some(signal) = signals.recv() => command.pass_on(signal),
                reason = stop.wait() => {
                    let status = command.end().await;
                    if reason == StopReason::LeaseLost {
                        return Err(Error::Stopped(reason));
                    }
                    return Ok(outcome::stopped(&self.program(), status, begun.elapsed(), reason));
                }
            }
        }
    }

    fn program(&self) -> String {
        WrapSpec::of(&self.task.spec).map_or_else(|| "the command".to_owned(), |spec| spec.program)
    }

    /// How the command left the database, so that the gate can tell drift later. Best effort.
    async fn after(&self) -> Option<After> {
        self.with.world.migrations(&self.name).ok()?;
        match gate::after(&self.with.world, &self.name).await {
            Ok(after) => Some(after),
            Err(error) => {
                tracing::info!(%error, "how the command left the database is not noted");
                None
            }
        }
    }

    /// Writes the end down where it survives, then into the record.
    async fn end(mut self, ended: Ended) -> Result<Ended, Error> {
        self.ledger.rely_on_journal();
        self.ledger.done(step::OUTCOME, &ended.outcome).await?;
        self.with.story.end(&words(&self.task, &ended.outcome));
        record(&self.held, &self.task, &ended.outcome, self.ledger, &*self.with.world.clock).await?;
        Ok(ended)
    }
}

/// The database as something that is locked; a file may be about to be made.
fn live(world: &World, name: &DatabaseName) -> Result<Live, Error> {
    match world.url(name)? {
        DatabaseUrl::Sqlite(path) => Ok(Live::Sqlite(SqliteLive::to_be(&path)?)),
        url => Live::open(&world.config, name, &url),
    }
}
