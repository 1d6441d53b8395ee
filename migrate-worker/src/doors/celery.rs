//! Wishes of Celery's clients, in version 2 of its message protocol.
//!
//! A task `holdfast.<kind>` with keyword arguments only; they are the fields of a message of plain JSON, but for what
//! Celery has fields of its own for: the id, the ETA and the expiry. Nothing is unpickled.

use super::message::{cut, decode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::model::{NewTask, TaskDoor, TaskKind};
use shared::queue::Message;

/// What a task's name begins with.
const PREFIX: &str = "holdfast.";
/// Fields that Celery's own take the place of.
const CELERYS_OWN: [(&str, &str); 4] =
    [("id", "task_id"), ("kind", "the task's name"), ("run_at", "eta"), ("expires_at", "expires")];

/// Positional arguments, keyword arguments, and what is to follow.
#[derive(Deserialize)]
struct Body(Vec<Value>, Map<String, Value>, Map<String, Value>);

/// Whether a message is one of Celery's.
pub fn is_celery(message: &Message) -> bool {
    message.headers.contains_key("task")
}

/// Celery's id of the task, where it is said.
pub fn id(message: &Message) -> Option<&str> {
    message.headers.get("id").and_then(Value::as_str)
}

/// Whether the sender has said that it waits for no result.
pub fn ignores_result(message: &Message) -> bool {
    message.headers.get("ignore_result") == Some(&Value::Bool(true))
}

/// Reads a message of Celery. The error says in one line what is wrong with it.
pub fn read(message: &Message) -> Result<NewTask, String> {
    let name = text(message, "task")?.ok_or("its header task is no text")?;
    let kind: Option<TaskKind> = name.strip_prefix(PREFIX).and_then(|kind| kind.parse().ok());
    let kind = kind.ok_or_else(|| {
        let known: Vec<String> = TaskKind::ALL.iter().map(|kind| format!("{PREFIX}{kind}")).collect();
        format!("there is no task {}; there are {}", cut(&format!("{name:?}")), known.join(", "))
    })?;
    let body: Body = serde_json::from_slice(&message.body)
        .map_err(|error| format!("its body is not [args, kwargs, embed] of Celery: {}", cut(&error.to_string())))?;
    let Body(positional, mut fields, follows) = body;
    if !positional.is_empty() {
        return Err("arguments are given by name: send_task(name, kwargs={…})".into());
    }
    if let Some((what, _)) = follows.iter().find(|(_, value)| !is_nothing(value)) {
        let what = cut(what);
        return Err(format!(
            "it has {what}; nothing is sent on from here, so send what follows when the result is there"
        ));
    }
    for (field, instead) in CELERYS_OWN {
        if fields.contains_key(field) {
            return Err(format!("kwargs have the field {field}, which is not said there ({instead})"));
        }
    }
    let id = text(message, "id")?.ok_or("its header id is missing")?;
    fields.insert("id".into(), id.into());
    fields.insert("kind".into(), json!(kind));
    for (header, field) in [("eta", "run_at"), ("expires", "expires_at")] {
        if let Some(time) = text(message, header)? {
            let at: Timestamp = with_zone(time)
                .parse()
                .map_err(|_| format!("its {header} {} is no time", cut(&format!("{time:?}"))))?;
            fields.insert(field.into(), json!(at));
        }
    }
    // The hard limit of [hard, soft], in seconds; a part of one counts as a whole.
    if let Some(limit) = message.headers.get("timelimit").and_then(|limits| limits.get(0)).and_then(Value::as_f64) {
        fields.entry("deadline_s").or_insert_with(|| json!(limit.ceil() as u64));
    }
    let task = decode(Value::Object(fields).to_string().as_bytes())?;
    Ok(NewTask { door: TaskDoor::Celery, ..task })
}

/// A header that is a text, where it is there.
fn text<'a>(message: &'a Message, header: &str) -> Result<Option<&'a str>, String> {
    match message.headers.get(header) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("its header {header} is no text")),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// Celery's own clocks are UTC unless told otherwise, and then it writes no zone.
fn with_zone(time: &str) -> String {
    let has_date = time.len() > 10 && time.is_char_boundary(10);
    let has_zone = time.ends_with(['Z', 'z']) || (has_date && time[10..].contains(['+', '-']));
    if has_zone { time.to_owned() } else { format!("{time}Z") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn message(headers: Value, body: &str) -> Message {
        let headers: BTreeMap<String, Value> = serde_json::from_value(headers).expect("headers");
        Message { headers, body: body.into(), ..Message::default() }
    }

    fn of(kwargs: &str) -> Message {
        let id = "01970000-0000-7000-8000-000000000001";
        let headers = json!({"task": "holdfast.migrate", "id": id, "eta": null, "expires": "2030-01-01T00:00:00.5",
            "timelimit": [1.5, null]});
        let nothing = r#"{"callbacks": null, "errbacks": [], "chain": null, "chord": null}"#;
        message(headers, &format!("[[], {kwargs}, {nothing}]"))
    }

    #[test]
    fn a_task_of_celery_is_the_same_wish_as_a_message_of_plain_json() {
        let task = read(&of(r#"{"target": "shop", "spec": {"to": "+1"}}"#)).expect("a task");
        let plain = br#"{"id": "01970000-0000-7000-8000-000000000001", "kind": "migrate", "target": "shop",
            "spec": {"to": "+1"}, "expires_at": "2030-01-01T00:00:00.5Z", "deadline_s": 2}"#;
        assert_eq!(task.door, TaskDoor::Celery);
        assert_eq!(NewTask { door: TaskDoor::Amqp, ..task }, decode(plain).expect("a task"));
    }

    #[test]
    fn what_is_no_single_task_of_ours_is_refused_with_the_reason() {
        let good = of(r#"{"target": "shop"}"#);
        read(&good).expect("a task");
        let with = |name: &str, value: Value| {
            let mut message = good.clone();
            message.headers.insert(name.into(), value);
            message
        };
        let id = json!("01970000-0000-7000-8000-000000000001");
        let sent = |body: &str| message(json!({"task": "holdfast.migrate", "id": id}), body);
        for (message, reason) in [
            (with("task", json!("os.system")), "there is no task \"os.system\"; there are holdfast."),
            (with("task", json!(5)), "its header task is no text"),
            (with("id", json!("five")), "id"),
            (with("id", Value::Null), "its header id is missing"),
            (with("eta", json!("tomorrow")), "its eta \"tomorrow\" is no time"),
            (with("eta", json!(["2030"])), "its header eta is no text"),
            (of(r#"{"target": "shop", "id": "x"}"#), "the field id"),
            (of(r#"{"target": "shop", "run_at": "x"}"#), "the field run_at, which is not said there (eta)"),
            (of(r#"{"target": "shop", "command": "x"}"#), "unknown field"),
            (sent(r#"[["shop"], {}, {}]"#), "by name"),
            (sent(r#"[[], {"target": "shop"}, {"chain": [{"task": "x"}]}]"#), "it has chain"),
            (sent(r#"[[], {"target": "shop"}, {"chord": {"task": "x"}}]"#), "it has chord"),
            (sent(r#"{"target": "shop"}"#), "[args, kwargs, embed]"),
            (sent("\u{80}\u{2}K\u{1}."), "[args, kwargs, embed]"),
        ] {
            let error = read(&message).expect_err(reason);
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }
}
