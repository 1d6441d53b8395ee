//! Approval: a plan is carried out only when somebody else than the one who asked has approved that very plan.

use super::preflight::Checked;
use crate::migration::facts::{Rehearsed, step};
use crate::migration::halt::Halt;
use crate::migration::site::Site;
use crate::migration::wait::Asked;
use crate::plan::Plan;
use shared::model::Phase;
use std::time::Instant;

/// Goes on where nobody need approve the plan, or where this very plan was approved; else the task is to wait.
///
/// A task that waited before is bound by what was approved, whatever the configuration says by now.
pub async fn approval(site: &mut Site, checked: &Checked, rehearsed: &Rehearsed) -> Result<(), Halt> {
    let known = site.plan.clone();
    if known.is_none() && !site.world.migrations(&site.name)?.approval {
        return Ok(());
    }
    site.begins("approval");
    let begun = Instant::now();
    let plan = of(site, checked, rehearsed).await?;
    let digest = plan.digest();
    let approved = known.and_then(|known| Some((known.digest, known.approved_by?)));
    let Some((known, by)) = approved else { return Err(Asked::first(plan, rehearsed).into()) };
    // The events are read because their chain is checked then, and that they tell of this approval.
    site.ledger.record().events(&site.ledger.job()).await.map_err(crate::Error::from)?;
    if known == digest {
        site.story.step("approval", &format!("{by} has approved this plan"), begun.elapsed());
        return Ok(());
    }
    let moved = match site.ledger.find::<Plan>(step::LET_GO, Phase::Done)? {
        Some(before) if before.digest() == known => plan.differences(&before),
        _ => Vec::new(),
    };
    Err(Asked::again(plan, rehearsed, &moved).into())
}

async fn of(site: &Site, checked: &Checked, rehearsed: &Rehearsed) -> Result<Plan, Halt> {
    let (tables, losses) = Plan::told(&rehearsed.effects);
    let mut may_drop = site.spec.may_drop.clone();
    may_drop.sort();
    Ok(Plan {
        runner: site.runner.name().to_owned(),
        route: rehearsed.route.clone(),
        contents: site.runner.contents(&checked.route).await?,
        schema: rehearsed.after.schema.clone(),
        tables,
        losses,
        may_drop,
    })
}
