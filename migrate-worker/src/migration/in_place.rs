//! PostgreSQL: the tool works on the database itself, behind a fence; on failure the proven copy takes its place.
//!
//! Behind the fence the database bears a name nobody knows, and a closed placeholder bears its public one: the public
//! name never denotes a state in between. What is where is found by OID, never by name.

mod resume;
mod settle;
mod way_back;

pub use resume::resume;
pub use settle::{open_as_it_is, put_back};

use super::facts::{Applying, BackedUp, Rehearsed, State, route_words, step};
use super::halt::{Halt, Reason};
use super::promote::is_after;
use super::steps::{self, Checked, Kept, judge, keep_here, open_backup, run_tool, take_backup};
use super::{Site, Success};
use crate::Error;
use crate::around::checks::Answer;
use crate::world::World;
use serde::{Deserialize, Serialize};
use shared::crash_point;
use shared::engine::DumpSource;
use shared::engine::postgres::{FencePlan, PostgresEngine, PostgresLive};
use shared::model::{DatabaseName, DatabaseUrl, Phase, StepNote};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How often it is looked who is behind the fence while the tool works.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A fence that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fenced {
    /// Where everything is.
    pub plan: FencePlan,
}

/// Applies a rehearsed migration.
pub async fn apply(
    site: &mut Site,
    live: &PostgresLive,
    checked: &Checked,
    backed_up: &BackedUp,
    rehearsed: &Rehearsed,
) -> Result<Success, Halt> {
    site.begins("fence");
    let begun = Instant::now();
    let plan = live.plan_fence(site.ledger.lease().epoch).await?;
    site.ledger.intent(step::FENCE, &Fenced { plan: plan.clone() }).await?;
    let ended = match fenced(site, live, checked, backed_up, rehearsed, &plan, begun).await {
        Ok((kept, answers)) => {
            site.ledger.rely_on_journal();
            match changed(site, live, checked, rehearsed, &kept, &answers, &plan).await {
                // From here on nothing is refused any more: the fence is up, and what is behind it is not known.
                Err(Halt::Refused(reason)) => Err(Halt::Stuck(reason)),
                ended => ended,
            }
        }
        Err(Halt::Refused(reason)) => Err(opened_again(site, live, &plan, reason).await),
        Err(other) => Err(other),
    };
    if let Some(blocked) = site.blocked.filter(|_| !matches!(ended, Err(Halt::Stuck(_) | Halt::Lost(_)))) {
        site.story.detail(&format!("nobody could connect for {} ms", blocked.as_millis()));
    }
    ended
}

/// From the fence to the announcement that the tool begins.
async fn fenced(
    site: &mut Site,
    live: &PostgresLive,
    checked: &Checked,
    backed_up: &BackedUp,
    rehearsed: &Rehearsed,
    plan: &FencePlan,
    begun: Instant,
) -> Result<(Kept, Vec<Option<Answer>>), Halt> {
    live.prepare_fence(plan).await?;
    site.fenced_at = Some(Instant::now());
    live.fence(plan).await?;
    let kept = behind(site, live, checked, backed_up, plan, begun).await?;
    let answers = steps::ask_before(site, &fenced_engine(live, plan), checked.route.direction).await?;
    crash_point::reached("in place: ready to apply");
    let note = Applying::new(&kept.note.backup, &kept.note.state, &rehearsed.after);
    site.ledger.intent(step::APPLY, &Applying { checks: answers.clone(), ..note }).await?;
    Ok((kept, answers))
}

/// From the tool's beginning to the open database: changed, or as it was.
async fn changed(
    site: &mut Site,
    live: &PostgresLive,
    checked: &Checked,
    rehearsed: &Rehearsed,
    kept: &Kept,
    answers: &[Option<Answer>],
    plan: &FencePlan,
) -> Result<Success, Halt> {
    let (plan, applied) = tool_behind_the_fence(site, live, checked, plan).await?;
    let verified = match applied {
        Ok(()) => verify(site, live, &checked.history, kept, rehearsed, answers, &plan).await,
        Err(reason) => Err(Halt::Refused(reason)),
    };
    match verified {
        Ok(()) => commit(site, live, rehearsed, &kept.note, &plan).await,
        Err(Halt::Refused(reason)) => Err(way_back::way_back(site, live, kept, plan, reason).await),
        Err(other) => Err(other),
    }
}

