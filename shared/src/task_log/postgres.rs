//! The record in a schema `holdfast` of a PostgreSQL database, for several hosts.
//!
//! The server's clock decides leases, when a task is due, and every time that is noted; times in requests (`run_at`,
//! `again_at`) are compared with it.

mod open;

use super::TaskLogError;
use super::record::Record;
use super::session::{Arg, Cell, Database, Fault, Mode, Row, Session, words};
use crate::engine::postgres::session::sqlstate;
use crate::model::PostgresUrl;
use async_trait::async_trait;
use open::Access;
use sqlx::{AssertSqlSafe, Column, Connection, PgConnection, Row as _, TypeInfo, ValueRef};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections held at most.
const CONNECTIONS: usize = 4;

/// How long one of them is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The record of all tasks in a PostgreSQL database. Times and leases follow the server's clock.
pub type PostgresTaskLog = Record<Postgres>;

impl PostgresTaskLog {
    /// Connects; makes the schema `holdfast` and its tables where they are missing.
    ///
    /// Tables of a later version are refused and not touched ([`TaskLogError::Unusable`]).
    pub async fn open(url: PostgresUrl) -> Result<Self, TaskLogError> {
        Self::with(url, Access::Write).await
    }

    /// Connects to an existing record to read it; never makes or changes anything.
    pub async fn open_existing(url: PostgresUrl) -> Result<Self, TaskLogError> {
        Self::with(url, Access::Read).await
    }

    async fn with(url: PostgresUrl, access: Access) -> Result<Self, TaskLogError> {
        let first = open::open(&url, access).await?;
        let place = url.to_string();
        let (idle, permits) = (Arc::new(Mutex::new(vec![first])), Arc::new(Semaphore::new(CONNECTIONS)));
        Ok(Record::new(Postgres { url, place, idle, permits }))
    }
}

type Idle = Arc<Mutex<Vec<PgConnection>>>;

/// The database and the few connections to it.
pub struct Postgres {
    url: PostgresUrl,
    place: String,
    idle: Idle,
    permits: Arc<Semaphore>,
}

impl Postgres {
    /// A connection with a transaction begun, and the server's time. One that has lain idle may be dead; nothing is
    /// begun then, so that a new one is taken without further thought.
    async fn begun(&self, mode: Mode) -> Result<(PgConnection, i64), TaskLogError> {
        loop {
            let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
            let was_idle = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                None => open::connect(&self.url).await?,
            };
            match begin(&mut connection, mode).await {
                Ok(now) => return Ok((connection, now)),
                Err(_) if was_idle => drop(connection),
                Err(error) => return Err(failed(&self.place, &error)),
            }
        }
    }
}

async fn begin(connection: &mut PgConnection, mode: Mode) -> Result<i64, sqlx::Error> {
    let begin = if mode == Mode::Write { "BEGIN READ WRITE" } else { "BEGIN READ ONLY" };
    sqlx::raw_sql(begin).execute(&mut *connection).await?;
    let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    sqlx::query_scalar(now).fetch_one(connection).await
}

#[async_trait]
impl Database for Postgres {
    async fn begin(&self, mode: Mode) -> Result<Box<dyn Session>, TaskLogError> {
        let permit = tokio::time::timeout(PATIENCE, self.permits.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            let message = "all connections are busy: no turn within 10 s".to_owned();
            return Err(TaskLogError::Unavailable { place: self.place.clone(), message });
        };
        let (connection, now) = self.begun(mode).await?;
        let (idle, place) = (self.idle.clone(), self.place.clone());
        Ok(Box::new(Transaction { connection, idle, place, now, _permit: permit }))
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}

struct Transaction {
    connection: PgConnection,
    idle: Idle,
    place: String,
    now: i64,
    _permit: OwnedSemaphorePermit,
}

impl Transaction {
    fn fault(&self, error: &sqlx::Error) -> Fault {
        match sqlstate(error).as_deref() {
            // Another transaction took the id, the database or the row first.
            Some("23505" | "40001" | "40P01") => Fault::Race,
            _ => Fault::Error(failed(&self.place, error)),
        }
    }
}

#[async_trait]
impl Session for Transaction {
    async fn execute(&mut self, sql: &str, args: Vec<Arg>) -> Result<u64, Fault> {
        let done = query(sql, args).execute(&mut self.connection).await;
        done.map(|done| done.rows_affected()).map_err(|error| self.fault(&error))
    }

