//! A restore into a database that is configured, and does not exist yet or is empty.

use super::World;
use super::work::{engine, progress};
use crate::choose;
use crate::error::Error;
use crate::record::{TaskMeter, of_restore};
use crate::repository::StoredBackup;
use crate::restore::{RestoreOptions, Restored, held_by, plan, restore};
use crate::stop::Stop;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::engine::Engine;
use shared::model::{Class, DatabaseName, NewTask, TaskReport, parse_at};
use std::sync::Arc;

/// What a task of kind restore asks for. Never an address or a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreSpec {
    /// Which backup: `latest`, an id, or a time with its zone (RFC 3339).
    #[serde(default = "latest")]
    pub at: String,
    /// The configured database it is restored into: one that does not exist, or is empty.
    #[schemars(with = "String")]
    pub into: DatabaseName,
}

fn latest() -> String {
    "latest".to_owned()
}

/// Restores a backup of `name` and proves it.
pub(super) async fn bring_back(
    world: &World,
    name: &DatabaseName,
    task: &NewTask,
    is_recovery: bool,
    meter: Arc<TaskMeter>,
    stop: &Stop,
) -> Result<TaskReport, Error> {
    let spec: RestoreSpec = serde_json::from_value(task.spec.clone()).map_err(|error| {
        let hint = "what it left is removed by the next restore into the same database";
        Error::refused(format!("nobody says into which database: {error}"), hint)
    })?;
    if spec.into == *name {
        return Err(Error::refused(format!("{name} would be restored over itself"), "name another database"));
    }
    let at = parse_at(&spec.at, world.clock.now(), &TimeZone::UTC)
        .map_err(|error| Error::refused(error.to_string(), None))?;
    let repository = world.repository().await?;
    let chosen = choose::by_time(&repository, name, &at).await?;
    let raw_bytes = chosen.manifest.header.raw_bytes;
    let backup = Arc::new(StoredBackup::open(&repository, chosen.manifest).await?);
    let target = engine(world, &spec.into)?;
    meter.step("restoring");
    let options = RestoreOptions::default();
    let work = restore(&repository, backup.clone(), &*target, &options, progress(meter));
    let restored = match stop.or(work).await {
        // Whoever was lost may have come to the end.
        Err(error) if is_recovery && error.class() == Class::Refused => match found_there(&backup, &*target).await {
            Some(restored) => restored,
            None => return Err(error),
        },
        done => done?,
    };
    if !restored.defects.is_empty() {
        let (number, list) = (restored.defects.len(), restored.defects.join("; "));
        let message = format!("{} holds all rows, but {number} objects could not be created: {list}", spec.into);
        return Err(Error::failed(message));
    }
    Ok(of_restore(&restored, raw_bytes))
}

/// The restore as it was finished before, where the target shows exactly the backup.
async fn found_there(backup: &Arc<StoredBackup>, target: &dyn Engine) -> Option<Restored> {
    let differences = held_by(backup, target).await.ok()??;
    let plan = plan(backup, target, &RestoreOptions::default()).ok()?;
    Some(Restored {
        backup: plan.backup,
        into: plan.into,
        rows: plan.rows,
        defects: Vec::new(),
        differences: Vec::new(),
        recomputed: differences,
        left_out: Vec::new(),
        proven: true,
        not_noted: None,
    })
}
