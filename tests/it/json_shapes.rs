//! The shape of every `--json`: names and types of all fields stand in `tests/golden/json-shapes`, one file a command.
//!
//! `HOLDFAST_TEST_BLESS=1` writes the files anew; a change of a shape belongs into the change log.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tests::agent::Agent;
use tests::postgres::TestDatabase;
use tests::sqlite::TestFile;

/// The shape of a value: objects keep their names, an array has the one shape of all its items, anything else is the
/// name of its type.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect())
        }
        Value::Array(items) => json!(items.iter().map(shape).reduce(either).into_iter().collect::<Vec<_>>()),
        Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => json!("timestamp"),
        Value::String(_) => json!("string"),
        Value::Number(number) if number.is_f64() => json!("number"),
        Value::Number(_) => json!("integer"),
        Value::Bool(_) => json!("boolean"),
        Value::Null => json!("null"),
    }
}

/// One shape for two: types beside each other, fields of both; a field only one has is `absent` in the other.
fn either(left: Value, right: Value) -> Value {
    match (left, right) {
        (left, right) if left == right => left,
        (Value::Object(mut left), Value::Object(mut right)) => {
            let names: BTreeSet<String> = left.keys().chain(right.keys()).cloned().collect();
            let one = |side: &mut Map<String, Value>, name: &str| side.remove(name).unwrap_or_else(|| json!("absent"));
            let merged = names.iter().map(|name| (name.clone(), either(one(&mut left, name), one(&mut right, name))));
            Value::Object(merged.collect::<Vec<_>>().into_iter().collect())
        }
        (Value::Array(left), Value::Array(right)) => {
            json!(left.into_iter().chain(right).reduce(either).into_iter().collect::<Vec<_>>())
        }
        (Value::String(left), Value::String(right)) => {
            let types: BTreeSet<&str> = left.split('|').chain(right.split('|')).collect();
            json!(types.into_iter().collect::<Vec<_>>().join("|"))
        }
        (left, right) => panic!("two shapes that have nothing in common: {left} and {right}"),
    }
}

