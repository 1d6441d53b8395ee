//! Clients of the broker that are not the product's: Python's pika and Celery, Node's amqplib.

use crate::tools;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The Python that has pika and Celery.
///
/// Panics where ops/test did not prepare it.
#[track_caller]
pub fn python() -> PathBuf {
    std::env::var_os("HOLDFAST_TEST_CLIENTS")
        .expect("HOLDFAST_TEST_CLIENTS is not set: run the tests by ops/test")
        .into()
}

/// Runs an example of `ops/examples`, which must succeed, and returns what it printed.
#[track_caller]
pub fn example(name: &str, arguments: &[&str]) -> String {
    let (is_good, said) = try_example(name, arguments);
    assert!(is_good, "{name}: {said}");
    said
}

/// Runs an example of `ops/examples`; returns whether it succeeded, and what it printed.
#[track_caller]
pub fn try_example(name: &str, arguments: &[&str]) -> (bool, String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/examples").join(name);
    let folder = tempfile::tempdir().unwrap();
    let mut command = if name.ends_with(".mjs") {
        // Node looks for packages beside the file.
        let packages = std::env::var_os("HOLDFAST_TEST_NODE_MODULES");
        let packages = packages.expect("HOLDFAST_TEST_NODE_MODULES is not set: run the tests by ops/test");
        std::os::unix::fs::symlink(packages, folder.path().join("node_modules")).unwrap();
        std::fs::copy(&file, folder.path().join(name)).unwrap();
        let mut node = Command::new("node");
        node.arg(folder.path().join(name));
        node
    } else {
        let mut python = Command::new(python());
        python.arg(file);
        python
    };
    let done = tools::run(command.args(arguments), b"");
    if !done.success {
        eprintln!("{name}: {}", done.stderr);
    }
    (done.success, String::from_utf8(done.stdout).expect("an example prints text"))
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
    tools::run(command(url).arg("publish"), lines(messages).as_bytes()).expect("pika_client.py publish");
}

/// Begins to send messages, with a pause in seconds after each; the process ends well when all are confirmed.
#[track_caller]
pub fn start_publishing(url: &str, messages: &[Message], pause: &str) -> Child {
    let mut command = command(url);
    command.args(["publish", pause]).stdin(Stdio::piped());
    let mut child = command.spawn().expect("pika_client.py starts");
    let (mut input, text) = (child.stdin.take().expect("it was piped"), lines(messages));
    std::thread::spawn(move || input.write_all(text.as_bytes()));
    child
}

fn lines(messages: &[Message]) -> String {
    use base64::Engine as _;
    let encode = |body: &[u8]| base64::engine::general_purpose::STANDARD.encode(body);
    let line = |message: &Message| {
        let Message { key, body, properties, times } = message;
        let line = json!({"key": key, "body": encode(body), "properties": properties, "times": times});
        format!("{line}\n")
    };
    messages.iter().map(line).collect()
}

/// Messages that wait in a queue; none where there is no such queue.
#[track_caller]
pub fn depth(url: &str, queue: &str) -> Option<usize> {
    let done = command(url).args(["depth", queue]).output().expect("pika_client.py starts");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    match done.status.code() {
        Some(0) => Some(said.trim().parse().expect("pika_client.py depth prints a number")),
        Some(3) => None,
        _ => panic!("pika_client.py depth: {}", String::from_utf8_lossy(&done.stderr)),
    }
}

/// Runs a verb of `tests/fixtures/pika_client.py` that has no answer.
#[track_caller]
pub fn run(url: &str, arguments: &[&str]) {
    tools::run(command(url).args(arguments), b"").expect("pika_client.py");
}

/// `tests/fixtures/pika_client.py` at `url`.
#[track_caller]
pub fn command(url: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(crate::fixtures::fixture("pika_client.py")).arg(url);
    command
}
