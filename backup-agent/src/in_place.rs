//! Restores a backup over the configured database itself: beside it, proven, then in its place.
//!
//! What is replaced is kept under a name of its own. Until the exchange is announced in the journal a failure leaves the
//! database untouched; afterwards whoever goes on looks where it is and brings the exchange to its end. The task is
//! one that must not be left half done: a lost worker's successor, the same command run again or another program's
//! `run`, goes on with it.

mod postgres;
mod sqlite;

use crate::agent::World;
use crate::choose;
use crate::error::Error;
use crate::journal;
use crate::journal::ledger::Ledger;
use crate::record::{HeldLease, TaskMeter};
use crate::repository::StoredBackup;
use crate::restore::{RestoreOptions, restore};
use crate::stop::{Stop, StopReason, Stopper};
use crate::target::{self, Begun, Live};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use shared::connect;
use shared::crash_point;
use shared::engine::{Engine, EngineError, LoadProgress, Progress};
use shared::model::{DatabaseName, DatabaseUrl, Phase, TaskReport};
use shared::task_log::{TaskLogError, Worker};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long locks of others are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a task whose worker was lost is begun anew.
const MAX_BEGINNINGS: usize = 5;

/// Steps of the journal, besides those of [`target`].
mod step {
    /// The backup was restored beside the database.
    pub const RESTORE: &str = "restore";
    /// The database was fenced.
    pub const FENCE: &str = "fence";
    /// The fence was taken away again.
    pub const UNFENCE: &str = "unfence";
    /// The restored database took the other one's place (PostgreSQL).
    pub const SWAP: &str = "swap";
    /// What is replaced was copied (SQLite).
    pub const KEEP: &str = "keep";
    /// The restored content became the database's (SQLite).
    pub const COMMIT: &str = "commit";
    /// How it ended.
    pub const OUTCOME: &str = "outcome";
}

/// What a task asks for: kind restore, target the database that is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InPlaceSpec {
    /// Always true: by it the record knows that the task must have the database for itself.
    pub in_place: bool,
    /// `<database>/<id>`.
    pub backup: String,
    /// The database may be another one than the backup was taken of.
    #[serde(default)]
    pub other_identity: bool,
}

impl InPlaceSpec {
    /// What a task's spec asks for, where it is a restore in place.
    pub fn of(spec: &serde_json::Value) -> Option<Self> {
        serde_json::from_value(spec.clone()).ok().filter(|spec: &InPlaceSpec| spec.in_place)
    }
}

/// What a restore in place did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// `<database>/<id>`.
    pub backup: String,
    /// The database, without a password.
    pub into: String,
    /// Rows restored.
    pub rows: u64,
    /// Where what was replaced is kept: a database's name, a file's path; none where there was nothing.
    pub kept: Option<String>,
    /// How long nobody could connect (PostgreSQL) or write (SQLite), in milliseconds; none where a successor finished it.
    pub blocked_ms: Option<u64>,
}

impl Replaced {
    /// As the record keeps it.
    pub fn report(&self) -> TaskReport {
        TaskReport {
            backup_id: Some(self.backup.clone()),
            rows: Some(self.rows),
            result: serde_json::to_value(self).ok().map(|mut result| {
                result["proven"] = true.into();
                result
            }),
            ..TaskReport::default()
        }
    }
}

/// What a restore in place works with.
pub struct Task<'a> {
    /// Configuration, clock, repository.
    pub world: &'a World,
    /// The database that is replaced.
    pub name: &'a DatabaseName,
    /// What is asked for.
    pub spec: &'a InPlaceSpec,
    /// The lease; renewed by the caller.
    pub held: HeldLease,
    /// Whether somebody had begun it and was lost.
    pub is_recovery: bool,
    /// This process.
    pub worker: Worker,
    /// Tells the record how far it is.
    pub meter: Arc<TaskMeter>,
    /// Hears of loaded bytes.
    pub progress: Progress,
    /// Ends it early, up to the exchange.
    pub stop: Stop,
    /// Asks for that.
    pub stopper: Stopper,
}

/// Everything one restore in place works with.
struct Site<'a> {
    world: &'a World,
    spec: &'a InPlaceSpec,
    url: DatabaseUrl,
    ledger: Ledger,
    folder: PathBuf,
    meter: Arc<TaskMeter>,
    progress: Progress,
    stop: Stop,
    /// Whether the database is known not to be in the middle of an exchange. What goes wrong until then ends no task.
    settled: bool,
}

