//! The record in an SQLite file: WAL, synchronous=FULL, one writer at a time.
//!
//! The file is only ever opened by SQLite: closing another descriptor of it would drop the locks that connections of
//! this process hold.

mod drafts;
mod open;

use super::TaskLogError;
use super::record::Record;
use super::session::{Arg, Cell, Database, Fault, Mode, Row, Session, words};
use crate::clock::Clock;
use async_trait::async_trait;
use open::Access;
use sqlx::{AssertSqlSafe, Column, Connection, Row as _, SqliteConnection, TypeInfo, ValueRef};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// How long others are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The record of all tasks in an SQLite file. Times and leases follow the clock it is given.
pub type SqliteTaskLog = Record<Sqlite>;

impl SqliteTaskLog {
    /// Opens the record at `path`, or makes it (mode 0600) where there is no file; the directory must be there.
    ///
    /// A file of other contents, or of a later version, is refused and not touched ([`TaskLogError::Unusable`]).
    pub async fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, TaskLogError> {
        Self::with(path, clock, Access::Write).await
    }

    /// Opens an existing record to read it; never makes or changes the file.
    pub async fn open_existing(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, TaskLogError> {
        Self::with(path, clock, Access::Read).await
    }

    async fn with(path: &Path, clock: Arc<dyn Clock>, access: Access) -> Result<Self, TaskLogError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let connection = open::open(&path, access, PATIENCE).await?;
        let place = path.display().to_string();
        let connection = Arc::new(Mutex::new(Some(Held { connection, inode: inode(&path) })));
        Ok(Record::new(Sqlite { path, place, access, clock, connection }))
    }
}

/// The file and the one connection to it.
pub struct Sqlite {
    path: PathBuf,
    place: String,
    access: Access,
    clock: Arc<dyn Clock>,
    /// None after a failure: the next transaction connects anew.
    connection: Arc<Mutex<Option<Held>>>,
}

/// The connection, and which file it is of.
struct Held {
    connection: SqliteConnection,
    inode: Option<(u64, u64)>,
}

/// Which file bears the name now.
fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

#[async_trait]
impl Database for Sqlite {
    async fn begin(&self, mode: Mode) -> Result<Box<dyn Session>, TaskLogError> {
        let begun = Instant::now();
        let left = || PATIENCE.saturating_sub(begun.elapsed()).max(Duration::from_millis(50));
        let slot = tokio::time::timeout(PATIENCE, self.connection.clone().lock_owned()).await;
        let mut slot = slot.map_err(|_| unavailable(&self.place, "it is busy: no turn within 10 s"))?;
        // SQLite would go on with a file that was moved away, beside the one that has its name now. The connection is
        // kept: closing it would remove the journal that lies under the name.
        if slot.as_ref().is_some_and(|held| held.inode != inode(&self.path)) {
            let message = "the file was moved, removed or replaced while it was in use; nothing was written";
            return Err(unusable(&self.place, message, Some("put it back, or start the program anew")));
        }
        let mut held = match slot.take() {
            Some(held) => held,
            None => {
                let connection = open::open_again(&self.path, self.access, left()).await?;
                Held { connection, inode: inode(&self.path) }
            }
        };
        let begin = if mode == Mode::Write { "BEGIN IMMEDIATE" } else { "BEGIN" };
        let sql = format!("PRAGMA busy_timeout = {}; {begin}", left().as_millis());
        if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut held.connection).await {
            let failed = failed(&self.place, &error);
            if is_healthy_after(&error) {
                *slot = Some(held);
            }
            return Err(failed);
        }
        let now = self.clock.now().as_microsecond();
        Ok(Box::new(Transaction { held, slot, place: self.place.clone(), now, is_healthy: true }))
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}

struct Transaction {
    held: Held,
    slot: OwnedMutexGuard<Option<Held>>,
    place: String,
    now: i64,
    is_healthy: bool,
}

impl Transaction {
    fn fault(&mut self, error: sqlx::Error) -> Fault {
        self.is_healthy &= is_healthy_after(&error);
        match code(&error) {
            Some(1555 | 2067) => Fault::Race,
            _ => Fault::Error(failed(&self.place, &error)),
        }
    }
}

