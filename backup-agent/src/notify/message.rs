//! What the webhook and the command are told: an event as CloudEvents 1.0 writes it in JSON.

use serde_json::{Value, json};
use shared::model::{Task, TaskEvent};

/// Media type of the message.
pub const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// Id of the message, the same at every try. Without a full stop, which separates the parts of what is signed.
pub(super) fn id(task: &Task, event: &TaskEvent) -> String {
    format!("{}-{}", task.job_id, event.seq)
}

/// The message. `data` holds the task as it is when the message is sent, and the event.
pub(super) fn body(task: &Task, event: &TaskEvent) -> String {
    let target = task.target.as_ref().map(ToString::to_string);
    let of_target = target.as_ref().map(|target| format!(".{target}")).unwrap_or_default();
    let mut message = json!({
        "specversion": "1.0",
        "id": id(task, event),
        "source": "urn:holdfast:backup-agent",
        "type": format!("job.{}{of_target}", event.what),
        "time": event.at,
        "datacontenttype": "application/json",
        "data": task,
    });
    if let Some(target) = target {
        message["subject"] = Value::String(target);
    }
    message["data"]["event"] = json!(event);
    message.to_string()
}