/// Replaces the database by the backup, or goes on with that where somebody was lost.
///
/// [`Error::Unfinished`] is the one error after which the task must not be ended in the record: the database is, or may
/// be, in the middle of the exchange. After any other it is as it was, and nothing of the restore is left.
pub async fn run(task: Task<'_>) -> Result<Replaced, Error> {
    let (spool, job) = (task.world.config.spool(), task.held.lease.job_id);
    let folder = journal::folder_of(&spool, &job);
    match begin(task, &folder).await {
        Err(error) if !is_gone_on_with(&error) => {
            clear(&folder);
            if let Err(second) = journal::discard(&spool, &job) {
                tracing::warn!(%job, error = %second, "the journal of a restore that has ended could not be removed");
            }
            Err(error)
        }
        done => done,
    }
}

/// Whether somebody else goes on with the task, or has it already.
fn is_gone_on_with(error: &Error) -> bool {
    matches!(
        error,
        Error::Unfinished(_) | Error::Stopped(StopReason::LeaseLost) | Error::TaskLog(TaskLogError::LeaseLost { .. })
    )
}

async fn begin(task: Task<'_>, folder: &Path) -> Result<Replaced, Error> {
    let Task { world, name, spec, held, is_recovery, worker, meter, progress, stop, stopper } = task;
    let opened = Ledger::open(&world.config.spool(), held, world.clock.clone()).await;
    // Without its notes it is not known how far a lost worker came.
    let ledger = if is_recovery { opened.map_err(unfinished)? } else { opened? };
    if let Some(done) = ledger.find::<Replaced>(step::OUTCOME, Phase::Done)? {
        return ended(ledger, folder, done);
    }
    let is_exchanging = [step::FENCE, step::COMMIT].iter().any(|step| ledger.has(step, Phase::Intent));
    let begun = ledger.notes().iter().filter(|note| note.step == target::step::BEGIN && note.phase == Phase::Intent);
    if begun.count() >= MAX_BEGINNINGS && !is_exchanging {
        let message = format!("it was begun {MAX_BEGINNINGS} times and its worker was lost each time");
        return Err(Error::refused(message, None));
    }
    let unknown = || Error::refused(format!("{name} is no configured database"), "name one of [database.…]");
    let url = match world.config.database_url(name) {
        Ok(url) => url.ok_or_else(unknown),
        Err(error) => Err(error.into()),
    };
    let url = if is_exchanging { url.map_err(unfinished)? } else { url? };
    let (folder, settled) = (folder.to_owned(), !is_exchanging);
    let mut site = Site { world, spec, url, ledger, folder, meter, progress, stop, settled };
    match replace(&mut site, name, worker, is_recovery, &stopper).await {
        Ok(done) => ended(site.ledger, &site.folder, done),
        Err(error) if site.settled => Err(error),
        Err(error @ Error::Unfinished(_)) => Err(error),
        Err(error) => Err(unfinished(error)),
    }
}

async fn replace(
    site: &mut Site<'_>,
    name: &DatabaseName,
    worker: Worker,
    is_recovery: bool,
    stopper: &Stopper,
) -> Result<Replaced, Error> {
    let live = there(site.world, name, &site.url).await?;
    if is_recovery && let Some(live) = &live {
        target::end_the_lost(live, &site.ledger).await?;
    }
    site.ledger.intent(target::step::BEGIN, &Begun { database: name.clone(), worker }).await?;
    let done = match &live {
        None => site.fill_nothing().await?,
        Some(live) => {
            let stop = site.stop.clone();
            let _lock = target::lock(live, &mut site.ledger, PATIENCE, &stop, stopper).await?;
            crash_point::reached("restore in place: the database is locked");
            // In the middle of the exchange nobody can be asked, and it was asked before that.
            if site.settled && !site.spec.other_identity {
                site.refuse_another(name).await?;
            }
            match live {
                Live::Sqlite(live) => sqlite::replace(site, live, is_recovery).await?,
                Live::Postgres(live) => postgres::replace(site, live, is_recovery).await?,
            }
        }
    };
    site.ledger.rely_on_journal();
    site.ledger.done(step::OUTCOME, &done).await.map_err(unfinished)?;
    Ok(done)
}

/// Removes what was needed and nobody needs any more; best effort, what stays is named.
fn clear(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "what the restore needed could not be removed");
        }
        _ => {}
    }
}

