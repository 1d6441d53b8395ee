//! The lock at the database itself: one owner, whatever record of tasks it uses.

use crate::migration::halt::Halt;
use crate::migration::site::{Live, Site};
use shared::engine::postgres::PostgresLock;
use shared::engine::sqlite::live::SqliteLock;

/// The right to change the database; ends with the value.
pub enum Lock {
    /// A lock beside the file.
    Sqlite { _lock: SqliteLock },
    /// A session.
    Postgres { _lock: PostgresLock },
}

/// Becomes the one owner of the database. Refuses, after a while, naming the owner.
pub async fn lock(site: &Site) -> Result<Lock, Halt> {
    let who = format!("job {} (process {})", site.ledger.job(), std::process::id());
    Ok(match site.live().await? {
        Live::Sqlite(live) => Lock::Sqlite { _lock: site.stop.or(live.lock(&who, site.patience)).await? },
        Live::Postgres(live) => Lock::Postgres { _lock: site.stop.or(live.lock(site.patience)).await? },
    })
}