/// What is done between fence and tool: the last backup, and nobody else there.
async fn behind(
    site: &mut Site,
    live: &PostgresLive,
    checked: &Checked,
    backed_up: &BackedUp,
    plan: &FencePlan,
    begun: Instant,
) -> Result<Kept, Halt> {
    site.ledger.done(step::FENCE, &Fenced { plan: plan.clone() }).await?;
    site.story.step("fence", "nobody but us can connect", begun.elapsed());
    site.begins("backup B");
    let begun = Instant::now();
    let engine = fenced_engine(live, plan);
    let manifest = take_backup(site, &engine).await?;
    let (current, here) = tokio::join!(site.runner.current(&engine, &checked.history), keep_here(site, &manifest));
    let state = State { schema: manifest.header.schema_digest.clone(), heads: current?.heads };
    if state != backed_up.state {
        let moved = format!("it was changed between rehearsal and fence: it stands at {} now", state.at());
        return Err(Halt::refused(moved));
    }
    let note = BackedUp { backup: format!("{}/{}", manifest.header.database, manifest.header.id), state };
    here?;
    site.ledger.done(step::BACKUP_B, &note).await?;
    let foreign = live.foreign_sessions(plan).await?;
    if !foreign.is_empty() {
        return Err(Halt::refused(format!("somebody got behind the fence: {}", foreign.join("; "))));
    }
    let new = backup_agent::cli::text::size(manifest.header.new_bytes);
    site.story.step("backup B", &format!("{}, {new} new; lies here too", note.backup), begun.elapsed());
    Ok(open_backup(site, &note).await?)
}

/// The fenced database as backups see it: under the name everybody knows.
fn fenced_engine(live: &PostgresLive, plan: &FencePlan) -> PostgresEngine {
    PostgresEngine::new(live.fenced_url(plan)).known_as(&plan.public)
}

/// Takes the fence away again, before anything was applied.
async fn opened_again(site: &mut Site, live: &PostgresLive, plan: &FencePlan, reason: Reason) -> Halt {
    match unfence(site, live, plan, &Unfencing { applied: false, message: reason.message.clone() }).await {
        Ok(()) => Halt::Refused(reason),
        Err(Halt::Refused(second)) => Halt::Stuck(Reason::new(format!(
            "{}; and the fence could not be taken away: {}",
            reason.message, second.message
        ))),
        Err(other) => other,
    }
}

/// Why a fence is taken away without a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Unfencing {
    /// Whether the tool had begun.
    applied: bool,
    /// What had gone wrong.
    message: String,
}

async fn unfence(site: &mut Site, live: &PostgresLive, plan: &FencePlan, why: &Unfencing) -> Result<(), Halt> {
    // A database behind its fence is away from everybody: neither a silent record nor a restarting server leave it there.
    site.ledger.rely_on_journal();
    site.ledger.intent(step::UNFENCE, why).await?;
    let unfenced = way_back::insist(site, || Box::pin(live.unfence(plan))).await?;
    site.opened_again(unfenced);
    Ok(site.ledger.done(step::UNFENCE, why).await?)
}

/// Runs the tool, then ends everything behind the fence. The answer of the tool is judged; a fence that somebody got
/// behind is a failure too, of the kind that a restore must not be the answer to.
async fn tool_behind_the_fence(
    site: &mut Site,
    live: &PostgresLive,
    checked: &Checked,
    plan: &FencePlan,
) -> Result<(FencePlan, Result<(), Reason>), Halt> {
    site.begins("apply");
    let url = DatabaseUrl::Postgres(live.fenced_url(plan));
    let mut foreign = BTreeSet::new();
    let run = {
        let run = run_tool(site, &url, &checked.route, "apply");
        tokio::pin!(run);
        loop {
            tokio::select! {
                run = &mut run => break run,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    // A server that does not answer now will be asked again below.
                    foreign.extend(live.foreign_sessions(plan).await.unwrap_or_default());
                }
            }
        }
    };
    crash_point::reached("in place: the tool has ended");
    let run = match run {
        Err(Halt::Lost(why)) => return Err(Halt::Lost(why)),
        run => run,
    };
    if !foreign.is_empty() {
        site.ledger.done(step::FENCE_BROKEN, &foreign).await?;
    }
    let plan = cut_off(site, live, plan).await?;
    let answer = match run {
        Ok(run) => {
            let failed = judge(site, &run);
            if failed.is_none() {
                site.story.step("apply", &route_words(&checked.route), run.duration);
            }
            failed.map_or(Ok(()), Err)
        }
        Err(Halt::Refused(reason)) => Err(reason),
        Err(other) => return Err(other),
    };
    Ok((plan, answer))
}