/// Asserts that the samples have the shape that stands in the file of this name.
#[track_caller]
pub fn matches_golden(name: &str, samples: &[Value]) {
    let found = samples.iter().map(shape).reduce(either).unwrap();
    let text = format!("{found:#}\n");
    let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/json-shapes").join(format!("{name}.json"));
    if std::env::var_os("HOLDFAST_TEST_BLESS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert_eq!(text, expected, "{name} --json has another shape than {}", file.display());
}

fn sqlite() -> TestFile {
    let file = TestFile::named("small.db");
    // An orphan row is a defect.
    file.sqlite3(
        "CREATE TABLE a (id INTEGER PRIMARY KEY, t TEXT); CREATE TABLE b (a INT REFERENCES a (id));
         INSERT INTO a VALUES (1, 'one'); INSERT INTO b VALUES (7);",
    );
    file
}

#[test]
fn the_shapes_of_all_json_are_those_of_the_golden_files() {
    let agent = Agent::new();
    let (lite, big) = (sqlite(), TestDatabase::new());
    big.psql(
        "CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED); INSERT INTO t VALUES (1);
         CREATE MATERIALIZED VIEW m AS SELECT now() AS now FROM t",
    );
    let backup = |url: &str, name: &str| agent.json(&["backup", url, "--name", name]);
    let made = [backup(&lite.url(), "lite"), backup(&big.url(), "big"), backup(&lite.url(), "lite")];
    matches_golden("backup", &made);
    let ids: Vec<&str> = made.iter().map(|made| made["id"].as_str().unwrap()).collect();

    let target = TestDatabase::reserved();
    let restores = [
        agent.json(&["restore", ids[0], "--into", "sqlite:a.db"]),
        agent.json(&["restore", ids[0], "--into", "sqlite:b.db", "--table", "a"]),
        agent.json(&["restore", ids[1], "--into", &target.url(), "--no-owner", "--no-acl"]),
        agent.json(&["drill", "lite"]),
        unrestorable(),
        without_marks(&agent, ids[0]),
    ];
    matches_golden("restore", &restores);
    matches_golden("restore-preview", &[agent.json(&["restore", ids[0], "--into", "sqlite:c.db", "--preview"])]);

    let mut shown: Vec<Value> = ids.iter().map(|id| agent.json(&["show", id])).collect();
    let forgetting = [
        agent.json(&["forget", ids[0]]),
        agent.json(&["forget", ids[0], "--apply"]),
        agent.run(&["forget", ids[2], "--apply", "--json"]).expect_code(3).json(),
    ];
    matches_golden("forget", &forgetting);
    matches_golden("list-trash", &[agent.json(&["list", "--trash"])]);
    matches_golden("unforget", &[agent.json(&["unforget", ids[0]])]);
    matches_golden("hold", &[agent.json(&["hold", ids[0], "--owner", "bob", "--reason", "audit"])]);
    shown.push(agent.json(&["show", ids[0]]));
    matches_golden("show", &shown);
    let held = agent.json(&["list"]);
    agent.json(&["hold", ids[0], "--owner", "eve"]);
    let release = |owner: &str| agent.json(&["release", ids[0], "--owner", owner]);
    matches_golden("release", &[release("bob"), release("eve")]);
    matches_golden("prune", &[agent.json(&["prune"]), agent.json(&["prune", "--apply"])]);

    let mut verified = vec![agent.json(&["verify"])];
    let mut listed = vec![held, agent.json(&["list"])];
    let manifest = agent.store_dir().join("backups").join(ids[2]).join("manifest.tsv.gz");
    std::fs::write(&manifest, "no manifest").unwrap();
    verified.push(agent.run(&["verify", "--json"]).expect_code(6).json());
    listed.push(agent.json(&["list"]));
    matches_golden("verify", &verified);
    matches_golden("list", &listed);
    matches_golden("config-check", &[checked(&agent, &lite), Agent::new().json(&["config", "check"])]);
    matches_golden("status", &[standing(&agent, &lite)]);
}

/// What a configuration with everything means, with the same store.
fn checked(agent: &Agent, lite: &TestFile) -> Value {
    let text = format!(
        "[database.lite]\nurl = \"{}\"\nschedule = {{ cron = \"@daily\" }}\nretention = {{ last = 1 }}
         drill = {{ cron = \"@weekly\" }}\n[database.away]\nurl = \"sqlite:not-there.db\"
         [database.away.migrations]\nrunner = \"sql\"\ndirectory = \"m\"
         [database.lite.migrations]\nrunner = \"alembic\"\ndirectory = \"m\"\nworkdir = \".\"
         program = [\"a\"]\nenv = {{ A = \"b\" }}\npass_env = [\"C\"]\nrequired_env = [\"D\"]",
        lite.url()
    );
    std::fs::write(agent.home().join("all.toml"), text).unwrap();
    agent.json(&["--config", "all.toml", "config", "check"])
}

/// How a database stands, with the same store.
fn standing(agent: &Agent, lite: &TestFile) -> Value {
    let text = format!(
        "[database.lite]\nurl = \"{}\"\nschedule = {{ cron = \"@daily\" }}\ndrill = {{ cron = \"@weekly\" }}\n",
        lite.url()
    );
    std::fs::write(agent.home().join("status.toml"), text).unwrap();
    agent.json(&["--config", "status.toml", "status", "lite"])
}

/// A restore that names what could not be created, and ends with 1.
fn unrestorable() -> Value {
    let agent = Agent::new();
    let (source, target) = (tests::fixtures::loaded("unrestorable.sql"), TestDatabase::reserved());
    let id = agent.ok(&["backup", &source.url(), "--name", "odd"]).stdout.trim().to_owned();
    agent.run(&["restore", &id, "--into", &target.url(), "--json"]).expect_code(1).json()
}

/// A restore whose proof cannot be noted in the store.
fn without_marks(agent: &Agent, id: &str) -> Value {
    let (marks, away) = (agent.store_dir().join("marks"), agent.store_dir().join("away"));
    std::fs::rename(&marks, &away).unwrap();
    std::fs::write(&marks, "no folder").unwrap();
    let restored = agent.json(&["restore", id, "--into", "sqlite:not-noted.db"]);
    assert!(restored["not_noted"].is_string(), "{restored}");
    std::fs::remove_file(&marks).unwrap();
    std::fs::rename(&away, &marks).unwrap();
    restored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shape_of_the_history_is_that_of_the_golden_file() {
    let agent = Agent::new();
    let log = crate::history::filled(agent.home(), "").await;
    let listed = agent.json(&["history"]);
    matches_golden("history", std::slice::from_ref(&listed));
    let shown: Vec<Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|task| agent.json(&["history", "--job", task["job_id"].as_str().unwrap()]))
        .collect();
    matches_golden("history-job", &shown);
    drop(log);
}
