//! Ending everything behind the fence.

use super::exchange::{self, Points, Rename, Unchanged, exchange};
use super::state::{Scene, misplaced};
use super::{FencePlan, FenceState, PATIENCE, PostgresLive, connection_lost, sessions};
use crate::crash_point;
use crate::engine::EngineError;
use crate::engine::postgres::session;

const POINTS: Points = Points { ended: "cut-off: sessions ended", done: "cut-off: renamed" };

impl PostgresLive {
    /// Ends everything in the fenced database and gives it the name of `epoch`, which nobody else knows.
    ///
    /// A killed client is not a stopped migration: its session may go on and commit. Afterwards no session of before
    /// is left, and a tool that still lives cannot come back. Returns the plan with the new name. Goes on from wherever
    /// an earlier try stopped; an error leaves the database fenced and closed. A transaction that was prepared there is
    /// not rolled back but named.
    pub async fn cut_off(&self, plan: &FencePlan, epoch: u64) -> Result<FencePlan, EngineError> {
        match self.cut_off_once(plan, epoch).await {
            Err(error) if connection_lost(&error) => self.cut_off_once(plan, epoch).await,
            other => other,
        }
    }

    async fn cut_off_once(&self, plan: &FencePlan, epoch: u64) -> Result<FencePlan, EngineError> {
        let mut conn = self.maintenance().await?;
        let scene = Scene::look(&mut conn, plan).await?;
        let name = match scene.state(plan) {
            FenceState::Fenced { name, .. } => name,
            other => return Err(misplaced("cut off", plan, &other)),
        };
        let new = plan.at_epoch(epoch);
        crash_point::reached("cut-off: begun");
        exchange::close(&mut conn, &name).await?;
        crash_point::reached("cut-off: closed");
        let left = if name == new.fenced {
            let busy = sessions::end_all(&mut conn, plan.oid, PATIENCE).await?;
            if busy.is_empty() { Ok(()) } else { Err(Unchanged::Busy(busy)) }
        } else {
            exchange(&mut conn, &[Rename::new(plan.oid, &name, &new.fenced)], &[], PATIENCE, POINTS).await
        };
        left.map_err(|unchanged| unchanged.into_error(&format!("{name} is fenced and closed")))?;
        exchange::open(&mut conn, &new.fenced).await?;
        crash_point::reached("cut-off: opened");
        session::close(conn).await;
        Ok(new)
    }
}
