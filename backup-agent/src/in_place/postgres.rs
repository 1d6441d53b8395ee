//! PostgreSQL: restored under a name of its own, then three names change in one transaction, behind a fence.

use super::{Replaced, Site, is_gone_on_with, step, unfinished};
use crate::error::Error;
use crate::target::{RESTART, drop_copy, insist, read, tell};
use serde::{Deserialize, Serialize};
use shared::connect;
use shared::crash_point;
use shared::engine::postgres::{Exchange, FencePlan, FenceState, PostgresLive, SwapPlan};
use shared::model::{DatabaseUrl, Phase};
use std::time::Instant;

/// A fence that is announced.
#[derive(Debug, Serialize, Deserialize)]
struct Fenced {
    plan: FencePlan,
}

/// The restored database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Beside {
    /// Its name until it is swapped in.
    place: String,
    /// Once it is proven.
    proven: Option<Proven>,
}

/// What is known of a restored database that equals the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Proven {
    oid: u32,
    rows: u64,
}

/// Restores the backup beside the database and exchanges them; goes on where a lost worker stopped.
pub(super) async fn replace(site: &mut Site<'_>, live: &PostgresLive, is_recovery: bool) -> Result<Replaced, Error> {
    if is_recovery && let Some(done) = resumed(site, live).await? {
        return Ok(done);
    }
    site.settled = true;
    let place = PostgresLive::scratch_name(&public(site), "__res_")?;
    site.ledger.intent(step::RESTORE, &Beside { place: place.clone(), proven: None }).await?;
    let (beside, plan) = match prepared(site, live, &place).await {
        Ok(prepared) => prepared,
        Err(error) => return Err(without(site, live, &place, error).await),
    };
    site.ledger.rely_on_journal();
    exchange(site, live, &plan, &beside).await
}

/// Everything up to the announcement of the fence.
async fn prepared(site: &mut Site<'_>, live: &PostgresLive, place: &str) -> Result<(Beside, FencePlan), Error> {
    let beside = restored(site, live, place).await?;
    site.ledger.done(step::RESTORE, &beside).await?;
    // Whoever was taken for lost meanwhile must not fence anything any more.
    site.ledger.still_ours().await?;
    let plan = live.plan_fence(site.ledger.lease().epoch).await?;
    site.ledger.intent(step::FENCE, &Fenced { plan: plan.clone() }).await?;
    Ok((beside, plan))
}

fn public(site: &Site<'_>) -> String {
    match &site.url {
        DatabaseUrl::Postgres(url) => url.database.clone(),
        DatabaseUrl::Sqlite(path) => path.display().to_string(),
    }
}

async fn restored(site: &Site<'_>, live: &PostgresLive, place: &str) -> Result<Beside, Error> {
    let url = live.admin_url().with_database(place);
    let rows = site.restore_into(&*connect::engine(DatabaseUrl::Postgres(url.clone()))).await?;
    let oid = PostgresLive::new(url, live.admin_url().clone()).oid().await?;
    Ok(Beside { place: place.to_owned(), proven: Some(Proven { oid, rows }) })
}

/// An error, after what was restored was dropped again; where somebody else has the task, it is theirs.
async fn without(site: &Site<'_>, live: &PostgresLive, place: &str, error: Error) -> Error {
    if is_gone_on_with(&error) {
        return error;
    }
    match insist(&*site.world.clock, RESTART, || Box::pin(drop_copy(live, place))).await {
        Ok(()) => error,
        Err(second) => Error::failed(format!("{error}; and the restored {place} could not be removed: {second}")),
    }
}

/// Fences the database and gives its name to the restored one. A fence that cannot be put up leaves it untouched.
async fn exchange(
    site: &mut Site<'_>,
    live: &PostgresLive,
    plan: &FencePlan,
    beside: &Beside,
) -> Result<Replaced, Error> {
    let Some(Proven { oid, rows }) = beside.proven else {
        return Err(Error::Damaged("the journal does not say that the restored database was proven".into()));
    };
    site.begins("exchanging the databases");
    if let Err(error) = site.insist(|| Box::pin(live.prepare_fence(plan))).await {
        return Err(opened_again(site, live, plan, beside, error.into()).await);
    }
    let fenced_at = Instant::now();
    if let Err(error) = site.insist(|| Box::pin(live.fence(plan))).await {
        return Err(opened_again(site, live, plan, beside, error.into()).await);
    }
    site.ledger.done(step::FENCE, &Fenced { plan: plan.clone() }).await.map_err(unfinished)?;
    crash_point::reached("restore in place: fenced");
    let swap = live.plan_swap(plan, oid, Exchange::Replaced);
    site.ledger.intent(step::SWAP, &swap).await.map_err(unfinished)?;
    let opened = swapped(site, live, &swap).await?;
    Ok(site.replaced(rows, Some(swap.failed), Some(opened.saturating_duration_since(fenced_at))))
}

