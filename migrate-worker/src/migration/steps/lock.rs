//! The lock at the database itself: one owner, whatever record of tasks it uses.

use crate::migration::facts::step;
use crate::migration::halt::Halt;
use crate::migration::site::{Live, Site};
use backup_agent::stop::{StopReason, Stopper};
use shared::engine::postgres::{LockHolder, PostgresLive, PostgresLock};
use shared::engine::sqlite::live::SqliteLock;
use shared::model::Phase;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How often it is asked whether a server still knows the lock.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a server that has restarted may take until the lock can be taken again.
const TAKE_AGAIN: Duration = Duration::from_secs(60);

/// The right to change the database; ends with the value.
pub enum Lock {
    /// A lock beside the file.
    Sqlite {
        /// Held by the kernel.
        _lock: SqliteLock,
    },
    /// A session.
    Postgres {
        /// Held by a task that looks after it.
        _lock: Watched,
    },
}

/// A session's lock, looked after until dropped.
pub struct Watched(JoinHandle<()>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Becomes the one owner of the database. Refuses, after a while, naming the owner.
pub async fn lock(site: &mut Site) -> Result<Lock, Halt> {
    let who = format!("job {} (process {})", site.ledger.job(), std::process::id());
    match site.live().await? {
        Live::Sqlite(live) => Ok(Lock::Sqlite { _lock: site.stop.or(live.lock(&who, site.patience)).await? }),
        Live::Postgres(live) => {
            let lock = site.stop.or(live.lock(site.patience)).await?;
            // So that a successor, also on another host, can end exactly this session.
            site.ledger.done(step::LOCK, lock.holder()).await?;
            Ok(Lock::Postgres { _lock: Watched(tokio::spawn(watch(live, lock, site.stopper.clone()))) })
        }
    }
}

/// Ends the sessions that earlier owners of the task held the lock by.
pub async fn end_lost_locks(site: &Site) -> Result<(), Halt> {
    let Live::Postgres(live) = site.live().await? else { return Ok(()) };
    let epoch = site.ledger.lease().epoch;
    for note in site.ledger.notes() {
        if note.step == step::LOCK && note.phase == Phase::Done && note.epoch < epoch {
            live.end_holder(&crate::migration::facts::read::<LockHolder>(note)?).await?;
        }
    }
    Ok(())
}

/// A lock lost with its session (the server restarted, or somebody ended it) is taken again, since the task is still
/// ours by the record; where somebody else has it by then, the work ends.
async fn watch(live: PostgresLive, mut lock: PostgresLock, stopper: Stopper) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Err(error) = lock.check().await else { continue };
        tracing::warn!(%error, "the lock at the database is lost; it is taken again");
        match taken_again(&live).await {
            Some(again) => lock = again,
            None => return stopper.stop(StopReason::LeaseLost),
        }
    }
}

async fn taken_again(live: &PostgresLive) -> Option<PostgresLock> {
    let begun = std::time::Instant::now();
    while begun.elapsed() < TAKE_AGAIN {
        match live.lock(LOOK_EVERY).await {
            Ok(lock) => return Some(lock),
            Err(error) if error.class() == shared::model::Class::Refused => {
                tracing::error!(%error, "somebody else has the lock at the database");
                return None;
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    None
}
