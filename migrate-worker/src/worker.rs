//! One claimed task, from its claim to its end in the record.

use crate::Error;
use crate::around::Around;
use crate::leftovers;
use crate::migration::{self, Extent, Outcome, Pace, Site, Told, Verdict};
use crate::runner::{self, Runner};
use crate::spec::MigrateSpec;
use crate::story::Story;
use crate::world::World;
use crate::wrap::{self, WrapSpec};
use backup_agent::journal::ledger::Ledger;
use backup_agent::record::{HeldLease, KeptAlive, TaskMeter, write_end};
use backup_agent::stop::{Stop, Stopper};
use shared::clock::Clock;
use shared::connect;
use shared::model::{DatabaseName, DatabaseUrl, Task, TaskKind, TaskPlan, TaskReport, TaskState};
use shared::task_log::{Claimed, Ending, TaskLog, TaskLogError, Worker};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How long locks of others are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The kinds of tasks that change a database by its migration tool, or rehearse that.
pub const MIGRATIONS: [TaskKind; 2] = [TaskKind::Migrate, TaskKind::Rehearse];

/// What a claimed task is done with.
pub struct Performance {
    /// What all migrations work with.
    pub world: Arc<World>,
    /// The record.
    pub log: Arc<dyn TaskLog>,
    /// This process.
    pub worker: Worker,
    /// Hears how it goes.
    pub story: Arc<dyn Story>,
    /// Tells the record how far it is.
    pub meter: Arc<TaskMeter>,
    /// Ends it early.
    pub stopper: Stopper,
    /// Hears of that.
    pub stop: Stop,
    /// Whether the database is being changed: then the work is finished or taken back, whatever happens.
    pub is_changing: Arc<AtomicBool>,
}

/// Does a claimed task and writes its end into the record.
///
/// Fails where nothing more may be written, because somebody else has the task or will have it.
pub async fn perform(with: Performance, claimed: Claimed) -> Result<Outcome, Error> {
    work(with, claimed, None).await
}

/// Ends a stuck task that was taken, as a person decided.
pub async fn settle(with: Performance, claimed: Claimed, verdict: Verdict) -> Result<Outcome, Error> {
    work(with, claimed, Some(verdict)).await
}

async fn work(with: Performance, claimed: Claimed, verdict: Option<Verdict>) -> Result<Outcome, Error> {
    if WrapSpec::of(&claimed.task.spec).is_some() {
        // Somebody's own command: nothing of it can be run again, or taken back.
        return wrap::recover(with, claimed).await;
    }
    let Claimed { task, lease, is_recovery } = claimed;
    let (world, story) = (with.world.clone(), with.story.clone());
    let bears_silence = with.is_changing.clone();
    let held = HeldLease { log: with.log.clone(), lease, time: world.config.lease(), bears_silence };
    let deadline = task.deadline_s.map(Duration::from_secs);
    let (meter, stopper) = (with.meter.clone(), with.stopper.clone());
    let _alive = KeptAlive::begin(Some(held.clone()), world.clock.clone(), deadline, meter, stopper);
    leftovers::sweep(&world, &*held.log).await;
    let ledger = Ledger::open(&world.config.spool(), held.clone(), world.clock.clone()).await?;
    let extent = if task.kind == TaskKind::Rehearse { Extent::Rehearse } else { Extent::Apply };
    let (outcome, ledger) = match prepare(&world, &task) {
        Ok(prepared) => {
            let mut site = site(with, prepared, ledger);
            let outcome = match verdict {
                Some(verdict) => migration::resolve(&mut site, verdict).await?,
                None if is_recovery => migration::recover(&mut site, extent).await?,
                None => migration::migrate(&mut site, extent).await?,
            };
            (outcome, site.ledger)
        }
        // What was begun is left as it is until the configuration knows the database again.
        Err(error) if is_recovery || verdict.is_some() => return Err(error),
        Err(error) => (refused(&error), ledger),
    };
    story.end(&words(&task, &outcome));
    record(&held, &task, &outcome, ledger, &*world.clock).await?;
    Ok(outcome)
}

