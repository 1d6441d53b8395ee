//! Back to what was: nothing to load where nothing changed; else the backup restored, proven, and swapped in.

use super::{Unfencing, cut_off, fenced_engine, is_broken, unfence};
use crate::migration::facts::{Scratch, step};
use crate::migration::halt::{Halt, Reason};
use crate::migration::site::Site;
use crate::migration::steps::{self, Kept, drop_copy};
use backup_agent::restore::{RestoreOptions, Restored as Done, prove, restore};
use backup_agent::target::SERVER_AWAY;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use shared::connect;
use shared::crash_point;
use shared::engine::postgres::{Exchange, FencePlan, PostgresLive, SwapPlan};
use shared::engine::{DumpSource, Engine, EngineError};
use shared::model::{DatabaseUrl, Difference, DifferenceKind};
use std::time::Instant;

/// How often the backup is brought back before a person is needed.
const RESTORE_TRIES: usize = 3;

/// The restored database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Its name until it is swapped in.
    pub name: String,
    /// Its OID.
    pub oid: u32,
}

/// Takes a failed migration back; the fence is up and the database cut off. Says what that means.
pub async fn way_back(site: &mut Site, live: &PostgresLive, kept: &Kept, plan: FencePlan, reason: Reason) -> Halt {
    site.story.detail(&format!("failed: {}", reason.message));
    match take_back(site, live, kept, &plan, &reason, Strangers::Respected).await {
        Ok(how) => Halt::Restored(Reason { message: format!("{}; {how}", reason.message), ..reason }),
        Err(Halt::Refused(second)) => Halt::Stuck(
            Reason::new(format!("{}; and the way back failed: {}", reason.message, second.message)).with_hint(format!(
                "the database is fenced as {}; backup {} shows it as it was",
                plan.fenced, kept.note.backup
            )),
        ),
        Err(other) => other,
    }
}

/// What counts of those who were seen behind the fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strangers {
    /// Nothing is restored over what they wrote.
    Respected,
    /// A person has decided to.
    Overruled,
}

/// Makes the database what the backup shows: opened again where it is that, else the restored backup in its place.
pub async fn take_back(
    site: &mut Site,
    live: &PostgresLive,
    kept: &Kept,
    plan: &FencePlan,
    reason: &Reason,
    strangers: Strangers,
) -> Result<String, Halt> {
    site.begins("compare");
    let begun = Instant::now();
    let differences = insist(site, || Box::pin(compare(live, kept, plan))).await?;
    // Equal to the backup means that whoever was there has written nothing that is left.
    if !differences.is_empty() && strangers == Strangers::Respected && is_broken(site) {
        return Err(Halt::refused("somebody else was behind the fence, whose writes a restore would lose"));
    }
    if differences.is_empty() && !crash_point::is_off("compare-before-restore") {
        site.story.step("compare", "equal to backup B: there is nothing to restore", begun.elapsed());
        unfence(site, live, plan, &Unfencing { applied: true, message: reason.message.clone() }).await?;
        return Ok("nothing of it was left".into());
    }
    let places = format!("{} places differ from backup B", differences.len());
    site.story.step("compare", &places, begun.elapsed());
    // The server may not have room for both.
    steps::removed(site).await;
    let restored = restored(site, live, kept, plan).await?;
    let swap = live.plan_swap(plan, restored.oid, Exchange::Failed);
    swapped(site, live, &swap).await?;
    Ok(format!("backup {} took its place; the failed database is kept as {}", kept.note.backup, swap.failed))
}

