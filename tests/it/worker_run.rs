//! `migrate-worker run`, `resolve`, `current`, `heads`, `pending`, `stamp`, with the real program on real databases.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tests::agent::{Agent, Running};
use tests::sqlite::{sqlite_dump_text, sqlite3};

const CONFIG: &str = r#"
[state]
lease = "3s"

[database.shop]
url = "sqlite:shop.db"
migrations = { runner = "sql", directory = "migrations" }

[database.blog]
url = "sqlite:blog.db"
migrations = { runner = "sql", directory = "migrations" }
"#;

/// Two databases in WAL mode, and a directory with one migration.
fn world() -> Agent {
    let agent = Agent::worker().with_config(CONFIG);
    std::fs::create_dir(agent.home().join("migrations")).unwrap();
    migration(&agent, "1_note.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT);");
    for name in ["shop.db", "blog.db"] {
        let sql = "PRAGMA journal_mode = WAL; CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT);
                   INSERT INTO item (name) VALUES ('one'), ('two')";
        sqlite3(&agent.home().join(name), sql).unwrap();
    }
    agent
}

fn migration(agent: &Agent, name: &str, sql: &str) {
    std::fs::write(agent.home().join("migrations").join(name), sql).unwrap();
}

fn shop(agent: &Agent) -> PathBuf {
    agent.home().join("shop.db")
}

fn tables(file: &Path) -> String {
    sqlite3(
        file,
        "SELECT group_concat(name, ' ') FROM (SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1)",
    )
    .unwrap()
}

/// The newest task's id and state.
#[track_caller]
fn newest(agent: &Agent) -> (String, String) {
    let history = agent.json(&["history"]);
    let word = |name: &str| history[0][name].as_str().unwrap().to_owned();
    (word("job_id"), word("state"))
}

/// Waits for the first line the program logs when it is ready.
fn wait_for(mut holds: impl FnMut() -> bool, what: &str) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn run_does_what_was_submitted_for_every_database_and_ends_when_idle() {
    let agent = world();
    let jobs = ["shop", "blog"].map(|name| agent.ok(&["submit", name]).stdout.trim().to_owned());
    agent.ok(&["run", "--until-idle"]);
    for (job, name) in jobs.iter().zip(["shop.db", "blog.db"]) {
        assert_eq!(agent.json(&["show", job])["state"], "succeeded");
        assert!(tables(&agent.home().join(name)).contains("note"), "{name}");
    }
    let nothing = agent.ok(&["run", "--until-idle"]);
    assert!(nothing.elapsed < Duration::from_secs(20), "nothing was to be done, and it took {:?}", nothing.elapsed);
}

#[test]
fn run_recovers_what_a_killed_worker_left_before_it_ends() {
    let agent = world();
    let before = sqlite_dump_text(&shop(&agent));
    agent.killed_at("promote: the live database is locked", &["apply", "shop"]);
    assert_eq!(sqlite_dump_text(&shop(&agent)), before, "nothing was committed");
    agent.ok(&["run", "--until-idle"]);
    assert_eq!(newest(&agent).1, "restored");
    assert_eq!(sqlite_dump_text(&shop(&agent)), before);
    agent.killed_at("promote: after the commit", &["apply", "shop"]);
    agent.ok(&["run", "--until-idle"]);
    assert_eq!(newest(&agent).1, "succeeded");
    assert!(tables(&shop(&agent)).contains("note"));
}

#[test]
fn a_worker_that_is_told_to_end_leaves_what_it_has_not_begun_to_the_next() {
    let agent = world();
    let mut worker: Running = agent.start(&["run"]);
    agent.ok(&["submit", "shop"]);
    wait_for(|| newest(&agent).1 == "succeeded", "the worker does nothing");
    worker.signal("TERM");
    wait_for(|| !worker.is_running(), "the worker does not end");
    assert_eq!(worker.wait().code, Some(0));
    agent.ok(&["submit", "blog"]);
    assert_eq!(newest(&agent).1, "queued");
    agent.ok(&["run", "--until-idle"]);
    assert_eq!(newest(&agent).1, "succeeded");
}

