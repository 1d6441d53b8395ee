//! The decision: what would be lost stops the migration, unless that was allowed.

use crate::effect::{Allowance, Refusal, unallowed};
use crate::migration::facts::{Rehearsed, step};
use crate::migration::halt::{Halt, Reason};
use crate::migration::site::Site;
use serde_json::json;
use std::time::Instant;

/// Refuses a migration that would lose data nobody allowed to be lost.
pub async fn plan(site: &mut Site, rehearsed: &Rehearsed) -> Result<(), Halt> {
    site.begins("plan");
    let begun = Instant::now();
    let allowed = Allowance::parse_all(&site.spec.may_drop, &rehearsed.before)
        .map_err(|error| Halt::refused(error.to_string()))?;
    let losses = rehearsed.effects.losses();
    let lost = unallowed(&losses, &allowed);
    if let Some(Refusal { message, hint }) = Refusal::of(&rehearsed.route.revisions, &lost) {
        return Err(Halt::Refused(Reason { message, hint: Some(hint) }));
    }
    let said = if losses.is_empty() { "no data is lost" } else { "only what may be lost is lost" };
    site.story.step("plan", said, begun.elapsed());
    Ok(site.ledger.done(step::PLAN, &json!({
        "losses": losses.len(),
        "window": site.around.window.as_ref().map(ToString::to_string),
    })).await?)
}
