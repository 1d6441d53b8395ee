//! Answers by the message broker: told to everybody who listens, and to the one who asked.

use super::{Undelivered, celery, message};
use shared::model::{DatabaseName, Task, TaskDoor, TaskEvent, TaskState};
use shared::queue::amqp::{Address, EVENTS, Publisher};
use shared::queue::{Outgoing, PublishError, Receiver};

/// Channel of the exchange of events.
pub const EVENTS_CHANNEL: &str = "events";
/// Channel of the one who asked by a message.
pub const REPLY_CHANNEL: &str = "reply";

/// Tells the exchange of events; nobody need listen. The routing key is `job.<state>.<database>`, and
/// `job.approved.<database>` for an approval.
pub(super) async fn tell(broker: &Publisher, task: &Task, event: &TaskEvent) -> Result<(), Undelivered> {
    let target = task.target.as_ref().map_or("-", DatabaseName::as_str);
    let to = Address::new(EVENTS, format!("job.{}.{target}", event.what));
    let sent = broker.publish(&to, &outgoing(task, event), Receiver::Optional).await;
    sent.map_err(undelivered)
}

/// Tells the one who asked how it ended; who has gone meanwhile is not waited for.
pub(super) async fn answer(broker: &Publisher, task: &Task, event: &TaskEvent) -> Result<(), Undelivered> {
    let state = event.what.parse().ok().filter(|state: &TaskState| state.is_terminal() || *state == TaskState::Stuck);
    let (Some(reply), Some(state)) = (&task.reply, state) else { return Ok(()) };
    let correlation_id = reply.correlation_id.clone().or_else(|| Some(task.job_id.to_string()));
    let message = match task.door {
        TaskDoor::Celery => celery::end(task, state, task.report.error_message.as_deref().unwrap_or(&event.detail)),
        _ => outgoing(task, event),
    };
    let message = Outgoing { message_id: Some(message::id(task, event)), correlation_id, ..message };
    match broker.publish(&Address::queue(&reply.to), &message, Receiver::Needed).await {
        Err(PublishError::Unroutable { .. }) => {
            Err(Undelivered::Pointless("nobody waits for the answer any more".into()))
        }
        sent => sent.map_err(undelivered),
    }
}

fn outgoing(task: &Task, event: &TaskEvent) -> Outgoing {
    Outgoing {
        body: message::body(task, event).into_bytes(),
        content_type: message::CONTENT_TYPE.into(),
        message_id: Some(message::id(task, event)),
        correlation_id: Some(task.job_id.to_string()),
        ..Outgoing::default()
    }
}

fn undelivered(error: PublishError) -> Undelivered {
    match error {
        PublishError::Rejected { .. } => Undelivered::Rejected(error.to_string()),
        PublishError::Unavailable { .. } | PublishError::Unroutable { .. } => {
            Undelivered::Unreachable(error.to_string())
        }
    }
}
