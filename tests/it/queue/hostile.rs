//! Messages that can never be taken in.

use super::{Post, id, wish};
use ring::hmac;
use serde_json::{Value, json};
use tests::amqp::Message;
use tests::strace::Tracer;

#[test]
fn hostile_messages_are_dead_letters_with_a_reason_and_nothing_is_started_for_them() {
    let mut post = Post::new();
    // Programs to be started, files to be opened.
    let asked = ["-e", "trace=execve,open,openat"];
    let calls = post.agent.home().join("strace.out");
    let mut traced = Tracer::attach(post.worker.as_ref().unwrap().pid(), &calls, &asked);
    let good = wish(1, "backup", Some("shop"), json!({}));
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let nested: Value = (0..40).fold(json!("x"), |inner, _| json!({"inner": inner}));
    let of = |more: Value| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Message::json("backup", &body)
    };
    let hostile = [
        (Message::raw("backup", ""), "EOF"),
        (Message::raw("backup", "x"), "expected value"),
        (Message::raw("backup", b"\xff\xfe\x00".to_vec()), "not UTF-8"),
        (Message::raw("backup", "\u{feff}{}"), "byte order mark"),
        (Message::raw("backup", &good.to_string().as_bytes()[..30]), "EOF"),
        (Message::raw("backup", deep), "expected value"),
        (Message::raw("backup", vec![b' '; 8 << 20]), "262144 are the most"),
        (of(json!({"command": "rm -rf /"})), "unknown field"),
        (of(json!({"target": "../../etc"})), "cannot name a database"),
        (of(json!({"target": "elsewhere"})), "no configured database"),
        (of(json!({"kind": "migrate", "target": "copy"})), "nobody said how copy is migrated"),
        (of(json!({"kind": "migrate", "spec": {"to": "--sql"}})), "no goal"),
        (of(json!({"kind": "restore", "spec": {"into": "elsewhere"}})), "no configured database"),
        (of(json!({"priority": 10})), "0 to 9"),
        (Message::json("backup", &good).with("content_type", json!("application/x-python-serialize")), "pickled"),
        (Message::json("backup", &good).with("content_type", json!("text/plain")), "content type"),
        (Message::json("backup", &good).with("content_encoding", json!("gzip")), "content encoding"),
        (Message::json("backup", &good).with("reply_to", json!("holdfast.jobs.default")), "Holdfast's own"),
        (Message::raw("backup", "{").with("headers", json!({"nested": nested, "long": "x".repeat(90_000)})), "EOF"),
    ];
    let messages: Vec<Message> = hostile.iter().map(|(message, _)| message.clone()).collect();
    post.publish(&messages);
    post.until("all are dead letters", |post| post.depth("holdfast.dead") == Some(messages.len()));
    let dead = post.dead();
    for ((message, reason), letter) in hostile.iter().zip(&dead) {
        let told = letter["reason"].as_str().unwrap();
        assert!(
            told.contains(reason) && !told.contains('\n'),
            "{:.80?}: {told}",
            String::from_utf8_lossy(&message.body)
        );
        assert_eq!(letter["routing_key"], "default.backup");
    }
    assert_eq!(post.history(), Vec::<Value>::new(), "something was recorded");
    assert!(!post.agent.home().join("store").exists(), "something was begun");
    // No process was started, no database was opened: neither the file, nor by the network.
    let seen = traced.so_far();
    for call in ["execve(", "shop.db", "copy.db"] {
        assert!(!seen.contains(call), "{call}: {seen}");
    }
    // The worker is as well as before; and what was sent again by mistake can be told from what was meant.
    post.publish(&[Message::json("backup", &good)]);
    post.ends_as(&id(1), "succeeded");
    traced.detach();
    assert!(traced.so_far().contains("shop.db"), "whoever looks sees nothing");
    post.publish(&[Message::json("verify", &wish(1, "verify", Some("shop"), json!({})))]);
    post.until("the other wish is a dead letter", |post| post.depth("holdfast.dead") == Some(messages.len() + 1));
    let last = post.dead().pop().unwrap();
    assert!(last["reason"].as_str().unwrap().contains("asks for something else"), "{last:#}");
    dead_letters_are_shown_sent_again_and_dropped(&mut post, &last);
    post.stop();
}