/// A migration of `shop` during which somebody else changes its schema.
fn stuck() -> (Agent, String) {
    let agent = world();
    let apply = agent.start_and_stop_at("promote: a copy is made", &["apply", "shop"]);
    sqlite3(&shop(&agent), "CREATE TABLE intruder (a); INSERT INTO item (name) VALUES ('three')").unwrap();
    apply.signal("CONT");
    let run = apply.wait().expect_code(5);
    assert!(run.stdout.contains("stuck:") && run.stdout.contains("migrate-worker resolve"), "{}", run.stdout);
    let (job, state) = newest(&agent);
    assert_eq!(state, "stuck");
    (agent, job)
}

#[test]
fn a_stuck_database_is_closed_to_others_until_a_person_restores_it() {
    let (agent, job) = stuck();
    let refused = agent.run(&["apply", "shop"]).expect_code(3);
    assert!(refused.stderr.contains("stuck") && refused.stderr.contains(&job), "{}", refused.stderr);
    let evidence = agent.ok(&["resolve", &job[..18]]).stdout;
    assert!(evidence.contains("--restore") && evidence.contains("backup before it: shop/"), "{evidence}");
    assert!(tables(&shop(&agent)).contains("intruder"), "looking changes nothing");
    let resolved = agent.run(&["resolve", &job, "--restore"]).expect_code(4);
    assert!(resolved.stdout.contains("restored:"), "{}", resolved.stdout);
    assert_eq!(tables(&shop(&agent)).trim(), "item");
    assert_eq!(sqlite3(&shop(&agent), "SELECT count(*) FROM item").unwrap().trim(), "2");
    let kept: Vec<PathBuf> = std::fs::read_dir(agent.home())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("shop.db.failed-"))
        .collect();
    assert_eq!(kept.len(), 1, "what was there is kept: {kept:?}");
    assert!(tables(&kept[0]).contains("intruder"));
    assert_eq!(newest(&agent).1, "restored");
    agent.run(&["resolve", &job, "--restore"]).expect_code(1);
    agent.ok(&["apply", "shop"]);
    assert!(tables(&shop(&agent)).contains("note"));
}

#[test]
fn a_stuck_database_may_be_kept_as_it_is() {
    let (agent, job) = stuck();
    let kept = agent.run(&["resolve", &job, "--keep"]).expect_code(1);
    assert!(kept.stdout.contains("failed: by a person's wish it stays as it is"), "{}", kept.stdout);
    assert!(tables(&shop(&agent)).contains("intruder"));
    assert_eq!(sqlite3(&shop(&agent), "SELECT count(*) FROM item").unwrap().trim(), "3");
    assert_eq!(newest(&agent).1, "failed");
    let spool = agent.home().join("holdfast-spool");
    for folder in ["journal", "jobs"] {
        assert_eq!(std::fs::read_dir(spool.join(folder)).unwrap().count(), 0, "{folder} is empty");
    }
    agent.ok(&["apply", "shop"]);
}

#[test]
fn the_runners_view_has_one_vocabulary() {
    let agent = world();
    migration(&agent, "2_more.sql", "ALTER TABLE note ADD COLUMN more TEXT;");
    assert_eq!(agent.ok(&["current", "shop"]).stdout, "base\n");
    assert_eq!(agent.ok(&["heads", "shop"]).stdout, "2  more\n");
    assert_eq!(agent.ok(&["pending", "shop"]).stdout, "1  note\n2  more\n");
    agent.ok(&["apply", "shop", "--to", "1"]);
    assert_eq!(agent.ok(&["current", "shop"]).stdout, "1\n");
    assert_eq!(agent.json(&["pending", "shop"])[0]["id"], "2");
    let unknown = agent.run(&["stamp", "shop", "3"]).expect_code(3);
    assert!(unknown.stderr.contains("no revision 3"), "{}", unknown.stderr);
    agent.ok(&["stamp", "shop", "2"]);
    assert_eq!(agent.ok(&["current", "shop"]).stdout, "2\n");
    assert!(!sqlite3(&shop(&agent), "SELECT sql FROM sqlite_schema WHERE name = 'note'").unwrap().contains("more"));
    agent.run(&["current", "nobody"]).expect_code(3);
}
