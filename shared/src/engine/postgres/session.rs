//! Sessions of our own: how they connect, what is pinned on them, and how their errors read.

use super::quote::{literal, one_line};
use crate::engine::EngineError;
use crate::model::PostgresUrl;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row, ValueRef};
use std::time::{Duration, Instant};

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a server may be starting up or recovering (it says so) before we give up.
const STARTING_UP: Duration = Duration::from_secs(60);

/// Settings every session of ours has, whatever server, database and role say; unknown ones are passed over.
///
/// COPY text depends on most of them. `session_replication_role` and the like are only touched where they differ,
/// because an ordinary role may not set them.
const PINS: [(&str, &str); 27] = [
    ("array_nulls", "on"),
    ("bytea_output", "hex"),
    ("check_function_bodies", "off"),
    ("client_min_messages", "error"),
    ("DateStyle", "ISO, MDY"),
    ("default_tablespace", ""),
    ("default_table_access_method", "heap"),
    ("default_transaction_deferrable", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("extra_float_digits", "3"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("IntervalStyle", "postgres"),
    ("lc_monetary", "C"),
    ("lock_timeout", "0"),
    ("max_parallel_workers_per_gather", "0"),
    ("quote_all_identifiers", "off"),
    ("row_security", "off"),
    ("session_replication_role", "origin"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("synchronize_seqscans", "off"),
    ("TimeZone", "UTC"),
    ("transaction_timeout", "0"),
    ("transform_null_equals", "off"),
    ("xmloption", "content"),
];

/// Opens a pinned session. Waits for a server that is starting up or recovering.
pub(crate) async fn connect(url: &PostgresUrl) -> Result<PgConnection, EngineError> {
    let mut conn = connect_plain(url).await.map_err(|error| connect_error(url, error))?;
    let pins: Vec<String> =
        PINS.iter().map(|(name, value)| format!("({}, {})", literal(name), literal(value))).collect();
    let pin = format!(
        "SELECT pg_catalog.set_config('search_path', '', false);
         SELECT pg_catalog.set_config(name, value, false) FROM (VALUES {}) AS pin (name, value)
         WHERE pg_catalog.current_setting(name, true) IS NOT NULL
           AND pg_catalog.current_setting(name, true) <> value",
        pins.join(", ")
    );
    exec(&mut conn, &pin).await.doing("the session's settings could not be pinned")?;
    Ok(conn)
}

/// Opens a session and leaves its settings as they are.
pub(crate) async fn connect_plain(url: &PostgresUrl) -> Result<PgConnection, sqlx::Error> {
    let options = options(url)?;
    let begun = Instant::now();
    loop {
        let attempt = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await;
        let error = match attempt {
            Ok(Ok(conn)) => return Ok(conn),
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within 15 s")),
        };
        if sqlstate(&error).as_deref() != Some("57P03") || begun.elapsed() > STARTING_UP || !starting_up(&error) {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// 57P03 also means "this database accepts no connections", which does not pass.
fn starting_up(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| !error.message().contains("not currently accepting"))
}

/// By way of a URL, because only then the driver looks into the password file for the right host and role.
fn options(url: &PostgresUrl) -> Result<PgConnectOptions, sqlx::Error> {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut text = format!("postgres:///?dbname={}", encode(&url.database));
    let parts = [
        ("host", url.host.clone()),
        ("port", url.port.map(|port| port.to_string())),
        ("user", url.user.clone()),
        ("password", url.password.clone()),
        ("sslmode", url.ssl_mode.clone()),
        ("sslrootcert", url.ssl_root_cert.clone()),
    ];
    for (name, value) in parts.iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value))) {
        text.push_str(&format!("&{name}={}", encode(value)));
    }
    let options: PgConnectOptions = text.parse()?;
    Ok(options.application_name("holdfast").disable_statement_logging())
}

/// Says goodbye properly, so that the server has forgotten the session when this returns. Best effort.
pub(crate) async fn close(conn: PgConnection) {
    if let Err(error) = conn.close().await {
        tracing::debug!(%error, "a session did not close properly");
    }
}

/// Runs statements whose rows do not matter, in one round trip.
pub(crate) async fn exec(conn: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.map(|_| ())
}

/// Runs one query and returns its rows as `T`, by column name.
pub(crate) async fn rows<T: DeserializeOwned>(conn: &mut PgConnection, query: &str) -> Result<Vec<T>, sqlx::Error> {
    let sql = format!("SELECT coalesce(json_agg(row_to_json(q)), '[]')::text FROM ({query}) AS q");
    let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(conn).await?;
    let text: String = row.try_get(0)?;
    serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Runs one query in a read-only transaction and returns its rows as text.
pub(crate) async fn texts(conn: &mut PgConnection, query: &str) -> Result<Vec<Vec<Option<String>>>, sqlx::Error> {
    exec(conn, "BEGIN READ ONLY").await?;
    let rows = sqlx::raw_sql(AssertSqlSafe(query)).fetch_all(&mut *conn).await;
    exec(conn, "ROLLBACK").await?;
    let text = |row: &sqlx::postgres::PgRow, at| -> Result<Option<String>, sqlx::Error> {
        let value = row.try_get_raw(at)?;
        // Only the simple protocol is used here, whose values are texts.
        if value.is_null() {
            Ok(None)
        } else {
            value.as_str().map(|text| Some(text.to_owned())).map_err(sqlx::Error::Decode)
        }
    };
    rows?.iter().map(|row| (0..row.len()).map(|at| text(row, at)).collect()).collect()
}

/// Runs one query that yields exactly one row.
pub(crate) async fn one<T: DeserializeOwned>(conn: &mut PgConnection, query: &str) -> Result<T, sqlx::Error> {
    rows(conn, query).await?.into_iter().next().ok_or(sqlx::Error::RowNotFound)
}

/// The server's error code, where the server answered at all.
pub(crate) fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
}

/// The server's words on one line, without detail lines (they hold values).
pub(crate) fn words(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(error) => one_line(error.message()),
        None => one_line(&error.to_string()),
    }
}

/// Gives a driver's error the sentence it belongs to.
pub(crate) trait Doing<T> {
    /// Turns the error into an [`EngineError`] that begins with `what`.
    fn doing(self, what: impl AsRef<str>) -> Result<T, EngineError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, what: impl AsRef<str>) -> Result<T, EngineError> {
        self.map_err(|error| engine_error(what.as_ref(), &error))
    }
}

