//! How far a fence got: what somebody sees who knows its plan and nothing else.

use super::catalogue::{self, Found};
use super::{FencePlan, PostgresLive, connection_lost};
use crate::engine::EngineError;
use crate::engine::postgres::quote::literal;
use crate::engine::postgres::session;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use std::fmt;

/// Where the original of a fence is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FenceState {
    /// It bears its public name and accepts connections.
    Open,
    /// It bears its public name and accepts no connections: a fence was begun.
    HalfClosed,
    /// It is behind the fence.
    Fenced {
        /// The name it bears: of the plan's epoch, or of another one after a cut-off.
        name: String,
        /// Whether it accepts connections there; false in the middle of a fence, a cut-off or the way back.
        open: bool,
    },
    /// Another database took its place.
    Swapped {
        /// The name it bears.
        failed: String,
    },
    /// It bears a name that no step gives.
    Elsewhere {
        /// That name.
        name: String,
    },
    /// There is no database with its OID.
    Gone,
}

impl fmt::Display for FenceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FenceState::Open => f.write_str("it bears its public name"),
            FenceState::HalfClosed => f.write_str("it bears its public name and is closed"),
            FenceState::Fenced { name, open: true } => write!(f, "it is fenced as {name}"),
            FenceState::Fenced { name, open: false } => write!(f, "it is fenced as {name} and closed"),
            FenceState::Swapped { failed } => write!(f, "another database took its place, it is called {failed}"),
            FenceState::Elsewhere { name } => write!(f, "somebody renamed it to {name}"),
            FenceState::Gone => f.write_str("it is gone"),
        }
    }
}

/// The databases a plan is about, as they are now.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) original: Option<Found>,
    /// Whoever bears the public name.
    pub(super) public: Option<Found>,
    /// The placeholder, wherever it is.
    pub(super) placeholder: Option<Found>,
}

impl Scene {
    /// Looks around.
    pub(super) async fn look(conn: &mut PgConnection, plan: &FencePlan) -> Result<Self, EngineError> {
        let mark = plan.mark();
        let condition = format!(
            "d.oid = {} OR d.datname IN ({}, {}) OR starts_with(c.comment, {})",
            plan.oid,
            literal(&plan.public),
            literal(&plan.placeholder),
            literal(&mark)
        );
        let found = catalogue::list(conn, &condition).await?;
        let find = |is: &dyn Fn(&Found) -> bool| found.iter().find(|found| is(found)).cloned();
        Ok(Scene {
            original: find(&|found| found.oid == plan.oid),
            public: find(&|found| found.name == plan.public),
            placeholder: find(&|found| {
                found.oid != plan.oid && (found.name == plan.placeholder || found.is_marked(&mark))
            }),
        })
    }

    /// Where the original is.
    pub(super) fn state(&self, plan: &FencePlan) -> FenceState {
        match &self.original {
            None => FenceState::Gone,
            Some(found) if found.name == plan.public && found.open => FenceState::Open,
            Some(found) if found.name == plan.public => FenceState::HalfClosed,
            Some(found) if plan.is_fenced_name(&found.name) => {
                FenceState::Fenced { name: found.name.clone(), open: found.open }
            }
            Some(found) if plan.is_kept_name(&found.name) => FenceState::Swapped { failed: found.name.clone() },
            Some(found) => FenceState::Elsewhere { name: found.name.clone() },
        }
    }

    /// The placeholder, if it bears the public name; refuses if somebody else's database does.
    pub(super) fn in_place(&self, plan: &FencePlan) -> Result<Option<&Found>, EngineError> {
        match (&self.public, &self.placeholder) {
            (Some(public), Some(placeholder)) if public.oid == placeholder.oid => Ok(Some(placeholder)),
            (Some(public), _) => Err(EngineError::failed(format!(
                "a database that is not ours bears the name {} (OID {}); {} is still fenced",
                plan.public, public.oid, plan.fenced
            ))
            .with_hint("rename or drop that database, then try again")),
            (None, _) => Ok(None),
        }
    }
}

/// Refuses a step for which the original is in the wrong place.
pub(super) fn misplaced(step: &str, plan: &FencePlan, state: &FenceState) -> EngineError {
    EngineError::refused(format!("{} (OID {}) cannot be {step}: {state}", plan.public, plan.oid))
}

impl PostgresLive {
    /// Where the original of `plan` is now. Reads only.
    pub async fn observe(&self, plan: &FencePlan) -> Result<FenceState, EngineError> {
        match self.observe_once(plan).await {
            Err(error) if connection_lost(&error) => self.observe_once(plan).await,
            other => other,
        }
    }

    async fn observe_once(&self, plan: &FencePlan) -> Result<FenceState, EngineError> {
        let mut conn = self.maintenance().await?;
        let scene = Scene::look(&mut conn, plan).await?;
        session::close(conn).await;
        Ok(scene.state(plan))
    }
}
