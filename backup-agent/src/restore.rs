//! Brings a backup back: beside its target, proven, then under the target's name.

use crate::choose::Chosen;
use crate::error::Error;
use crate::repository::{MarkKind, Repository, StoredBackup};
use serde::Serialize;
use shared::engine::{Aside, DumpSource, Engine, LoadOptions, LoadProgress, Loaded, Progress};
use shared::model::{Class, Difference, DifferenceKind, Fingerprint};
use std::sync::Arc;

/// What may be decided about one restore.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// How the database is loaded.
    pub load: LoadOptions,
    /// Leave out reading the restored database anew.
    pub no_proof: bool,
}

impl RestoreOptions {
    /// Whether the whole backup is restored, so that a proof speaks for all of it.
    fn is_whole(&self) -> bool {
        self.load.tables.is_empty() && !self.load.no_owner && !self.load.no_acl
    }

    /// What the proof does not speak of, for a person.
    fn left_out(&self) -> Vec<&'static str> {
        let mut list = Vec::new();
        if !self.load.tables.is_empty() {
            list.push("tables not chosen");
        }
        if self.load.no_owner {
            list.push("owners");
        }
        if self.load.no_acl {
            list.push("grants");
        }
        list
    }
}

/// A restore as a value: printing it is the preview.
#[derive(Debug, Serialize)]
pub struct RestorePlan {
    /// `<database>/<id>`.
    pub backup: String,
    /// Where to, without a password.
    pub into: String,
    /// Tables with their rows; all, or the chosen ones.
    pub tables: Vec<PlannedTable>,
    /// Rows in all.
    pub rows: u64,
    /// Compressed bytes to be read from the store.
    pub read_bytes: u64,
    /// What the backup itself says cannot be restored as it was.
    pub defects: Vec<String>,
    /// Whether the restored database will be read anew and compared.
    pub proof: bool,
}

/// A table a restore would bring back.
#[derive(Debug, Serialize)]
pub struct PlannedTable {
    /// Quoted, qualified name.
    pub name: String,
    /// Number of rows.
    pub rows: u64,
}

/// What a restore did.
#[derive(Debug, Serialize)]
pub struct Restored {
    /// `<database>/<id>`.
    pub backup: String,
    /// Where to, without a password.
    pub into: String,
    /// Rows restored.
    pub rows: u64,
    /// What could not be created; all rows are in.
    pub defects: Vec<String>,
    /// Where the schema differs because of that.
    pub differences: Vec<Difference>,
    /// What differs only because it is computed anew.
    pub recomputed: Vec<Difference>,
    /// What was left out because the options did.
    pub left_out: Vec<String>,
    /// Whether the restored database was read anew and found equal.
    pub proven: bool,
    /// Why the proof could not be noted in the store, where it could not.
    pub not_noted: Option<String>,
}

/// Plans a restore; touches nothing. Refuses a table that is not in the backup and an engine of another kind.
pub fn plan(backup: &StoredBackup, engine: &dyn Engine, options: &RestoreOptions) -> Result<RestorePlan, Error> {
    check_engine(backup, engine)?;
    let manifest = backup.manifest();
    let meant = engine.tables_meant(backup, &options.load.tables)?;
    let chosen = |name: &str| options.load.tables.is_empty() || meant.iter().any(|table| table == name);
    let tables: Vec<PlannedTable> = manifest
        .tables
        .iter()
        .filter(|table| chosen(&table.name))
        .map(|table| PlannedTable { name: table.name.clone(), rows: table.rows })
        .collect();
    Ok(RestorePlan {
        backup: backup.name(),
        into: engine.describe(),
        rows: tables.iter().map(|table| table.rows).sum(),
        read_bytes: backup.bytes_to_read(&chosen),
        tables,
        defects: manifest.header.defects.clone(),
        proof: !options.no_proof,
    })
}

