//! Rows: parallel COPY through the partition root, several loaders on one table, retried while that helps.

use super::Target;
use crate::engine::postgres::facts::TableFact;
use crate::engine::postgres::nodelay::send_at_once;
use crate::engine::postgres::quote::literal;
use crate::engine::postgres::session::{self, Doing, exec, sqlstate, words};
use crate::engine::postgres::texts;
use crate::engine::{DumpSource, EngineError, LoadProgress, Progress};
use crate::model::PostgresUrl;
use futures_util::StreamExt;
use sqlx::PgConnection;
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// One run of one table; its COPY is atomic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Job {
    entry: usize,
    run: usize,
}

/// A run that did not go in, and the server's words.
#[derive(Debug)]
struct Failure {
    job: Job,
    reason: String,
}

/// What every loader needs.
struct Round {
    url: PostgresUrl,
    tables: Vec<TableFact>,
    encoding: String,
    /// `None` = none at all, as everything we name is qualified.
    search_path: Option<String>,
    source: Arc<dyn DumpSource>,
    progress: Progress,
    queue: Mutex<VecDeque<Job>>,
}

/// Loads all chosen rows: user tables in parallel, then extension configuration tables one after the other (their
/// foreign keys exist already).
pub(super) async fn load(
    target: &Target<'_>,
    source: &Arc<dyn DumpSource>,
    progress: &Progress,
) -> Result<(), EngineError> {
    let (facts, data) = (target.facts, source.data());
    if data.len() < facts.tables.len() {
        return Err(EngineError::Damaged("the backup has fewer data entries than tables".into()));
    }
    let mut loaded: BTreeMap<usize, u64> = BTreeMap::new();
    for (config, workers) in [(false, target.workers), (true, 1)] {
        let wanted = |at: &usize| target.chosen.has(*at) && facts.tables[*at].config.is_some() == config;
        let mut entries: Vec<usize> = (0..facts.tables.len()).filter(wanted).collect();
        if !config {
            entries.sort_by_key(|at| Reverse(data[*at].bytes));
        }
        let jobs: Vec<Job> =
            entries.iter().flat_map(|&entry| (0..source.runs(entry)).map(move |run| Job { entry, run })).collect();
        for (entry, rows) in in_rounds(target, source, progress, jobs, workers).await? {
            *loaded.entry(entry).or_default() += rows;
        }
    }
    for (at, table) in facts.tables.iter().enumerate().filter(|(at, _)| target.chosen.has(*at)) {
        let rows = loaded.get(&at).copied().unwrap_or_default();
        if rows != data[at].rows {
            let (name, expected) = (table.qualified(), data[at].rows);
            return Err(EngineError::failed(format!("table {name}: {rows} rows went in instead of {expected}")));
        }
    }
    Ok(())
}

/// Rounds over what failed, as long as each brings something in; the last with the application's own search path.
async fn in_rounds(
    target: &Target<'_>,
    source: &Arc<dyn DumpSource>,
    progress: &Progress,
    mut jobs: Vec<Job>,
    workers: usize,
) -> Result<Vec<(usize, u64)>, EngineError> {
    let (mut loaded, mut search_path) = (Vec::new(), None);
    while !jobs.is_empty() {
        let before = jobs.len();
        let round = Arc::new(Round {
            url: target.url.clone(),
            tables: target.facts.tables.clone(),
            encoding: target.facts.database.encoding.clone(),
            search_path: search_path.clone(),
            source: source.clone(),
            progress: progress.clone(),
            queue: Mutex::new(jobs.into()),
        });
        let (rows, failures) = run(&round, workers).await?;
        loaded.extend(rows);
        if failures.len() == before {
            if search_path.is_some() {
                return Err(could_not_load(target, &failures));
            }
            search_path = Some(target.facts.search_path.clone());
        }
        jobs = failures.into_iter().map(|failure| failure.job).collect();
    }
    Ok(loaded)
}