fn dead_letters_are_shown_sent_again_and_dropped(post: &mut Post, last: &Value) {
    let name = last["id"].as_str().unwrap();
    let shown = post.agent.ok(&["dead-letters", "show", name]).stdout;
    assert!(shown.contains("\"kind\":\"verify\"") && shown.contains("x-holdfast-reason"), "{shown}");
    post.agent.run(&["dead-letters", "show", "nothing"]).expect_code(3);
    let before = post.dead().len();
    post.agent.ok(&["dead-letters", "requeue", name]);
    post.until("it is a dead letter again", |post| {
        post.dead().iter().any(|letter| letter["reason"] == last["reason"] && letter["id"] != last["id"])
    });
    assert_eq!(post.dead().len(), before);
    let first = post.dead()[0]["id"].as_str().unwrap().to_owned();
    assert!(post.agent.ok(&["dead-letters", "drop", &first]).stdout.contains("1 message removed"));
    assert_eq!(post.dead().len(), before - 1);
    post.agent.ok(&["dead-letters", "drop", "--all"]);
    assert_eq!(post.dead(), Vec::<Value>::new());
}

const KEY: &str = "a key of 16 bytes";

fn signed(body: &Value, id: &str, key: &str) -> Message {
    let body = body.to_string();
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), body.as_bytes());
    let headers = json!({"x-holdfast-key": id, "x-holdfast-signature": format!("v1={}", hex::encode(signature))});
    Message::raw("backup", body).with("headers", headers)
}

#[test]
fn only_who_signs_and_may_is_heard() {
    let mut post = Post::with(&format!(
        "allow = [{{ who = \"ci\", what = [\"backup\", \"migrate\"], databases = [\"shop\"] }}]\n\
         [queue.key.k1]\nprincipal = \"ci\"\nsecret = \"{KEY}\"\n"
    ));
    let backup = |n| wish(n, "backup", Some("shop"), json!({}));
    let migrate = |n, spec: Value| wish(n, "migrate", Some("shop"), spec);
    let refused = [
        (Message::json("backup", &backup(1)), "not signed"),
        (signed(&backup(2), "k1", "another key of 16"), "signature is not right"),
        (signed(&backup(3), "k2", KEY), "signature is not right"),
        (signed(&migrate(4, json!({"to": "base", "yes": true})), "k1", KEY), "ci may not ask for a migration back"),
        (signed(&migrate(5, json!({"may_drop": ["item"]})), "k1", KEY), "loses data"),
        (signed(&wish(6, "verify", Some("shop"), json!({})), "k1", KEY), "a verification of shop"),
        (signed(&wish(7, "backup", Some("copy"), json!({})), "k1", KEY), "a backup of copy"),
    ];
    let messages: Vec<Message> = refused.iter().map(|(message, _)| message.clone()).collect();
    post.publish(&messages);
    post.until("all are dead letters", |post| post.depth("holdfast.dead") == Some(messages.len()));
    for ((_, reason), letter) in refused.iter().zip(post.dead()) {
        assert!(letter["reason"].as_str().unwrap().contains(reason), "{reason}: {letter:#}");
    }
    post.publish(&[signed(&backup(8), "k1", KEY)]);
    post.ends_as(&id(8), "succeeded");
    assert_eq!(post.history()[0]["requested_by"], "ci");
    let run = post.agent.run(&["submit", "shop", "--via", "amqp", "--wait"]).expect_code(0);
    assert!(!format!("{}{}", run.stdout, run.stderr).contains(KEY));
    assert!(post.history()[0]["requested_by"].as_str().unwrap().starts_with("ci ("), "{:#}", post.history()[0]);
    post.stop();
}
