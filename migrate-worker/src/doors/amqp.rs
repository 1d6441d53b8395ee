//! Messages of RabbitMQ into the record: plain JSON, or Celery's.

use super::celery;
use super::message::decode;
use super::policy::{Policy, made_by};
use super::signature::Keys;
use crate::world::World;
use async_trait::async_trait;
use backup_agent::notify::celery::failure;
use backup_agent::notify::queue::REPLY_CHANNEL;
use backup_agent::notify::{CONTENT_TYPE, Notifier};
use jiff::Timestamp;
use serde_json::json;
use shared::config::ConfigError;
use shared::model::{JobId, NewTask, Reply, TaskKind};
use shared::queue::amqp::OURS;
use shared::queue::{Answer, Intake, Message, NotNow, Outgoing, Verdict};
use shared::task_log::{TaskLog, TaskLogError};
use std::sync::Arc;
use std::time::Duration;

/// Pause between two looks whether the record is there again.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Takes wishes in: understood, allowed, recorded. Nothing is started here.
pub struct Door {
    world: Arc<World>,
    log: Arc<dyn TaskLog>,
    notifier: Arc<Notifier>,
    keys: Keys,
    policy: Policy,
}

impl Door {
    /// A door to `log`; reads keys and rules of the configuration.
    pub fn new(world: Arc<World>, log: Arc<dyn TaskLog>, notifier: Arc<Notifier>) -> Result<Self, ConfigError> {
        let keys = Keys::read(&world.config)?;
        let policy = Policy::new(world.config.queue.allow.clone());
        Ok(Door { world, log, notifier, keys, policy })
    }

    /// The task a message asks for; the error is why it never can be one.
    fn understood(&self, principal: Option<&str>, message: &Message) -> Result<NewTask, String> {
        is_plain_json(message)?;
        let mut task = if celery::is_celery(message) { celery::read(message)? } else { decode(&message.body)? };
        self.is_configured(&task)?;
        self.policy.check(principal, &task)?;
        if let Some(principal) = principal {
            let says = task.requested_by;
            task.requested_by = if says.is_empty() { principal.to_owned() } else { format!("{principal} ({says})") };
        }
        task.channels = self.notifier.channels(task.target.as_ref(), task.kind);
        task.reply = reply(message)?;
        task.channels.extend(task.reply.iter().map(|_| REPLY_CHANNEL.to_owned()));
        Ok(task)
    }

    /// Puts a message aside, and has its sender told.
    fn buried(&self, message: &Message, reason: String) -> Verdict {
        let to = reply(message).ok().flatten();
        let answer = to.map(|to| rejection(message, to, &reason, self.world.clock.now()));
        Verdict::Buried { reason, answer }
    }

    fn is_configured(&self, task: &NewTask) -> Result<(), String> {
        for name in task.target.iter().chain(&made_by(task)) {
            self.world.database(name).map_err(|error| error.facts())?;
        }
        match (&task.target, task.kind) {
            (Some(name), TaskKind::Migrate | TaskKind::Rehearse) => {
                self.world.migrations(name).map(drop).map_err(|error| error.facts())
            }
            _ => Ok(()),
        }
    }
}

/// A media type that lies is not believed, and nothing is unpacked.
fn is_plain_json(message: &Message) -> Result<(), String> {
    let plain = |kind: &str| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json");
    match &message.content_type {
        Some(kind) if kind.contains("python-serialize") => {
            return Err("it is pickled, which nobody reads here: set task_serializer to json".into());
        }
        Some(kind) if !plain(kind) => return Err(format!("its content type is {kind:?}, not application/json")),
        _ => {}
    }
    match message.content_encoding.as_deref() {
        None | Some("" | "utf-8" | "UTF-8") => Ok(()),
        Some(other) => Err(format!("its content encoding is {other:?}; only utf-8 is read")),
    }
}

/// Where the answer goes. Never to a queue of ours: whoever may send to us could send to it by us.
fn reply(message: &Message) -> Result<Option<Reply>, String> {
    let Some(to) = message.reply_to.clone().filter(|to| !to.is_empty() && !celery::ignores_result(message)) else {
        return Ok(None);
    };
    if to.starts_with(OURS) {
        return Err("reply_to names a queue of Holdfast's own".into());
    }
    Ok(Some(Reply { to, correlation_id: message.correlation_id.clone() }))
}

/// What the sender of a message that can never be taken is told: as an end, with a state no task has.
fn rejection(message: &Message, to: Reply, reason: &str, at: Timestamp) -> Answer {
    let id = celery::id(message);
    let told = if celery::is_celery(message) {
        failure(id.unwrap_or_default(), "Rejected", reason)
    } else {
        let body = json!({
            "specversion": "1.0",
            "id": JobId::random().to_string(),
            "source": "urn:holdfast:migrate-worker",
            "type": "job.rejected",
            "time": at,
            "datacontenttype": "application/json",
            "data": {"state": "rejected", "report": {"error_message": reason, "result": {"message": reason}}},
        });
        Outgoing { body: body.to_string().into_bytes(), content_type: CONTENT_TYPE.into(), ..Outgoing::default() }
    };
    let correlation_id = to.correlation_id.or_else(|| id.map(str::to_owned));
    Answer { to: to.to, message: Outgoing { correlation_id, ..told } }
}

#[async_trait]
impl Intake for Door {
    async fn take(&self, message: &Message) -> Result<Verdict, NotNow> {
        let principal = match self.keys.principal(message) {
            Ok(principal) => principal,
            // Whoever cannot say who it is hears nothing.
            Err(reason) => return Ok(Verdict::Buried { reason, answer: None }),
        };
        let task = match self.understood(principal, message) {
            Ok(task) => task,
            Err(reason) => return Ok(self.buried(message, reason)),
        };
        match self.log.submit(&task).await {
            Ok(submitted) => {
                tracing::debug!(job = %task.job_id, kind = %task.kind, ?submitted, "a message is recorded");
                Ok(Verdict::Taken)
            }
            Err(error @ TaskLogError::Conflict(_)) => Ok(self.buried(message, error.to_string())),
            Err(error) => Err(NotNow(error.to_string())),
        }
    }

    async fn ready(&self) {
        while let Err(error) = self.log.last_slot("is it there?").await {
            tracing::warn!(%error, "the record does not answer; messages stay with the broker");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
