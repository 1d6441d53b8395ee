//! What can be asked for, and how it is answered.

use super::{Post, a_service_asks, id, wish};
use serde_json::json;
use std::path::Path;
use tests::amqp::{self, Message};
use tests::sqlite::{sqlite_differences, sqlite_dump_text};

#[test]
fn a_service_asks_for_a_migration_by_pika_and_hears_how_it_ended() {
    a_service_asks("enqueue_pika.py", "amqp");
}

#[test]
fn a_service_asks_for_a_migration_by_amqplib_and_hears_how_it_ended() {
    a_service_asks("enqueue_node.mjs", "amqp");
}

#[test]
fn every_kind_of_job_is_done_once_however_often_it_is_asked_for_and_told_to_whoever_listens() {
    let mut post = Post::new();
    let mut listener = amqp::command(&post.broker.url());
    let listener = listener.args(["listen", "job.#", "6"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let kinds = [
        wish(1, "backup", Some("shop"), json!({})),
        wish(2, "rehearse", Some("shop"), json!({"to": "head"})),
        wish(3, "verify", Some("shop"), json!({})),
        wish(4, "drill", Some("shop"), json!({})),
        wish(5, "restore", Some("shop"), json!({"into": "copy"})),
        wish(6, "prune", None, json!({})),
    ];
    for (n, wish) in (1..).zip(&kinds) {
        post.publish(&[Message::json(wish["kind"].as_str().unwrap(), wish).times(20)]);
        post.ends_as(&id(n), "succeeded");
    }
    assert_eq!(post.history().len(), 6, "{:#?}", post.history());
    let dump = |name: &str| sqlite_dump_text(&post.agent.home().join(name));
    assert_eq!(sqlite_differences(&dump("shop.db"), &dump("copy.db")), Vec::<String>::new());
    assert!(!post.tables("shop.db").contains("note"), "a rehearsal changes nothing");
    post.publish(&[Message::json("restore", &wish(7, "restore", Some("shop"), json!({"into": "copy"})))]);
    post.ends_as(&id(7), "refused");
    let told = listener.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    for (n, end) in [(1, "succeeded"), (2, "succeeded"), (5, "succeeded"), (7, "refused")] {
        let of_it = |line: &&str| line.contains(&id(n)) && line.contains(&format!("\"type\":\"job.{end}.shop\""));
        assert!(told.lines().any(|line| of_it(&line)), "nobody was told of job {n}: {told}");
    }
    post.stop();
}

#[test]
fn submit_via_the_broker_waits_for_the_end_like_any_other() {
    let mut post = Post::new();
    let run = post.agent.run(&["submit", "shop", "--via", "amqp", "--wait"]).expect_code(0);
    assert!(run.stdout.contains("succeeded: it stands at 1"), "{}", run.stdout);
    let again = post.agent.run(&["submit", "shop", "--to", "-1", "--via", "amqp", "--wait"]).expect_code(3);
    assert!(again.stdout.contains("refused"), "{}", again.stdout);
    post.stop();
    let shipped =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/job.schema.json")).unwrap();
    assert_eq!(post.agent.ok(&["schema"]).stdout, shipped);
}

#[test]
fn one_message_sent_a_thousand_times_to_five_workers_is_done_once() {
    let mut post = Post::with("prefetch = 8\n");
    let others: Vec<_> = (0..4).map(|_| post.agent.start(&["run"])).collect();
    let message = Message::json("migrate", &wish(1, "migrate", Some("shop"), json!({"to": "head"}))).times(200);
    let url = post.broker.url();
    let senders: Vec<_> = (0..5).map(|_| amqp::start_publishing(&url, std::slice::from_ref(&message), "0")).collect();
    for mut sender in senders {
        assert!(sender.wait().unwrap().success());
    }
    post.ends_as(&id(1), "succeeded");
    post.until("all are taken", |post| post.depth("holdfast.jobs.default") == Some(0));
    assert_eq!(post.history().len(), 1, "{:#?}", post.history());
    let job = post.agent.json(&["show", &id(1)]);
    assert_eq!(job["attempt"], 1, "{job:#}");
    let revisions = "SELECT count(*) FROM _sqlx_migrations";
    assert_eq!(tests::sqlite::sqlite3(&post.agent.home().join("shop.db"), revisions).unwrap().trim(), "1");
    assert_eq!(post.depth("holdfast.dead"), Some(0));
    for other in others {
        other.signal("TERM");
        other.wait().expect_code(0);
    }
    post.stop();
}

#[test]
fn who_waits_for_an_answer_is_told_that_its_message_was_not_taken() {
    let mut post = Post::new();
    let (is_good, said) = amqp::try_example("enqueue_pika.py", &[&post.broker.url(), "elsewhere"]);
    assert!(!is_good);
    assert_eq!(said, "rejected elsewhere is no configured database\n");
    assert_eq!(post.dead().len(), 1);
    post.stop();
}