fn could_not_load(target: &Target<'_>, failures: &[Failure]) -> EngineError {
    let mut reasons: BTreeMap<String, &str> = BTreeMap::new();
    for failure in failures {
        reasons.entry(target.facts.tables[failure.job.entry].qualified()).or_insert(&failure.reason);
    }
    let tables = reasons.len();
    let shown: Vec<String> =
        reasons.iter().take(10).map(|(table, reason)| format!("table {table}: {reason}")).collect();
    let more = if tables > shown.len() { format!("; and {} more tables", tables - shown.len()) } else { String::new() };
    EngineError::failed(format!("rows could not be loaded: {}{more}", shown.join("; ")))
}

async fn run(round: &Arc<Round>, workers: usize) -> Result<(Vec<(usize, u64)>, Vec<Failure>), EngineError> {
    let count = workers.min(round.queue.lock().unwrap_or_else(PoisonError::into_inner).len()).max(1);
    let mut set = JoinSet::new();
    for _ in 0..count {
        set.spawn(load_runs(round.clone()));
    }
    let (mut loaded, mut failures) = (Vec::new(), Vec::new());
    while let Some(ended) = set.join_next().await {
        let (rows, failed) = ended.map_err(|error| EngineError::failed(format!("a loader stopped: {error}")))??;
        loaded.extend(rows);
        failures.extend(failed);
    }
    // Back into the order in which they were tried, so that a cycle does not depend on timing.
    failures.sort_by_key(|failure| (failure.job.entry, failure.job.run));
    Ok((loaded, failures))
}

async fn load_runs(round: Arc<Round>) -> Result<(Vec<(usize, u64)>, Vec<Failure>), EngineError> {
    let mut conn = session::connect(&round.url).await?;
    send_at_once();
    if let Some(path) = &round.search_path {
        let set = format!("SELECT pg_catalog.set_config('search_path', {}, false)", literal(path));
        exec(&mut conn, &set).await.doing("a loader's search path could not be set")?;
    }
    let (mut loaded, mut failures) = (Vec::new(), Vec::new());
    loop {
        let job = round.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(job) = job else { break };
        match load_run(&mut conn, &round, job).await? {
            Ok(rows) => loaded.push((job.entry, rows)),
            Err(reason) => failures.push(Failure { job, reason }),
        }
    }
    session::close(conn).await;
    Ok((loaded, failures))
}

/// Loads one run. The inner error is the server's about these rows and may pass; the outer one will not.
async fn load_run(conn: &mut PgConnection, round: &Round, job: Job) -> Result<Result<u64, String>, EngineError> {
    let table = &round.tables[job.entry];
    let what = format!("the rows of {} could not be loaded", table.qualified());
    let mut copy = match conn.copy_in_raw(&texts::copy_in(table, &round.encoding)).await {
        Ok(copy) => copy,
        Err(error) => return judge(&what, &error),
    };
    let (mut stream, mut bytes) = (round.source.read(job.entry, job.run), 0);
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => {
                bytes += piece.len() as u64;
                copy.send(piece).await.map(|_| ()).doing(&what)?;
            }
            Err(error) => {
                // Nothing of the run goes in. The session is not used again, so how the server takes it is no matter.
                copy.abort("the backup's bytes could not be read").await.ok();
                return Err(error);
            }
        }
    }
    match copy.finish().await {
        Ok(rows) => {
            (round.progress)(LoadProgress::Bytes(bytes));
            Ok(Ok(rows))
        }
        Err(error) => judge(&what, &error),
    }
}

/// Errors about values and constraints may pass when other tables are in; a full disk or a lost server will not.
fn judge(what: &str, error: &sqlx::Error) -> Result<Result<u64, String>, EngineError> {
    const PASSING: [&str; 10] = ["22", "23", "2F", "38", "39", "3F", "42", "P0", "0A", "55"];
    match sqlstate(error) {
        Some(code) if PASSING.iter().any(|class| code.starts_with(class)) => Ok(Err(words(error))),
        _ => Err(session::engine_error(what, error)),
    }
}
