//! `migrate-worker history`

use crate::Error;
use crate::wrap::WrapSpec;
use backup_agent::cli::history::{put_json, short_id, state, to_json};
use backup_agent::cli::{Done, Global, put_line, text};
use backup_agent::say;
use clap::Args;
use serde_json::Value;
use shared::clock;
use shared::connect;
use shared::model::{DatabaseName, Task, TaskKind, TaskState};
use shared::task_log::{TaskFilter, TaskLog};
use std::sync::Arc;

/// Lists migrations and rehearsals, newest first: who asked for what, when, and what became of it
#[derive(Debug, Args)]
#[command(after_help = "Example: migrate-worker history shop --limit 5")]
pub struct History {
    /// Only those of this database
    database: Option<DatabaseName>,
    /// At most so many; 0 for all
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Also backups, drills and whatever else the record holds
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The command that lists every task this program shows.
pub const LISTS_ALL: &str = "migrate-worker history --limit 0";

impl History {
    pub(super) async fn run(self, global: &Global) -> Done {
        let log = existing_record(global).await?;
        let shown = [TaskKind::Migrate, TaskKind::Rehearse, TaskKind::Restore];
        let kinds = if self.all { Vec::new() } else { shown.to_vec() };
        let filter = TaskFilter { target: self.database, kinds, limit: self.limit, ..TaskFilter::default() };
        let tasks = log.tasks(&filter).await?;
        if self.json {
            return put_json(&tasks.iter().map(json).collect::<Vec<_>>());
        }
        if tasks.is_empty() {
            say!("{} holds no such tasks", log.describe());
        }
        for task in &tasks {
            put_line(&line(task));
        }
        Ok(())
    }
}

/// The record, which must be there.
pub async fn existing_record(global: &Global) -> Result<Arc<dyn TaskLog>, Error> {
    Ok(connect::existing_task_log(&global.config()?, clock::system()).await?)
}

/// A task as `--json` shows it.
pub fn json(task: &Task) -> Value {
    let mut value = to_json(task);
    value["spec"] = task.spec.clone();
    value["result"] = task.report.result.clone().unwrap_or_else(|| serde_json::json!({}));
    value["stuck_job"] = serde_json::json!(task.stuck_job);
    let plan = task.plan.as_ref();
    value["plan_digest"] = serde_json::json!(plan.map(|plan| &plan.digest));
    value["approved_by"] = serde_json::json!(plan.and_then(|plan| plan.approved_by.as_ref()));
    value["approval_comment"] = serde_json::json!(plan.and_then(|plan| plan.comment.as_ref()));
    value
}

/// What a task asks for, in short.
fn wish(task: &Task) -> String {
    if let Some(wrapped) = WrapSpec::of(&task.spec) {
        return format!("with-lock {}", text::name(&wrapped.program));
    }
    let to = task.spec.get("to").and_then(Value::as_str);
    to.map_or_else(|| "-".into(), |to| format!("to {}", text::name(to)))
}

/// A task on one line.
pub fn line(task: &Task) -> String {
    let target = task.target.as_ref().map_or("-", |name| name.as_str());
    let begun = task.started_at.map_or_else(|| "-".into(), text::moment);
    let duration = task.duration_s().map_or_else(|| "-".into(), |seconds| format!("{seconds:.1} s"));
    let (id, kind, by) = (short_id(task), task.kind, text::name(&task.requested_by));
    let mut line =
        format!("{id}  {kind:<8} {target:<12} {:<10} {begun:<23} {duration:>9}  {}", state(task), wish(task));
    if !by.is_empty() {
        line.push_str(&format!("  by {by}"));
    }
    let report = &task.report;
    if let Some(backup) = &report.backup_id {
        line.push_str(&format!("  backup {}", text::name(backup)));
    }
    if let Some(error) = &report.error_message {
        line.push_str(&format!("  {}", text::name(error)));
    }
    if let Some(by) = task.plan.as_ref().and_then(|plan| plan.approved_by.as_deref()) {
        line.push_str(&format!("  approved by {}", text::name(by)));
    }
    if task.state == TaskState::Waiting {
        line.push_str(&format!("  hint: migrate-worker approve {id}"));
    }
    line
}
