//! `doctor` of both programs: what works, what does not, what to do.

use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use tests::agent::{Agent, Run};
use tests::postgres::{TestDatabase, on_server, quoted, url_as};
use tests::sqlite::sqlite3;

fn findings(run: &Run) -> Vec<(String, String, String, String)> {
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let all = run.json();
    let line = |finding: &Value| {
        (text(finding, "about"), text(finding, "health"), text(finding, "fact"), text(finding, "remedy"))
    };
    all.as_array().unwrap().iter().map(line).collect()
}

#[track_caller]
fn has(run: &Run, about: &str, health: &str, part: &str) -> String {
    let found = findings(run);
    let fits = |line: &&(String, String, String, String)| line.0 == about && line.1 == health && line.2.contains(part);
    found.iter().find(fits).unwrap_or_else(|| panic!("no {health} {about} {part:?} in {found:#?}")).3.clone()
}

#[test]
fn all_is_well_where_all_is_well() {
    let shop = TestDatabase::new();
    shop.psql("CREATE TABLE item (id int)");
    let agent = Agent::new().with_config(&format!(
        "[database.shop]\nurl = \"{}\"\n\n[database.notes]\nurl = \"sqlite:notes.db\"\n",
        shop.url()
    ));
    sqlite3(&agent.home().join("notes.db"), "CREATE TABLE note (t)").unwrap();
    agent.ok(&["init"]);
    let run = agent.ok(&["doctor"]);
    assert!(run.stdout.contains("things looked at: all is well"), "{}", run.stdout);
    let run = agent.ok(&["doctor", "--json"]);
    for (about, part) in [
        ("store", "an object was written, read and deleted"),
        ("clock", "agree"),
        ("record", "answers"),
        ("spool", "can be written"),
        ("shop", "everything in it may be read; client tools"),
        ("shop", "may be restored in place and migrated"),
        ("notes", "answers: sqlite"),
    ] {
        has(&run, about, "good", part);
    }
    let left: Vec<_> = agent.store_dir().join("leases").read_dir().into_iter().flatten().collect();
    assert!(left.is_empty(), "the probe is removed: {left:?}");
}

#[test]
fn missing_grants_are_printed_as_statements() {
    let shop = TestDatabase::new();
    shop.psql("CREATE TABLE secret (id int)");
    let role = format!("{}_reader", shop.name());
    on_server(&format!("CREATE ROLE {} LOGIN", quoted(&role)));
    let agent = Agent::new().with_config(&format!("[database.shop]\nurl = \"{}\"\n", url_as(&shop.url(), &role, None)));
    let run = agent.run(&["doctor", "--json"]).expect_code(1);
    assert!(has(&run, "shop", "bad", "secret").contains("pg_read_all_data"));
    let remedy = has(&run, "shop", "warning", "does not own the database");
    assert!(remedy.starts_with("GRANT ") && remedy.contains(&quoted(&role)), "{remedy}");
    assert!(has(&run, "shop", "warning", "may not create and rename databases").contains("CREATEDB"));
    // The remedies help.
    on_server(&format!("GRANT pg_read_all_data TO {}", quoted(&role)));
    let run = agent.ok(&["doctor"]);
    assert!(run.stdout.contains("do: ALTER ROLE"), "{}", run.stdout);
    drop(shop);
    on_server(&format!("DROP ROLE {}", quoted(&role)));
}

#[test]
fn what_does_not_work_is_named_and_the_rest_is_looked_at_all_the_same() {
    let agent = Agent::new().with_store(None).with_config(
        "[store]\nurl = \"s3://nowhere/x\"\nendpoint = \"http://127.0.0.1:1\"\naccess_key_id = \"a\"\nsecret_access_key = \"b\"\n\n\
         [database.gone]\nurl = \"sqlite:gone.db\"\n\n[database.away]\nurl = \"postgres://127.0.0.1:1/away\"\n\n\
         [database.notes]\nurl = \"sqlite:notes.db\"\n",
    );
    sqlite3(&agent.home().join("notes.db"), "CREATE TABLE note (t)").unwrap();
    std::fs::hard_link(agent.home().join("notes.db"), agent.home().join("second.db")).unwrap();
    let run = agent.run(&["doctor", "--json"]).expect_code(1);
    has(&run, "store", "bad", "");
    has(&run, "gone", "bad", "gone.db");
    has(&run, "away", "bad", "");
    has(&run, "notes", "warning", "hard links");
    has(&run, "spool", "good", "");
    run.never_says("secret_access_key");
}

#[test]
fn the_worker_looks_at_tools_and_broker_too() {
    let worker = Agent::worker().with_config(
        "[queue]\nurl = \"amqp://127.0.0.1:1\"\n\n[database.shop]\nurl = \"sqlite:shop.db\"\nmigrations = { runner = \"sql\", directory = \"m\" }\n\n\
         [database.keys]\nurl = \"sqlite:shop.db\"\nmigrations = { runner = \"sql\", directory = \"m\", required_env = [\"SECRET_KEY\"] }\n\n\
         [database.bare]\nurl = \"sqlite:shop.db\"\nmigrations = { runner = \"sql\", directory = \"nowhere\" }\n",
    );
    sqlite3(&worker.home().join("shop.db"), "CREATE TABLE note (t)").unwrap();
    std::fs::create_dir(worker.home().join("m")).unwrap();
    std::fs::write(worker.home().join("m/1_a.sql"), "CREATE TABLE a (x);").unwrap();
    let run = worker.run(&["doctor", "--json"]).expect_code(1);
    has(&run, "queue", "bad", "");
    has(&run, "shop", "good", "migrations by sql: 1 revision, it stands at base");
    has(&run, "keys", "bad", "SECRET_KEY");
    has(&run, "bare", "bad", "nowhere");
}

#[test]
fn a_spool_that_cannot_be_written_is_bad() {
    let agent = Agent::new().with_config("[state]\nspool = \"file/spool\"\n");
    std::fs::write(agent.home().join("file"), "no folder").unwrap();
    std::fs::set_permissions(agent.home().join("file"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let run = agent.run(&["doctor", "--json"]).expect_code(1);
    assert!(has(&run, "spool", "bad", "cannot be used").contains("set spool in [state]"));
}
