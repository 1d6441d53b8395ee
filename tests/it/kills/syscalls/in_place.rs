//! `restore --in-place` of a SQLite file: the journal of the task, the restored file, the copy of what is replaced, the
//! commit.

use super::sweep::{Disturbed, Sweep, assert_flush_is_heard, claims_success};
use crate::kills::common::{assert_spool_is_empty, names, shop, store};
use std::cell::RefCell;
use tests::agent::Agent;
use tests::postgres::TestDatabase;
use tests::sqlite::{TestFile, sqlite_differences, sqlite_dump_text, sqlite3};
use tests::store_files::StoreFiles;

// Every world has a database of its own, other than the one that was backed up.
const ARGUMENTS: [&str; 8] = ["restore", "shop", "--at", "latest", "--in-place", "--as", "shop", "--yes"];

/// What every run begins with.
struct Beginning {
    journal_mode: &'static str,
    /// See [`Sweep`].
    everyday: usize,
    source: TestFile,
    backup: String,
    broken: String,
    repository: Agent,
    /// A record that knows its tables, and nothing else.
    record: TestDatabase,
}

impl Beginning {
    #[track_caller]
    fn with(journal_mode: &'static str, everyday: usize) -> Self {
        let (source, record) = (shop(4096, 200), TestDatabase::new());
        let repository = Agent::new().with_config(&config(&record));
        source.sqlite3(&format!("PRAGMA journal_mode = {journal_mode}"));
        repository.ok(&["backup", &source.url(), "--name", "shop"]);
        let mut beginning = Beginning {
            journal_mode,
            everyday,
            backup: source.dump_text(),
            broken: String::new(),
            source,
            repository,
            record,
        };
        let agent = Agent::new();
        beginning.break_it(&agent);
        beginning.broken = shown(&agent, "shop.db");
        beginning
    }

    fn break_it(&self, agent: &Agent) {
        let file = agent.home().join("shop.db");
        std::fs::copy(self.source.path(), &file).unwrap();
        let sql = format!("PRAGMA journal_mode = {}; DELETE FROM t WHERE id > 100", self.journal_mode);
        sqlite3(&file, &sql).unwrap();
    }

    /// A program with a database, a store and a record of its own.
    fn world(&self) -> (Agent, TestDatabase) {
        let record = TestDatabase::create_from_template(self.record.name());
        let agent = Agent::new().with_config(&config(&record));
        StoreFiles::at(&self.repository.store_dir()).copy_to(&agent.store_dir());
        self.break_it(&agent);
        (agent, record)
    }

    #[track_caller]
    fn judge(&self, disturbed: &Disturbed) {
        let (agent, place) = (&disturbed.agent, &disturbed.place);
        let is_claimed = claims_success(disturbed);
        store(agent).are_whole();
        // In WAL mode the database's own file is flushed last when it is closed: what it holds is in the WAL until then.
        let is_closed = |file: &str| self.journal_mode == "WAL" && file == "shop.db";
        // SQLite itself does not care whether the folder of a new journal or WAL can be flushed.
        let is_folder = |file: &str| file.is_empty();
        // The flush of the journal's cleared head comes when all else is on the disk, and once more when it is closed. One
        // that fails before that fails the commit, and the database is as it was.
        let is_journal = |file: &str| file == "shop.db-journal";
        let is_known = |file: &str| is_closed(file) || is_folder(file) || is_journal(file);
        assert_flush_is_heard(disturbed, &|file| file.starts_with("store") || is_known(file));
        let same = |left: &str, right: &str| sqlite_differences(left, right).is_empty();
        let now = shown(agent, "shop.db");
        let (is_old, is_new) = (same(&self.broken, &now), same(&self.backup, &now));
        let said = &disturbed.run.stderr;
        assert!(is_old || is_new, "{place}: neither as it was nor as the backup\n{said}");
        assert!(is_new || !is_claimed, "{place}: it is not the backup\n{said}");
        assert!(is_old || !said.contains("as it was"), "{place}: it is not as it was\n{said}");
        agent.ok(&ARGUMENTS);
        assert!(same(&self.backup, &shown(agent, "shop.db")), "{place}: not as the backup");
        self.assert_kept(agent, said, place);
        // What could not be removed is named, and removed by the next migrate-worker.
        if !said.contains("could not be removed") {
            assert_spool_is_empty(agent, place);
        }
        let tasks = agent.json(&["history", "--limit", "0"]);
        let restores = || tasks.as_array().unwrap().iter().filter(|task| task["kind"] == "restore");
        assert!(restores().any(|task| task["state"] == "succeeded"), "{place}: {tasks:#}");
        let is_over = |state: &str| ["succeeded", "failed", "refused"].contains(&state);
        assert!(restores().all(|task| is_over(task["state"].as_str().unwrap())), "{place}: {tasks:#}");
    }