/// Restores a backup and, unless told not to, proves it.
///
/// Ends with the database under its target's name, or with nothing, or (when the proof finds differences) with the
/// database kept under a name of its own; the error says which.
pub async fn restore(
    repository: &Repository,
    backup: Arc<StoredBackup>,
    engine: &dyn Engine,
    options: &RestoreOptions,
    progress: Progress,
) -> Result<Restored, Error> {
    let plan = plan(&backup, engine, options)?;
    let aside = engine.aside(&*backup).await?;
    let found = match load_and_prove(&backup, &*aside, options, progress).await {
        Ok(found) => found,
        Err(error) => return Err(discard(aside, error).await),
    };
    let verdict = found.verdict(options);
    if verdict == Verdict::Different {
        let noted = note(repository, &backup, options, MarkKind::Failed, &describe(&found.real)).await;
        let name = backup.name();
        let number = found.real.len();
        let place = aside.place();
        let state = match aside.keep().await {
            Ok(place) => format!("it was not given its name and is kept as {place}"),
            Err(error) => {
                format!("it was not given its name and stays as {place}, which could not be marked as kept: {error}")
            }
        };
        let noted = noted.map(|error| format!(" (the store could not be told: {error})")).unwrap_or_default();
        let message = format!("the restored database differs from backup {name} in {number} places; {state}{noted}");
        return Err(Error::Different { message, differences: found.real });
    }
    aside.promote().await?;
    let proven = verdict == Verdict::Equal;
    let detail = format!("restored into {}", engine.describe());
    let not_noted = if proven { note(repository, &backup, options, MarkKind::Proven, &detail).await } else { None };
    Ok(found.report(plan, options, proven, not_noted))
}

/// Restores the backup beside `scratch`, proves it and drops it again; the backup is marked as proven or failed.
pub async fn drill(
    repository: &Repository,
    chosen: Chosen,
    scratch: &dyn Engine,
    load: LoadOptions,
    progress: Progress,
) -> Result<Restored, Error> {
    let options = RestoreOptions { load, no_proof: false };
    let backup = Arc::new(StoredBackup::open(repository, chosen.manifest).await?);
    let plan = plan(&backup, scratch, &options)?;
    let (database, id) = (backup.manifest().header.database.clone(), backup.manifest().header.id.clone());
    let aside = scratch.aside(&*backup).await?;
    let found = load_and_prove(&backup, &*aside, &options, progress).await;
    let place = aside.place();
    let dropped = aside.discard().await;
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            // Only what is wrong with the backup counts against it: a server that is away proves nothing.
            if error.class() == Class::Corrupt {
                repository.mark(&database, &id, MarkKind::Failed, &error.to_string()).await?;
            }
            return Err(with_second(error, &place, dropped));
        }
    };
    let verdict = found.verdict(&options);
    match verdict {
        Verdict::Equal => repository.mark(&database, &id, MarkKind::Proven, "drill").await?,
        Verdict::Incomplete => {
            repository.mark(&database, &id, MarkKind::Failed, &found.loaded.failed.join("; ")).await?
        }
        Verdict::Different => repository.mark(&database, &id, MarkKind::Failed, &describe(&found.real)).await?,
        Verdict::Unproven => {}
    }
    if let Err(error) = dropped {
        let what = if verdict == Verdict::Equal { "the backup is proven" } else { "the backup is not proven" };
        return Err(Error::failed(format!("{what}, but the scratch database {place} could not be removed: {error}")));
    }
    if verdict == Verdict::Different {
        let message =
            format!("backup {} restored differs in {} places; the copy was dropped", backup.name(), found.real.len());
        return Err(Error::Different { message, differences: found.real });
    }
    Ok(found.report(plan, &options, verdict == Verdict::Equal, None))
}

/// What a load and its proof found.
struct Found {
    loaded: Loaded,
    /// Differences in rows or schema.
    real: Vec<Difference>,
    recomputed: Vec<Difference>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Equal,
    /// All rows are in and equal; objects that could not be created are missing.
    Incomplete,
    Different,
    /// Nobody looked.
    Unproven,
}

impl Found {
    fn verdict(&self, options: &RestoreOptions) -> Verdict {
        let data_differs = self.real.iter().any(|difference| difference.kind == DifferenceKind::Data);
        match (self.real.is_empty(), self.loaded.failed.is_empty()) {
            // What could not be created is missing from the schema for a known reason; rows that differ never have one.
            (_, false) if !data_differs => Verdict::Incomplete,
            (true, _) if options.no_proof => Verdict::Unproven,
            (true, _) => Verdict::Equal,
            (false, _) => Verdict::Different,
        }
    }

