//! Taking the fence down: the commit of a migration, and the way back from one that changed nothing.

use super::exchange::{self, Points, Rename, allow, exchange};
use super::state::{Scene, misplaced};
use super::{FencePlan, FenceState, PATIENCE, PostgresLive, connection_lost, scratch};
use crate::crash_point;
use crate::engine::EngineError;
use crate::engine::postgres::session;
use sqlx::PgConnection;
use std::time::Instant;

const POINTS: Points = Points { ended: "unfence: sessions ended", done: "unfence: names swapped" };

/// A database that can be reached by its public name again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfenced {
    /// Since when.
    pub opened: Instant,
    /// What could not be tidied up, a line each; calling again tries again.
    pub warnings: Vec<String>,
}

impl PostgresLive {
    /// Gives the original its public name back and opens it, in one transaction; then drops the placeholder.
    ///
    /// Sessions behind the fence are ended. Works from every state a fence or cut-off can leave, also from one that was
    /// only begun, and does nothing where nothing is to be done. An error leaves the database fenced.
    pub async fn unfence(&self, plan: &FencePlan) -> Result<Unfenced, EngineError> {
        match self.unfence_once(plan).await {
            Err(error) if connection_lost(&error) => self.unfence_once(plan).await,
            other => other,
        }
    }

    async fn unfence_once(&self, plan: &FencePlan) -> Result<Unfenced, EngineError> {
        let mut conn = self.maintenance().await?;
        let scene = Scene::look(&mut conn, plan).await?;
        match scene.state(plan) {
            FenceState::Open => {}
            FenceState::HalfClosed => exchange::open(&mut conn, &plan.public).await?,
            FenceState::Fenced { name, .. } => lower(&mut conn, plan, &scene, &name).await?,
            other => return Err(misplaced("unfenced", plan, &other)),
        }
        let opened = Instant::now();
        crash_point::reached("unfence: opened");
        let warnings = scratch::without_placeholder(&mut conn, plan).await?;
        crash_point::reached("unfence: placeholder dropped");
        session::close(conn).await;
        Ok(Unfenced { opened, warnings })
    }
}

/// Exchanges the names back.
async fn lower(conn: &mut PgConnection, plan: &FencePlan, scene: &Scene, name: &str) -> Result<(), EngineError> {
    let mut renames = Vec::new();
    if let Some(placeholder) = scene.in_place(plan)? {
        renames.push(Rename::new(placeholder.oid, &plan.public, &plan.placeholder));
    }
    renames.push(Rename::new(plan.oid, name, &plan.public));
    crash_point::reached("unfence: begun");
    exchange::close(conn, name).await?;
    crash_point::reached("unfence: closed");
    // Opened in the same transaction: whoever sees the public name again can connect to it.
    exchange(conn, &renames, &[allow(&plan.public, true)], PATIENCE, POINTS)
        .await
        .map_err(|unchanged| unchanged.into_error(&format!("{} is still fenced as {name} and closed", plan.public)))
}
