//! The lock at the database itself: one owner, whatever record of tasks it uses.

use crate::migration::halt::Halt;
use crate::migration::site::Site;
use backup_agent::target::{self, Lock};

/// Becomes the one owner of the database. Refuses, after a while, naming the owner.
pub async fn lock(site: &mut Site) -> Result<Lock, Halt> {
    let live = site.live().await?;
    Ok(target::lock(&live, &mut site.ledger, site.patience, &site.stop, &site.stopper).await?)
}