/// Gives the restored database the public name; returns when it was to be had by it.
async fn swapped(site: &mut Site<'_>, live: &PostgresLive, swap: &SwapPlan) -> Result<Instant, Error> {
    let unfenced = site.insist(|| Box::pin(live.swap(swap))).await.map_err(unfinished)?;
    let opened = unfenced.opened;
    tell(unfenced);
    site.ledger.done(step::SWAP, swap).await.map_err(unfinished)?;
    Ok(opened)
}

/// Takes the fence away again before anything was exchanged, and drops what was restored.
async fn opened_again(
    site: &mut Site<'_>,
    live: &PostgresLive,
    plan: &FencePlan,
    beside: &Beside,
    error: Error,
) -> Error {
    if let Err(second) = unfenced(site, live, plan).await {
        return unfinished(Error::failed(format!("{error}; and the fence could not be taken away: {second}")));
    }
    site.settled = true;
    without(site, live, &beside.place, error).await
}

async fn unfenced(site: &mut Site<'_>, live: &PostgresLive, plan: &FencePlan) -> Result<(), Error> {
    site.ledger.intent(step::UNFENCE, &Fenced { plan: plan.clone() }).await?;
    tell(site.insist(|| Box::pin(live.unfence(plan))).await?);
    site.ledger.done(step::UNFENCE, &Fenced { plan: plan.clone() }).await
}

/// Looks how far a lost worker came. An exchange that was announced is brought to its end, since what was restored is
/// proven; everything else of it is removed, and the restore begins anew.
async fn resumed(site: &mut Site<'_>, live: &PostgresLive) -> Result<Option<Replaced>, Error> {
    let fence = site.ledger.find::<Fenced>(step::FENCE, Phase::Intent)?;
    let beside = site.ledger.find::<Beside>(step::RESTORE, Phase::Done)?;
    let swap = site.ledger.find::<SwapPlan>(step::SWAP, Phase::Intent)?;
    if let Some(Fenced { plan }) = fence {
        site.ledger.rely_on_journal();
        site.insist(|| Box::pin(live.end_statements_about(&plan.token))).await.map_err(unfinished)?;
        let state = site.insist(|| Box::pin(live.observe(&plan))).await.map_err(unfinished)?;
        tracing::info!(database = plan.public, "{state}");
        match state {
            FenceState::Swapped { failed } => {
                // What the swap left to do: the placeholder.
                if let Some(swap) = &swap {
                    swapped(site, live, swap).await?;
                }
                let rows = beside.and_then(|beside| beside.proven).map_or(0, |proven| proven.rows);
                return Ok(Some(site.replaced(rows, Some(failed), None)));
            }
            FenceState::Elsewhere { .. } | FenceState::Gone => {
                // Somebody has taken it in hand: trying again changes nothing.
                site.settled = true;
                return Err(Error::failed(format!(
                    "its worker was lost, and the database (OID {}) is not where it was left: {state}",
                    plan.oid
                )));
            }
            FenceState::Open | FenceState::HalfClosed | FenceState::Fenced { .. } => {}
        }
        let is_open = state == FenceState::Open;
        if let Some(beside) = beside.filter(|_| !is_open || swap.is_some())
            && is_still_there(site, live, &beside).await?
        {
            return exchange(site, live, &plan, &beside).await.map(Some);
        }
        unfenced(site, live, &plan).await.map_err(unfinished)?;
    }
    remove_copies(site, live).await?;
    Ok(None)
}

async fn is_still_there(site: &Site<'_>, live: &PostgresLive, beside: &Beside) -> Result<bool, Error> {
    let Some(Proven { oid, .. }) = beside.proven else { return Ok(false) };
    let name = site.insist(|| Box::pin(live.name_of(oid))).await.map_err(unfinished)?;
    Ok(name.as_ref() == Some(&beside.place))
}

/// Drops everything that earlier tries restored.
async fn remove_copies(site: &Site<'_>, live: &PostgresLive) -> Result<(), Error> {
    let mut places = Vec::new();
    for note in site.ledger.notes().iter().filter(|note| note.step == step::RESTORE && note.phase == Phase::Intent) {
        places.push(read::<Beside>(note)?.place);
    }
    for place in places {
        site.insist(|| Box::pin(live.end_statements_about(&place))).await?;
        site.insist(|| Box::pin(drop_copy(live, &place))).await?;
    }
    Ok(())
}