    fn report(self, plan: RestorePlan, options: &RestoreOptions, proven: bool, not_noted: Option<String>) -> Restored {
        let mut left_out = self.loaded.left_out;
        left_out.extend(options.left_out().into_iter().map(str::to_owned));
        Restored {
            backup: plan.backup,
            into: plan.into,
            rows: plan.rows,
            defects: self.loaded.failed,
            differences: self.real,
            recomputed: self.recomputed,
            left_out,
            proven,
            not_noted,
        }
    }
}

async fn load_and_prove(
    backup: &Arc<StoredBackup>,
    aside: &dyn Aside,
    options: &RestoreOptions,
    progress: Progress,
) -> Result<Found, Error> {
    let source: Arc<dyn DumpSource> = backup.clone();
    let loaded = aside.load(source, &options.load, progress.clone()).await?;
    if options.no_proof {
        return Ok(Found { loaded, real: Vec::new(), recomputed: Vec::new() });
    }
    progress(LoadProgress::Step("proving: reading the restored database anew"));
    let found = aside.fingerprint(&**backup, options.load.workers).await?;
    let expected = aside.expected(&**backup).await?;
    let (recomputed, real) =
        prove(&expected, &found)?.into_iter().partition(|difference| difference.kind == DifferenceKind::Recomputed);
    Ok(Found { loaded, real, recomputed })
}

/// Compares what was backed up with what was read from the restored database.
///
/// Nothing equals nothing only when the backup itself holds nothing.
pub fn prove(expected: &Fingerprint, found: &Fingerprint) -> Result<Vec<Difference>, Error> {
    if found.schema.is_empty() && !expected.schema.is_empty() {
        return Err(Error::failed("the proof read no schema at all from the restored database"));
    }
    Ok(expected.differences(found))
}

/// Reads a database anew: what differs only because it was recomputed, where it holds the backup; none where it does not.
pub async fn held_by(backup: &StoredBackup, engine: &dyn Engine) -> Result<Option<Vec<Difference>>, Error> {
    let found = engine.fingerprint(backup, 2).await?;
    let differences = prove(backup.fingerprint(), &found)?;
    let is_held = differences.iter().all(|difference| difference.kind == DifferenceKind::Recomputed);
    Ok(is_held.then_some(differences))
}

/// Marks the backup if all of it was restored; returns why it could not be marked. A restore that is done must not fail
/// because a store is read-only.
async fn note(
    repository: &Repository,
    backup: &StoredBackup,
    options: &RestoreOptions,
    kind: MarkKind,
    detail: &str,
) -> Option<String> {
    if !options.is_whole() {
        return None;
    }
    let header = &backup.manifest().header;
    repository.mark(&header.database, &header.id, kind, detail).await.err().map(|error| error.to_string())
}

fn describe(differences: &[Difference]) -> String {
    let first: Vec<String> = differences.iter().take(5).map(|d| format!("{} {}", d.object, d.what)).collect();
    format!("{} differences: {}", differences.len(), first.join("; "))
}

async fn discard(aside: Box<dyn Aside>, error: Error) -> Error {
    let place = aside.place();
    let dropped = aside.discard().await;
    with_second(error, &place, dropped)
}

/// Keeps both failures when cleaning up failed, too; the first keeps its class.
fn with_second(error: Error, place: &str, dropped: Result<(), shared::engine::EngineError>) -> Error {
    match (dropped, error) {
        (Ok(()), error) => error,
        (Err(second), error) => {
            let text = format!("{error}; and the unfinished {place} could not be removed: {second}");
            if error.class() == Class::Corrupt { Error::Damaged(text) } else { Error::failed(text) }
        }
    }
}

fn check_engine(backup: &StoredBackup, engine: &dyn Engine) -> Result<(), Error> {
    let (of, into) = (backup.manifest().header.engine, engine.kind());
    if of == into {
        return Ok(());
    }
    Err(Error::refused(
        format!("backup {} is of a {of} database and cannot be restored into a {into} database", backup.name()),
        "give --into a URL of the same kind",
    ))
}
