//! A client of the broker that is not the product's: Python's pika.

use crate::tools;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

/// The Python that has pika.
///
/// Panics where ops/test did not prepare it.
#[track_caller]
pub fn python() -> PathBuf {
    std::env::var_os("HOLDFAST_TEST_CLIENTS")
        .expect("HOLDFAST_TEST_CLIENTS is not set: run the tests by ops/test")
        .into()
}

/// A message to be sent to the exchange of jobs.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its routing key.
    pub key: String,
    /// Its body.
    pub body: Vec<u8>,
    /// Its properties, as pika calls them.
    pub properties: Value,
    /// How often it is sent.
    pub times: usize,
}

impl Message {
    /// A message of JSON to the group `default`.
    pub fn json(kind: &str, body: &Value) -> Self {
        Self::raw(kind, body.to_string())
    }

    /// A message of any bytes that says it is JSON.
    pub fn raw(kind: &str, body: impl Into<Vec<u8>>) -> Self {
        let properties = json!({"content_type": "application/json"});
        Message { key: format!("default.{kind}"), body: body.into(), properties, times: 1 }
    }

    /// The same with further properties.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.properties[name] = value;
        self
    }

    /// The same, sent so often.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Message { times, ..self }
    }
}

/// Sends messages, each confirmed by the broker and routed to a queue.
#[track_caller]
pub fn publish(url: &str, messages: &[Message]) {
    use base64::Engine as _;
    let encode = |body: &[u8]| base64::engine::general_purpose::STANDARD.encode(body);
    let lines: String = messages
        .iter()
        .map(|message| {
            let Message { key, body, properties, times } = message;
            let line = json!({"key": key, "body": encode(body), "properties": properties, "times": times});
            format!("{line}\n")
        })
        .collect();
    tools::run(command(url).arg("publish"), lines.as_bytes()).expect("amqp.py publish");
}

/// Messages that wait in a queue.
#[track_caller]
pub fn depth(url: &str, queue: &str) -> usize {
    let answer = tools::run(command(url).args(["depth", queue]), b"").expect("amqp.py depth");
    String::from_utf8_lossy(&answer).trim().parse().unwrap()
}

/// Runs a verb of `tests/fixtures/amqp.py` that has no answer.
#[track_caller]
pub fn run(url: &str, arguments: &[&str]) {
    tools::run(command(url).args(arguments), b"").expect("amqp.py");
}

/// `tests/fixtures/amqp.py` at `url`.
#[track_caller]
pub fn command(url: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(crate::fixtures::fixture("amqp.py")).arg(url);
    command
}
