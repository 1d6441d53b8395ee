//! A job that came by a message waits like any other, and whoever listens hears of it; no message approves.

use super::{MAY_DROP, Shop};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tests::amqp::{self, Message};
use tests::rabbitmq::PrivateRabbit;

/// Who listens to the exchange of events; ended with the test.
struct Listener(Child);

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn whoever_listens_hears_that_a_plan_waits_and_that_it_was_approved() {
    let broker = PrivateRabbit::start();
    let url = broker.url();
    let mut shop = Shop::of("sqlite:shop.db", &format!("[queue]\nurl = {url:?}\nheartbeat = \"2s\"\n"));
    shop.sqlite3("CREATE TABLE old (id INTEGER PRIMARY KEY); INSERT INTO old VALUES (1)");
    let worker = shop.agent.start(&["run"]);
    let begun = Instant::now();
    while amqp::depth(&url, "holdfast.jobs.default").is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the worker does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut listener = amqp::command(&url);
    let listener = listener.args(["listen", "job.*.shop", "60"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut listener = Listener(listener);
    let mut lines = BufReader::new(listener.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "listening");

    let wish = json!({
        "kind": "migrate", "id": "01970000-0000-7000-8000-00000000a99f", "target": "shop",
        "requested_by": "anna", "spec": {"to": "head", "may_drop": [MAY_DROP[1]]},
    });
    amqp::publish(&url, &[Message::json("migrate", &wish)]);
    let mut heard = |wanted: &str| -> Value {
        let told: Value = serde_json::from_str(&lines.next().expect("the listener ended")).unwrap();
        assert_eq!(told["type"], wanted, "{told:#}");
        told
    };
    heard("job.running.shop");
    let waits = heard("job.waiting.shop");
    assert_eq!(waits["data"]["report"]["result"]["plan"]["losses"][0], "table old (1 row)", "{waits:#}");
    let job = waits["data"]["job_id"].as_str().unwrap().to_owned();

    // There is no message that approves: it is put aside.
    for kind in ["approve", "migrate.approve"] {
        let approve = json!({"kind": kind, "id": job, "target": "shop", "requested_by": "ben", "spec": {}});
        amqp::publish(&url, &[Message::json("migrate", &approve)]);
    }
    let begun = Instant::now();
    while shop.agent.json(&["dead-letters", "list"]).as_array().unwrap().len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(60), "what approves by a message is not put aside");
        std::thread::sleep(Duration::from_millis(50));
    }
    shop.is(&job, "waiting");
    let own = shop.agent.run(&["approve", &job]).expect_code(3);
    assert!(own.stderr.contains("asked for by anna"), "{}", own.stderr);
    shop.approve(&job);
    let approved = heard("job.approved.shop");
    assert_eq!(approved["data"]["plan"]["approved_by"], "ben", "{approved:#}");
    heard("job.running.shop");
    heard("job.succeeded.shop");
    assert!(!shop.tables().contains("old"));
    worker.signal("TERM");
    worker.wait().expect_code(0);
}
