//! Several databases get other names, all or none.

use super::sessions;
use crate::engine::EngineError;
use crate::engine::postgres::quote::{ident, literal};
use crate::engine::postgres::session::{self, exec, sqlstate, words};
use serde::Deserialize;
use sqlx::PgConnection;
use std::time::{Duration, Instant};

/// How long one try may wait for a session that slipped in; the server alone would wait 5 s, and clients wait with it.
const ONE_TRY_MS: u32 = 2_000;

/// One database gets another name.
#[derive(Debug, Clone)]
pub(super) struct Rename {
    pub(super) oid: u32,
    pub(super) from: String,
    pub(super) to: String,
}

impl Rename {
    /// The database with this OID, from one name to another.
    pub(super) fn new(oid: u32, from: &str, to: &str) -> Self {
        Rename { oid, from: from.to_owned(), to: to.to_owned() }
    }
}

/// Names of the crash points on both sides of the exchange.
#[derive(Debug, Clone, Copy)]
pub(super) struct Points {
    /// All sessions have been ended.
    pub(super) ended: &'static str,
    /// The names have changed.
    pub(super) done: &'static str,
}

/// Why names were not changed.
#[derive(Debug)]
pub(super) enum Unchanged {
    /// Somebody is in one of the databases, a line each.
    Busy(Vec<String>),
    /// The statement failed.
    Failed(EngineError),
}

impl From<EngineError> for Unchanged {
    fn from(error: EngineError) -> Self {
        Unchanged::Failed(error)
    }
}

impl Unchanged {
    /// The error, with the state that is left behind.
    pub(super) fn into_error(self, state: &str) -> EngineError {
        match self {
            Unchanged::Busy(who) => EngineError::Unreachable {
                message: format!("still in use: {}; {state}", who.join(", ")),
                hint: Some("end these sessions or transactions, then try again".into()),
            },
            Unchanged::Failed(EngineError::Failed { message, hint }) => {
                EngineError::Failed { message: format!("{message}; {state}"), hint }
            }
            Unchanged::Failed(error) => error,
        }
    }
}

/// Renames closed databases in one transaction, in this order, and runs `last` in it too.
///
/// Sessions in them are ended first, again and again for `patience`. In the transaction it is checked that every OID
/// bears its new name; otherwise nothing changes. After a lost connection the caller looks how it ended.
pub(super) async fn exchange(
    conn: &mut PgConnection,
    renames: &[Rename],
    last: &[String],
    patience: Duration,
    points: Points,
) -> Result<(), Unchanged> {
    let begun = Instant::now();
    loop {
        let left = patience.saturating_sub(begun.elapsed());
        for rename in renames {
            let busy = sessions::end_all(conn, rename.oid, left).await?;
            if !busy.is_empty() {
                return Err(Unchanged::Busy(busy));
            }
            let prepared = sessions::prepared(conn, rename.oid).await?;
            if !prepared.is_empty() {
                return Err(Unchanged::Busy(
                    prepared.iter().map(|gid| format!("prepared transaction {gid:?}")).collect(),
                ));
            }
        }
        crate::crash_point::reached(points.ended);
        match try_once(conn, renames, last).await {
            Ok(()) => {
                crate::crash_point::reached(points.done);
                return Ok(());
            }
            Err(Try::Again(_)) if begun.elapsed() < patience => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(Try::Again(why)) => return Err(Unchanged::Busy(vec![why])),
            Err(Try::Failed(error)) => return Err(Unchanged::Failed(error)),
        }
    }
}

enum Try {
    /// Somebody slipped in, or another session renames too.
    Again(String),
    Failed(EngineError),
}

async fn try_once(conn: &mut PgConnection, renames: &[Rename], last: &[String]) -> Result<(), Try> {
    let mut sql = format!("BEGIN; SET LOCAL statement_timeout = {ONE_TRY_MS}; ");
    for Rename { from, to, .. } in renames {
        sql.push_str(&format!("ALTER DATABASE {} RENAME TO {}; ", ident(from), ident(to)));
    }
    for statement in last {
        sql.push_str(&format!("{statement}; "));
    }
    if let Err(error) = exec(conn, &sql).await {
        exec(conn, "ROLLBACK").await.ok();
        let code = sqlstate(&error);
        // In use, timed out, deadlock, lock not available, changed meanwhile.
        return Err(match code.as_deref() {
            Some("55006" | "57014" | "40P01" | "40001" | "55P03") => Try::Again(words(&error)),
            Some("XX000") if words(&error).contains("concurrently updated") => Try::Again(words(&error)),
            Some("42501") => Try::Failed(
                session::engine_error("databases could not be renamed", &error)
                    .with_hint("the role must own the databases (or be a member of their owner) and have CREATEDB"),
            ),
            _ => Try::Failed(session::engine_error("databases could not be renamed", &error)),
        });
    }
    match all_in_place(conn, renames).await {
        Ok(true) => exec(conn, "COMMIT")
            .await
            .map_err(|error| Try::Failed(session::engine_error("the new names could not be committed", &error))),
        Ok(false) => {
            exec(conn, "ROLLBACK").await.ok();
            let names: Vec<&str> = renames.iter().map(|rename| rename.from.as_str()).collect();
            let message = format!("somebody else renamed one of {}; nothing was changed", names.join(", "));
            Err(Try::Failed(EngineError::failed(message)))
        }
        Err(error) => {
            exec(conn, "ROLLBACK").await.ok();
            Err(Try::Failed(session::engine_error("the new names could not be checked", &error)))
        }
    }
}

async fn all_in_place(conn: &mut PgConnection, renames: &[Rename]) -> Result<bool, sqlx::Error> {
    #[derive(Deserialize)]
    struct Count {
        found: usize,
    }
    let pairs: Vec<String> =
        renames.iter().map(|rename| format!("({}::oid, {}::name)", rename.oid, literal(&rename.to))).collect();
    let query = format!("SELECT count(*) AS found FROM pg_database WHERE (oid, datname) IN ({})", pairs.join(", "));
    let count: Count = session::one(conn, &query).await?;
    Ok(count.found == renames.len())
}

/// Lets nobody in any more, superusers included; who is in stays.
pub(super) async fn close(conn: &mut PgConnection, name: &str) -> Result<(), EngineError> {
    super::run(conn, &allow(name, false), &format!("{name} could not be closed to connections")).await
}

/// Lets clients in.
pub(super) async fn open(conn: &mut PgConnection, name: &str) -> Result<(), EngineError> {
    super::run(conn, &allow(name, true), &format!("{name} is closed and could not be opened to connections")).await
}

/// The statement that opens or closes a database to connections.
pub(super) fn allow(name: &str, connections: bool) -> String {
    format!("ALTER DATABASE {} ALLOW_CONNECTIONS {connections}", ident(name))
}
