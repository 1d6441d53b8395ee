//! Cells that have been run, so that a long run can go on where it was stopped; and the table for people.

use super::cell::{Came, Cell, Fault};
use super::points::CANNOT_OCCUR;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;

/// Results by the name of the cell; in `HOLDFAST_TEST_CELLS`, where that names a file, they outlive the run.
#[derive(Default)]
pub struct Results {
    file: Option<PathBuf>,
    done: Mutex<BTreeMap<String, String>>,
}

impl Results {
    /// What an earlier run left; red cells are run again.
    pub fn open() -> Self {
        let file = std::env::var_os("HOLDFAST_TEST_CELLS").map(PathBuf::from);
        let text = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        let done = text.lines().filter_map(|line| line.split_once('\t'));
        let done = done.map(|(name, came)| (name.to_owned(), came.to_owned())).collect();
        Results { file, done: Mutex::new(done) }
    }

    pub fn has(&self, cell: &Cell) -> bool {
        self.done.lock().unwrap().contains_key(&cell.name())
    }

    /// Notes a green cell.
    pub fn add(&self, cell: &Cell, came: &Came) {
        let line = format!("{}; {:?}; {}; {}", cell.scenario.name(), cell.fault, came.place, came.verdict.outcome);
        if let Some(file) = &self.file {
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
            writeln!(file, "{}\t{line}", cell.name()).unwrap();
        }
        self.done.lock().unwrap().insert(cell.name(), line);
    }

    /// Scenario x place x fault -> outcomes seen.
    pub fn table(&self) -> String {
        let mut rows: BTreeMap<(String, String), BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for line in self.done.lock().unwrap().values() {
            let parts: Vec<&str> = line.split("; ").collect();
            if let [scenario, fault, place, outcome] = parts[..] {
                let row = rows.entry((scenario.into(), place.into())).or_default();
                row.entry(fault.into()).or_default().insert(outcome.into());
            }
        }
        let faults = [Fault::Worker, Fault::Tool, Fault::Server, Fault::Store, Fault::State, Fault::Takeover];
        let mut text = String::from(HEAD);
        let mut last = String::new();
        for ((scenario, place), outcomes) in rows {
            if scenario != last {
                let _ = write!(text, "\n## {scenario}\n\n{COLUMNS}");
                last = scenario;
            }
            let cell = |fault: &Fault| {
                let seen = outcomes.get(&format!("{fault:?}"));
                seen.map_or("-".into(), |seen| seen.iter().cloned().collect::<Vec<_>>().join(", "))
            };
            let cells: Vec<String> = faults.iter().map(cell).collect();
            let _ = writeln!(text, "| {place} | {} |", cells.join(" | "));
        }
        text.push_str("\n## Cells that are not there\n\n");
        for (what, why) in CANNOT_OCCUR {
            let _ = writeln!(text, "- {what}: {why}");
        }
        text
    }
}

const HEAD: &str = "# The crash matrix\n\nWhat became of a migration, or of a restore in place, that was hit at each of its \
steps, after the recovery. Written by `HOLDFAST_TEST_BLESS=1 HOLDFAST_TEST_LONG=1` and the test `crash_matrix`; several outcomes stand where a place \
is reached several times. Every one of them was proven: `succeeded` means the database is exactly as after an \
undisturbed run, anything else that it is exactly as before (`none`: the record never heard of the job).\n";

const COLUMNS: &str = "| place | worker killed | tool killed | server stopped | store away | record away | second worker takes over |\n\
|---|---|---|---|---|---|---|\n";