    async fn rows(&mut self, sql: &str, args: Vec<Arg>) -> Result<Vec<Row>, Fault> {
        let rows = query(sql, args).fetch_all(&mut self.connection).await.map_err(|error| self.fault(&error))?;
        Ok(rows.iter().map(row).collect())
    }

    fn now(&self) -> i64 {
        self.now
    }

    fn place(&self) -> &str {
        &self.place
    }

    fn skip_locked(&self) -> &'static str {
        " FOR UPDATE OF t SKIP LOCKED"
    }

    fn skip_locked_delivery(&self) -> &'static str {
        " FOR UPDATE OF d SKIP LOCKED"
    }

    async fn lock_word(&mut self, word: &str) -> Result<(), Fault> {
        self.rows("SELECT 1 FROM pg_advisory_xact_lock(hashtextextended($1, 4846544))", vec![word.into()]).await?;
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), Fault> {
        match sqlx::raw_sql("COMMIT").execute(&mut self.connection).await {
            Ok(_) => {
                keep(&self.idle, self.connection);
                Ok(())
            }
            Err(error) => {
                let fault = self.fault(&error);
                self.rollback().await;
                match fault {
                    Fault::Error(TaskLogError::Unavailable { place, message }) => {
                        let message = format!("{message}; whether it was recorded is not known");
                        Err(TaskLogError::Unavailable { place, message }.into())
                    }
                    fault => Err(fault),
                }
            }
        }
    }

    async fn rollback(mut self: Box<Self>) {
        match sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await {
            Ok(_) => keep(&self.idle, self.connection),
            Err(error) => tracing::debug!(%error, "a connection to the record of tasks was given up"),
        }
    }
}

fn keep(idle: &Idle, connection: PgConnection) {
    if let Ok(mut idle) = idle.lock() {
        idle.push(connection);
    }
}

fn query(sql: &str, args: Vec<Arg>) -> sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments> {
    args.into_iter().fold(sqlx::query(AssertSqlSafe(sql.to_owned())), |query, arg| match arg {
        Arg::Int(value) => query.bind(value),
        Arg::Text(value) => query.bind(value),
    })
}

fn row(row: &sqlx::postgres::PgRow) -> Row {
    let cell = |at: usize| {
        let Ok(value) = row.try_get_raw(at) else { return Cell::Other };
        if value.is_null() {
            return Cell::Null;
        }
        let kind = value.type_info().name().to_owned();
        match kind.as_str() {
            "INT8" => row.try_get(at).map_or(Cell::Other, Cell::Int),
            "TEXT" => row.try_get(at).map_or(Cell::Other, Cell::Text),
            _ => Cell::Other,
        }
    };
    Row(row.columns().iter().enumerate().map(|(at, column)| (column.name().to_owned(), cell(at))).collect())
}

/// What an error of the server means for a caller.
fn failed(place: &str, error: &sqlx::Error) -> TaskLogError {
    let words = words(error);
    let unavailable = |message: String| TaskLogError::Unavailable { place: place.to_owned(), message };
    let Some(code) = sqlstate(error) else { return unavailable(words) };
    match code.as_str() {
        "53100" => unavailable("the disk of its server is full; nothing was written".into()),
        "55P03" | "57014" => unavailable(format!("it did not answer in time; nothing was written ({words})")),
        "25006" => TaskLogError::Unusable {
            place: place.to_owned(),
            message: "it is read-only; nothing was written".into(),
            hint: Some("name the primary server, and a database that can be written to".into()),
        },
        code if code.starts_with("08") || code.starts_with("53") || code.starts_with("57P") => unavailable(words),
        code if code.starts_with("XX") => TaskLogError::Damaged { place: place.to_owned(), message: words },
        _ => TaskLogError::Unusable { place: place.to_owned(), message: words, hint: None },
    }
}

/// Closes what lies idle, so that the server need not find out by itself.
impl Drop for Postgres {
    fn drop(&mut self) {
        let idle = self.idle.lock().map(|mut idle| std::mem::take(&mut *idle)).unwrap_or_default();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            for connection in idle {
                runtime.spawn(async move { connection.close().await });
            }
        }
    }
}
