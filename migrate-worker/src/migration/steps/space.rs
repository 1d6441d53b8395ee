//! Room on the disk for the copies a migration makes here.

use crate::Error;
use crate::migration::halt::Halt;
use crate::migration::site::Site;
use backup_agent::cli::text;
use shared::model::DatabaseUrl;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

/// Copies of an SQLite database that lie here at once at most: the backup's, the rehearsal's or the tool's, and one that
/// a backup or a tool makes meanwhile.
const SQLITE_COPIES: u64 = 3;

/// Refuses where the spool has no room for what the migration will keep there.
pub async fn space(site: &Site) -> Result<(), Halt> {
    let size = site.engine.probe().await?.size_bytes;
    let needed = match site.url {
        DatabaseUrl::Sqlite(_) => size.saturating_mul(SQLITE_COPIES),
        // The backup, compressed; as if it were not.
        DatabaseUrl::Postgres(_) => size,
    };
    let spool = site.world.config.spool();
    let no_spool = |error: std::io::Error| Error::Refused {
        message: format!("the spool {} cannot be used: {error}", spool.display()),
        hint: Some("give this user write permission there, or set spool in [state]".into()),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&spool).map_err(no_spool)?;
    let found = rustix::fs::statvfs(&spool).map_err(|error| no_spool(error.into()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free >= needed {
        return Ok(());
    }
    Err(Halt::refused_with(
        format!("{} has {} free, the migration may need {}", spool.display(), text::size(free), text::size(needed)),
        "free space there, or set spool in [state] to a larger disk",
    ))
}
