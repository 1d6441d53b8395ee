//! `migrate-worker approve`

use super::history::{LISTS_ALL, existing_record};
use crate::Error;
use backup_agent::cli::history::{find, put_json};
use backup_agent::cli::{Done, Failure, Global, put_line, text};
use clap::Args;
use serde_json::{Value, json};
use shared::clock;
use shared::connect;
use shared::model::{Task, TaskState};
use shared::task_log::{Approval, TaskLogError};

/// Approves the plan a job waits with, so that the next worker carries it out
///
/// Whoever asked for the job may not approve it. The worker backs up and rehearses again: where that leads to another plan
/// the job waits once more. Who somebody is, is what the system says of them (SUDO_USER, else USER).
#[derive(Debug, Args)]
#[command(after_help = "Example: migrate-worker show 0198c2e7
         migrate-worker approve 0198c2e7 --plan 5d3f0a9c1b2e")]
pub struct Approve {
    /// Its id, or the beginning of it
    job: String,
    /// Refuse where the plan's digest does not begin so
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    plan: Option<String>,
    /// Words for the record
    #[arg(long, value_name = "TEXT", value_parser = words)]
    comment: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Fewer digits tell no plan apart.
const LEAST_DIGITS: usize = 8;
/// What fits on a page.
const MOST_CHARACTERS: usize = 1000;

fn digest(typed: &str) -> Result<String, String> {
    let is_digest = typed.bytes().all(|byte| byte.is_ascii_hexdigit()) && (LEAST_DIGITS..=64).contains(&typed.len());
    let wrong = || format!("give at least {LEAST_DIGITS} digits of the plan's digest; migrate-worker show prints it");
    if is_digest { Ok(typed.to_ascii_lowercase()) } else { Err(wrong()) }
}

fn words(typed: &str) -> Result<String, String> {
    match typed.trim() {
        "" => Err("it is empty".into()),
        long if long.chars().count() > MOST_CHARACTERS => Err(format!("it has more than {MOST_CHARACTERS} characters")),
        plain => Ok(plain.to_owned()),
    }
}

impl Approve {
    pub(super) async fn run(self, global: &Global) -> Done {
        // Not made where it is missing: then nothing waits.
        let task = find(&*existing_record(global).await?, &self.job, LISTS_ALL).await?;
        let (job, by) = (task.job_id, global.person());
        let waits = task.plan.as_ref().filter(|_| task.state == TaskState::Waiting);
        let Some(waits) = waits else {
            return Err(refused(TaskLogError::NotWaiting { job, state: task.state }));
        };
        if let Some(plan) = self.plan.filter(|beginning| !waits.digest.starts_with(beginning)) {
            return Err(refused(TaskLogError::OtherPlan { job, waits: waits.digest.clone(), plan }));
        }
        let log = connect::task_log(&global.config()?, clock::system()).await.map_err(Error::from)?;
        let approval = Approval { plan: waits.digest.clone(), by, comment: self.comment };
        log.approve(&job, &approval).await.map_err(refused)?;
        if self.json {
            let result = |name: &str| task.report.result.as_ref().and_then(|result| result.get(name)).cloned();
            return put_json(&json!({
                "job_id": job,
                "database": task.target,
                "state": TaskState::Queued,
                "requested_by": task.requested_by,
                "plan_digest": approval.plan,
                "approved_by": approval.by,
                "approval_comment": approval.comment,
                "plan": result("plan"),
            }));
        }
        let database = task.target.as_ref().map_or("-", |name| name.as_str());
        put_line(&format!("job {job} of {database} is approved by {}", text::name(&approval.by)));
        plan_lines(&task).iter().for_each(|line| put_line(&format!("  {line}")));
        put_line("migrate-worker run carries it out");
        Ok(())
    }
}

/// The plan of a task as people see it before they approve it; nothing where it has none.
pub fn plan_lines(task: &Task) -> Vec<String> {
    let (Some(plan), Some(result)) = (&task.plan, &task.report.result) else { return Vec::new() };
    let texts = |value: Option<&Value>| -> Vec<String> {
        let list = value.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(text::name).collect()
    };
    let of_plan = |path: &str| result.pointer(&format!("/plan/{path}"));
    let mut lines = vec![format!("plan      {}", text::name(&plan.digest))];
    let heads = |path: &str| crate::migration::heads(&texts(of_plan(path)));
    let revisions = texts(of_plan("route/revisions"));
    let back = of_plan("route/direction").and_then(Value::as_str) == Some("downgrade");
    let back = if back { " taken back" } else { "" };
    lines.push(format!("route     {} -> {}", heads("route/from"), heads("route/to")));
    lines.push(format!("revisions {}{back}", revisions.join(", ")));
    match texts(of_plan("losses")) {
        none if none.is_empty() => lines.push("losses    none".into()),
        losses => lines.extend(losses.iter().map(|loss| format!("losses    {loss}"))),
    }
    lines.extend(texts(result.get("report")).iter().map(|line| format!("effect    {line}")));
    lines
}

/// What the record says, as a refusal with what a person can do.
fn refused(error: TaskLogError) -> Failure {
    let hint = match &error {
        TaskLogError::NotWaiting { job, .. } => format!("migrate-worker show {job} tells what became of it"),
        TaskLogError::OtherPlan { job, .. } => format!("look at it again: migrate-worker show {job}"),
        TaskLogError::OwnWish { job, .. } => {
            format!("somebody else looks at it and says: migrate-worker approve {job}")
        }
        _ => return error.into(),
    };
    Error::Refused { message: format!("{error}; nothing was approved"), hint: Some(hint) }.into()
}
