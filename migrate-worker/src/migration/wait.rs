//! A task is let go of until a person has approved its plan.

use super::facts::{Outcome, Rehearsed, route_words, step};
use super::halt::Halt;
use super::{Site, steps};
use crate::Error;
use crate::plan::Plan;
use serde_json::{Value, json};
use shared::model::{Class, TaskReport, TaskState};
use shared::task_log::TaskLogError;
use std::time::Duration;

/// How often the record is told, where it does not answer.
const TRIES: u32 = 3;

/// Digits of a digest that people are shown.
const SHORT: usize = 12;

/// A plan that is to be approved.
#[derive(Debug)]
pub struct Asked {
    plan: Plan,
    /// Why it waits once more.
    moved: Option<String>,
    effects: Value,
    /// The effect report for people.
    report: Vec<String>,
}

impl Asked {
    /// A plan nobody has approved yet.
    pub(super) fn first(plan: Plan, rehearsed: &Rehearsed) -> Self {
        let (effects, report) = (json!(rehearsed.effects), rehearsed.effects.lines());
        Asked { plan, moved: None, effects, report }
    }

    /// A plan that differs from the approved one by `moved`.
    pub(super) fn again(plan: Plan, rehearsed: &Rehearsed, moved: &[String]) -> Self {
        let what = if moved.is_empty() { "another version made it".to_owned() } else { moved.join("; ") };
        let moved = Some(format!("the plan is not the approved one: {what}"));
        Asked { moved, ..Asked::first(plan, rehearsed) }
    }

    fn message(&self, digest: &str) -> String {
        let (way, losses) = (route_words(&self.plan.route), self.plan.loss_words());
        let moved = self.moved.as_ref().map_or_else(String::new, |moved| format!("{moved}; now it is "));
        format!("{moved}{way}, {losses}; plan {} needs somebody else's approval", &digest[..SHORT])
    }
}

impl From<Asked> for Halt {
    fn from(asked: Asked) -> Self {
        Halt::Waiting(Box::new(asked))
    }
}

/// Lets go of the task: nothing of it is left on this machine, nobody holds it, and the record says what it waits with.
///
/// A crash before the record knows leaves a task whose worker was lost, which is begun anew. Fails then, too, when the
/// record does not answer.
pub(super) async fn wait(site: &mut Site, asked: Asked) -> Result<Outcome, Error> {
    let digest = asked.plan.digest();
    let mut outcome = Outcome {
        state: TaskState::Waiting,
        message: asked.message(&digest),
        hint: None,
        backup: site.backup(),
        result: json!({"effects": asked.effects, "plan": &asked.plan, "plan_digest": digest, "report": asked.report}),
    };
    steps::tidy(site).await;
    site.ledger.let_go(step::LET_GO, &asked.plan).await?;
    let mut result = outcome.result.clone();
    result["message"] = json!(outcome.message);
    let report = TaskReport {
        backup_id: outcome.backup.clone(),
        result: Some(result),
        error_message: asked.moved,
        ..TaskReport::default()
    };
    outcome.state = said(site, &digest, &report).await?;
    if outcome.state == TaskState::Cancelled {
        outcome.message = "its end was wished for before its plan was approved; the database was only read".into();
    }
    Ok(outcome)
}

/// Tells the record; returns the state the task then has.
async fn said(site: &Site, digest: &str, report: &TaskReport) -> Result<TaskState, TaskLogError> {
    let (log, lease) = (site.ledger.record(), site.ledger.lease());
    for _ in 1..TRIES {
        match log.wait_for_approval(lease, digest, report).await {
            Err(error) if error.class() == Class::Transient => site.world.clock.sleep(Duration::from_secs(1)).await,
            said => return said,
        }
    }
    log.wait_for_approval(lease, digest, report).await
}