    /// What was replaced is beside the database, and nothing else.
    #[track_caller]
    fn assert_kept(&self, agent: &Agent, said: &str, place: &str) {
        // What could not be removed either is named.
        let is_told = |name: &str| said.contains(&format!("{name} could not be removed"));
        let mut beside = names(agent.home(), "shop.db");
        beside.retain(|name| {
            !is_told(name.trim_end_matches("-journal").trim_end_matches("-wal").trim_end_matches("-shm"))
        });
        let of_sqlite = |name: &str| name.ends_with("-wal") || name.ends_with("-shm");
        let kept: Vec<&String> =
            beside.iter().filter(|name| name.starts_with("shop.db.replaced-") && !of_sqlite(name)).collect();
        let is_kept = kept.iter().any(|name| sqlite_differences(&self.broken, &shown(agent, name)).is_empty());
        assert!(is_kept, "{place}: what was replaced is in none of {kept:?}");
        // One more of a try that was about to replace the database, and may have.
        assert!(kept.len() <= 2, "{place}: {kept:?}");
        // SQLite clears a journal's head when the commit is done, and removes it then.
        let is_cleared = |name: &str| {
            let journal = std::fs::read(agent.home().join(name)).unwrap();
            name == "shop.db-journal" && journal.iter().take(28).all(|byte| *byte == 0)
        };
        let known = |name: &String| {
            let is_ours = name == "shop.db" || name == "shop.db.holdfast-lock" || kept.contains(&name);
            is_ours || of_sqlite(name) || is_cleared(name)
        };
        assert!(beside.iter().all(known), "{place}: {beside:?}");
    }

    #[track_caller]
    fn sweep(&self, least: &[(&str, usize)]) {
        // The newest is the world's.
        let records: RefCell<Vec<TestDatabase>> = RefCell::default();
        let world = || {
            let (agent, record) = self.world();
            *records.borrow_mut() = vec![record];
            agent
        };
        Sweep { world: &world, arguments: &ARGUMENTS, until: None, everyday: self.everyday }
            .everywhere(least, &|disturbed| self.judge(&disturbed));
    }
}

/// The record is on a server, so that all local files are those of the work itself.
fn config(record: &TestDatabase) -> String {
    format!("[state]\nurl = \"{}\"\nlease = \"1s\"\n\n[database.shop]\nurl = \"sqlite:shop.db\"\n", record.url())
}

fn shown(agent: &Agent, name: &str) -> String {
    sqlite_dump_text(&agent.home().join(name))
}

#[test]
fn a_restore_in_place_whose_nth_call_fails_leaves_one_of_two_states_and_is_ended_by_the_same_command() {
    let least = [("openat", 2), ("write", 2), ("pwrite64", 2), ("fsync", 3), ("unlink", 2), ("mkdir", 2)];
    Beginning::with("DELETE", 2).sweep(&least);
}

#[test]
fn a_restore_in_place_in_wal_mode_whose_nth_call_fails_leaves_one_of_two_states_and_is_ended_by_the_same_command() {
    let least = [("openat", 2), ("write", 1), ("pwrite64", 1), ("fsync", 2), ("unlink", 1), ("mkdir", 1)];
    Beginning::with("WAL", 1).sweep(&least);
}
