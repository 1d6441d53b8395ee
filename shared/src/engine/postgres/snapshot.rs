//! The leader of a dump: locks every table first, takes the snapshot second, and holds both to the end.
//!
//! The order matters: a snapshot older than a rewriting ALTER or a TRUNCATE sees the table empty, without an error.

use super::catalog::{self, Table};
use super::quote::literal;
use super::session::{self, Doing, exec, one};
use crate::engine::EngineError;
use crate::model::PostgresUrl;
use serde::Deserialize;
use sqlx::PgConnection;

/// Tables locked by one statement.
const LOCK_BATCH: usize = 200;

/// `server_version_num` of the oldest server whose catalogue we understand.
const OLDEST: u32 = 120_000;

/// How often tables may come and go between listing and locking before the dump gives way.
const TRIES: usize = 3;

/// One transaction that holds ACCESS SHARE on every table, and the snapshot the workers import.
pub(crate) struct Leader {
    pub(crate) conn: PgConnection,
    /// Name of the exported snapshot.
    pub(crate) snapshot: String,
    pub(crate) at: jiff::Timestamp,
    pub(crate) lsn: Option<String>,
    pub(crate) server: Server,
    /// All tables of user schemas, as the snapshot shows them.
    pub(crate) tables: Vec<Table>,
}

/// What the server says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Server {
    /// `server_version_num`.
    pub(crate) number: u32,
    /// `15.18`, without the packager's remarks.
    pub(crate) version: String,
    pub(crate) system: String,
    pub(crate) database: String,
    pub(crate) encoding: String,
    pub(crate) size_bytes: u64,
    /// In recovery: no writes, no unlogged tables.
    pub(crate) standby: bool,
}

impl Server {
    /// Asks a session.
    pub(crate) async fn ask(conn: &mut PgConnection) -> Result<Server, EngineError> {
        let server: Server = one(
            conn,
            "SELECT current_setting('server_version_num')::int8 AS number,
                split_part(current_setting('server_version'), ' ', 1) AS version,
                (SELECT system_identifier::text FROM pg_control_system()) AS system,
                current_database() AS database, current_setting('server_encoding') AS encoding,
                pg_database_size(current_database()) AS size_bytes, pg_is_in_recovery() AS standby",
        )
        .await
        .doing("the server could not be asked for its version and identity")?;
        if server.number < OLDEST {
            return Err(EngineError::refused(format!("PostgreSQL {} is older than 12", server.version)));
        }
        Ok(server)
    }

    /// Major version, for instance 15.
    pub(crate) fn major(&self) -> u32 {
        self.number / 10_000
    }
}

impl Leader {
    /// Connects, locks, takes the snapshot and lists the tables under it.
    ///
    /// `check` sees the tables before they are locked and may refuse; a lock that is not granted in time gives way.
    pub(crate) async fn begin(
        url: &PostgresUrl,
        lock_timeout_s: u32,
        check: impl Fn(&[Table]) -> Result<(), EngineError>,
    ) -> Result<Leader, EngineError> {
        let mut conn = session::connect(url).await?;
        let server = Server::ask(&mut conn).await?;
        let wait = format!("SET lock_timeout = '{}s'", lock_timeout_s.max(1));
        exec(&mut conn, &wait).await.doing("the lock timeout could not be set")?;
        for _ in 0..TRIES {
            let listing = "the tables could not be listed";
            let before = catalog::tables(&mut conn, server.number, false).await.doing(listing)?;
            check(&before)?;
            exec(&mut conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.doing(listing)?;
            lock(&mut conn, &before).await?;
            let (snapshot, at, lsn) = export(&mut conn, server.standby).await?;
            let tables = catalog::tables(&mut conn, server.number, true).await.doing(listing)?;
            if same_tables(&before, &tables) {
                check(&tables)?;
                return Ok(Leader { conn, snapshot, at, lsn, server, tables });
            }
            exec(&mut conn, "ROLLBACK").await.doing(listing)?;
        }
        Err(EngineError::Unreachable {
            message: format!("tables of {url} were created or dropped while they were being locked, {TRIES} times"),
            hint: Some("try again when the migration that is running has ended".into()),
        })
    }
}

/// LOCK TABLE takes no snapshot, so the transaction's snapshot comes after the last lock.
async fn lock(conn: &mut PgConnection, tables: &[Table]) -> Result<(), EngineError> {
    let list: Vec<&Table> = tables.iter().filter(|table| lockable(table)).collect();
    for batch in list.chunks(LOCK_BATCH) {
        let names: Vec<String> = batch.iter().map(|table| format!("ONLY {}", table.sql())).collect();
        let sql = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
        exec(conn, &sql).await.doing("the tables could not be locked for reading")?;
    }
    Ok(())
}

/// Extension tables whose rows are not ours to read need no lock, and may be closed to the role.
fn lockable(table: &Table) -> bool {
    table.kind != "f" && (table.extension.is_none() || table.config.is_some())
}

async fn export(
    conn: &mut PgConnection,
    standby: bool,
) -> Result<(String, jiff::Timestamp, Option<String>), EngineError> {
    #[derive(Deserialize)]
    struct Exported {
        snapshot: String,
        millis: i64,
        lsn: Option<String>,
    }
    let lsn = if standby { "pg_last_wal_replay_lsn()" } else { "pg_current_wal_insert_lsn()" };
    let query = format!(
        "SELECT pg_export_snapshot() AS snapshot, floor(extract(epoch FROM clock_timestamp()) * 1000)::int8 AS millis,
            {lsn}::text AS lsn"
    );
    let exported: Exported = one(conn, &query).await.doing("the snapshot could not be exported")?;
    let at = jiff::Timestamp::from_millisecond(exported.millis)
        .map_err(|error| EngineError::failed(format!("the server's clock is out of range: {error}")))?;
    Ok((exported.snapshot, at, exported.lsn))
}

fn same_tables(before: &[Table], after: &[Table]) -> bool {
    let keys = |tables: &[Table]| -> Vec<(u32, String, Vec<catalog::Column>, Vec<u32>)> {
        let key = |table: &Table| (table.oid, table.sql(), table.columns.clone(), table.parents.clone());
        tables.iter().filter(|table| lockable(table)).map(key).collect()
    };
    keys(before) == keys(after)
}

/// The statement that makes a worker's transaction see what the leader sees.
pub(crate) fn import(snapshot: &str) -> String {
    format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}", literal(snapshot))
}

/// The statement by which a worker locks what it is about to read, without waiting behind an ALTER that waits for us.
pub(crate) fn lock_now(relations: &[String]) -> String {
    let names: Vec<String> = relations.iter().map(|name| format!("ONLY {name}")).collect();
    format!("LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT", names.join(", "))
}
