//! What a person may decide about a PostgreSQL database that is stuck.

use super::way_back::{Strangers, insist, take_back};
use super::{Fenced, Unfencing, cut_off, unfence};
use crate::Error;
use crate::migration::Site;
use crate::migration::facts::step;
use crate::migration::halt::{Halt, Reason};
use crate::migration::steps::Kept;
use shared::engine::postgres::{FencePlan, FenceState, PostgresLive};
use shared::model::Phase;

/// Opens the database as it is.
pub async fn open_as_it_is(site: &mut Site, live: &PostgresLive) -> Result<(), Halt> {
    let Some(plan) = newest_plan(site)? else { return Ok(()) };
    let plan = match insist(site, || Box::pin(live.observe(&plan))).await? {
        FenceState::Fenced { .. } => cut_off(site, live, &plan).await?,
        FenceState::HalfClosed => plan,
        _ => return Ok(()),
    };
    let why = Unfencing { applied: true, message: "a person decided to keep it".into() };
    unfence(site, live, &plan, &why).await
}

/// Puts the backup back, whoever was behind the fence; the database that is there now is kept under another name.
pub async fn put_back(site: &mut Site, live: &PostgresLive, kept: &Kept) -> Result<String, Halt> {
    let plan = match newest_plan(site)? {
        Some(plan) => match insist(site, || Box::pin(live.observe(&plan))).await? {
            FenceState::Fenced { .. } => plan,
            FenceState::Open | FenceState::HalfClosed => fenced_anew(site, live).await?,
            other => return Err(Halt::refused(format!("the database is not where it was left: {other}"))),
        },
        None => fenced_anew(site, live).await?,
    };
    let plan = cut_off(site, live, &plan).await?;
    let reason = Reason::new("a person decided to restore it");
    take_back(site, live, kept, &plan, &reason, Strangers::Overruled).await
}

async fn fenced_anew(site: &mut Site, live: &PostgresLive) -> Result<FencePlan, Halt> {
    let plan = live.plan_fence(site.ledger.lease().epoch).await?;
    site.ledger.intent(step::FENCE, &Fenced { plan: plan.clone() }).await?;
    live.fence(&plan).await?;
    site.ledger.done(step::FENCE, &Fenced { plan: plan.clone() }).await?;
    Ok(plan)
}

/// The fence that was announced last, by its latest name.
pub fn newest_plan(site: &Site) -> Result<Option<FencePlan>, Error> {
    let newest = site
        .ledger
        .notes()
        .iter()
        .rev()
        .find(|note| note.phase == Phase::Intent && [step::FENCE, step::CUT_OFF].contains(&note.step.as_str()));
    newest.map(|note| crate::migration::facts::read::<Fenced>(note).map(|fenced| fenced.plan)).transpose()
}
