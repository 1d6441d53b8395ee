//! What must hold of the decoders whatever comes in; fed by the tests and by the fuzzer (`fuzz/`).

use migrate_worker::doors::{celery, message};
use shared::model::NewTask;
use shared::queue::Message;

/// A message: headers as a JSON object on the first line, the body behind it.
///
/// Panics where a decoder does, where its error is more than one line of moderate length, or where a message that was
/// understood is another one after it was written down again.
pub fn message(data: &[u8]) {
    let (first, body) = data.split_at(data.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    let headers = serde_json::from_slice(first).unwrap_or_default();
    let message = Message { headers, body: body.to_vec(), ..Message::default() };
    judge(message::decode(body));
    if celery::is_celery(&message) {
        judge(celery::read(&message));
    }
}

fn judge(decoded: Result<NewTask, String>) {
    match decoded {
        Ok(task) => {
            let written = message::encode(&task).expect("what was understood can be written");
            let again = message::decode(&written).expect("what was written can be understood");
            assert_eq!(NewTask { door: task.door, ..again }, task);
        }
        Err(reason) => {
            assert!(!reason.is_empty() && reason.chars().count() < 1000, "{reason}");
            assert!(!reason.contains(char::is_control), "{reason:?}");
        }
    }
}
