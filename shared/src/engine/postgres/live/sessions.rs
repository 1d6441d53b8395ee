//! Sessions in a database: who they are, and how they are ended.

use super::{FencePlan, PATIENCE, PostgresLive};
use crate::engine::EngineError;
use crate::engine::postgres::quote::{literal, one_line};
use crate::engine::postgres::session::{self, Doing, rows, sqlstate, words};
use crate::model::PostgresUrl;
use serde::Deserialize;
use sqlx::PgConnection;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Pause between two looks at the sessions that are left.
const PAUSE: Duration = Duration::from_millis(30);

/// Beginning of the application name of our own sessions and of the tools we start.
const OURS: &str = "holdfast";

/// A session in a database. What the role may not see is `None`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Session {
    pub(super) pid: i32,
    pub(super) role: Option<String>,
    pub(super) application: Option<String>,
    pub(super) client: Option<String>,
    pub(super) began: Option<String>,
    pub(super) kind: Option<String>,
}

impl Session {
    /// As a person wants to read it: `session 4711 (psql of postgres from 10.0.0.7)`.
    pub(super) fn in_words(&self) -> String {
        let what = self.application.as_deref().filter(|name| !name.is_empty()).or(self.kind.as_deref());
        let what = one_line(what.unwrap_or("a program without a name"));
        let role = self.role.as_ref().map_or(String::new(), |role| format!(" of {role}"));
        let client = self.client.as_ref().map_or(String::new(), |client| format!(" from {client}"));
        format!("session {} ({what}{role}{client})", self.pid)
    }
}

/// Sessions in the database with this OID. The server's own cleaning workers give way by themselves and are left out.
pub(super) async fn in_database(conn: &mut PgConnection, oid: u32) -> Result<Vec<Session>, EngineError> {
    let query = format!(
        "SELECT pid, usename AS role, application_name AS application, host(client_addr) AS client,
                backend_start::text AS began, backend_type AS kind FROM pg_stat_activity
         WHERE datid = {oid} AND pid <> pg_backend_pid()
           AND coalesce(backend_type, '') NOT IN ('autovacuum worker', 'parallel worker') ORDER BY backend_start, pid"
    );
    rows(conn, &query).await.doing("the sessions could not be listed")
}

/// Ends every other session that is at work on a statement in which `word` stands, and waits until it is gone.
///
/// A killed client is not a stopped statement: a database that somebody was making when he was killed appears after
/// everybody has looked for it. `word` is a name, or a part of names, that only one owner uses.
pub(super) async fn end_statements_about(conn: &mut PgConnection, word: &str) -> Result<(), EngineError> {
    #[derive(Deserialize)]
    struct Count {
        left: usize,
    }
    let query = format!(
        "SELECT count(pg_terminate_backend(pid)) AS left FROM pg_stat_activity
         WHERE pid <> pg_backend_pid() AND state = 'active' AND position({} IN query) > 0",
        literal(word)
    );
    let begun = Instant::now();
    loop {
        let Count { left } = session::one(conn, &query).await.doing("statements of a lost owner could not be ended")?;
        if left == 0 {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(EngineError::failed(format!("{left} sessions still work on {word} and do not end")));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Transactions prepared in the database with this OID, by their ids.
pub(super) async fn prepared(conn: &mut PgConnection, oid: u32) -> Result<Vec<String>, EngineError> {
    #[derive(Deserialize)]
    struct Prepared {
        gid: String,
    }
    let query = format!(
        "SELECT p.gid FROM pg_prepared_xacts p JOIN pg_database d ON d.datname = p.database WHERE d.oid = {oid} ORDER BY 1"
    );
    let list: Vec<Prepared> = rows(conn, &query).await.doing("prepared transactions could not be listed")?;
    Ok(list.into_iter().map(|prepared| prepared.gid).collect())
}

/// Asks every session of the database to end; returns what kept us from ending some, a line each.
pub(super) async fn terminate(conn: &mut PgConnection, oid: u32) -> Result<Vec<String>, EngineError> {
    let mut refused = Vec::new();
    for session in in_database(conn, oid).await? {
        // The process id may be somebody else's by now, so the session is named by all we know of it.
        let began = session.began.as_ref().map_or("NULL".to_owned(), |began| literal(began));
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE pid = {} AND datid = {oid} AND backend_start::text IS NOT DISTINCT FROM {began}",
            session.pid
        );
        match session::exec(conn, &sql).await {
            Ok(()) => {}
            Err(error) if sqlstate(&error).as_deref() == Some("42501") => {
                refused.push(format!("{} could not be ended: {}", session.in_words(), words(&error)));
            }
            Err(error) => return Err(error).doing("sessions could not be ended"),
        }
    }
    Ok(refused)
}

/// Ends all sessions of a closed database and waits until none is left; returns those left after `patience`.
pub(super) async fn end_all(conn: &mut PgConnection, oid: u32, patience: Duration) -> Result<Vec<String>, EngineError> {
    let begun = Instant::now();
    loop {
        let refused = terminate(conn, oid).await?;
        let left = in_database(conn, oid).await?;
        if left.is_empty() {
            return Ok(Vec::new());
        }
        if begun.elapsed() >= patience || (!refused.is_empty() && refused.len() == left.len()) {
            return Ok(if refused.is_empty() { left.iter().map(Session::in_words).collect() } else { refused });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl PostgresLive {
    /// Sessions in the fenced database that are neither ours nor of a tool we started, a line each.
    ///
    /// Ours are those whose application name begins with `holdfast`, under the application's or the fencing role.
    pub async fn foreign_sessions(&self, plan: &FencePlan) -> Result<Vec<String>, EngineError> {
        let ours = [self.role_of(&self.fenced_url(plan)).await?, self.role_of(&self.fenced_admin_url(plan)).await?];
        let ours: BTreeSet<String> = ours.into_iter().collect();
        let mut conn = self.maintenance().await?;
        let found = in_database(&mut conn, plan.oid).await?;
        session::close(conn).await;
        // A tool that calls its sessions otherwise counts as somebody else: then a person is asked, and nothing is lost.
        let is_ours = |session: &Session| {
            session.application.as_ref().is_some_and(|name| name.starts_with(OURS))
                && session.role.as_ref().is_some_and(|role| ours.contains(role))
        };
        Ok(found.iter().filter(|session| !is_ours(session)).map(Session::in_words).collect())
    }

    /// The role an address stands for; only where it names none the server is asked.
    async fn role_of(&self, url: &PostgresUrl) -> Result<String, EngineError> {
        #[derive(Deserialize)]
        struct Role {
            role: String,
        }
        if let Some(user) = &url.user {
            return Ok(user.clone());
        }
        let mut conn = session::connect(url).await?;
        let role: Role = session::one(&mut conn, "SELECT session_user::text AS role")
            .await
            .doing("the session's role could not be read")?;
        session::close(conn).await;
        Ok(role.role)
    }
}
