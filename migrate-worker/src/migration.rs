//! The story of a migration, from the wish to its outcome.
//!
//! Everything up to the plan is the same for every database and only reads it: look, back up, rehearse on a copy restored
//! from that very backup, decide. What follows differs: an SQLite database is changed by `promote`, a PostgreSQL
//! database `in_place`. Whatever ends early says what that means for the database ([`Halt`]).

mod facts;
mod halt;
mod in_place;
mod promote;
mod recover;
mod resolve;
mod resume;
mod site;
mod steps;
mod wait;

pub use facts::{After, Outcome, State, heads, noted_states, route_words, step, written_by};
pub use halt::{Halt, Reason};
pub use in_place::whereabouts;
pub use recover::recover;
pub use resolve::{Verdict, resolve};
pub use site::{Live, Pace, Site, Told};

use crate::Error;
use backup_agent::target::since_let_go;
use facts::{BackedUp, Begun, Rehearsed};
use serde_json::json;
use shared::model::{Phase, TaskState};
use std::time::Duration;
use steps::Checked;

/// How far a migration is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Up to the plan; the database is only read.
    Rehearse,
    /// To the end.
    Apply,
}

/// What a migration that came to its end has to tell.
#[derive(Debug, Clone)]
pub struct Success {
    /// What was done, on one line.
    pub message: String,
    /// The backup made for it.
    pub backup: Option<String>,
    /// What the rehearsal has shown.
    effects: Option<serde_json::Value>,
    /// How it left the database, where it changed it.
    after: Option<After>,
}

/// Does a claimed task from its beginning and returns its outcome, which is in the journal then.
///
/// Fails only where nothing more may be written: somebody else has the task.
pub async fn migrate(site: &mut Site, extent: Extent) -> Result<Outcome, Error> {
    let ended = go(site, extent).await;
    conclude(site, ended).await
}

async fn go(site: &mut Site, extent: Extent) -> Result<Success, Halt> {
    site.note_begin().await?;
    let _lock = steps::lock(site).await?;
    go_locked(site, extent).await
}

/// The same for somebody who holds the lock at the database already.
async fn go_locked(site: &mut Site, extent: Extent) -> Result<Success, Halt> {
    let ended = go_through(site, extent).await;
    steps::removed(site).await;
    ended
}

async fn go_through(site: &mut Site, extent: Extent) -> Result<Success, Halt> {
    if extent == Extent::Apply {
        steps::within_window(site)?;
    }
    let checked = steps::preflight(site).await?;
    if checked.route.revisions.is_empty() && !checked.route.open {
        return Ok(Success::nothing_to_do(&checked.route.to));
    }
    let backed_up = steps::back_up(site, &checked).await?;
    steps::probe(site, &checked).await?;
    let rehearsed = steps::rehearse(site, &checked, &backed_up).await?;
    if rehearsed.route.revisions.is_empty() {
        steps::release_unused(site, &backed_up.backup).await;
        return Ok(Success::nothing_to_do(&rehearsed.route.to));
    }
    let checked = Checked { route: rehearsed.route.clone(), ..checked };
    steps::plan(site, &rehearsed).await?;
    if extent == Extent::Rehearse {
        return Ok(Success::rehearsed(&backed_up, &rehearsed));
    }
    steps::approval(site, &checked, &rehearsed).await?;
    steps::fits_window(site, Duration::from_secs_f64(rehearsed.tool_s))?;
    steps::stop_application(site).await?;
    match site.live().await? {
        Live::Sqlite(live) => promote::apply(site, &live, &checked, &backed_up, &rehearsed).await,
        Live::Postgres(live) => in_place::apply(site, &live, &checked, &backed_up, &rehearsed).await,
    }
}

/// Writes the outcome down where it survives, and tells it.
async fn conclude(site: &mut Site, ended: Result<Success, Halt>) -> Result<Outcome, Error> {
    let outcome = match ended {
        Ok(success) => success.outcome(),
        Err(Halt::Lost(why)) => return Err(Error::failed(format!("{why}; nothing more was written"))),
        Err(Halt::Waiting(asked)) => return wait::wait(site, *asked).await,
        Err(Halt::Refused(reason)) => unsuccessful(TaskState::Refused, reason),
        Err(Halt::Restored(reason)) => unsuccessful(TaskState::Restored, reason),
        Err(Halt::Stuck(reason)) => unsuccessful(TaskState::Stuck, reason),
    };
    let mut outcome = Outcome { backup: outcome.backup.or(site.backup()), ..outcome };
    outcome.result["blocked_ms"] = json!(site.blocked.map(|time| time.as_millis() as u64));
    outcome.result["checks"] = json!(site.told.verdicts());
    // From here on the journal alone must do: the database is as it is.
    site.ledger.rely_on_journal();
    site.ledger.done(step::OUTCOME, &outcome).await?;
    steps::start_application(site, &mut outcome).await;
    if outcome.state != TaskState::Stuck {
        steps::tidy(site).await;
    }
    Ok(outcome)
}

fn unsuccessful(state: TaskState, reason: Reason) -> Outcome {
    Outcome { state, message: reason.message, hint: reason.hint, backup: None, result: json!({}) }
}

impl Success {
    fn nothing_to_do(to: &[String]) -> Self {
        let message = format!("nothing to do: it stands at {} already", heads(to));
        Success { message, backup: None, effects: None, after: None }
    }

    fn rehearsed(backed_up: &BackedUp, rehearsed: &Rehearsed) -> Self {
        let message = format!("rehearsed {} on a copy; the database was only read", route_words(&rehearsed.route));
        let effects = serde_json::to_value(&rehearsed.effects).ok();
        Success { message, backup: Some(backed_up.backup.clone()), effects, after: None }
    }

    fn applied(rehearsed: &Rehearsed, backup: String) -> Self {
        let message = format!("it stands at {}", heads(&rehearsed.route.to));
        let effects = serde_json::to_value(&rehearsed.effects).ok();
        Success { message, backup: Some(backup), effects, after: rehearsed.leaves.clone() }
    }

    fn outcome(self) -> Outcome {
        Outcome {
            state: TaskState::Succeeded,
            message: self.message,
            hint: None,
            backup: self.backup,
            result: json!({"effects": self.effects, "after": self.after}),
        }
    }
}

impl Site {
    /// How the rehearsal left its copy, as far as the journal tells.
    fn rehearsed_after(&self) -> Result<Option<After>, Error> {
        let rehearsed = self.ledger.find::<Rehearsed>(step::REHEARSE, Phase::Done)?;
        Ok(rehearsed.and_then(|rehearsed| rehearsed.leaves))
    }

    /// Notes that the task begins. One that its owners were lost from again and again is refused.
    async fn note_begin(&mut self) -> Result<(), Halt> {
        let begun = since_let_go(self.ledger.notes()).iter();
        let begun = begun.filter(|note| note.step == step::BEGIN && note.phase == Phase::Intent);
        if begun.count() >= MAX_BEGINNINGS {
            return Err(Halt::refused(format!(
                "it was begun {MAX_BEGINNINGS} times and its worker was lost each time"
            )));
        }
        let note = Begun { database: self.name.clone(), worker: self.worker.clone() };
        Ok(self.ledger.intent(step::BEGIN, &note).await?)
    }
}

/// How often a task whose worker was lost before it changed anything is begun anew.
const MAX_BEGINNINGS: usize = 5;
