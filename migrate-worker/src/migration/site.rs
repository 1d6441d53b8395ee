//! Everything one migration works with.

use super::facts::{State, step};
use super::halt::Halt;
use crate::Error;
use crate::around::Around;
use crate::around::checks::Verdict;
use crate::runner::{History, Runner, ToolCall, ToolProcess};
use crate::spec::MigrateSpec;
use crate::story::Story;
use crate::world::World;
use backup_agent::journal::ledger::Ledger;
use backup_agent::record::TaskMeter;
use backup_agent::stop::{Stop, Stopper};
use backup_agent::target;
use futures_util::future::BoxFuture;
use shared::engine::postgres::Unfenced;
use shared::engine::{DumpSource, Engine, EngineError, LoadProgress, Progress};
use shared::model::{DatabaseName, DatabaseUrl, Fingerprint, Phase, TaskPlan};
use shared::task_log::Worker;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

pub use backup_agent::target::Live;

/// Everything one migration works with.
pub struct Site {
    /// What all migrations work with.
    pub world: Arc<World>,
    /// The database.
    pub name: DatabaseName,
    /// The application's address of it.
    pub url: DatabaseUrl,
    /// It as backups see it.
    pub engine: Box<dyn Engine>,
    /// Its migration tool.
    pub runner: Box<dyn Runner>,
    /// This process, as the record knows it.
    pub worker: Worker,
    /// What was asked for.
    pub spec: MigrateSpec,
    /// The plan the task waited with, where it did.
    pub plan: Option<TaskPlan>,
    /// Journal and record.
    pub ledger: Ledger,
    /// Hears how it goes.
    pub story: Arc<dyn Story>,
    /// Tells the record how far it is.
    pub meter: Arc<TaskMeter>,
    /// Ends it early.
    pub stopper: Stopper,
    /// Hears of that.
    pub stop: Stop,
    /// How long locks of others are waited for.
    pub patience: Duration,
    /// What the operator declared around it.
    pub around: Around,
    /// How long its steps took so far.
    pub pace: Pace,
    /// What it has to tell besides its outcome.
    pub told: Told,
    /// Since when nobody can connect (PostgreSQL).
    pub fenced_at: Option<Instant>,
    /// How long nobody could write (PostgreSQL: connect), as far as it has ended.
    pub blocked: Option<Duration>,
    /// Copies that are being removed while it goes on.
    pub leaving: Vec<JoinHandle<Result<(), EngineError>>>,
}

/// How long the steps of a migration took that its rest is predicted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// Making a backup.
    pub backup: Duration,
    /// Restoring it beside the database, with the proof.
    pub restore: Duration,
    /// Looking where a database stands, row by row.
    pub look: Duration,
}

/// What the steps of a migration leave for its outcome.
#[derive(Debug, Default)]
pub struct Told {
    verdicts: Mutex<Vec<Verdict>>,
}

impl Told {
    /// What the checks said last.
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces what the checks said.
    pub fn set_verdicts(&self, verdicts: Vec<Verdict>) {
        *self.verdicts.lock().unwrap_or_else(PoisonError::into_inner) = verdicts;
    }
}

impl Site {
    /// The database as something that is changed.
    pub async fn live(&self) -> Result<Live, Halt> {
        Ok(Live::open(&self.world.config, &self.name, &self.url)?)
    }

    /// Tells that a step begins.
    pub fn begins(&self, step: &'static str) {
        self.meter.step(step);
        self.story.begins(step);
    }

    /// Does what must be done in the end; see [`target::insist`].
    pub async fn insist<'a, T>(
        &self,
        patience: Duration,
        work: impl Fn() -> BoxFuture<'a, Result<T, EngineError>> + Send,
    ) -> Result<T, Halt> {
        Ok(target::insist(&*self.world.clock, patience, work).await?)
    }

    /// Hears of the bytes a restore loads.
    pub fn load_progress(&self) -> Progress {
        let meter = self.meter.clone();
        Arc::new(move |news| {
            if let LoadProgress::Bytes(bytes) = news {
                meter.add(bytes);
            }
        })
    }

    /// The database is open again, by its public name.
    pub fn opened_again(&mut self, unfenced: Unfenced) {
        self.blocked = self.fenced_at.take().map(|since| unfenced.opened.saturating_duration_since(since));
        target::tell(unfenced);
    }

    /// The folder of this task.
    pub fn folder(&self) -> PathBuf {
        self.world.folder(&self.ledger.job())
    }

    /// How the tool is called.
    pub fn call(&self) -> Result<ToolCall, Error> {
        let deadline = self.world.migrations(&self.name)?.deadline.0;
        let begun = |process: ToolProcess| tracing::debug!(pid = process.pid, "the tool has begun");
        Ok(ToolCall { job: self.ledger.job(), deadline, stop: self.stop.clone(), begun: Arc::new(begun) })
    }

    /// Where a database stands; `source` is the backup it is compared with.
    pub async fn look(
        &self,
        engine: &dyn Engine,
        history: &History,
        source: &dyn DumpSource,
    ) -> Result<(Fingerprint, State), Halt> {
        let (fingerprint, current) = tokio::join!(engine.fingerprint(source, 2), self.runner.current(engine, history));
        let fingerprint = fingerprint?;
        let state = State { schema: fingerprint.schema_digest(), heads: current?.heads };
        Ok((fingerprint, state))
    }

    /// The backup made for the task, as far as one was.
    pub fn backup(&self) -> Option<String> {
        let newest =
            |step: &str| -> Option<super::facts::BackedUp> { self.ledger.find(step, Phase::Done).ok().flatten() };
        newest(step::BACKUP_B).or_else(|| newest(step::BACKUP_A)).map(|backed_up| backed_up.backup)
    }
}
