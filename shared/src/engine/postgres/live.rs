//! A PostgreSQL database that is changed in place: locked, fenced, cut off, given back, or exchanged for a restored one.
//!
//! The fence is a change of names. The original gets a name nobody knows, and a closed, empty placeholder takes the
//! public one, so that nobody reaches the original, superusers included, and settings, grants, statistics and OID stay
//! with it. Every step finds by OID how far an earlier try got, so every step can be repeated after a crash; a plan is
//! written into a journal before its step begins.

mod catalogue;
mod cut_off;
mod exchange;
mod fence;
mod globals;
mod left_over;
mod lock;
mod names;
mod neutralise;
mod preflight;
mod rights;
mod scratch;
mod sequences;
mod sessions;
mod state;
mod swap;
mod unfence;

use super::session::{self, Doing};
use crate::engine::EngineError;
use crate::model::PostgresUrl;
use sqlx::PgConnection;
use std::time::{Duration, Instant};

pub use fence::Fence;
pub use globals::{GlobalChange, Globals, differences};
pub use lock::{LockHolder, PostgresLock};
pub use names::{Exchange, FencePlan, SwapPlan, scratch_name};
pub use preflight::Obstacle;
pub use state::FenceState;
pub use unfence::Unfenced;

/// How long sessions that are being ended may keep a database from getting another name.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long all connections of the server may be taken before we give up.
const NO_SLOT: Duration = Duration::from_secs(10);

/// A PostgreSQL database that is changed in place, known by its public name.
#[derive(Debug, Clone)]
pub struct PostgresLive {
    url: PostgresUrl,
    admin: PostgresUrl,
}

impl PostgresLive {
    /// The database at `url` (the application's address); `admin` is whose role fences, creates and terminates.
    ///
    /// Of `admin` only server and role count. Connects to nothing yet.
    pub fn new(url: PostgresUrl, admin: PostgresUrl) -> Self {
        PostgresLive { url, admin }
    }

    /// OID of the database that bears the public name now.
    pub async fn oid(&self) -> Result<u32, EngineError> {
        let mut conn = self.maintenance().await?;
        let found = catalogue::by_name(&mut conn, self.public()).await?;
        session::close(conn).await;
        found.map(|found| found.oid).ok_or_else(|| {
            EngineError::refused(format!("the database {} does not exist", self.public()))
                .with_hint("the server is there, the database is not: check its name")
        })
    }

    /// Whether a database bears the public name.
    pub async fn exists(&self) -> Result<bool, EngineError> {
        let mut conn = self.maintenance().await?;
        let found = catalogue::by_name(&mut conn, self.public()).await?;
        session::close(conn).await;
        Ok(found.is_some())
    }

    /// The name that the database with this OID bears now; `None` if it is gone.
    pub async fn name_of(&self, oid: u32) -> Result<Option<String>, EngineError> {
        let mut conn = self.maintenance().await?;
        let found = catalogue::by_oid(&mut conn, oid).await?;
        session::close(conn).await;
        Ok(found.map(|found| found.name))
    }

    /// The fenced database's address with the application's role.
    pub fn fenced_url(&self, plan: &FencePlan) -> PostgresUrl {
        self.url.with_database(&plan.fenced)
    }

    /// The fenced database's address with the role that fences.
    pub fn fenced_admin_url(&self, plan: &FencePlan) -> PostgresUrl {
        self.admin.with_database(&plan.fenced)
    }

    /// The address of the role that fences.
    pub fn admin_url(&self) -> &PostgresUrl {
        &self.admin
    }

    /// The name by which the application knows the database.
    fn public(&self) -> &str {
        &self.url.database
    }

    /// A session in the database `postgres`, from where databases are renamed.
    ///
    /// Waits a little when all connections of the server are taken: clients that were just ended come back in crowds.
    async fn maintenance(&self) -> Result<PgConnection, EngineError> {
        let url = self.admin.with_database("postgres");
        let begun = Instant::now();
        loop {
            match session::connect(&url).await {
                Err(EngineError::Unreachable { message, .. })
                    if message.contains("too many") || message.contains("remaining connection slots") =>
                {
                    if begun.elapsed() > NO_SLOT {
                        return Err(EngineError::Unreachable {
                            message,
                            hint: Some("all connections of the server are taken; keep some for superusers".into()),
                        });
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                other => return other,
            }
        }
    }
}

/// Runs one statement, and says what it was for if it fails.
async fn run(conn: &mut PgConnection, sql: &str, what: &str) -> Result<(), EngineError> {
    session::exec(conn, sql).await.doing(what)
}

/// Whether a step that can be repeated deserves a second try on a new connection.
fn connection_lost(error: &EngineError) -> bool {
    matches!(error, EngineError::Unreachable { .. })
}