#[async_trait]
impl Session for Transaction {
    async fn execute(&mut self, sql: &str, args: Vec<Arg>) -> Result<u64, Fault> {
        let done = query(sql, args).execute(&mut self.held.connection).await;
        done.map(|done| done.rows_affected()).map_err(|error| self.fault(error))
    }

    async fn rows(&mut self, sql: &str, args: Vec<Arg>) -> Result<Vec<Row>, Fault> {
        let rows = query(sql, args).fetch_all(&mut self.held.connection).await.map_err(|error| self.fault(error))?;
        Ok(rows.iter().map(row).collect())
    }

    fn now(&self) -> i64 {
        self.now
    }

    fn place(&self) -> &str {
        &self.place
    }

    fn skip_locked(&self) -> &'static str {
        // There is one writer.
        ""
    }

    fn skip_locked_delivery(&self) -> &'static str {
        ""
    }

    async fn lock_word(&mut self, _: &str) -> Result<(), Fault> {
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), Fault> {
        if let Err(error) = sqlx::raw_sql("COMMIT").execute(&mut self.held.connection).await {
            let fault = self.fault(error);
            self.rollback().await;
            return Err(fault);
        }
        *self.slot = Some(self.held);
        Ok(())
    }

    async fn rollback(mut self: Box<Self>) {
        // After some errors SQLite has undone it already, and says so by an error.
        let undone = sqlx::raw_sql("ROLLBACK").execute(&mut self.held.connection).await.is_ok();
        if undone && self.is_healthy {
            *self.slot = Some(self.held);
        } else {
            let _ = self.held.connection.close().await;
        }
    }
}

fn query(sql: &str, args: Vec<Arg>) -> sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments> {
    args.into_iter().fold(sqlx::query(AssertSqlSafe(sql.to_owned())), |query, arg| match arg {
        Arg::Int(value) => query.bind(value),
        Arg::Text(value) => query.bind(value),
    })
}

fn row(row: &sqlx::sqlite::SqliteRow) -> Row {
    let cell = |at: usize| {
        let Ok(value) = row.try_get_raw(at) else { return Cell::Other };
        if value.is_null() {
            return Cell::Null;
        }
        let kind = value.type_info().name().to_owned();
        match kind.as_str() {
            "INTEGER" => row.try_get(at).map_or(Cell::Other, Cell::Int),
            "TEXT" => row.try_get(at).map_or(Cell::Other, Cell::Text),
            _ => Cell::Other,
        }
    };
    Row(row.columns().iter().enumerate().map(|(at, column)| (column.name().to_owned(), cell(at))).collect())
}

/// SQLite's extended error code.
fn code(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// Whether the connection can be used after this error: full disks and locks pass, broken files and handles do not.
fn is_healthy_after(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| matches!(code & 0xff, 5 | 6 | 13 | 19))
}

fn unavailable(place: &str, message: impl Into<String>) -> TaskLogError {
    TaskLogError::Unavailable { place: place.to_owned(), message: message.into() }
}

fn unusable(place: &str, message: impl Into<String>, hint: Option<&str>) -> TaskLogError {
    TaskLogError::Unusable { place: place.to_owned(), message: message.into(), hint: hint.map(str::to_owned) }
}

/// What an error of SQLite means for a caller.
fn failed(place: &str, error: &sqlx::Error) -> TaskLogError {
    let words = words(error);
    match code(error).map(|code| code & 0xff) {
        Some(5 | 6) => unavailable(place, format!("another program has it locked; nothing was written ({words})")),
        Some(8) => unusable(
            place,
            format!("it is write-protected; nothing was written ({words})"),
            Some("the user this program runs as must own the file and its directory"),
        ),
        Some(13) => unavailable(place, "there is no space left on its disk; nothing was written"),
        Some(11) => TaskLogError::Damaged { place: place.to_owned(), message: format!("the file is damaged: {words}") },
        Some(14 | 23) => unusable(
            place,
            format!("it cannot be opened: {words}"),
            Some("the user this program runs as must own the file and its directory"),
        ),
        Some(26) => unusable(place, "it is no SQLite database; it was not touched", None),
        _ => unavailable(place, words),
    }
}
