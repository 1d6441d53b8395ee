//! Jobs by Celery's own client.

use super::{Post, a_service_asks};
use serde_json::Value;
use tests::amqp;
use tests::fixtures::fixture;

/// What the client printed.
fn client(post: &Post, what: &str) -> Vec<String> {
    let mut command = std::process::Command::new(amqp::python());
    let done = command.arg(fixture("celery_client.py")).arg(post.broker.url()).arg(what).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    said.lines().map(str::to_owned).collect()
}

#[test]
fn a_service_asks_by_celery_and_gets_the_result() {
    a_service_asks("enqueue_celery.py", "celery");
}

#[test]
fn an_eta_is_kept() {
    let mut post = Post::new();
    let said = client(&post, "eta");
    let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    let eta = time(said[0].strip_prefix("eta ").unwrap());
    let started = said[1].strip_prefix("verify SUCCESS succeeded ").unwrap_or_else(|| panic!("{said:?}"));
    assert!(time(started) >= eta, "{said:?}");
    post.stop();
}

#[test]
fn what_celery_can_ask_for_and_nobody_does_here_is_refused_and_told() {
    let mut post = Post::new();
    let said = client(&post, "all");
    for (at, expected) in [
        (0, "refused FAILURE Refused "),
        (1, "unknown database FAILURE Rejected elsewhere is no configured database"),
        (2, "unknown task FAILURE Rejected there is no task \"holdfast.explode\"; there are holdfast."),
        (3, "arguments FAILURE Rejected arguments are given by name"),
        (4, "chain FAILURE Rejected it has chain; nothing is sent on from here"),
        (5, "chord FAILURE Rejected it has chord; nothing is sent on from here"),
        (6, "callback FAILURE Rejected it has callbacks; nothing is sent on from here"),
        (7, "pickle FAILURE Rejected it is pickled, which nobody reads here: set task_serializer to json"),
        (8, "expired FAILURE Expired "),
        (9, "backup SUCCESS succeeded "),
        (10, "again FAILURE Rejected "),
    ] {
        assert!(said[at].starts_with(expected), "{expected}: {said:#?}");
    }
    assert!(said[10].contains("asks for something else"), "{}", said[10]);
    let kinds: Vec<Value> = post.history().iter().map(|job| job["kind"].clone()).collect();
    assert_eq!(kinds, ["backup", "backup", "migrate"], "two backups: one expired");
    assert_eq!(post.dead().len(), 8, "{:#?}", post.dead());
    post.stop();
}