/// The error as a caller of the engine sees it; its class follows from the server's code.
pub(crate) fn engine_error(what: &str, error: &sqlx::Error) -> EngineError {
    let message = format!("{what}: {}", words(error));
    let code = sqlstate(error);
    match code.as_deref() {
        Some("55P03") => EngineError::Unreachable {
            message,
            hint: Some("another session holds a lock, or waits for one; try again when it is done".into()),
        },
        Some("42P01") => EngineError::NoSuchTable(message),
        Some("53100") => EngineError::failed(message).with_hint("the disk of the database server is full"),
        Some(code)
            if code.starts_with("08") || code.starts_with("57P") || matches!(code, "53300" | "40001" | "40P01") =>
        {
            EngineError::Unreachable { message, hint: None }
        }
        Some("53200") if message.contains("max_locks_per_transaction") || message.contains("shared memory") => {
            EngineError::failed(message).with_hint("raise max_locks_per_transaction on the server")
        }
        Some(_) => EngineError::failed(message),
        None => match error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => {
                EngineError::Unreachable { message, hint: None }
            }
            _ => EngineError::failed(message),
        },
    }
}

/// The error of a connection attempt, with a hint where a person can act.
pub(crate) fn connect_error(url: &PostgresUrl, error: sqlx::Error) -> EngineError {
    let failed = engine_error(&format!("cannot connect to {url}"), &error);
    match sqlstate(&error).as_deref() {
        Some("28P01" | "28000") => failed.with_hint("check role and password (URL, PGPASSWORD or ~/.pgpass)"),
        Some("3D000") => failed.with_hint("the server is there, the database is not: check its name"),
        Some("42501") => failed.with_hint("the role may not connect to this database: GRANT CONNECT"),
        Some(_) => failed,
        None => failed.with_hint("is the server running, and are host and port right?"),
    }
}
