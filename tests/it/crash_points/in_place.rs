//! `restore --in-place`, killed: whoever goes on brings it to its end, and what was replaced is kept.

use super::{Killed, Scenario, assert_rooms};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use tests::agent::Agent;
use tests::postgres::{TestDatabase, on_server, quoted, url_of};
use tests::postgres_dump::{dump_differences, pg_dump_text};
use tests::sqlite::{sqlite_differences, sqlite_dump_text, sqlite3};
use tests::store_files::StoreFiles;

// Every world has a database of its own, other than the one that was backed up.
const ARGUMENTS: [&str; 8] = ["restore", "shop", "--at", "latest", "--in-place", "--as", "shop", "--yes"];

fn config(url: &str) -> String {
    format!(
        "[state]\nlease = \"1s\"\n\n[database.shop]\nurl = \"{url}\"\nmigrations = {{ runner = \"sql\", directory = \".\" }}\n"
    )
}

/// Kills the command at every `every`-th of its points and judges each corpse: `is_whole` says whether the database is as it was or as the
/// backup, `is_done` after somebody went on whether it is as the backup, what it was is kept, and nothing else is left.
fn killed_everywhere(
    world: &dyn Fn() -> Agent,
    every: usize,
    is_whole: &dyn Fn(&Agent, &str),
    is_done: &dyn Fn(&Agent, &str),
) -> BTreeSet<String> {
    // Points of the store and of the record are hit by tests of their own.
    let elsewhere = |label: &str| ["store:", "task log:", "mark:"].iter().any(|room| label.starts_with(room));
    let (seen, turn, by_worker) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let chosen = |label: &str| {
        seen.set(seen.get() + 1);
        !elsewhere(label) && seen.get() % every == 0
    };
    let scenario = Scenario { world, arguments: &ARGUMENTS, chosen: &chosen };
    let killed_at = scenario.kill_everywhere(&|Killed { agent, place }| {
        is_whole(&agent, &place);
        turn.set(turn.get() + 1);
        let restores = || {
            let tasks = agent.json(&["history", "--limit", "0"]);
            let all = tasks.as_array().unwrap().iter();
            all.filter(|task| task["kind"] == "restore").map(|task| task["state"].clone()).collect::<Vec<_>>()
        };
        // A worker of the record or the same command, in turns; where the record knows nothing yet, the command.
        // One whose worker is gone is told as of unknown state.
        let is_open = restores().first().is_some_and(|state| state == "unknown");
        if turn.get() % 2 == 0 && is_open {
            agent.run_program("migrate-worker", &["run", "--until-idle"]).expect_code(0);
            by_worker.set(by_worker.get() + 1);
        } else {
            agent.ok(&ARGUMENTS);
        }
        let states = restores();
        assert!(states.iter().all(|state| state == "succeeded"), "{place}: {states:?}");
        is_done(&agent, &place);
        for folder in ["journal", "jobs"] {
            let left = agent.home().join("holdfast-spool").join(folder).read_dir();
            let left: Vec<_> = left.into_iter().flatten().map(|entry| entry.unwrap().file_name()).collect();
            assert!(left.is_empty(), "{place}: left in {folder}: {left:?}");
        }
    });
    assert!(by_worker.get() > 1 && by_worker.get() < turn.get(), "{} of {}", by_worker.get(), turn.get());
    killed_at
}

