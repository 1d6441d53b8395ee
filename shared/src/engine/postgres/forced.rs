//! `FORCE ROW LEVEL SECURITY`: it hides rows from a table's owner too, and stops him from validating foreign keys.

use super::catalog::USER_SCHEMA;
use super::quote::ident;
use super::session::{Doing, exec, rows};
use crate::engine::EngineError;
use serde::Deserialize;
use sqlx::PgConnection;

/// A table with the force.
#[derive(Debug, Deserialize)]
pub(crate) struct Forced {
    schema: String,
    name: String,
}

impl Forced {
    /// All of them.
    pub(crate) async fn list(conn: &mut PgConnection) -> Result<Vec<Forced>, EngineError> {
        Self::that(conn, "true").await
    }

    /// Those that hide rows from the role of this session, though it owns them.
    pub(crate) async fn hiding(conn: &mut PgConnection) -> Result<Vec<Forced>, EngineError> {
        Self::that(conn, "row_security_active(c.oid) AND pg_has_role(c.relowner, 'MEMBER')").await
    }

    async fn that(conn: &mut PgConnection, condition: &str) -> Result<Vec<Forced>, EngineError> {
        let query = format!(
            "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relforcerowsecurity AND {USER_SCHEMA} AND {condition} ORDER BY 1, 2"
        );
        rows(conn, &query).await.doing("the tables with forced row-level security could not be listed")
    }

    /// Takes the force away.
    pub(crate) fn off(&self) -> String {
        format!("ALTER TABLE {}.{} NO FORCE ROW LEVEL SECURITY", ident(&self.schema), ident(&self.name))
    }

    /// Puts it back.
    pub(crate) fn on(&self) -> String {
        format!("ALTER TABLE {}.{} FORCE ROW LEVEL SECURITY", ident(&self.schema), ident(&self.name))
    }
}

/// Takes the force away from these tables, or puts it back, in one transaction.
pub(crate) async fn switch(
    conn: &mut PgConnection,
    tables: &[Forced],
    statement: fn(&Forced) -> String,
) -> Result<(), EngineError> {
    let statements: Vec<String> = tables.iter().map(statement).collect();
    exec(conn, &statements.join("; ")).await.doing("forced row-level security could not be switched")
}
