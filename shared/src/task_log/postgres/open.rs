//! Connects, and brings the schema to its newest form.

use super::failed;
use crate::engine::EngineError;
use crate::engine::postgres::session::{connect_error, connect_plain, exec};
use crate::model::{Class, PostgresUrl};
use crate::task_log::TaskLogError;
use crate::task_log::migrations::{self, Verdict};
use sqlx::migrate::MigrateError;
use sqlx::{Connection, PgConnection};
use std::time::Duration;

/// What the record may be opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only an existing one, and it is not changed.
    Read,
    /// Schema and tables are made where they are missing.
    Write,
}

/// How long connecting may take, a server that is starting up included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What every session of the record has. A server that stops answering must not hold a task for ever.
const SETTINGS: &str = "
    SELECT pg_catalog.set_config(name, value, false) FROM (VALUES
        ('search_path', 'holdfast, pg_catalog'), ('statement_timeout', '20s'), ('lock_timeout', '10s'),
        ('idle_in_transaction_session_timeout', '60s'), ('TimeZone', 'UTC'), ('client_min_messages', 'warning'),
        ('default_transaction_isolation', 'read committed'), ('row_security', 'off')) AS setting (name, value)
    UNION ALL
    -- A task that was acknowledged must outlive a crash of the server.
    SELECT pg_catalog.set_config('synchronous_commit', 'on', false)
    WHERE pg_catalog.current_setting('synchronous_commit') = 'off'";

/// Opens a session.
pub async fn connect(url: &PostgresUrl) -> Result<PgConnection, TaskLogError> {
    let place = url.to_string();
    let unavailable = |message: String| TaskLogError::Unavailable { place: place.clone(), message };
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect_plain(url)).await;
    let connected = connected.map_err(|_| unavailable("no connection within 30 s".into()))?;
    let mut connection = connected.map_err(|error| refused(&place, connect_error(url, error)))?;
    exec(&mut connection, SETTINGS).await.map_err(|error| failed(&place, &error))?;
    Ok(connection)
}

fn refused(place: &str, error: EngineError) -> TaskLogError {
    let (place, message) = (place.to_owned(), error.to_string());
    match error.class() {
        Class::Transient => TaskLogError::Unavailable { place, message },
        _ => TaskLogError::Unusable { place, message, hint: error.hint().map(str::to_owned) },
    }
}

/// Opens a session on a record whose tables are there and of the newest form, making them where that is allowed.
pub async fn open(url: &PostgresUrl, access: Access) -> Result<PgConnection, TaskLogError> {
    let place = url.to_string();
    let mut connection = connect(url).await?;
    let applied = version(&mut connection).await.map_err(|error| failed(&place, &error))?;
    match (migrations::judge(&place, &migrations::postgres(), applied.unwrap_or(0))?, access) {
        (Verdict::Current, _) => return Ok(connection),
        (Verdict::Older, Access::Read) if applied.is_none() => {
            return Err(TaskLogError::Missing { place: format!("{place}, schema holdfast") });
        }
        (Verdict::Older, Access::Read) => return Err(migrations::too_old(&place)),
        (Verdict::Older, Access::Write) => {}
    }
    // A session of its own: sqlx leaves its advisory lock behind on every error, and only closing frees it.
    let migrated = migrate(&mut connection, &place).await;
    let closed = connection.close().await;
    migrated?;
    closed.map_err(|error| failed(&place, &error))?;
    connect(url).await
}

/// The newest step that was applied; none where there are no tables.
async fn version(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass('holdfast._sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !is_there {
        return Ok(None);
    }
    let newest = "SELECT coalesce(max(version), 0) FROM holdfast._sqlx_migrations";
    sqlx::query_scalar(newest).fetch_one(connection).await.map(Some)
}

async fn migrate(connection: &mut PgConnection, place: &str) -> Result<(), TaskLogError> {
    let wrong = |error: sqlx::Error| failed(place, &error);
    // Only where it is missing: a role that may not make schemas may use one that was made for it.
    let schema = "DO $$ BEGIN
            PERFORM pg_advisory_lock(4846544);
            IF to_regnamespace('holdfast') IS NULL THEN CREATE SCHEMA holdfast; END IF;
        END $$";
    exec(connection, schema).await.map_err(wrong)?;
    exec(connection, "SELECT pg_advisory_unlock(4846544)").await.map_err(wrong)?;
    migrations::postgres().run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => failed(place, &error),
        other => TaskLogError::Unusable { place: place.to_owned(), message: other.to_string(), hint: None },
    })
}