#[test]
fn a_sqlite_database_killed_anywhere_on_its_way_back_comes_back() {
    let source = super::shop();
    source.sqlite3("PRAGMA journal_mode = WAL");
    let dump = source.dump_text();
    let first = Agent::new();
    first.ok(&["backup", &source.url(), "--name", "shop"]);
    let repository = StoreFiles::at(&first.store_dir());
    let world = || {
        let agent = Agent::new().with_config(&config("sqlite:shop.db"));
        repository.copy_to(&agent.store_dir());
        let file = agent.home().join("shop.db");
        std::fs::copy(source.path(), &file).unwrap();
        sqlite3(&file, "DELETE FROM t WHERE id > 400").unwrap();
        agent
    };
    let shown = |agent: &Agent, name: &str| sqlite_dump_text(&agent.home().join(name));
    let broken = shown(&world(), "shop.db");
    let is_whole = |agent: &Agent, place: &str| {
        let now = shown(agent, "shop.db");
        let same = |dump: &String| sqlite_differences(dump, &now).is_empty();
        assert!(same(&broken) || same(&dump), "{place}: neither as it was nor as the backup");
    };
    let is_done = |agent: &Agent, place: &str| {
        assert_eq!(sqlite_differences(&dump, &shown(agent, "shop.db")), Vec::<String>::new(), "{place}");
        let files = agent.home().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let kept: Vec<String> = files
            .filter(|name| name.starts_with("shop.db.replaced-") && !name.ends_with("-wal") && !name.ends_with("-shm"))
            .collect();
        let is_kept = kept.iter().any(|name| sqlite_differences(&broken, &shown(agent, name)).is_empty());
        assert!(is_kept, "{place}: what was replaced is in none of {kept:?}");
        // Another copy only of a try that was about to replace the database, and may have.
        assert!(kept.len() == 1 || place.contains("commit"), "{place}: {kept:?}");
    };
    let killed_at = killed_everywhere(&world, 1, &is_whole, &is_done);
    assert_rooms(&killed_at, &["restore in place:", "commit:", "promote:", "outcome:"]);
}

#[test]
fn a_postgresql_database_killed_anywhere_on_its_way_back_comes_back() {
    let source = TestDatabase::new();
    source.psql("CREATE TABLE t (id int PRIMARY KEY, t text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 800) i");
    let dump = pg_dump_text(&source.url());
    let first = Agent::new();
    first.ok(&["backup", &source.url(), "--name", "shop"]);
    let repository = StoreFiles::at(&first.store_dir());
    source.psql("DELETE FROM t WHERE id > 400");
    let broken = pg_dump_text(&source.url());
    // The newest is the world's.
    let databases: RefCell<Vec<TestDatabase>> = RefCell::default();
    let world = || {
        let shop = TestDatabase::create_from_template(source.name());
        let agent = Agent::new().with_config(&config(&shop.url()));
        repository.copy_to(&agent.store_dir());
        databases.borrow_mut().clear();
        databases.borrow_mut().push(shop);
        agent
    };
    let name = || databases.borrow()[0].name().to_owned();
    let beside = || {
        let query = format!("SELECT datname FROM pg_database WHERE datname LIKE '{}\\_\\_%' ORDER BY 1", name());
        on_server(&query).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let is_whole = |_: &Agent, place: &str| {
        // In the middle of the exchange a closed placeholder bears the name: nobody sees a state in between.
        let query = format!("SELECT datallowconn FROM pg_database WHERE datname = '{}'", name());
        if on_server(&query).trim() == "t" {
            let now = pg_dump_text(&url_of(&name()));
            let same = |dump: &String| dump_differences(dump, &now).is_empty();
            assert!(same(&broken) || same(&dump), "{place}: neither as it was nor as the backup");
        }
    };
    let is_done = |_: &Agent, place: &str| {
        assert_eq!(dump_differences(&dump, &pg_dump_text(&url_of(&name()))), Vec::<String>::new(), "{place}");
        let left = beside();
        assert!(left.iter().all(|name| name.contains("__replaced_")), "{place}: left over: {left:?}");
        let is_kept = left.iter().any(|kept| {
            on_server(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", quoted(kept)));
            dump_differences(&broken, &pg_dump_text(&url_of(kept))).is_empty()
        });
        assert!(is_kept, "{place}: what was replaced is in none of {left:?}");
        for kept in left {
            on_server(&format!("DROP DATABASE {}", quoted(&kept)));
        }
    };
    let is_long = tests::is_long();
    let killed_at = killed_everywhere(&world, if is_long { 1 } else { 3 }, &is_whole, &is_done);
    assert_rooms(&killed_at, &["fence:", "swap:"]);
    if is_long {
        assert_rooms(&killed_at, &["restore in place:", "outcome:"]);
    }
}
