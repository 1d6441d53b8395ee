//! A PostgreSQL database's task whose worker was lost: the OIDs say how far it came.

use super::way_back::{cut_off_again, insist, swapped, way_back};
use super::{Fenced, Unfencing, commit, verify};
use crate::Error;
use crate::around::checks::Answer;
use crate::migration::facts::{Applying, BackedUp, Rehearsed, Scratch, heads, step};
use crate::migration::halt::{Halt, Reason};
use crate::migration::recover::Left;
use crate::migration::steps::{self, open_backup};
use crate::migration::{Site, Success};
use backup_agent::target::{SERVER_AWAY, tell};
use shared::crash_point;
use shared::engine::postgres::{Exchange, FencePlan, FenceState, PostgresLive, SwapPlan};
use shared::model::Phase;

/// What was noted, as far as it decides.
struct Noted {
    plan: FencePlan,
    applying: Option<Applying>,
    unfencing: Option<Unfencing>,
    swap: Option<SwapPlan>,
    committing: bool,
}

/// Finishes the task or takes it back. The lock at the database is held.
pub async fn resume(site: &mut Site, live: &PostgresLive) -> Result<Left, Halt> {
    let noted = noted(site)?;
    remove_scratch(site, live, noted.as_ref().and_then(|noted| noted.swap.as_ref())).await?;
    let Some(noted) = noted else { return Ok(Left::Nothing) };
    insist(site, || Box::pin(live.end_statements_about(&noted.plan.token))).await?;
    let state = insist(site, || Box::pin(live.observe(&noted.plan))).await?;
    site.story.detail(&format!("{}: {state}", noted.plan.public));
    match state {
        FenceState::Swapped { failed } => {
            // What the swap left to do: closing the failed one, dropping the placeholder.
            if let Some(swap) = &noted.swap {
                insist(site, || Box::pin(live.swap(swap))).await?;
            }
            Err(Halt::Restored(Reason::new(format!(
                "its worker was lost; the backup took its place, the failed database is kept as {failed}"
            ))))
        }
        FenceState::Open | FenceState::HalfClosed if !noted.committing && noted.unfencing.is_none() => {
            finish_unfencing(site, live, &noted.plan).await?;
            Ok(Left::Nothing)
        }
        FenceState::Fenced { .. } if noted.applying.is_none() && noted.unfencing.is_none() => {
            finish_unfencing(site, live, &noted.plan).await?;
            Ok(Left::Nothing)
        }
        FenceState::Open | FenceState::HalfClosed | FenceState::Fenced { .. } if noted.committing => {
            finish_unfencing(site, live, &noted.plan).await?;
            committed(site, &noted).map(Left::Finished)
        }
        FenceState::Open | FenceState::HalfClosed | FenceState::Fenced { .. } => match noted.unfencing.clone() {
            Some(why) => taken_back(site, live, &noted.plan, &why).await,
            None => judge_again(site, live, noted).await.map(Left::Finished),
        },
        FenceState::Elsewhere { .. } | FenceState::Gone => Err(Halt::Stuck(Reason::new(format!(
            "its worker was lost, and the database (OID {}) is not where it was left: {state}",
            noted.plan.oid
        )))),
    }
}

fn noted(site: &Site) -> Result<Option<Noted>, Error> {
    let ledger = &site.ledger;
    let cut = ledger.find::<Fenced>(step::CUT_OFF, Phase::Intent)?;
    let fence = ledger.find::<Fenced>(step::FENCE, Phase::Intent)?;
    let Some(Fenced { plan }) = cut.or(fence) else { return Ok(None) };
    Ok(Some(Noted {
        plan,
        applying: ledger.find(step::APPLY, Phase::Intent)?,
        // One that refused before the tool had begun was followed by a new beginning, or by the end.
        unfencing: ledger.find(step::UNFENCE, Phase::Intent)?,
        swap: ledger.find(step::SWAP, Phase::Intent)?,
        committing: ledger.has(step::COMMIT, Phase::Intent),
    }))
}

async fn finish_unfencing(site: &Site, live: &PostgresLive, plan: &FencePlan) -> Result<(), Halt> {
    if crash_point::is_off("unfence-on-resume") {
        return Ok(());
    }
    let unfenced = insist(site, || Box::pin(live.unfence(plan))).await;
    match unfenced {
        Ok(unfenced) => {
            tell(unfenced);
            Ok(())
        }
        Err(Halt::Refused(reason)) => Err(Halt::Stuck(Reason {
            message: format!("the fence could not be taken away: {}", reason.message),
            ..reason
        })),
        Err(other) => Err(other),
    }
}