/// Ends every session behind the fence; a killed client is not a stopped migration. Tried until the server answers.
async fn cut_off(site: &mut Site, live: &PostgresLive, plan: &FencePlan) -> Result<FencePlan, Halt> {
    let epoch = plan.epoch + 1;
    let new = plan.at_epoch(epoch);
    site.ledger.intent(step::CUT_OFF, &Fenced { plan: new.clone() }).await?;
    let cut = way_back::insist(site, || Box::pin(live.cut_off(plan, epoch))).await;
    match cut {
        Ok(plan) => Ok(plan),
        Err(Halt::Refused(reason)) => Err(Halt::Stuck(
            Reason::new(format!("the fenced database cannot be cut off: {}", reason.message))
                .with_hint(reason.hint.unwrap_or_else(|| "it is still fenced; nobody uses it".into())),
        )),
        Err(other) => Err(other),
    }
}

/// Whether the database shows what the rehearsal led to.
async fn verify(
    site: &Site,
    live: &PostgresLive,
    history: &crate::runner::History,
    kept: &Kept,
    rehearsed: &Rehearsed,
    answers: &[Option<Answer>],
    plan: &FencePlan,
) -> Result<(), Halt> {
    site.begins("verify");
    let begun = Instant::now();
    let engine = fenced_engine(live, plan);
    let (rows, after) = site.look(&engine, history, &*kept.stored).await?;
    is_after(rehearsed, &after, kept.stored.fingerprint(), &rows)?;
    let left = live.left_over_in(&live.fenced_url(plan)).await?;
    if !left.is_empty() {
        return Err(Halt::refused(format!("something was left over: {}", left.join("; "))));
    }
    site.story.step("verify", "revision, schema and untouched tables as rehearsed", begun.elapsed());
    steps::ask_after(site, &engine, rehearsed.route.direction, answers).await
}

/// Gives the changed database its public name back.
async fn commit(
    site: &mut Site,
    live: &PostgresLive,
    rehearsed: &Rehearsed,
    backed_up: &BackedUp,
    plan: &FencePlan,
) -> Result<Success, Halt> {
    site.begins("commit");
    let begun = Instant::now();
    site.ledger.still_ours().await?;
    site.ledger.intent(step::COMMIT, &Fenced { plan: plan.clone() }).await?;
    let named = way_back::insist(site, || Box::pin(live.unfence(plan))).await;
    let unfenced = named.map_err(|halt| match halt {
        Halt::Refused(reason) => Halt::Stuck(Reason::new(format!(
            "the migration is in place and verified, but its database could not be given its name: {}",
            reason.message
        ))),
        other => other,
    })?;
    site.opened_again(unfenced);
    site.ledger.done(step::COMMIT, &Fenced { plan: plan.clone() }).await?;
    site.story.step("commit", "open again", begun.elapsed());
    steps::release_earlier(site, &backed_up.backup).await;
    Ok(Success::applied(rehearsed, backed_up.backup.clone()))
}

/// Whether somebody was seen behind the fence.
fn is_broken(site: &Site) -> bool {
    site.ledger.has(step::FENCE_BROKEN, Phase::Done)
}

/// Where a task's database is, as far as its journal tells, for a person.
pub async fn whereabouts(world: &World, name: &DatabaseName, notes: &[StepNote]) -> Result<Vec<String>, Error> {
    let DatabaseUrl::Postgres(url) = world.url(name)? else { return Ok(Vec::new()) };
    let admin = match world.config.admin_url(name)? {
        Some(DatabaseUrl::Postgres(admin)) => admin,
        _ => url.clone(),
    };
    let newest = notes.iter().rev().find(|note| [step::FENCE, step::CUT_OFF].contains(&note.step.as_str()));
    let Some(note) = newest else { return Ok(vec!["it was never fenced".to_owned()]) };
    let plan = super::facts::read::<Fenced>(note)?.plan;
    let live = PostgresLive::new(url, admin);
    let mut lines = vec![format!("the database (OID {}): {}", plan.oid, live.observe(&plan).await?)];
    let beside = live.leftovers().await?;
    if !beside.is_empty() {
        lines.push(format!("databases of ours beside it: {}", beside.join(", ")));
    }
    Ok(lines)
}
