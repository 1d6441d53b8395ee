//! The application, stopped before it would be in the way and started again whatever became of the migration.

use crate::around::hooks::HookRun;
use crate::migration::facts::{Outcome, step};
use crate::migration::halt::{Halt, Reason};
use crate::migration::site::Site;
use serde_json::json;
use shared::crash_point;
use shared::model::{Phase, TaskState};
use std::time::Duration;

/// Stops the application, once in a task. Refuses where it does not stop; what was stopped is started again at the end.
pub async fn stop_application(site: &mut Site) -> Result<(), Halt> {
    if site.around.hooks.is_empty() {
        return Ok(());
    }
    site.begins("stop");
    site.ledger.intent(step::STOP, &json!({})).await?;
    let runs = site.around.hooks.stop().await;
    crash_point::reached("hooks: the application is stopped");
    tell(site, &runs);
    if let Some(failed) = runs.iter().find(|run| !run.succeeded) {
        let reason = Reason::new(format!("the hook {} failed: {}", failed.hook, failed.said));
        return Err(Halt::Refused(reason.with_hint("its output is above; the application was started again")));
    }
    Ok(site.ledger.done(step::STOP, &runs).await?)
}

/// Starts an application that was stopped, unless its database is stuck; never changes the outcome but says in it how that
/// went. A task that is recovered does it again: starting twice is what hooks must bear.
pub async fn start_application(site: &mut Site, outcome: &mut Outcome) {
    if !site.ledger.has(step::STOP, Phase::Intent) || site.ledger.has(step::START, Phase::Done) {
        return;
    }
    if outcome.state == TaskState::Stuck {
        site.story.detail("the application stays stopped until the database is resolved");
        return;
    }
    site.begins("start");
    let runs = site.around.hooks.start().await;
    tell(site, &runs);
    crash_point::reached("hooks: the application is started");
    let failed: Vec<&HookRun> = runs.iter().filter(|run| !run.succeeded).collect();
    if !failed.is_empty() {
        let said: Vec<String> = failed.iter().map(|run| format!("{}: {}", run.hook, run.said)).collect();
        let hint = format!("look after the application, it is not well ({})", said.join("; "));
        outcome.hint = Some(outcome.hint.take().map_or(hint.clone(), |before| format!("{before}; {hint}")));
    }
    outcome.result["hooks"] = json!(runs);
    if let Err(error) = site.ledger.done(step::START, &runs).await {
        tracing::warn!(%error, "that the application was started is not in the journal; it may be started once more");
    }
}

fn tell(site: &Site, runs: &[HookRun]) {
    for run in runs {
        site.story.step(run.hook, &run.said, Duration::from_millis(run.took_ms));
    }
}
