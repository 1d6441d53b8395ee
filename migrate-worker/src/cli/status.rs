//! `migrate-worker status`

use super::history::existing_record;
use backup_agent::cli::history::{put_json, short_id, state};
use backup_agent::cli::{Done, Failure, Global, put_line, text};
use backup_agent::say;
use clap::Args;
use serde_json::{Value, json};
use shared::model::{DatabaseName, Task, TaskKind, TaskState};
use shared::task_log::{TaskFilter, TaskLog, TaskLogError};

/// Tells of every database how its newest migration stands, and what a person must do
///
/// Exit code 5 when a database is stuck.
#[derive(Debug, Args)]
#[command(after_help = "Example: migrate-worker status shop || echo 'look at shop'")]
pub struct Status {
    /// Only this database
    database: Option<DatabaseName>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// How a database stands.
struct Standing {
    database: DatabaseName,
    /// What is active, or else waits for approval, or else the newest migration.
    task: Option<Task>,
    /// Migrations that wait.
    waiting: usize,
    /// The one that waits for approval the longest.
    unapproved: Option<Task>,
}

impl Status {
    pub(super) async fn run(self, global: &Global) -> Done {
        let names: Vec<DatabaseName> = match self.database {
            Some(name) => vec![name],
            None => global.config()?.databases.keys().cloned().collect(),
        };
        let log = existing_record(global).await?;
        let mut found = Vec::new();
        for name in names {
            found.push(standing(&*log, name).await?);
        }
        if self.json {
            put_json(&found.iter().map(Standing::json).collect::<Vec<_>>())?;
        } else {
            found.iter().for_each(|standing| put_line(&standing.line()));
        }
        if found.is_empty() {
            say!("no database is configured");
        }
        if found.iter().any(|standing| standing.stuck().is_some()) { Err(Failure::Said(5)) } else { Ok(()) }
    }
}

async fn standing(log: &dyn TaskLog, database: DatabaseName) -> Result<Standing, TaskLogError> {
    let kinds = vec![TaskKind::Migrate, TaskKind::Restore];
    let of = TaskFilter { target: Some(database.clone()), ..TaskFilter::default() };
    let held = vec![TaskState::Stuck, TaskState::Recovering, TaskState::Running];
    let waits = vec![TaskState::Scheduled, TaskState::Queued, TaskState::Waiting];
    let mut active = log.tasks(&TaskFilter { kinds, states: held, ..of.clone() }).await?;
    // What is stuck comes before what helps with it.
    active.sort_by_key(|task| task.state != TaskState::Stuck);
    let newest = TaskFilter { kinds: vec![TaskKind::Migrate], limit: 1, ..of.clone() };
    let waiting = log.tasks(&TaskFilter { kinds: vec![TaskKind::Migrate], states: waits, ..of }).await?;
    let unapproved = waiting.iter().rfind(|task| task.state == TaskState::Waiting).cloned();
    let task = match active.into_iter().next().or_else(|| unapproved.clone()) {
        Some(task) => Some(task),
        None => log.tasks(&newest).await?.into_iter().next(),
    };
    Ok(Standing { database, task, waiting: waiting.len(), unapproved })
}

impl Standing {
    fn stuck(&self) -> Option<&Task> {
        self.task.as_ref().filter(|task| task.state == TaskState::Stuck)
    }

    /// What a person must do, where only a person can.
    fn remedy(&self) -> Option<String> {
        let resolve = self.stuck().map(|task| format!("migrate-worker resolve {}", task.job_id));
        resolve.or_else(|| Some(format!("migrate-worker approve {}", self.unapproved.as_ref()?.job_id)))
    }

    fn line(&self) -> String {
        let Some(task) = &self.task else { return format!("{:<12} no migration is recorded", self.database.as_str()) };
        let at = task.finished_at.or(task.started_at).unwrap_or(task.created_at);
        let mut line =
            format!("{:<12} {:<10} {}  job {}", self.database.as_str(), state(task), text::moment(at), short_id(task));
        if task.kind != TaskKind::Migrate {
            line.push_str(&format!(" ({})", task.kind));
        }
        if let Some(step) = &task.step {
            line.push_str(&format!("  at {}", text::name(step)));
        }
        if let Some(error) = task.report.error_message.as_deref().filter(|_| task.state != TaskState::Succeeded) {
            line.push_str(&format!("  {}", text::name(error)));
        }
        if self.waiting > 0 && task.state.is_active() {
            line.push_str(&format!("  {} waiting", self.waiting));
        }
        if let Some(remedy) = self.remedy() {
            line.push_str(&format!("  hint: {remedy}"));
        }
        line
    }

    fn json(&self) -> Value {
        let of = |read: fn(&Task) -> Value| self.task.as_ref().map_or(Value::Null, read);
        json!({
            "database": self.database,
            "job_id": of(|task| json!(task.job_id)),
            "kind": of(|task| json!(task.kind)),
            "state": of(|task| json!(state(task))),
            "step": of(|task| json!(task.step)),
            "created_at": of(|task| json!(task.created_at)),
            "started_at": of(|task| json!(task.started_at)),
            "finished_at": of(|task| json!(task.finished_at)),
            "error_message": of(|task| json!(task.report.error_message)),
            "waiting": self.waiting,
            "remedy": self.remedy(),
        })
    }
}