/// The journal goes once the record has all of it; else it stays for the next worker.
fn ended(ledger: Ledger, folder: &Path, done: Replaced) -> Result<Replaced, Error> {
    clear(folder);
    if ledger.is_recorded() {
        ledger.close()?;
    }
    Ok(done)
}

/// What went wrong when the database was in the middle of the exchange, or that could not be written down.
fn unfinished(error: impl Into<Error>) -> Error {
    let error = error.into();
    Error::Unfinished(format!("{error}; the same command again, or a worker of the record, goes on"))
}

/// The database that is to be replaced, where there is one.
async fn there(world: &World, name: &DatabaseName, url: &DatabaseUrl) -> Result<Option<Live>, Error> {
    if let DatabaseUrl::Sqlite(path) = url {
        let looked = std::fs::exists(path);
        let exists =
            looked.map_err(|error| Error::failed(format!("{} cannot be looked at: {error}", path.display())))?;
        return if exists { Live::open(&world.config, name, url).map(Some) } else { Ok(None) };
    }
    let live = Live::open(&world.config, name, url)?;
    let exists = match &live {
        Live::Postgres(live) => live.exists().await?,
        Live::Sqlite(_) => true,
    };
    Ok(exists.then_some(live))
}

impl Site<'_> {
    fn begins(&self, step: &str) {
        self.meter.step(step);
        (self.progress)(LoadProgress::Step(step));
    }

    /// The backup. Only asked for where it must be: an exchange that was announced needs no store.
    async fn backup(&self) -> Result<Arc<StoredBackup>, Error> {
        let repository = self.world.repository().await?;
        let (database, id) = choose::key(&repository, &self.spec.backup).await?;
        let manifest = repository.manifest(&database, &id).await?;
        Ok(Arc::new(StoredBackup::open(&repository, manifest).await?))
    }

    /// Another database than the one that was backed up is replaced only where that is said.
    async fn refuse_another(&self, name: &DatabaseName) -> Result<(), Error> {
        let backup = self.backup().await?;
        let taken_of = &backup.manifest().header.identity;
        let as_name = format!("--as {name} says that this database is meant");
        let engine = connect::engine(self.url.clone());
        let found = self.stop.or(engine.probe()).await.map_err(|error| Error::Refused {
            message: format!("it cannot be told whether {name} is the database that was backed up: {error}"),
            hint: Some(as_name.clone()),
        })?;
        if found.identity == *taken_of {
            return Ok(());
        }
        let (backup, found) = (&self.spec.backup, found.identity);
        let message =
            format!("backup {backup} is of {taken_of}, and {name} is {found}: another database; nothing was touched");
        Err(Error::Refused { message, hint: Some(as_name) })
    }

    /// Restores into a place beside the database, and proves it; returns how many rows that were.
    async fn restore_into(&self, engine: &dyn Engine) -> Result<u64, Error> {
        self.begins("restoring beside the database");
        let (repository, backup) = (self.world.repository().await?, self.backup().await?);
        let options = RestoreOptions::default();
        let work = restore(&repository, backup, engine, &options, self.progress.clone());
        let restored = self.stop.or(work).await?;
        if restored.proven {
            return Ok(restored.rows);
        }
        let list = restored.defects.join("; ");
        Err(Error::Failed {
            message: format!(
                "backup {} came back, but not all of it, and nothing was replaced: {list}",
                restored.backup
            ),
            hint: Some("restore it with --into another name, and decide by what is missing".into()),
        })
    }

    /// There is no database of this name: nothing is replaced, and nobody is in the way.
    async fn fill_nothing(&self) -> Result<Replaced, Error> {
        let rows = self.restore_into(&*connect::engine(self.url.clone())).await?;
        Ok(self.replaced(rows, None, Some(Duration::ZERO)))
    }

    fn replaced(&self, rows: u64, kept: Option<String>, blocked: Option<Duration>) -> Replaced {
        Replaced {
            backup: self.spec.backup.clone(),
            into: self.url.to_string(),
            rows,
            kept,
            blocked_ms: blocked.map(|time| time.as_millis() as u64),
        }
    }

    /// Does what must be done in the end; see [`target::insist`].
    async fn insist<'a, T>(
        &self,
        work: impl Fn() -> BoxFuture<'a, Result<T, EngineError>> + Send,
    ) -> Result<T, EngineError> {
        target::insist(&*self.world.clock, target::SERVER_AWAY, work).await
    }
}
