//! A restored database takes the place of the fenced one.

use super::catalogue::{self, Found};
use super::exchange::{self, Points, Rename, allow, exchange};
use super::names::{is_beside, is_scratch};
use super::state::{Scene, misplaced};
use super::{Exchange, FenceState, PATIENCE, PostgresLive, SwapPlan, Unfenced, connection_lost, scratch};
use crate::crash_point;
use crate::engine::EngineError;
use crate::engine::postgres::quote::{ident, literal};
use crate::engine::postgres::session;
use sqlx::PgConnection;
use std::time::Instant;

const POINTS: Points = Points { ended: "swap: sessions ended", done: "swap: names swapped" };

impl PostgresLive {
    /// Gives the restored database the public name, in one transaction of three renames; the original stays, closed,
    /// as `<db>__failed_<8 hex>` or `<db>__replaced_<8 hex>` with a comment that says what it is. Then the placeholder is
    /// dropped.
    ///
    /// The restored database bears a name from [`PostgresLive::scratch_name`]. Its settings, grants and comment must be
    /// right beforehand: they stay with it. Refuses where an OID is not where the plan expects it. Can be repeated; an
    /// error leaves the original fenced.
    pub async fn swap(&self, plan: &SwapPlan) -> Result<Unfenced, EngineError> {
        match self.swap_once(plan).await {
            Err(error) if connection_lost(&error) => self.swap_once(plan).await,
            other => other,
        }
    }

    async fn swap_once(&self, plan: &SwapPlan) -> Result<Unfenced, EngineError> {
        let fence = &plan.fence;
        let mut conn = self.maintenance().await?;
        let scene = Scene::look(&mut conn, fence).await?;
        let restored = catalogue::by_oid(&mut conn, plan.restored_oid).await?;
        let Some(restored) = restored else {
            let message =
                format!("the restored database (OID {}) is gone; {} is fenced", plan.restored_oid, fence.public);
            return Err(EngineError::refused(message));
        };
        match scene.state(fence) {
            FenceState::Swapped { .. } if restored.name == fence.public => {}
            FenceState::Fenced { name, .. } => change_places(&mut conn, plan, &scene, &name, &restored).await?,
            other => return Err(misplaced("exchanged for the restored database", fence, &other)),
        }
        let opened = Instant::now();
        let warnings = scratch::without_placeholder(&mut conn, fence).await?;
        crash_point::reached("swap: placeholder dropped");
        session::close(conn).await;
        Ok(Unfenced { opened, warnings })
    }
}

async fn change_places(
    conn: &mut PgConnection,
    plan: &SwapPlan,
    scene: &Scene,
    name: &str,
    restored: &Found,
) -> Result<(), EngineError> {
    let fence = &plan.fence;
    let mut renames = Vec::new();
    let placeholder = scene.in_place(fence)?;
    let made_for_it = is_scratch(&restored.name) && is_beside(&fence.public, &restored.name);
    if !made_for_it || [Some(fence.oid), placeholder.map(|found| found.oid)].contains(&Some(restored.oid)) {
        let (oid, name) = (restored.oid, &restored.name);
        let message = format!("{name} (OID {oid}) is not a restored copy of {}", fence.public);
        return Err(EngineError::refused(message).with_hint("its name must be the one given to such a copy"));
    }
    if let Some(placeholder) = placeholder {
        renames.push(Rename::new(placeholder.oid, &fence.public, &fence.placeholder));
    }
    renames.push(Rename::new(fence.oid, name, &plan.failed));
    renames.push(Rename::new(restored.oid, &restored.name, &fence.public));
    crash_point::reached("swap: begun");
    exchange::close(conn, name).await?;
    crash_point::reached("swap: original closed");
    exchange::close(conn, &restored.name).await?;
    crash_point::reached("swap: restored closed");
    let comment = scene.original.as_ref().and_then(|found| found.comment.as_deref()).unwrap_or_default();
    let what = match plan.why {
        Exchange::Failed => "as a migration that failed left it; a restored copy took its place",
        Exchange::Replaced => "as it was when a restored backup took its place",
    };
    let text = format!("holdfast: {} {what}\n{comment}", fence.public);
    let last =
        [format!("COMMENT ON DATABASE {} IS {}", ident(&plan.failed), literal(&text)), allow(&fence.public, true)];
    exchange(conn, &renames, &last, PATIENCE, POINTS).await.map_err(|unchanged| {
        unchanged.into_error(&format!("{} is still fenced as {name}, and {} waits", fence.public, restored.name))
    })
}
