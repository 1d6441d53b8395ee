//! Jobs by messages: the real worker, the real broker, a client of somebody else's.

mod broker;
mod celery;
mod decoders;
mod hostile;
mod jobs;
mod storm;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tests::agent::{Agent, Running};
use tests::amqp::{self, Message};
use tests::rabbitmq::PrivateRabbit;
use tests::sqlite::sqlite3;

/// How long one worker is let run: more than the half hour a broker waits for a consumer.
const LONGEST: Duration = Duration::from_secs(40 * 60);

/// A worker that takes messages in, with a database `shop` that has one migration to come, and what it needs.
struct Post {
    broker: PrivateRabbit,
    agent: Agent,
    worker: Option<Running>,
}

impl Post {
    /// With further lines for `[queue]`, before any table in it.
    fn with(queue: &str) -> Self {
        Self::at(PrivateRabbit::start(), queue)
    }

    fn at(broker: PrivateRabbit, queue: &str) -> Self {
        let agent = Agent::worker().with_deadline(LONGEST).with_config(&format!(
            "[state]\nlease = \"3s\"\n\n[queue]\nurl = \"{}\"\nheartbeat = \"2s\"\n{queue}\n\n\
             [database.shop]\nurl = \"sqlite:shop.db\"\nmigrations = {{ runner = \"sql\", directory = \"m\" }}\n\n\
             [database.copy]\nurl = \"sqlite:copy.db\"\n",
            broker.url()
        ));
        std::fs::create_dir(agent.home().join("m")).unwrap();
        std::fs::write(agent.home().join("m/1_note.sql"), "CREATE TABLE note (id INTEGER PRIMARY KEY);").unwrap();
        let sql = "PRAGMA journal_mode = WAL; CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT);
                   WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 200)
                   INSERT INTO item SELECT i, 'item ' || i FROM c;";
        sqlite3(&agent.home().join("shop.db"), sql).unwrap();
        let mut post = Post { broker, agent, worker: None };
        post.start();
        post
    }

    fn new() -> Self {
        Self::with("")
    }

    /// Starts the worker and waits until its queue is there.
    fn start(&mut self) {
        self.worker = Some(self.agent.start(&["run"]));
        self.until("the queue is there", |post| post.depth("holdfast.jobs.default").is_some());
    }

    fn stop(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.signal("TERM");
            worker.wait().expect_code(0);
        }
    }

    /// Messages that wait in a queue; none where there is no such queue.
    fn depth(&self, queue: &str) -> Option<usize> {
        amqp::depth(&self.broker.url(), queue)
    }

    #[track_caller]
    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < Duration::from_secs(90), "{what}: not within 90 s");
            if let Some(ended) = self.worker.take_if(|worker| !worker.is_running()) {
                panic!("{what}: the worker has ended: {:?}", ended.wait());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn publish(&self, messages: &[Message]) {
        amqp::publish(&self.broker.url(), messages);
    }

    /// The record's tasks, newest first; none before there is a record.
    fn history(&self) -> Vec<Value> {
        self.agent.json(&["history", "--all", "--limit", "0"]).as_array().unwrap().clone()
    }

    /// The state of a job, once the record has it.
    fn state(&self, id: &str) -> Option<String> {
        let jobs = self.history();
        let job = jobs.iter().find(|job| job["job_id"] == id)?;
        Some(job["state"].as_str().unwrap().to_owned())
    }

    #[track_caller]
    fn ends_as(&mut self, id: &str, state: &str) {
        self.until(&format!("job {id} ends"), |post| {
            post.state(id).is_some_and(|now| !["scheduled", "queued", "running", "recovering"].contains(&now.as_str()))
        });
        let job = self.agent.json(&["show", id]);
        assert_eq!(job["state"], state, "{job:#}");
    }

    fn dead(&self) -> Vec<Value> {
        self.agent.json(&["dead-letters", "list"]).as_array().unwrap().clone()
    }

    fn tables(&self, file: &str) -> String {
        let query =
            "SELECT group_concat(name, ' ') FROM (SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1)";
        sqlite3(&self.agent.home().join(file), query).unwrap()
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        // Before its broker: its last words would be about that.
        if let Some(worker) = self.worker.take() {
            worker.kill();
        }
    }
}

/// An example of `ops/examples` asks for a migration and hears how it ended; the job came in by this door.
fn a_service_asks(example: &str, door: &str) {
    let mut post = Post::new();
    let said = amqp::example(example, &[&post.broker.url(), "shop"]);
    assert_eq!(said, "succeeded it stands at 1\n");
    assert!(post.tables("shop.db").contains("note"), "{}", post.tables("shop.db"));
    let job = &post.history()[0];
    assert_eq!((job["door"].as_str(), job["kind"].as_str()), (Some(door), Some("migrate")));
    post.stop();
}

/// A wish of a kind under the id `…n`.
fn wish(n: u32, kind: &str, target: Option<&str>, spec: Value) -> Value {
    json!({"id": id(n), "kind": kind, "target": target, "spec": spec})
}

/// Ids of this test process alone: a worker ends what a lost one left running by the id of its job, whoever's that is.
fn id(n: u32) -> String {
    let process = std::process::id();
    format!("01970000-{:04x}-7{:03x}-8000-{n:012}", process >> 12, process & 0xfff)
}
