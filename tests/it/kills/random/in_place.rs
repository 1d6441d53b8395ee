//! `restore --in-place`, killed: the database is as it was or as the backup, and the same command ends it.

use super::{Killer, kills};
use crate::kills::common::{assert_spool_is_empty, names, shop, store};
use tests::agent::Agent;
use tests::postgres::{TestDatabase, dump_differences, on_server, pg_dump_text, quoted, url_of};
use tests::sqlite::{sqlite_differences, sqlite_dump_text, sqlite3};

// The database that is replaced is another one than was backed up.
const ARGUMENTS: [&str; 8] = ["restore", "shop", "--at", "latest", "--in-place", "--as", "shop", "--yes"];

/// A program whose database `shop` is at `url`. The lease is short: who goes on waits for its end.
fn configured(url: &str) -> Agent {
    Agent::new().with_config(&format!("[state]\nlease = \"1s\"\n\n[database.shop]\nurl = \"{url}\"\n"))
}

/// A database that is broken, restored, broken again.
trait Live {
    /// Makes it what it is before a restore, and removes what earlier restores kept.
    fn break_it(&self, agent: &Agent);
    /// Whether somebody may connect; else an exchange has been begun.
    fn is_open(&self, agent: &Agent) -> bool;
    fn dump(&self, agent: &Agent) -> String;
    fn is_same(&self, left: &str, right: &str) -> bool;
    /// Asserts that what was replaced is kept, and that nothing else is beside the database.
    fn assert_kept(&self, agent: &Agent, broken: &str, place: &str);
}

#[track_caller]
fn killed_at_random(live: &dyn Live, agent: &mut Agent, backup: &str, number: usize) {
    live.break_it(agent);
    agent.ok(&ARGUMENTS);
    live.break_it(agent);
    let broken = live.dump(agent);
    assert!(!live.is_same(&broken, backup));
    let mut killer = Killer::of(agent.ok(&ARGUMENTS).elapsed);
    for _ in 0..number {
        live.break_it(agent);
        let killed = killer.kill(agent, &ARGUMENTS);
        let place = &killed.place;
        store(agent).are_whole();
        if live.is_open(agent) {
            let now = live.dump(agent);
            let is_whole = live.is_same(&broken, &now) || live.is_same(backup, &now);
            assert!(is_whole, "{place}: neither as it was nor as the backup");
        }
        let again = agent.ok(&ARGUMENTS);
        if !killed.was_hit {
            // Otherwise it waited for the end of a lease.
            killer.took(&again);
        }
        assert!(live.is_same(backup, &live.dump(agent)), "{place}: not as the backup");
        live.assert_kept(agent, &broken, place);
        assert_spool_is_empty(agent, place);
        let tasks = agent.json(&["history", "--limit", "0"]);
        let restores = tasks.as_array().unwrap().iter().filter(|task| task["kind"] == "restore");
        assert!(restores.clone().count() > 0 && restores.clone().all(|task| task["state"] == "succeeded"), "{tasks:#}");
    }
    killer.assert_hits();
}

/// `shop.db` in the program's home.
struct SqliteFile {
    journal_mode: &'static str,
}

impl Live for SqliteFile {
    fn break_it(&self, agent: &Agent) {
        for name in names(agent.home(), "shop.db.replaced-") {
            std::fs::remove_file(agent.home().join(name)).unwrap();
        }
        let sql = format!("PRAGMA journal_mode = {}; DELETE FROM t WHERE id > 400", self.journal_mode);
        sqlite3(&agent.home().join("shop.db"), &sql).unwrap();
    }

    fn is_open(&self, _: &Agent) -> bool {
        true
    }

    fn dump(&self, agent: &Agent) -> String {
        sqlite_dump_text(&agent.home().join("shop.db"))
    }

    fn is_same(&self, left: &str, right: &str) -> bool {
        sqlite_differences(left, right).is_empty()
    }

    fn assert_kept(&self, agent: &Agent, broken: &str, place: &str) {
        let is_database = |name: &String| !name.ends_with("-wal") && !name.ends_with("-shm");
        let kept: Vec<String> = names(agent.home(), "shop.db.replaced-").into_iter().filter(is_database).collect();
        let is_kept = kept.iter().any(|name| self.is_same(broken, &sqlite_dump_text(&agent.home().join(name))));
        assert!(is_kept, "{place}: what was replaced is in none of {kept:?}");
        assert!(kept.iter().all(|name| !name.ends_with("-journal")), "{place}: {kept:?}");
        // Of the killed one and of the one that went on.
        assert!(kept.len() <= 2, "{place}: {kept:?}");
    }
}

#[test]
fn restores_in_place_of_a_sqlite_file_killed_at_any_moment_are_ended_by_the_same_command() {
    let source = shop(512, 800);
    let dump = source.dump_text();
    for journal_mode in ["WAL", "DELETE"] {
        println!("journal_mode {journal_mode}");
        let mut agent = configured("sqlite:shop.db");
        agent.ok(&["backup", &source.url(), "--name", "shop"]);
        std::fs::copy(source.path(), agent.home().join("shop.db")).unwrap();
        killed_at_random(&SqliteFile { journal_mode }, &mut agent, &dump, kills(5));
    }
}

/// A database of the private server.
struct OnServer {
    database: TestDatabase,
}

impl OnServer {
    fn beside(&self) -> Vec<String> {
        let name = self.database.name();
        let query = format!("SELECT datname FROM pg_database WHERE datname LIKE '{name}\\_\\_%' ORDER BY 1");
        on_server(&query).lines().map(str::to_owned).collect()
    }
}

impl Live for OnServer {
    fn break_it(&self, _: &Agent) {
        for kept in self.beside() {
            on_server(&format!("DROP DATABASE {} WITH (FORCE)", quoted(&kept)));
        }
        self.database.psql("DELETE FROM t WHERE id > 400");
    }

    fn is_open(&self, _: &Agent) -> bool {
        // In the middle of the exchange a closed placeholder bears the name: nobody sees a state in between.
        let query = format!("SELECT datallowconn FROM pg_database WHERE datname = '{}'", self.database.name());
        on_server(&query).trim() == "t"
    }

    fn dump(&self, _: &Agent) -> String {
        pg_dump_text(&self.database.url())
    }

    fn is_same(&self, left: &str, right: &str) -> bool {
        dump_differences(left, right).is_empty()
    }

    fn assert_kept(&self, _: &Agent, broken: &str, place: &str) {
        let left = self.beside();
        assert!(left.iter().all(|name| name.contains("__replaced_")), "{place}: left over: {left:?}");
        let is_kept = left.iter().any(|kept| {
            on_server(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", quoted(kept)));
            self.is_same(broken, &pg_dump_text(&url_of(kept)))
        });
        assert!(is_kept, "{place}: what was replaced is in none of {left:?}");
    }
}

#[test]
fn restores_in_place_of_a_postgresql_database_killed_at_any_moment_are_ended_by_the_same_command() {
    let database = TestDatabase::new();
    database.psql("CREATE TABLE t (id int PRIMARY KEY, t text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 800) i");
    let dump = pg_dump_text(&database.url());
    let mut agent = configured(&database.url());
    agent.ok(&["backup", "shop"]);
    killed_at_random(&OnServer { database }, &mut agent, &dump, kills(10));
}
