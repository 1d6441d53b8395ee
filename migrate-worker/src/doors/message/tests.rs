use super::*;

const ID: &str = "01970000-0000-7000-8000-000000000001";

fn with(kind: &str, more: &str) -> String {
    format!(r#"{{"id":"{ID}","kind":"{kind}"{more}}}"#)
}

#[test]
fn what_is_left_out_has_its_default() {
    let task = decode(with("migrate", r#","target":"shop""#).as_bytes()).expect("valid");
    assert_eq!(task.spec, serde_json::to_value(MigrateSpec::default()).expect("serializes"));
    assert_eq!((task.priority, task.max_attempts, task.door), (4, 1, TaskDoor::Amqp));
    let task = decode(with("backup", r#","target":"shop","spec":{},"labels":{"by":"us"}"#).as_bytes()).expect("valid");
    assert_eq!((task.spec, task.max_attempts), (json!({}), 3));
    let more = r#","target":"shop","spec":{"into":"copy"}"#;
    let task = decode(with("restore", more).as_bytes()).expect("valid");
    assert_eq!(task.spec, json!({"at": "latest", "into": "copy"}));
    decode(with("prune", "").as_bytes()).expect("the store needs no target");
}

#[test]
fn what_is_encoded_reads_back_as_it_was() {
    let body = with("migrate", r#","target":"shop","spec":{"to":"-2","may_drop":["t:c"],"yes":true},"deadline_s":60"#);
    let task = decode(body.as_bytes()).expect("valid");
    let again = decode(&encode(&task).expect("encodes")).expect("valid");
    assert_eq!(again, task);
}

#[test]
fn whatever_is_wrong_is_named() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let large = with("migrate", &format!(r#","target":"shop","requested_by":"{}""#, "x".repeat(MOST_BYTES)));
    let labels: Vec<String> = (0..33).map(|n| format!(r#""{n}":"x""#)).collect();
    let labels = with("backup", &format!(r#","target":"shop","labels":{{{}}}"#, labels.join(",")));
    let migrate = |more: &str| with("migrate", &format!(r#","target":"shop"{more}"#));
    let spec = |spec: &str| migrate(&format!(r#","spec":{spec}"#));
    for (body, expected) in [
        (String::new(), "EOF"),
        ("x".into(), "expected value"),
        ("\u{feff}{}".into(), "byte order mark"),
        (migrate("")[..40].into(), "EOF"),
        (migrate(r#","target":"shop""#), "duplicate field `target`"),
        (spec(r#"{"to":"head","to":"base"}"#), "duplicate field `to`"),
        (with("migrate", r#","kind":"backup""#), "duplicate field `kind`"),
        (deep, "expected value"),
        (migrate(&format!(r#","spec":{{"to":{}"#, "[".repeat(10_000))), "expected value"),
        (large, "262144 are the most"),
        (migrate(r#","priority":NaN"#), "expected value"),
        (migrate(r#","priority":1e999"#), "number out of range"),
        (migrate(r#","deadline_s":18446744073709551616"#), "invalid type"),
        (migrate(r#","deadline_s":-1"#), "invalid value"),
        (migrate(r#","deadline_s":0"#), "deadline_s is 1 to"),
        (migrate(r#","priority":10"#), "0 to 9"),
        (migrate(r#","priority":"4""#), "invalid type"),
        (migrate(r#","command":"rm -rf /""#), "unknown field `command`"),
        (migrate(r#","dsn":"postgres://u:p@h/d""#), "unknown field `dsn`"),
        (migrate(r#","version":2"#), "unknown field `version`"),
        (with("destroy", ""), "unknown variant `destroy`"),
        (with("migrate", ""), "needs a target"),
        (with("prune", r#","target":"shop""#), "has no target"),
        (with("migrate", r#","target":"../../etc""#), "cannot name a database"),
        (with("migrate", r#","target":"shop\u0000""#), "cannot name a database"),
        (with("migrate", r#","target":"shop\n""#), "cannot name a database"),
        (with("migrate", &format!(r#","target":"{}""#, "a".repeat(10_240))), "cannot name a database"),
        (spec(r#"{"to":"-h"}"#), "no goal"),
        (spec(r#"{"to":"--sql"}"#), "no goal"),
        (spec(r#"{"to":"; rm"}"#), "no goal"),
        (spec(r#"{"to":"$(x)"}"#), "no goal"),
        (spec(r#"{"to":"head; DROP"}"#), "no goal"),
        (spec(r#"{"expected_from":"a b"}"#), "expected_from"),
        (spec(r#"{"mode":"wrap"}"#), "no message starts a command"),
        (spec(r#"{"may_drop":["a\u202eb"]}"#), "cannot be seen"),
        (migrate(r#","requested_by":"a\u001b[2Jb""#), "cannot be seen"),
        (migrate(r#","run_at":"tomorrow""#), "line 1"),
        (migrate(r#","id":"1""#), "duplicate field `id`"),
        (r#"{"id":"1","kind":"prune"}"#.into(), "line 1"),
        (labels, "32 are the most"),
        (with("restore", r#","target":"shop""#), "needs a spec"),
        (with("restore", r#","target":"shop","spec":{"into":"sqlite:/etc/x"}"#), "cannot name a database"),
        (with("restore", r#","target":"shop","spec":{"into":"copy","at":"2026-02-30"}"#), "at: "),
        (with("backup", r#","target":"shop","spec":{"to":"head"}"#), "unknown field `to`"),
    ] {
        let error = decode(body.as_bytes()).expect_err(&body);
        assert!(error.contains(expected) && !error.contains('\n') && error.len() < 1300, "{body:.200}: {error}");
    }
    assert!(decode(b"{\"id\":\"\xff\"}").expect_err("no text").contains("not UTF-8"));
}

#[test]
fn the_shipped_schema_is_the_one_of_the_types() {
    let shipped = include_str!("../../../../docs/job.schema.json");
    assert_eq!(shipped, format!("{:#}\n", schema()), "write it anew: migrate-worker schema > docs/job.schema.json");
}