fn committed(site: &Site, noted: &Noted) -> Result<Success, Halt> {
    let note = noted.applying.clone().ok_or_else(|| {
        Halt::Stuck(Reason::new("the journal announces a commit of a migration that it does not know"))
    })?;
    let message = format!("it stands at {}: it was verified, and is open again", heads(&note.after.heads));
    site.story.detail("its commit had been announced, and is finished");
    let after = site.rehearsed_after()?;
    Ok(Success { message, backup: Some(note.backup), effects: None, after })
}

/// The fence was being taken away without a change.
async fn taken_back(site: &mut Site, live: &PostgresLive, plan: &FencePlan, why: &Unfencing) -> Result<Left, Halt> {
    finish_unfencing(site, live, plan).await?;
    let reason = Reason::new(format!("{}; its worker was lost afterwards", why.message));
    if why.applied { Err(Halt::Restored(reason)) } else { Ok(Left::Refused(reason)) }
}

/// The tool had begun: whatever it did is looked at, after everything of it was ended.
async fn judge_again(site: &mut Site, live: &PostgresLive, noted: Noted) -> Result<Success, Halt> {
    let Some(applying) = noted.applying else {
        return Err(Halt::Stuck(Reason::new("the journal is of no use: the tool's beginning is not in it")));
    };
    let foreign = live.foreign_sessions(&noted.plan).await.unwrap_or_default();
    if !foreign.is_empty() {
        site.ledger.done(step::FENCE_BROKEN, &foreign).await?;
    }
    let plan = cut_off_again(site, live, &noted.plan).await?;
    if let Some(swap) = noted.swap {
        let swap = live.plan_swap(&plan, swap.restored_oid, Exchange::Failed);
        swapped(site, live, &swap).await?;
        let message =
            format!("its worker was lost; the backup took its place, the failed one is kept as {}", swap.failed);
        return Err(Halt::Restored(Reason::new(message)));
    }
    let history = site.runner.history().await?;
    let note = BackedUp { backup: applying.backup.clone(), state: applying.before.clone() };
    let kept = open_backup(site, &note).await?;
    let rehearsed: Rehearsed = site
        .ledger
        .find(step::REHEARSE, Phase::Done)?
        .ok_or_else(|| Halt::Stuck(Reason::new("the journal does not hold the rehearsal")))?;
    let shown = insist_verify(site, live, &history, &kept, &rehearsed, &applying.checks, &plan).await;
    match shown {
        Ok(()) => commit(site, live, &rehearsed, &note, &plan).await,
        Err(Halt::Refused(_)) => {
            let reason = Reason::new("its worker was lost while the tool was at work");
            Err(way_back(site, live, &kept, plan, reason).await)
        }
        Err(other) => Err(other),
    }
}

async fn insist_verify(
    site: &Site,
    live: &PostgresLive,
    history: &crate::runner::History,
    kept: &steps::Kept,
    rehearsed: &Rehearsed,
    answers: &[Option<Answer>],
    plan: &FencePlan,
) -> Result<(), Halt> {
    // So that a server that is away is not taken for a database that differs.
    insist(site, || Box::pin(live.observe(plan))).await?;
    verify(site, live, history, kept, rehearsed, answers, plan).await
}

/// Drops copies that were made for rehearsals and restores; not the one that takes the database's place.
async fn remove_scratch(site: &mut Site, live: &PostgresLive, swap: Option<&SwapPlan>) -> Result<(), Halt> {
    let mut names: Vec<String> = Vec::new();
    for note in site.ledger.notes().iter().filter(|note| note.phase == Phase::Intent) {
        if [step::REHEARSE, step::RESTORE].contains(&note.step.as_str()) {
            names.push(crate::migration::facts::read::<Scratch>(note)?.place);
        }
    }
    let server = steps::scratch_server(site)?;
    let elsewhere = PostgresLive::new(server.clone(), server);
    for name in names {
        if let Some(swap) = swap
            && insist(site, || Box::pin(live.name_of(swap.restored_oid))).await?.as_deref() == Some(&name)
        {
            continue;
        }
        for server in [live, &elsewhere] {
            insist(site, || Box::pin(server.end_statements_about(&name))).await?;
            steps::drop_copy(site, server, &name, SERVER_AWAY).await?;
        }
    }
    Ok(())
}
