//! SQLite behind the door to databases.
//!
//! A dump takes a private copy by SQLite's online backup, then reads that copy twice at once: its pages go into the
//! sink, its rows into the fingerprint. A restore writes a new file beside its target and gives it the name last.

mod aside;
mod check;
mod chosen;
mod copy;
mod dump;
mod fingerprint;
pub mod live;
mod open;
mod private;
mod profile;
mod rows;
mod target;
mod texts;

use crate::engine::{Aside, Dump, DumpOptions, DumpSink, DumpSource, Engine, EngineError, Probe};
use crate::model::{EngineKind, Fingerprint, Profile, Structure};
use async_trait::async_trait;
use open::{open_source, sql_error};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Lock timeout of calls that take no options.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// One SQLite database file.
#[derive(Debug, Clone)]
pub struct SqliteEngine {
    path: PathBuf,
    /// Opening the file for an earlier call undid a transaction that a crash had left unfinished.
    rolled_back: Arc<AtomicBool>,
}

impl SqliteEngine {
    /// The database at `path`; nothing is opened yet.
    pub fn new(path: PathBuf) -> SqliteEngine {
        SqliteEngine { path, rolled_back: Arc::default() }
    }
}

#[async_trait]
impl Engine for SqliteEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Sqlite
    }

    fn describe(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    async fn probe(&self) -> Result<Probe, EngineError> {
        let (path, rolled_back) = (self.path.clone(), self.rolled_back.clone());
        blocking(move || {
            let source = open_source(&path, LOCK_TIMEOUT)?;
            rolled_back.fetch_or(source.rolled_back, Ordering::SeqCst);
            Ok(dump::probe(&source))
        })
        .await
    }

    async fn dump(&self, sink: Arc<dyn DumpSink>, options: &DumpOptions) -> Result<Dump, EngineError> {
        let (path, options) = (self.path.clone(), options.clone());
        let rolled_back = self.rolled_back.load(Ordering::SeqCst);
        blocking(move || dump::dump(&path, sink, &options, rolled_back)).await
    }

    async fn fingerprint(&self, _source: &dyn DumpSource, _workers: usize) -> Result<Fingerprint, EngineError> {
        let path = self.path.clone();
        blocking(move || {
            let source = open_source(&path, LOCK_TIMEOUT)?;
            // One read transaction: everything is read from one snapshot.
            let read = || {
                source.begin()?;
                let reading = fingerprint::read(&source.connection)?;
                source.connection.execute_batch("COMMIT")?;
                Ok(reading.fingerprint)
            };
            read().map_err(|error| sql_error(&source.path, error))
        })
        .await
    }

    async fn structure(&self) -> Result<Structure, EngineError> {
        let path = self.path.clone();
        blocking(move || {
            let source = open_source(&path, LOCK_TIMEOUT)?;
            let read = || {
                source.begin()?;
                let schema = fingerprint::statements(&source.connection)?;
                source.connection.execute_batch("COMMIT")?;
                Ok(Structure::of(schema))
            };
            read().map_err(|error| sql_error(&source.path, error))
        })
        .await
    }

    fn tables_meant(&self, source: &dyn DumpSource, typed: &[String]) -> Result<Vec<String>, EngineError> {
        let meant = chosen::choose(source.fingerprint(), typed)?;
        Ok(meant.iter().map(|name| quote(name)).collect())
    }

    async fn profile(&self, _workers: usize) -> Result<Profile, EngineError> {
        let path = self.path.clone();
        blocking(move || {
            let source = open_source(&path, LOCK_TIMEOUT)?;
            let read = || {
                source.begin()?;
                let profile = profile::read(&source.connection)?;
                source.connection.execute_batch("COMMIT")?;
                Ok(profile)
            };
            read().map_err(|error| sql_error(&source.path, error))
        })
        .await
    }

    async fn number_apart(&self) -> Result<(), EngineError> {
        let path = self.path.clone();
        blocking(move || profile::number_apart(&path)).await
    }

    async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, EngineError> {
        let (path, sql) = (self.path.clone(), sql.to_owned());
        blocking(move || {
            let source = open_source(&path, LOCK_TIMEOUT)?;
            let read = || -> rusqlite::Result<_> {
                source.begin()?;
                let rows = all_rows(&source.connection, &sql)?;
                source.connection.execute_batch("COMMIT")?;
                Ok(rows)
            };
            read().map_err(|error| sql_error(&source.path, error))
        })
        .await
    }

    async fn aside(&self, _source: &dyn DumpSource) -> Result<Box<dyn Aside>, EngineError> {
        let path = self.path.clone();
        blocking(move || aside::SqliteAside::begin(&path)).await.map(|aside| Box::new(aside) as Box<dyn Aside>)
    }
}

/// The rows of a query as text.
fn all_rows(connection: &rusqlite::Connection, sql: &str) -> rusqlite::Result<Vec<Vec<Option<String>>>> {
    use rusqlite::types::ValueRef;
    let text = |value: ValueRef| match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) => Some(hex::encode(bytes)),
    };
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|at| row.get_ref(at).map(text)).collect())?;
    rows.collect()
}

/// Runs SQLite's work where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(EngineError::failed(format!("reading the SQLite database ended by a defect of this program: {error}")))
    })
}

/// A table as fingerprints name it.
pub(super) fn table_key(table: &str) -> String {
    quote(table)
}

/// An SQL identifier.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
