//! Every backup a released version wrote restores with this one, and without Holdfast, for ever.

use std::path::Path;
use tests::agent::Agent;
use tests::golden::{STATES, advance_postgres, advance_sqlite, golden, postgres_text, sqlite_text};
use tests::plain_tools::PlainTools;
use tests::postgres::{TestDatabase, dump_differences, pg_dump_text};
use tests::sqlite::{TestFile, sqlite_differences};

const CODECS: [&str; 2] = ["gzip", "zstd"];

/// The program with a copy of a golden repository: a restore notes its proof in the store.
fn agent(codec: &str) -> Agent {
    let agent = Agent::new();
    copy(&golden(&format!("v1-{codec}")), &agent.store_dir());
    agent
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// Ids of a database's backups, one for each state.
fn ids(agent: &Agent, database: &str) -> Vec<String> {
    let listed = agent.json(&["list", database]);
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), STATES.len(), "{listed:?}");
    assert!(listed.iter().all(|backup| backup["complete"] == true), "{listed:?}");
    assert!(listed[0]["proven_at"].is_null() && listed[1]["proven_at"].is_string(), "{listed:?}");
    listed.iter().map(|backup| backup["id"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn expected(name: &str) -> String {
    let file = golden("expected-v1").join(name);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Compares a restored SQLite file with the text beside the repository and with a database made anew.
#[track_caller]
fn judge_sqlite(restored: &Path, state: usize) {
    let found = sqlite_text(restored);
    assert_eq!(sqlite_differences(&expected(&format!("sqlite-{state}.txt")), &found), Vec::<String>::new());
    let anew = TestFile::new();
    (1..=state).for_each(|state| advance_sqlite(&anew, state));
    assert_eq!(sqlite_differences(&anew.dump_text(), &found), Vec::<String>::new());
}

/// Compares a restored PostgreSQL database with the text beside the repository and with a database made anew.
#[track_caller]
fn judge_postgres(restored: &TestDatabase, state: usize) {
    assert_eq!(postgres_text(restored), expected(&format!("postgres-{state}.txt")));
    let anew = TestDatabase::new();
    (1..=state).for_each(|state| advance_postgres(&anew, state));
    let found = dump_differences(&pg_dump_text(&anew.url()), &pg_dump_text(&restored.url()));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn every_golden_backup_verifies_and_restores_proven() {
    for codec in CODECS {
        let agent = agent(codec);
        agent.ok(&["verify"]);
        for (id, state) in ids(&agent, "lite").iter().zip(STATES) {
            let target = agent.home().join(format!("{state}.db"));
            let restored = agent.json(&["restore", id, "--into", &format!("sqlite:{}", target.display())]);
            assert_eq!(restored["proven"], true, "{restored}");
            judge_sqlite(&target, state);
        }
        for (id, state) in ids(&agent, "big").iter().zip(STATES) {
            let target = TestDatabase::reserved();
            let restored = agent.json(&["restore", id, "--into", &target.url()]);
            assert_eq!(restored["proven"], true, "{restored}");
            judge_postgres(&target, state);
        }
    }
}

#[test]
fn every_golden_backup_restores_without_holdfast() {
    for codec in CODECS {
        let agent = agent(codec);
        let tools = PlainTools::with(&["zstd", "psql", "sqlite3"]);
        let script = agent.store_dir().join("restore.sh").display().to_string();
        for (id, state) in ids(&agent, "lite").iter().zip(STATES) {
            let target = agent.home().join(format!("{state}.db"));
            tools.ok(agent.home(), "sh", &[&script, id, &target.display().to_string()]);
            judge_sqlite(&target, state);
        }
        for (id, state) in ids(&agent, "big").iter().zip(STATES) {
            let target = TestDatabase::reserved();
            tools.ok(agent.home(), "sh", &[&script, id, &target.url()]);
            judge_postgres(&target, state);
        }
    }
}

#[test]
fn a_new_backup_builds_on_a_golden_one() {
    for codec in CODECS {
        let agent = agent(codec);
        let newest = ids(&agent, "lite").pop().unwrap();
        // The restored file, since another sqlite3 might write other bytes.
        agent.ok(&["restore", &newest, "--into", "sqlite:golden.sqlite"]);
        // It lies elsewhere, so for Holdfast it is another database.
        let made = agent.json(&["backup", "sqlite:golden.sqlite", "--name", "lite", "--new-identity"]);
        // Nothing is new in it; but a pack of which the parent uses less than half is not built upon.
        let bytes = |name: &str| made[name].as_u64().unwrap();
        assert!(bytes("new_bytes") * 2 < bytes("stored_bytes"), "{made}");
        let shown = agent.json(&["show", made["id"].as_str().unwrap()]);
        assert_eq!(newest, format!("lite/{}", shown["parents"][0].as_str().unwrap()));
        let target = agent.home().join("third.db");
        agent.ok(&["restore", made["id"].as_str().unwrap(), "--into", &format!("sqlite:{}", target.display())]);
        judge_sqlite(&target, 2);
    }
}
