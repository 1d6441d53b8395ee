//! Databases that we made for a while, and how they go.

use super::names::{is_beside, is_scratch};
use super::state::Scene;
use super::{FencePlan, PATIENCE, PostgresLive, catalogue, connection_lost, exchange, sessions};
use crate::crash_point;
use crate::engine::EngineError;
use crate::engine::postgres::aside::retry_in_use;
use crate::engine::postgres::loosen;
use crate::engine::postgres::quote::ident;
use crate::engine::postgres::session::{self, Doing, exec};
use sqlx::{Connection, PgConnection};

impl PostgresLive {
    /// Makes an empty database of a name that we give to databases made for a while.
    pub async fn create_scratch(&self, name: &str) -> Result<(), EngineError> {
        if !is_scratch(name) {
            return Err(EngineError::refused(format!("{name} is not a name for a database made for a while")));
        }
        let mut conn = self.maintenance().await?;
        let made = exec(&mut conn, &format!("CREATE DATABASE {} TEMPLATE template0", ident(name))).await;
        made.doing(format!("the empty database {name} could not be made"))?;
        session::close(conn).await;
        Ok(())
    }

    /// Drops a database that we made for a while, whoever is connected to it; a missing one is fine.
    ///
    /// Refuses every name that we do not give to such databases. Subscriptions in it let go of their slots elsewhere
    /// (which stay), slots on it are dropped.
    pub async fn drop_scratch(&self, name: &str) -> Result<(), EngineError> {
        match self.drop_scratch_once(name).await {
            Err(error) if connection_lost(&error) => self.drop_scratch_once(name).await,
            other => other,
        }
    }

    async fn drop_scratch_once(&self, name: &str) -> Result<(), EngineError> {
        if !is_scratch(name) || name == self.public() {
            return Err(EngineError::refused(format!("{name} is not a database that Holdfast made for a while")));
        }
        let mut conn = self.maintenance().await?;
        if let Some(found) = catalogue::by_name(&mut conn, name).await? {
            loosen::loosen(&mut conn, &self.admin.with_database(name)).await?;
            drop_by_oid(&mut conn, found.oid).await?;
        }
        session::close(conn).await;
        Ok(())
    }

    /// Ends what a lost owner's sessions still do to databases in whose names `word` stands.
    ///
    /// `word` must be one that only this owner uses, such as the token of its fence or the name of its copy.
    pub async fn end_statements_about(&self, word: &str) -> Result<(), EngineError> {
        let mut conn = self.maintenance().await?;
        sessions::end_statements_about(&mut conn, word).await?;
        session::close(conn).await;
        Ok(())
    }

    /// Names of databases beside this one that fences, rehearsals and restores made, by name.
    pub async fn leftovers(&self) -> Result<Vec<String>, EngineError> {
        let mut conn = self.maintenance().await?;
        let all = catalogue::list(&mut conn, "true").await?;
        session::close(conn).await;
        let beside = |name: &String| name != self.public() && is_beside(self.public(), name);
        Ok(all.into_iter().map(|found| found.name).filter(beside).collect())
    }
}

/// Drops the plan's placeholder; what failed is returned as a line, because nothing depends on it.
///
/// Fails where the server went away meanwhile: the same again will not.
pub(super) async fn without_placeholder(conn: &mut PgConnection, plan: &FencePlan) -> Result<Vec<String>, EngineError> {
    match drop_placeholder(conn, plan).await {
        Ok(()) => Ok(Vec::new()),
        Err(error) if conn.ping().await.is_err() => Err(error),
        Err(error) => Ok(vec![format!("the placeholder of {} is left behind: {error}", plan.public)]),
    }
}

/// Drops the plan's placeholder, by its OID, unless it bears the public name.
pub(super) async fn drop_placeholder(conn: &mut PgConnection, plan: &FencePlan) -> Result<(), EngineError> {
    match Scene::look(conn, plan).await?.placeholder {
        Some(found) if found.name != plan.public => drop_by_oid(conn, found.oid).await,
        _ => Ok(()),
    }
}

/// Closes a database, ends its sessions and drops it.
async fn drop_by_oid(conn: &mut PgConnection, oid: u32) -> Result<(), EngineError> {
    let Some(found) = catalogue::by_oid(conn, oid).await? else { return Ok(()) };
    let name = &found.name;
    if !found.invalid {
        exchange::close(conn, name).await?;
    }
    let busy = sessions::end_all(conn, oid, PATIENCE).await?;
    if !busy.is_empty() {
        let message = format!("{name} is still in use: {}; it is closed", busy.join(", "));
        return Err(EngineError::Unreachable { message, hint: Some("end these sessions".into()) });
    }
    crash_point::reached("drop: closed and empty");
    retry_in_use(conn, &format!("DROP DATABASE IF EXISTS {}", ident(name)))
        .await
        .doing(format!("{name} could not be dropped; it is closed"))?;
    crash_point::reached("drop: dropped");
    Ok(())
}
