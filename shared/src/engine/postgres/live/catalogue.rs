//! Databases as the server lists them.

use crate::engine::EngineError;
use crate::engine::postgres::quote::literal;
use crate::engine::postgres::session::{Doing, rows};
use serde::Deserialize;
use sqlx::PgConnection;

/// A database of the server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Found {
    pub(super) oid: u32,
    pub(super) name: String,
    /// Connections are allowed.
    pub(super) open: bool,
    /// Its removal was begun and not finished, because the server went away: it can only be removed.
    pub(super) invalid: bool,
    pub(super) comment: Option<String>,
}

impl Found {
    /// Whether its comment begins so.
    pub(super) fn is_marked(&self, mark: &str) -> bool {
        self.comment.as_ref().is_some_and(|comment| comment.starts_with(mark))
    }
}

/// The database that bears this name.
pub(super) async fn by_name(conn: &mut PgConnection, name: &str) -> Result<Option<Found>, EngineError> {
    Ok(list(conn, &format!("d.datname = {}", literal(name))).await?.into_iter().next())
}

/// The database with this OID.
pub(super) async fn by_oid(conn: &mut PgConnection, oid: u32) -> Result<Option<Found>, EngineError> {
    Ok(list(conn, &format!("d.oid = {oid}")).await?.into_iter().next())
}

/// Which of these names are taken.
pub(super) async fn names_taken(conn: &mut PgConnection, names: &[String]) -> Result<Vec<String>, EngineError> {
    let names: Vec<String> = names.iter().map(|name| literal(name)).collect();
    let found = list(conn, &format!("d.datname IN ({})", names.join(", "))).await?;
    Ok(found.into_iter().map(|found| found.name).collect())
}

/// The databases a condition on `pg_database AS d` and its `comment` is true for, by name.
pub(super) async fn list(conn: &mut PgConnection, condition: &str) -> Result<Vec<Found>, EngineError> {
    let query = format!(
        "SELECT d.oid::bigint AS oid, d.datname AS name, d.datallowconn AS open, d.datconnlimit = -2 AS invalid, c.comment
         FROM pg_database d CROSS JOIN LATERAL (SELECT shobj_description(d.oid, 'pg_database') AS comment) AS c
         WHERE {condition} ORDER BY d.datname"
    );
    rows(conn, &query).await.doing("the databases could not be listed")
}
