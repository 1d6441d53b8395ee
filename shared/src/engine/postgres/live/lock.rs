//! The lock at the target: at most one owner for a database, whatever record of tasks it works for.

use super::PostgresLive;
use crate::engine::EngineError;
use crate::engine::postgres::quote::{literal, one_line};
use crate::engine::postgres::session::{self, Doing, exec, rows};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use std::fmt;
use std::time::{Duration, Instant};

/// Pause between two tries to get the lock.
const PAUSE: Duration = Duration::from_millis(200);

/// How long the server may take to answer whether the lock is still held, or to end a holder.
const ANSWER: Duration = Duration::from_secs(10);

/// The session that holds the lock of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// Process id of its backend.
    pub pid: i32,
    /// When that backend began, as the server writes it in UTC; together with `pid` it names one session for ever.
    pub backend_start: Option<String>,
    /// Its application name.
    pub application_name: Option<String>,
    /// Its role.
    pub role: Option<String>,
    /// Its client's address; `None` for a socket, and where the role may not see it.
    pub client: Option<String>,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = one_line(self.application_name.as_deref().unwrap_or("a program without a name"));
        write!(f, "session {} ({name}", self.pid)?;
        for (word, value) in [("of", &self.role), ("from", &self.client), ("since", &self.backend_start)] {
            if let Some(value) = value {
                write!(f, " {word} {value}")?;
            }
        }
        f.write_str(")")
    }
}

/// The lock of a database. It is free as soon as its connection ends, so dropping the value frees it.
#[derive(Debug)]
pub struct PostgresLock {
    conn: PgConnection,
    key: i64,
    database: String,
    holder: LockHolder,
}

impl PostgresLock {
    /// The session that holds it, to be recorded with the lease.
    pub fn holder(&self) -> &LockHolder {
        &self.holder
    }

    /// Asks the server whether the lock is still held; an error means that it must be taken for lost.
    ///
    /// An answer that takes longer than 10 s is an error.
    pub async fn check(&mut self) -> Result<(), EngineError> {
        let lost = |message: String| EngineError::Unreachable { message, hint: None };
        let held = tokio::time::timeout(ANSWER, holders(&mut self.conn, self.key)).await;
        let held = held.map_err(|_| lost(format!("the lock of {}: no answer within 10 s", self.database)))??;
        if held.iter().any(|holder| holder.pid == self.holder.pid) {
            return Ok(());
        }
        Err(lost(format!("the lock of {} is lost", self.database)))
    }

    /// Frees the lock: nobody is refused because of it any more when this returns.
    pub async fn release(mut self) {
        // The end of the session frees it, too, but on a busy server a moment later.
        if let Err(error) = session::exec(&mut self.conn, "SELECT pg_advisory_unlock_all()").await {
            tracing::debug!(%error, "a lock is left to end with its session");
        }
        session::close(self.conn).await;
    }
}

impl PostgresLive {
    /// Takes the lock of the database, on a connection of its own in the database `postgres`.
    ///
    /// Waits for `patience` while another session holds it, then refuses ([`EngineError::Refused`]) and names it.
    pub async fn lock(&self, patience: Duration) -> Result<PostgresLock, EngineError> {
        let key = key(self.public());
        let mut conn = self.maintenance().await?;
        // The server notices within half a minute that this host is gone, and frees the lock.
        exec(&mut conn, "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4")
            .await
            .doing("the lock's session could not be set up")?;
        let begun = Instant::now();
        while !taken(&mut conn, key).await? {
            if begun.elapsed() >= patience {
                let who: Vec<String> = holders(&mut conn, key).await?.iter().map(LockHolder::to_string).collect();
                let message = format!("the database {} is locked by {}", self.public(), who.join(", "));
                return Err(
                    EngineError::refused(message).with_hint("another Holdfast works on it; wait until it is done")
                );
            }
            tokio::time::sleep(PAUSE.min(patience)).await;
        }
        let holder = own(&mut conn).await?;
        Ok(PostgresLock { conn, key, database: self.public().to_owned(), holder })
    }

    /// Ends exactly this session, if it still holds the lock of the database; tells whether it did so.
    ///
    /// Both process id and begin must be the holder's. Returns when the lock is no longer held by it.
    pub async fn end_holder(&self, holder: &LockHolder) -> Result<bool, EngineError> {
        let key = key(self.public());
        let mut conn = self.maintenance().await?;
        let same = |found: &LockHolder| {
            found.pid == holder.pid && found.backend_start.is_some() && found.backend_start == holder.backend_start
        };
        if !holders(&mut conn, key).await?.iter().any(same) {
            session::close(conn).await;
            return Ok(false);
        }
        let began = literal(holder.backend_start.as_deref().unwrap_or_default());
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = {} AND backend_start::text = {began}",
            holder.pid
        );
        exec(&mut conn, &sql).await.doing(format!("{holder} could not be ended"))?;
        let begun = Instant::now();
        while holders(&mut conn, key).await?.iter().any(same) {
            if begun.elapsed() > ANSWER {
                let message = format!("{holder} was told to end and still holds the lock of {}", self.public());
                return Err(EngineError::Unreachable { message, hint: None });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        session::close(conn).await;
        Ok(true)
    }
}

/// The lock's number: the beginning of the SHA-256 of `holdfast:` and the public name.
fn key(public: &str) -> i64 {
    let digest = Sha256::digest(format!("holdfast:{public}"));
    digest.iter().take(8).fold(0, |key, byte| (key << 8) | i64::from(*byte))
}

async fn taken(conn: &mut PgConnection, key: i64) -> Result<bool, EngineError> {
    #[derive(Deserialize)]
    struct Taken {
        taken: bool,
    }
    let query = format!("SELECT pg_try_advisory_lock({key}) AS taken");
    let answer: Taken = session::one(conn, &query).await.doing("the database's lock could not be taken")?;
    Ok(answer.taken)
}

/// Sessions that hold the lock with this number in the database of `conn`: one or none.
async fn holders(conn: &mut PgConnection, key: i64) -> Result<Vec<LockHolder>, EngineError> {
    let (high, low) = ((key as u64) >> 32, (key as u64) & 0xffff_ffff);
    let condition = format!(
        "a.pid IN (SELECT l.pid FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
            AND l.classid::bigint = {high} AND l.objid::bigint = {low}
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    );
    listed(conn, &condition).await
}

async fn own(conn: &mut PgConnection) -> Result<LockHolder, EngineError> {
    let own = listed(conn, "a.pid = pg_backend_pid()").await?;
    own.into_iter().next().ok_or_else(|| EngineError::failed("the lock's session does not see itself"))
}

async fn listed(conn: &mut PgConnection, condition: &str) -> Result<Vec<LockHolder>, EngineError> {
    let query = format!(
        "SELECT a.pid, a.backend_start::text AS backend_start, a.application_name, a.usename::text AS role,
                host(a.client_addr) AS client
         FROM pg_stat_activity a WHERE {condition}"
    );
    rows(conn, &query).await.doing("the holder of the database's lock could not be read")
}
