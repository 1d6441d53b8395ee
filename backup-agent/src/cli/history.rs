//! `backup-agent history`

use super::{Done, Failure, Global, put_line, text};
use crate::error::Error;
use clap::Args;
use shared::clock;
use shared::connect;
use shared::model::{DatabaseName, Task, TaskEvent};
use shared::task_log::{TaskFilter, TaskLog};

/// Lists tasks, newest first: when they ran, how they ended, how much they moved
#[derive(Debug, Args)]
#[command(after_help = "Example: backup-agent history shop --limit 20
         backup-agent history --job 0198c2e7")]
pub struct History {
    /// Only tasks of this database
    database: Option<DatabaseName>,
    /// Show the events of one task: its id, or the beginning of it
    #[arg(long, value_name = "ID", conflicts_with_all = ["database", "limit"])]
    job: Option<String>,
    /// At most so many; 0 for all
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl History {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let log = connect::existing_task_log(&config, clock::system()).await.map_err(Error::from)?;
        match &self.job {
            Some(job) => self.one(&*log, job).await,
            None => self.list(&*log).await,
        }
    }

    async fn list(&self, log: &dyn TaskLog) -> Done {
        let filter = TaskFilter { target: self.database.clone(), limit: self.limit, ..TaskFilter::default() };
        let tasks = log.tasks(&filter).await?;
        if self.json {
            return put_json(&tasks.iter().map(to_json).collect::<Vec<_>>());
        }
        if tasks.is_empty() {
            say!("{} holds no such tasks", log.describe());
        }
        for task in &tasks {
            put_line(&line(task));
        }
        Ok(())
    }

    async fn one(&self, log: &dyn TaskLog, typed: &str) -> Done {
        let task = find(log, typed, "backup-agent history --limit 0").await?;
        let events = log.events(&task.job_id).await?;
        if self.json {
            let mut value = to_json(&task);
            value["events"] = serde_json::json!(events);
            return put_json(&value);
        }
        put_line(&line(&task));
        for event in &events {
            put_line(&event_line(event));
        }
        Ok(())
    }
}

/// The task whose id is or begins with `typed`. Refuses where there is none, naming the command that lists all.
pub async fn find(log: &dyn TaskLog, typed: &str, lists_all: &str) -> Result<Task, Failure> {
    let mut found = log.by_beginning(typed).await?.into_iter();
    match (found.next(), found.next()) {
        (Some(task), None) => Ok(task),
        (Some(_), Some(_)) => Err(Failure::Usage(format!("more than one job id begins with {typed}; give more of it"))),
        _ => Err(Error::Refused {
            message: format!("{}: there is no job {typed}", log.describe()),
            hint: Some(format!("{lists_all} lists all there are")),
        }
        .into()),
    }
}

/// The state for people: nobody knows what becomes of a task whose lease ran out.
pub fn state(task: &Task) -> &'static str {
    if task.is_lapsed { "unknown" } else { task.state.as_str() }
}

/// As much of a task's id as tells it apart and can be typed.
///
/// The beginning of an id is the time of its making: the end tells tasks of one second apart too, but only the beginning
/// can be typed.
pub fn short_id(task: &Task) -> String {
    let id = task.job_id.to_string();
    id.get(..18).map(str::to_owned).unwrap_or(id)
}

fn line(task: &Task) -> String {
    let short = short_id(task);
    let target = task.target.as_ref().map_or("-", |name| name.as_str());
    let begun = task.started_at.map_or_else(|| "-".into(), text::moment);
    let duration = task.duration_s().map_or_else(|| "-".into(), |seconds| format!("{seconds:.1} s"));
    let report = &task.report;
    let rows = report.rows.map_or_else(|| "-".into(), text::count);
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".into(), text::size);
    let mut line = format!(
        "{short}  {:<8} {target:<12} {:<10} {begun:<23} {duration:>9}  {rows:>10} rows  {:>8} in  {:>8} out",
        task.kind,
        state(task),
        size(report.bytes_in),
        size(report.bytes_out)
    );
    let error = [report.error_class.as_deref(), report.error_message.as_deref()];
    let error: Vec<String> = error.into_iter().flatten().map(text::name).collect();
    if !error.is_empty() {
        line.push_str(&format!("  {}", error.join(": ")));
    }
    line
}

/// An event on one line, indented.
pub fn event_line(event: &TaskEvent) -> String {
    let line =
        format!("  {:>3}  {}  {:<16} {}", event.seq, text::moment(event.at), event.what, text::name(&event.detail));
    line.trim_end().to_owned()
}

/// A task as `--json` shows it.
pub fn to_json(task: &Task) -> serde_json::Value {
    let report = &task.report;
    serde_json::json!({
        "job_id": task.job_id,
        "kind": task.kind,
        "target": task.target,
        "state": state(task),
        "step": task.step,
        "attempt": task.attempt,
        "max_attempts": task.max_attempts,
        "door": task.door,
        "requested_by": task.requested_by,
        "created_at": task.created_at,
        "run_at": task.run_at,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
        "duration_s": task.duration_s(),
        "backup_id": report.backup_id,
        "rows": report.rows,
        "bytes_in": report.bytes_in,
        "bytes_out": report.bytes_out,
        "error_class": report.error_class,
        "error_message": report.error_message,
        "cancel_requested": task.cancel_requested,
    })
}

/// Writes data as JSON.
pub fn put_json(value: &impl serde::Serialize) -> Done {
    put_line(&serde_json::to_string_pretty(value).map_err(|error| Failure::Usage(error.to_string()))?);
    Ok(())
}
