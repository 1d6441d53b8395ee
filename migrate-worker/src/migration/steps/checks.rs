//! The operator's checks, around the tool.

use crate::around::checks::{Answer, CheckError, Verdict};
use crate::migration::halt::Halt;
use crate::migration::site::Site;
use crate::runner::Direction;
use shared::engine::Engine;
use std::time::Instant;

/// Asks what must be known before the tool runs. Refuses where something is not as it must be.
pub async fn ask_before(site: &Site, engine: &dyn Engine, way: Direction) -> Result<Vec<Option<Answer>>, Halt> {
    site.around.checks.before(engine, way).await.map_err(refused)
}

/// Asks and judges what the tool left, and keeps what was said for the outcome.
pub async fn ask_after(
    site: &Site,
    engine: &dyn Engine,
    way: Direction,
    before: &[Option<Answer>],
) -> Result<(), Halt> {
    let begun = Instant::now();
    let verdicts = site.around.checks.after(engine, way, before).await.map_err(refused)?;
    if verdicts.is_empty() {
        return Ok(());
    }
    site.story.step("checks", &format!("{} as expected", verdicts.len()), begun.elapsed());
    for Verdict { name, said, .. } in &verdicts {
        site.story.detail(&format!("{name}: {said}"));
    }
    site.told.set_verdicts(verdicts);
    Ok(())
}

fn refused(error: CheckError) -> Halt {
    match error {
        CheckError::Unasked { ref error, .. } if error.class() == shared::model::Class::Transient => {
            Halt::refused_with(error.to_string(), "try again when the database answers")
        }
        error => Halt::refused(error.to_string()),
    }
}