/// Writes the end down. Where the record does not hear of it, the journal stays, and the next worker here tells it.
pub async fn record(
    held: &HeldLease,
    task: &Task,
    outcome: &Outcome,
    ledger: Ledger,
    clock: &dyn Clock,
) -> Result<(), Error> {
    if outcome.state == TaskState::Waiting {
        // It was let go of with that, and may be somebody else's by now.
        return Ok(());
    }
    let ending = Ending { state: outcome.state, again_at: None, report: report(outcome) };
    match write_end(&*held.log, &held.lease, &ending, clock).await {
        None if outcome.state != TaskState::Stuck => ledger.close()?,
        None => {}
        Some(TaskLogError::LeaseLost { .. }) => {
            tracing::warn!(job = %task.job_id, "somebody else has the task; its end was not recorded by us");
        }
        Some(error) => tracing::warn!(job = %task.job_id, %error, "the end is in the local journal only"),
    }
    Ok(())
}

/// What the configuration says of a task's database.
struct Prepared {
    name: DatabaseName,
    spec: MigrateSpec,
    plan: Option<TaskPlan>,
    url: DatabaseUrl,
    runner: Box<dyn Runner>,
    around: Around,
}

fn prepare(world: &World, task: &Task) -> Result<Prepared, Error> {
    let name = task.target.clone().ok_or_else(|| Error::refused("the task names no database", None))?;
    let spec = serde_json::from_value(task.spec.clone())
        .map_err(|error| Error::Refused { message: format!("the task cannot be understood: {error}"), hint: None })?;
    let url = world.url(&name)?;
    world.migrations(&name)?;
    let runner = runner::of(&world.config, &name).map_err(as_error)?;
    let around = Around::of(&world.config, &name).map_err(as_error)?;
    Ok(Prepared { name, spec, plan: task.plan.clone(), url, runner, around })
}

fn site(with: Performance, prepared: Prepared, ledger: Ledger) -> Site {
    let Performance { world, worker, story, meter, stopper, stop, .. } = with;
    let Prepared { name, spec, plan, url, runner, around } = prepared;
    let engine = connect::engine(url.clone());
    Site {
        world,
        name,
        url,
        engine,
        runner,
        worker,
        spec,
        plan,
        ledger,
        story,
        meter,
        stopper,
        stop,
        patience: PATIENCE,
        around,
        pace: Pace::default(),
        told: Told::default(),
        fenced_at: None,
        blocked: None,
        leaving: Vec::new(),
    }
}

/// A tool that cannot be called refuses the task.
pub fn as_error(error: runner::RunnerError) -> Error {
    Error::Refused { message: error.message, hint: error.hint }
}

fn refused(error: &Error) -> Outcome {
    Outcome {
        state: TaskState::Refused,
        message: error.facts(),
        hint: error.hint().map(str::to_owned),
        backup: None,
        result: serde_json::json!({}),
    }
}

/// The outcome as a statement about the database.
pub fn words(task: &Task, outcome: &Outcome) -> String {
    let target = task.target.as_ref().map_or("the database", |name| name.as_str());
    let about = match outcome.state {
        TaskState::Refused => format!("{target} was not touched"),
        TaskState::Restored => format!("{target} is as it was"),
        TaskState::Stuck => format!("migrate-worker resolve {} shows what is there", task.job_id),
        _ => String::new(),
    };
    let mut text = format!("{}: {}", outcome.state, outcome.message);
    if outcome.state == TaskState::Waiting {
        text.push_str(&format!("; migrate-worker approve {}", task.job_id));
    }
    if !about.is_empty() && !outcome.message.contains(&about) {
        text.push_str(&format!(". {about}"));
    }
    if let Some(hint) = &outcome.hint {
        text.push_str(&format!("\nhint: {hint}"));
    }
    text
}

fn report(outcome: &Outcome) -> TaskReport {
    let failed = outcome.state != TaskState::Succeeded;
    let mut result = outcome.result.clone();
    result["message"] = outcome.message.clone().into();
    result["hint"] = outcome.hint.clone().into();
    TaskReport {
        backup_id: outcome.backup.clone(),
        result: Some(result),
        error_class: failed.then(|| outcome.state.to_string()),
        error_message: failed.then(|| outcome.message.clone()),
        ..TaskReport::default()
    }
}

/// The exit code of a task that waits for a person's approval.
pub const WAITS: u8 = 9;

/// The exit code that says an outcome.
pub fn exit_code(state: TaskState) -> u8 {
    match state {
        TaskState::Succeeded => 0,
        TaskState::Refused => 3,
        TaskState::Restored => 4,
        TaskState::Stuck => 5,
        TaskState::Waiting => WAITS,
        _ => 1,
    }
}
