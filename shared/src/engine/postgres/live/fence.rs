//! Putting a database behind a fence.

use super::exchange::{self, Points, Rename, Unchanged, exchange};
use super::state::{Scene, misplaced};
use super::{FencePlan, FenceState, PATIENCE, PostgresLive, connection_lost, run, scratch};
use crate::crash_point;
use crate::engine::EngineError;
use crate::engine::postgres::quote::{ident, literal};
use crate::engine::postgres::session::{self, exec, sqlstate};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

const POINTS: Points = Points { ended: "fence: sessions ended", done: "fence: names swapped" };

/// A fence that stands: the original bears its fenced name and accepts connections there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Its plan.
    pub plan: FencePlan,
    /// OID of the closed database that bears the public name.
    pub placeholder_oid: u32,
}

impl PostgresLive {
    /// Makes the fence's placeholder beforehand, so that the database is away from everybody for a shorter time.
    ///
    /// Nobody is shut out yet, and [`PostgresLive::fence`] makes a missing one itself. Where it does not come to a fence,
    /// [`PostgresLive::unfence`] drops it. Does nothing where the fence was begun already.
    pub async fn prepare_fence(&self, plan: &FencePlan) -> Result<(), EngineError> {
        match self.prepare_fence_once(plan).await {
            Err(error) if connection_lost(&error) => self.prepare_fence_once(plan).await,
            other => other,
        }
    }

    async fn prepare_fence_once(&self, plan: &FencePlan) -> Result<(), EngineError> {
        let mut conn = self.maintenance().await?;
        let scene = Scene::look(&mut conn, plan).await?;
        match scene.state(plan) {
            FenceState::Open => drop(placeholder(&mut conn, plan, &scene).await?),
            FenceState::HalfClosed | FenceState::Fenced { .. } => {}
            other => return Err(misplaced("fenced", plan, &other)),
        }
        session::close(conn).await;
        Ok(())
    }

    /// Puts the database behind a fence: nobody reaches it by its public name, superusers included.
    ///
    /// Sessions are ended, for 15 s if they come back or linger. If it cannot be done, the database is opened again
    /// and the error ([`EngineError::Refused`]) names who was in the way. Goes on from wherever an earlier try with the
    /// same plan stopped; a crash leaves the database open, closed, or fenced ([`PostgresLive::observe`]).
    pub async fn fence(&self, plan: &FencePlan) -> Result<Fence, EngineError> {
        match self.fence_once(plan).await {
            Err(error) if connection_lost(&error) => self.fence_once(plan).await,
            other => other,
        }
    }

    async fn fence_once(&self, plan: &FencePlan) -> Result<Fence, EngineError> {
        let mut conn = self.maintenance().await?;
        let scene = Scene::look(&mut conn, plan).await?;
        match scene.state(plan) {
            FenceState::Open | FenceState::HalfClosed => raise(&mut conn, plan, &scene).await?,
            FenceState::Fenced { name, .. } if name == plan.fenced => {}
            other => return Err(misplaced("fenced", plan, &other)),
        }
        let scene = Scene::look(&mut conn, plan).await?;
        let Some(placeholder) = scene.in_place(plan)? else {
            return Err(EngineError::failed(format!(
                "no database bears the name {}; the original is fenced as {}",
                plan.public, plan.fenced
            ))
            .with_hint("take the fence down, then try again"));
        };
        exchange::open(&mut conn, &plan.fenced).await?;
        crash_point::reached("fence: opened");
        session::close(conn).await;
        Ok(Fence { plan: plan.clone(), placeholder_oid: placeholder.oid })
    }
}

/// Makes the placeholder, closes the original, exchanges the names.
async fn raise(conn: &mut PgConnection, plan: &FencePlan, scene: &Scene) -> Result<(), EngineError> {
    crash_point::reached("fence: begun");
    let placeholder = placeholder(conn, plan, scene).await?;
    crash_point::reached("fence: placeholder made");
    // In a statement of its own: from its commit on nobody new gets in, so that ending sessions comes to an end.
    let closed = exchange::close(conn, &plan.public).await;
    crash_point::reached("fence: original closed");
    let renames =
        [Rename::new(plan.oid, &plan.public, &plan.fenced), Rename::new(placeholder, &plan.placeholder, &plan.public)];
    let unchanged = match closed {
        Ok(()) => match exchange(conn, &renames, &[], PATIENCE, POINTS).await {
            Ok(()) => return Ok(()),
            Err(unchanged) => unchanged,
        },
        Err(error) => Unchanged::Failed(error),
    };
    give_up(conn, plan, unchanged).await
}

/// Opens the original again, drops the placeholder, and says why.
async fn give_up(conn: &mut PgConnection, plan: &FencePlan, why: Unchanged) -> Result<(), EngineError> {
    if let Unchanged::Failed(error) = why {
        if connection_lost(&error) {
            return Err(error);
        }
        return match reopen(conn, plan).await {
            Ok(()) => Err(Unchanged::Failed(error).into_error(&format!("{} is open again", plan.public))),
            Err(second) => Err(EngineError::failed(format!("{error}; {second}"))),
        };
    }
    reopen(conn, plan).await?;
    match why.into_error(&format!("{} was not fenced and is open again", plan.public)) {
        EngineError::Unreachable { message, hint } => Err(EngineError::Refused { message, hint }),
        other => Err(other),
    }
}

async fn reopen(conn: &mut PgConnection, plan: &FencePlan) -> Result<(), EngineError> {
    exchange::open(conn, &plan.public).await?;
    crash_point::reached("fence: given up, opened");
    if let Err(error) = scratch::drop_placeholder(conn, plan).await {
        tracing::warn!(database = plan.placeholder, %error, "a placeholder could not be removed");
    }
    Ok(())
}

/// The closed database that will bear the public name, marked as ours; made if it is missing. Returns its OID.
async fn placeholder(conn: &mut PgConnection, plan: &FencePlan, scene: &Scene) -> Result<u32, EngineError> {
    let name = ident(&plan.placeholder);
    if let Some(found) = scene.placeholder.as_ref().filter(|found| !found.open && found.is_marked(&plan.mark())) {
        return Ok(found.oid);
    }
    if scene.placeholder.is_none() {
        let sql = format!("CREATE DATABASE {name} TEMPLATE template0 ALLOW_CONNECTIONS false");
        if let Err(error) = exec(conn, &sql).await {
            let what = format!("a placeholder for {} could not be created; nothing was touched", plan.public);
            let failed = session::engine_error(&what, &error);
            return Err(match sqlstate(&error).as_deref() {
                Some("42501") => failed.with_hint("the role needs CREATEDB"),
                _ => failed,
            });
        }
        crash_point::reached("fence: placeholder created");
    }
    // A crash may have left it without its mark.
    let text = format!("{} {} is being changed and comes back under its name", plan.mark(), plan.public);
    let sql = format!("COMMENT ON DATABASE {name} IS {}", literal(&text));
    run(conn, &sql, &format!("the placeholder {} could not be marked", plan.placeholder)).await?;
    exchange::close(conn, &plan.placeholder).await?;
    let scene = Scene::look(conn, plan).await?;
    let missing = || EngineError::failed(format!("the placeholder {} vanished; nothing was touched", plan.placeholder));
    scene.placeholder.map(|found| found.oid).ok_or_else(missing)
}
