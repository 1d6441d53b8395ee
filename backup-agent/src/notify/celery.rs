//! The end of a task in the words of Celery's own workers, so that its clients know what to do with it.

use serde_json::{Value, json};
use shared::model::{Task, TaskState};
use shared::queue::Outgoing;

/// What a client of Celery is told of a task's end: the task as its result, or an exception named after its state.
pub(super) fn end(task: &Task, state: TaskState, told: &str) -> Outgoing {
    let id = task.job_id.to_string();
    match state {
        TaskState::Succeeded => result(&id, "SUCCESS", &json!(task)),
        TaskState::Cancelled => {
            let revoked =
                json!({"exc_type": "TaskRevokedError", "exc_module": "celery.exceptions", "exc_message": [told]});
            result(&id, "REVOKED", &revoked)
        }
        TaskState::Refused => failure(&id, "Refused", told),
        TaskState::Restored => failure(&id, "Restored", told),
        TaskState::Expired => failure(&id, "Expired", told),
        TaskState::Stuck => failure(&id, "Stuck", told),
        _ => failure(&id, "Failed", told),
    }
}

/// What a client of Celery is told of a task that has failed, by an exception of that name.
pub fn failure(task_id: &str, exception: &str, told: &str) -> Outgoing {
    let exception = json!({"exc_type": exception, "exc_module": "holdfast", "exc_message": [told]});
    result(task_id, "FAILURE", &exception)
}

fn result(task_id: &str, status: &str, result: &Value) -> Outgoing {
    let body = json!({"task_id": task_id, "status": status, "result": result, "traceback": null, "children": []});
    Outgoing { body: body.to_string().into_bytes(), content_type: "application/json".into(), ..Outgoing::default() }
}
