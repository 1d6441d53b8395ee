//! kill -9 of the real program at every labelled point; what it leaves is judged without it, then it runs again.

mod agent_run;
mod backup;
mod forget;
mod in_place;

use std::collections::BTreeSet;
use std::path::Path;
use tests::agent::Agent;
use tests::sqlite::TestFile;
use tests::store_files::StoreFiles;

/// A command, and the world it starts in each time.
struct Scenario<'a> {
    /// A program with its own copy of that world.
    world: &'a dyn Fn() -> Agent,
    arguments: &'a [&'a str],
    /// Which of the points traced are tried.
    chosen: &'a dyn Fn(&str) -> bool,
}

/// A program that was killed, and where.
struct Killed {
    agent: Agent,
    /// As `point 7, after "backup: before a pack"`.
    place: String,
}

impl Killed {
    fn store(&self) -> StoreFiles {
        StoreFiles::at(&self.agent.store_dir())
    }
}

impl Scenario<'_> {
    /// Runs the command undisturbed; returns what it left and the labels of all points it reached, in order.
    #[track_caller]
    fn undisturbed(&self) -> (Agent, Vec<String>) {
        let agent = (self.world)();
        let trace = agent.home().join("trace");
        let agent = agent.with_env("HOLDFAST_CRASH_TRACE", &trace);
        agent.ok(self.arguments);
        let labels = labels(&trace);
        assert!(!labels.is_empty(), "{:?} reached no point: is this a release build?", self.arguments);
        std::fs::remove_file(trace).unwrap();
        (agent, labels)
    }

    /// Kills the command at every chosen point and hands each corpse over. Returns the labels it was killed at.
    #[track_caller]
    fn kill_everywhere(&self, judge: &dyn Fn(Killed)) -> BTreeSet<String> {
        let (_, labels) = self.undisturbed();
        let mut killed_at = BTreeSet::new();
        for (number, label) in (1..).zip(&labels).filter(|(_, label)| (self.chosen)(label)) {
            let agent = (self.world)();
            let trace = agent.home().join("trace");
            let agent =
                agent.with_env("HOLDFAST_CRASH_TRACE", &trace).with_env("HOLDFAST_CRASH_AT", number.to_string());
            let run = agent.run(self.arguments);
            let reached = crate::crash_points::labels(&trace);
            let place = format!("point {number} ({label:?}) of {:?}", self.arguments);
            assert_eq!(run.code, None, "{place}: the program ended by itself\n{}\n{}", run.stdout, run.stderr);
            // Points of other threads may follow before the signal has ended all of them.
            assert!(reached.len() >= number, "{place}: only {} points were reached", reached.len());
            killed_at.insert(reached[number - 1].clone());
            let place = format!("{place}, killed at {:?}", reached[number - 1]);
            std::fs::remove_file(trace).unwrap();
            println!("{place}");
            judge(Killed { agent: agent.with_env("HOLDFAST_CRASH_AT", "0"), place });
        }
        killed_at
    }
}

fn labels(trace: &Path) -> Vec<String> {
    std::fs::read_to_string(trace).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Asserts that the program was killed at points of all these rooms.
#[track_caller]
fn assert_rooms(killed_at: &BTreeSet<String>, rooms: &[&str]) {
    for room in rooms {
        assert!(killed_at.iter().any(|label| label.starts_with(room)), "no point of {room:?} among {killed_at:?}");
    }
}

fn shop() -> TestFile {
    sized_shop(512, 800)
}

/// A SQLite file of small pages, so that a changed row leaves most of a backup as it was.
pub fn sized_shop(page_bytes: usize, rows: usize) -> TestFile {
    let file = TestFile::named("shop.db");
    file.sqlite3(&format!(
        "PRAGMA page_size = {page_bytes}; CREATE TABLE t (id INTEGER PRIMARY KEY, t TEXT);
         WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {rows})
         INSERT INTO t SELECT i, hex(randomblob(60)) FROM c;"
    ));
    file
}

/// Changes the last row of the file that [`sized_shop`] made.
pub fn sell_something(shop: &TestFile, what: &str) {
    shop.sqlite3(&format!("UPDATE t SET t = '{what}' WHERE id = (SELECT max(id) FROM t)"));
}

/// The ids `list` calls complete, oldest first; none where there is no repository yet.
pub fn complete(agent: &Agent) -> Vec<String> {
    if !agent.store_dir().join("holdfast.json").exists() {
        return Vec::new();
    }
    let list = agent.json(&["list"]);
    let complete = list.as_array().unwrap().iter().filter(|backup| backup["complete"] == true);
    complete.map(|backup| backup["id"].as_str().unwrap().to_owned()).collect()
}
