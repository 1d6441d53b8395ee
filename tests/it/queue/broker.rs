//! The broker fails, or is not as it was expected to be.

use super::{Post, id, wish};
use serde_json::json;
use std::time::{Duration, Instant};
use tests::amqp::{self, Message};
use tests::postgres::TestDatabase;
use tests::rabbitmq::PrivateRabbit;

fn backup(n: u32) -> Message {
    Message::json("backup", &wish(n, "backup", Some("shop"), json!({})))
}

#[test]
fn a_broker_that_dies_stands_still_or_closes_connections_or_a_queue_that_is_deleted_is_found_again() {
    let mut post = Post::new();
    post.publish(&[backup(1)]);
    post.ends_as(&id(1), "succeeded");

    post.broker.write_down_queues();
    post.broker.kill();
    std::thread::sleep(Duration::from_secs(1));
    post.broker.start_again();
    post.publish(&[backup(2)]);
    post.ends_as(&id(2), "succeeded");

    post.broker.ctl(&["close_all_connections", "by the test"]);
    post.publish(&[backup(3)]);
    post.ends_as(&id(3), "succeeded");

    // The heartbeat is 2 s: within three of them a broker that says nothing is taken for gone.
    post.broker.pause();
    let begun = Instant::now();
    let lost = |post: &Post| post.worker.as_ref().unwrap().stderr_so_far().contains("no heartbeat");
    post.until("the silence is noticed", lost);
    assert!(begun.elapsed() < Duration::from_secs(7), "noticed after {:?}", begun.elapsed());
    post.broker.go_on();
    post.publish(&[backup(4)]);
    post.ends_as(&id(4), "succeeded");

    // The queue is deleted under the worker: it makes it anew.
    amqp::run(&post.broker.url(), &["delete", "holdfast.jobs.default"]);
    post.until("the queue is there again", |post| post.depth("holdfast.jobs.default").is_some());
    post.publish(&[backup(5)]);
    post.ends_as(&id(5), "succeeded");
    post.stop();
}

#[test]
fn messages_stay_with_the_broker_while_the_record_is_away_and_while_no_worker_is_there() {
    let mut post = Post::new();
    post.publish(&[backup(1)]);
    post.ends_as(&id(1), "succeeded");
    post.stop();
    let messages: Vec<Message> = (2..30).map(backup).collect();
    post.publish(&messages);
    assert_eq!(post.depth("holdfast.jobs.default"), Some(28));
    // Killed when a message is recorded and the broker does not know it yet: it comes again, and nothing happens twice.
    post.worker = Some(post.agent.start_and_stop_at("queue: recorded, not yet acknowledged", &["run"]));
    post.worker.take().unwrap().kill();
    post.start();
    for n in 2..30 {
        post.ends_as(&id(n), "succeeded");
    }
    assert_eq!(post.history().len(), 29);
    assert_eq!(post.depth("holdfast.jobs.default"), Some(0));
    assert_eq!(post.depth("holdfast.dead"), Some(0));
    post.stop();
}

#[test]
fn messages_stay_with_the_broker_while_the_record_does_not_answer() {
    let mut post = Post::new();
    let moved = |post: &Post, from: &str, to: &str| {
        for suffix in ["", "-wal", "-shm"] {
            let file = |name: &str| post.agent.home().join(format!("{name}{suffix}"));
            let _ = std::fs::rename(file(from), file(to));
        }
    };
    moved(&post, "holdfast-state.db", "away.db");
    post.publish(&[backup(1), backup(2)]);
    let told = |post: &Post| post.worker.as_ref().unwrap().stderr_so_far().contains("messages stay with the broker");
    post.until("the silence of the record is told", told);
    assert_eq!(post.depth("holdfast.dead"), Some(0));
    moved(&post, "away.db", "holdfast-state.db");
    post.ends_as(&id(1), "succeeded");
    post.ends_as(&id(2), "succeeded");
    post.stop();
}

/// What is acknowledged when it is recorded holds no delivery: the broker's patience with consumers does not matter.
#[test]
fn a_job_that_takes_longer_than_the_broker_waits_for_consumers_is_delivered_once() {
    let mut post = Post::at(PrivateRabbit::with_settings("consumer_timeout = 2000"), "");
    let slow =
        "CREATE TABLE slow AS WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 30000000)
                SELECT count(*) AS n FROM c;";
    std::fs::write(post.agent.home().join("m/2_slow.sql"), slow).unwrap();
    let begun = Instant::now();
    post.publish(&[Message::json("migrate", &wish(1, "migrate", Some("shop"), json!({})))]);
    post.ends_as(&id(1), "succeeded");
    assert!(begun.elapsed() > Duration::from_secs(4), "it was not slow: {:?}", begun.elapsed());
    let job = post.agent.json(&["show", &id(1)]);
    assert_eq!(job["attempt"], 1, "{job:#}");
    let connected = post.worker.as_ref().unwrap().stderr_so_far().matches("takes messages in").count();
    assert_eq!(connected, 1, "the broker lost its patience");
    post.stop();
}

#[test]
fn a_job_that_only_waits_outlasts_the_broker_s_patience() {
    // RabbitMQ waits half an hour for a consumer if not told otherwise.
    let long = tests::is_long();
    let (settings, patience_ms, seconds) =
        if long { ("", 1_800_000, 1_860) } else { ("consumer_timeout = 2000", 2_000, 5) };
    let shop = TestDatabase::new();
    shop.psql("CREATE TABLE item (id int PRIMARY KEY)");
    let sleepy = format!(
        "\n[database.sleepy]\nurl = \"{}\"\nmigrations = {{ runner = \"sql\", directory = \"sleepy\" }}\n",
        shop.url()
    );
    let mut post = Post::at(PrivateRabbit::with_settings(settings), &sleepy);
    let patience = post.broker.ctl(&["eval", "application:get_env(rabbit, consumer_timeout)."]);
    assert_eq!(patience.trim(), format!("{{ok,{patience_ms}}}"));
    std::fs::create_dir(post.agent.home().join("sleepy")).unwrap();
    let sleep = format!("SELECT pg_sleep({seconds});");
    std::fs::write(post.agent.home().join("sleepy/1_sleep.sql"), sleep).unwrap();
    post.publish(&[Message::json("rehearse", &wish(1, "rehearse", Some("sleepy"), json!({})))]);
    post.until("the job has begun", |post| post.state(&id(1)).as_deref() == Some("running"));
    std::thread::sleep(Duration::from_secs(seconds));
    post.ends_as(&id(1), "succeeded");
    assert_eq!(post.agent.json(&["show", &id(1)])["attempt"], 1);
    let connected = post.worker.as_ref().unwrap().stderr_so_far().matches("takes messages in").count();
    assert_eq!(connected, 1, "the broker lost its patience");
    post.stop();
}

#[test]
fn a_queue_of_another_form_is_taken_as_it_is() {
    let mut post = Post::new();
    post.stop();
    amqp::run(&post.broker.url(), &["delete", "holdfast.jobs.default"]);
    amqp::run(&post.broker.url(), &["classic", "holdfast.jobs.default"]);
    post.start();
    let warned = |post: &Post| post.worker.as_ref().unwrap().stderr_so_far().contains("it is taken as it is");
    post.until("the other form is named", warned);
    post.publish(&[backup(1)]);
    post.ends_as(&id(1), "succeeded");
    post.stop();
}
