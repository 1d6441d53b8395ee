//! `migrate-worker submit`

use super::apply::{Wish, open_world};
use super::dead_letters::{broker, unavailable};
use crate::Error;
use crate::doors::message;
use crate::doors::signature::{KEY, SIGNATURE, sign};
use crate::worker;
use backup_agent::cli::{Done, Failure, Global, put_line, text};
use backup_agent::say;
use clap::Args;
use serde_json::Value;
use shared::config::Config;
use shared::connect;
use shared::model::{DatabaseName, JobId, NewTask, Task, TaskKind, TaskState};
use shared::queue::amqp::{Address, AmqpSettings, JOBS, Publisher};
use shared::queue::{Outgoing, Receiver};
use shared::task_log::{Submitted, TaskFilter, TaskLog};
use std::collections::BTreeMap;
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
    /// How it is asked for: written into the record, or sent to the message broker
    #[arg(long, value_enum, default_value_t = Via::Record)]
    via: Via,
    /// With --via amqp: sign by this key of the configuration [default: its only one, where there is one]
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Wait for its end, or until it waits for approval, and tell it; the exit code is that of the outcome
    #[arg(long)]
    wait: bool,
}

/// The way of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Via {
    Record,
    Amqp,
}

/// Looked at so often.
const POLL: Duration = Duration::from_millis(500);

impl Submit {
    pub(super) async fn run(self, global: &Global) -> Done {
        let spec = self.wish.spec()?;
        let world = open_world(global).await?;
        world.url(&self.database)?;
        world.migrations(&self.database)?;
        let mut task = NewTask {
            spec: serde_json::to_value(&spec).map_err(|error| Error::failed(error.to_string()))?,
            requested_by: global.person(),
            ..NewTask::new(TaskKind::Migrate, Some(self.database))
        };
        task.job_id = self.id.unwrap_or(task.job_id);
        let log = || async { connect::task_log(&world.config, world.clock.clone()).await.map_err(Error::from) };
        match self.via {
            Via::Record => {
                if log().await?.submit(&task).await? == Submitted::Same {
                    say!("this job was asked for before; nothing was added");
                }
            }
            Via::Amqp => send(&world.config, broker(global)?, self.key.as_deref(), &task).await?,
        }
        put_line(&task.job_id.to_string());
        if !self.wait {
            return Ok(());
        }
        let ended = wait(&*log().await?, &task.job_id, self.via, global.shows_progress()).await?;
        put_line(&outcome(&ended));
        match worker::exit_code(ended.state) {
            0 => Ok(()),
            code => Err(Failure::Said(code)),
        }
    }
}

/// Sends a wish; when this returns the broker has it on its disk, and its queue is there.
async fn send(config: &Config, settings: AmqpSettings, key: Option<&str>, task: &NewTask) -> Result<(), Failure> {
    let to = Address::new(JOBS, settings.routing_key(task.kind.as_str()));
    let publisher = Publisher::new(settings).map_err(Error::failed)?;
    let body = message::encode(task).map_err(|error| Error::failed(error.to_string()))?;
    let message = Outgoing {
        headers: signature(config, key, &body)?,
        body,
        content_type: "application/json".into(),
        message_id: Some(task.job_id.to_string()),
        ..Outgoing::default()
    };
    publisher.publish(&to, &message, Receiver::Needed).await.map_err(unavailable)
}

/// The headers that say who signed a message: by the key that is named, or by the only one there is.
fn signature(config: &Config, key: Option<&str>, body: &[u8]) -> Result<BTreeMap<String, Value>, Failure> {
    let keys = &config.queue.key;
    let chosen = match key {
        Some(id) => Some((id, keys.get(id).ok_or_else(|| Error::refused(format!("there is no key {id:?}"), None))?)),
        None if keys.len() > 1 => {
            return Err(Error::refused("there are several keys to sign by", "name one by --key").into());
        }
        None => keys.iter().next().map(|(id, key)| (id.as_str(), key)),
    };
    let Some((id, key)) = chosen else { return Ok(BTreeMap::new()) };
    let secret = config.queue_key(id, key).map_err(Error::from)?;
    Ok(BTreeMap::from([(KEY.to_owned(), id.into()), (SIGNATURE.to_owned(), sign(&secret, body).into())]))
}

/// Waits until nobody works on a task any more: it has ended, it is stuck, or it waits for approval.
async fn wait(log: &dyn TaskLog, job: &JobId, via: Via, tells: bool) -> Result<Task, Error> {
    let (mut told, mut failures) = (String::new(), 0);
    // A message is recorded by a worker, sooner or later.
    let mut is_recorded = via == Via::Record;
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
        if found.is_none() && !is_recorded {
            tokio::time::sleep(POLL).await;
            continue;
        }
        is_recorded = true;
        let task = found.ok_or_else(|| Error::failed(format!("job {job} has gone from {}", log.describe())))?;
        if task.state.is_terminal() || matches!(task.state, TaskState::Stuck | TaskState::Waiting) {
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
    let error = task.report.error_message.as_deref().filter(|_| task.state != TaskState::Waiting).map(text::name);
    let message = error.or_else(|| result("message"));
    let mut line = task.state.to_string();
    if let Some(message) = message.filter(|message| !message.is_empty()) {
        line.push_str(&format!(": {message}"));
    }
    let hint = match task.state {
        TaskState::Stuck => Some(format!("migrate-worker resolve {}", task.job_id)),
        TaskState::Waiting => Some(format!("migrate-worker approve {}", task.job_id)),
        _ => result("hint"),
    };
    if let Some(hint) = hint {
        line.push_str(&format!("\nhint: {hint}"));
    }
    line
}
