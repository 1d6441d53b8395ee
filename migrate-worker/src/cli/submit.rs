//! `migrate-worker submit`

use super::apply::{Wish, open_world};
use crate::Error;
use crate::worker;
use backup_agent::cli::{Done, Failure, Global, put_line, text};
use backup_agent::say;
use clap::Args;
use shared::connect;
use shared::model::{DatabaseName, JobId, NewTask, Task, TaskKind, TaskState};
use shared::task_log::{Submitted, TaskFilter, TaskLog};
use std::time::Duration;

/// Asks for a migration, which a worker (migrate-worker run) does; prints the job's id
#[derive(Debug, Args)]
#[command(after_help = "Example: migrate-worker submit shop --wait
         migrate-worker submit shop --to -1 --may-drop orders:note")]
pub struct Submit {
    /// A name from holdfast.toml
    database: DatabaseName,
    #[command(flatten)]
    wish: Wish,
    /// The job's id, so that asking twice is asking once [default: a new one]
    #[arg(long, value_name = "UUID")]
    id: Option<JobId>,
    /// Wait for its end and tell it; the exit code is that of the outcome
    #[arg(long)]
    wait: bool,
}

/// Looked at so often.
const POLL: Duration = Duration::from_millis(500);

impl Submit {
    pub(super) async fn run(self, global: &Global) -> Done {
        let spec = self.wish.spec()?;
        let world = open_world(global).await?;
        world.url(&self.database)?;
        world.migrations(&self.database)?;
        let log = connect::task_log(&world.config, world.clock.clone()).await.map_err(Error::from)?;
        let mut task = NewTask {
            spec: serde_json::to_value(&spec).map_err(|error| Error::failed(error.to_string()))?,
            requested_by: global.person(),
            ..NewTask::new(TaskKind::Migrate, Some(self.database))
        };
        task.job_id = self.id.unwrap_or(task.job_id);
        if log.submit(&task).await? == Submitted::Same {
            say!("this job was asked for before; nothing was added");
        }
        put_line(&task.job_id.to_string());
        if !self.wait {
            return Ok(());
        }
        let ended = wait(&*log, &task.job_id, global.shows_progress()).await?;
        put_line(&outcome(&ended));
        match worker::exit_code(ended.state) {
            0 => Ok(()),
            code => Err(Failure::Said(code)),
        }
    }
}

/// Waits until nobody works on a task any more: it has ended, or it is stuck.
async fn wait(log: &dyn TaskLog, job: &JobId, tells: bool) -> Result<Task, Error> {
    let (mut told, mut failures) = (String::new(), 0);
    loop {
        let filter = TaskFilter { job_id: Some(*job), ..TaskFilter::default() };
        let found = match log.tasks(&filter).await {
            Ok(found) => found.into_iter().next(),
            // The record may be away for a while; the task goes on.
            Err(error) if error.class() == shared::model::Class::Transient && failures < 120 => {
                failures += 1;
                tokio::time::sleep(POLL).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        failures = 0;
        let task = found.ok_or_else(|| Error::failed(format!("job {job} has gone from {}", log.describe())))?;
        if task.state.is_terminal() || task.state == TaskState::Stuck {
            return Ok(task);
        }
        let now = if task.is_lapsed { "its worker does not answer".to_owned() } else { progress(&task) };
        if tells && told != now {
            say!("{now}");
        }
        told = now;
        tokio::time::sleep(POLL).await;
    }
}

fn progress(task: &Task) -> String {
    match &task.step {
        Some(step) => format!("{}: {}", task.state, text::name(step)),
        None => task.state.to_string(),
    }
}

/// How a task ended, for a person.
fn outcome(task: &Task) -> String {
    let result = |name: &str| task.report.result.as_ref().and_then(|result| result.get(name)?.as_str().map(text::name));
    let message = task.report.error_message.as_deref().map(text::name).or_else(|| result("message"));
    let mut line = task.state.to_string();
    if let Some(message) = message.filter(|message| !message.is_empty()) {
        line.push_str(&format!(": {message}"));
    }
    let hint = match task.state {
        TaskState::Stuck => Some(format!("migrate-worker resolve {}", task.job_id)),
        _ => result("hint"),
    };
    if let Some(hint) = hint {
        line.push_str(&format!("\nhint: {hint}"));
    }
    line
}