/// Where the fenced database differs from backup B. Sequences that alone ran ahead are set back.
async fn compare(live: &PostgresLive, kept: &Kept, plan: &FencePlan) -> Result<Vec<Difference>, EngineError> {
    let engine = fenced_engine(live, plan);
    let expected = kept.stored.fingerprint();
    let found = engine.fingerprint(&*kept.stored, 2).await?;
    let differences = real(prove(expected, &found).map_err(|error| EngineError::failed(error.to_string()))?);
    let only_sequences = |list: &[Difference]| list.iter().all(|difference| difference.object.starts_with("sequence "));
    if differences.is_empty() || !only_sequences(&differences) || expected.sequences.len() != found.sequences.len() {
        return Ok(differences);
    }
    PostgresLive::set_sequences(&live.fenced_admin_url(plan), &expected.sequences).await?;
    let found = engine.fingerprint(&*kept.stored, 2).await?;
    Ok(real(prove(expected, &found).map_err(|error| EngineError::failed(error.to_string()))?))
}

fn real(differences: Vec<Difference>) -> Vec<Difference> {
    differences.into_iter().filter(|difference| difference.kind != DifferenceKind::Recomputed).collect()
}

/// Restores backup B beside the fenced database and proves it.
async fn restored(site: &mut Site, live: &PostgresLive, kept: &Kept, plan: &FencePlan) -> Result<Restored, Halt> {
    site.begins("restore");
    let begun = Instant::now();
    let name = PostgresLive::scratch_name(&plan.public, "__res_")?;
    site.ledger.intent(step::RESTORE, &Scratch { place: name.clone() }).await?;
    let done = brought_back(site, live, kept, &name).await?;
    if !done.proven {
        return Err(Halt::refused(format!(
            "backup B came back as {name}, but not all of it: {}",
            done.defects.join("; ")
        )));
    }
    let there = PostgresLive::new(live.admin_url().with_database(&name), live.admin_url().clone());
    let oid = insist(site, || Box::pin(there.oid())).await?;
    let restored = Restored { name, oid };
    site.ledger.done(step::RESTORE, &restored).await?;
    site.story.step("restore", "backup B beside it, proven equal", begun.elapsed());
    Ok(restored)
}

/// Restores backup B into a fresh database; anew where the server went away meanwhile.
async fn brought_back(site: &Site, live: &PostgresLive, kept: &Kept, name: &str) -> Result<Done, Halt> {
    let engine = connect::engine(DatabaseUrl::Postgres(live.admin_url().with_database(name)));
    let (options, progress) = (RestoreOptions::default(), site.load_progress());
    let mut tries = 0;
    loop {
        tries += 1;
        let work = restore(kept.stored.repository(), kept.stored.clone(), &*engine, &options, progress.clone());
        match work.await {
            Err(error) if tries < RESTORE_TRIES => {
                tracing::warn!(%error, "the backup could not be brought back; it is tried again");
            }
            done => return Ok(done?),
        }
        drop_copy(site, live, name, SERVER_AWAY).await?;
    }
}

/// Gives the restored database the public name.
pub async fn swapped(site: &mut Site, live: &PostgresLive, swap: &SwapPlan) -> Result<(), Halt> {
    site.begins("swap");
    let begun = Instant::now();
    site.ledger.intent(step::SWAP, swap).await?;
    let unfenced = insist(site, || Box::pin(live.swap(swap))).await?;
    site.opened_again(unfenced);
    site.ledger.done(step::SWAP, swap).await?;
    site.story.step("swap", "open again, as it was", begun.elapsed());
    Ok(())
}

/// Does what must be done in the end: a server that is away, restarting for instance, is waited for.
pub async fn insist<'a, T>(
    site: &Site,
    work: impl Fn() -> BoxFuture<'a, Result<T, EngineError>> + Send,
) -> Result<T, Halt> {
    site.insist(SERVER_AWAY, work).await
}

/// The same for a database of whom it is not known how far it came: cut off first.
pub async fn cut_off_again(site: &mut Site, live: &PostgresLive, plan: &FencePlan) -> Result<FencePlan, Halt> {
    if crash_point::is_off("cut-off") {
        return Ok(plan.clone());
    }
    cut_off(site, live, plan).await
}
