//! Which cells there are: read off a run that nothing disturbs, never from a list.

use super::cell::{Cell, Fault, When};
use super::world::{Course, Scenario};
use std::collections::BTreeMap;

/// Rooms below the migration that have crash tests of their own; one point of each label stands for them here.
const BELOW: [&str; 8] = ["store:", "init:", "backup:", "mark:", "hold:", "release:", "guards:", "forget:"];

/// The faults that strike at a point.
const AT_POINTS: [Fault; 5] = [Fault::Worker, Fault::Server, Fault::Store, Fault::State, Fault::Takeover];

/// From here on a migration that fails on the database is another run than one that is done.
const FIRST_OF_ITS_OWN: &str = "apply: before its intent";

/// All cells of a scenario.
pub fn cells(scenario: Scenario, labels: &[String]) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let own = || labels.iter().position(|label| label == FIRST_OF_ITS_OWN).expect("every migration announces its tool");
    let first = if scenario.fails_live() { own() } else { 0 };
    for (number, label) in (1..).zip(labels).skip(first) {
        let times = seen.entry(label).or_default();
        *times += 1;
        let stands_for_others = *times > 1 && BELOW.iter().any(|room| label.starts_with(room));
        if !stands_for_others {
            let faults = AT_POINTS.into_iter().filter(|fault| scenario.is_postgres() || *fault != Fault::Server);
            cells.extend(faults.map(|fault| Cell { scenario, fault, when: When::Point(number) }));
        }
    }
    let runs = match scenario.course {
        Course::Good => 1..=2,
        Course::FailsLive => 2..=2,
        Course::InPlace => return cells,
    };
    for run in runs {
        for after in [0, 100, 600, 1100, 1600] {
            for fault in [Fault::Tool, Fault::Worker, Fault::Server] {
                if scenario.is_postgres() || fault != Fault::Server {
                    cells.push(Cell { scenario, fault, when: When::InTool(run, after) });
                }
            }
        }
    }
    cells
}

/// Why a combination has no cell of its own.
pub const CANNOT_OCCUR: [(&str, &str); 6] = [
    (
        "tool killed, at a point of the worker",
        "the tool runs only between two points: it is killed by the clock instead",
    ),
    ("tool killed, restored in place", "no migration tool runs; PostgreSQL's own tools work on the copy beside"),
    ("server stopped, SQLite", "there is no server"),
    ("before the tool is announced, in a migration that fails live", "until then it is the same run as the good one"),
    (
        "store, state database or takeover, while the tool runs",
        "the worker reads neither then; the next point is such a cell",
    ),
    (
        "a second point of a label of the store, the backup or a mark",
        "the same code: their own crash tests kill at every one",
    ),
];
