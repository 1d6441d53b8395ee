//! The crash matrix: every step of a migration, hit by every fault, recovered, and judged without the product.
//!
//! The points are read off a run that nothing disturbs, so new steps are hit without being told of. A seed chooses which
//! cells CI runs (`HOLDFAST_TEST_SEED=N` repeats them); `HOLDFAST_TEST_LONG=1` runs all, and goes on where it was stopped
//! if `HOLDFAST_TEST_CELLS` names a file. `HOLDFAST_TEST_CELL=text` runs the cells whose name contains the text.

mod cell;
mod controls;
mod judge;
mod points;
mod results;
mod world;

use cell::{Came, Cell, Fault, When};
use judge::{Ends, Verdict, judge};
use results::Results;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tests::is_long;
use tests::mutations::Draws;
use world::{Bench, Scenario, World};

/// How long the sample may take after one cell of every scenario and fault was run.
const SAMPLE: Duration = Duration::from_secs(100);

/// Chooses the sample where nobody gives another seed: the same cells in every run, so that what turns red is the change.
const SEED: u64 = 20_261_121;

/// Cells at work at once, each with a server of its own. They mostly wait: a long run, which is alone, does more.
fn threads() -> usize {
    if is_long() { 5 } else { 2 }
}

/// A scenario as it goes when nothing disturbs it.
struct Known {
    ends: Ends,
    labels: Vec<String>,
    took: Duration,
}

fn undisturbed(bench: &Bench, scenario: Scenario) -> Known {
    let mut world = World::new(bench, scenario, 0);
    let before = world.dump();
    let trace = world.trace();
    world.agent.set_env("HOLDFAST_CRASH_TRACE", trace);
    let code = if scenario.fails_live() { 4 } else { 0 };
    let took = world.agent.run(scenario.arguments()).expect_code(code).elapsed;
    world.agent.set_env("HOLDFAST_CRASH_TRACE", "");
    let labels = world.labels();
    std::fs::remove_file(world.trace()).unwrap();
    assert!(!labels.is_empty(), "no point was reached: is this a release build?");
    let ends = Ends { before, after: (!scenario.fails_live()).then(|| world.dump()) };
    assert_ne!(ends.after.as_deref(), Some(ends.before.as_str()), "something changes");
    if scenario.is_in_place() {
        assert_eq!(ends.after.as_ref(), Some(&world.whole), "the backup came back");
    }
    let verdict = judge(&world, &ends);
    let expected = if scenario.fails_live() { "restored" } else { "succeeded" };
    assert_eq!((verdict.outcome.as_str(), verdict.faults), (expected, vec![]), "{}", scenario.name());
    Known { ends, labels, took }
}

fn known(bench: &Bench) -> BTreeMap<Scenario, Known> {
    Scenario::ALL.into_iter().map(|scenario| (scenario, undisturbed(bench, scenario))).collect()
}

/// Puts things into an order that a seed decides.
fn shuffled<T>(mut list: Vec<T>, draws: &mut Draws) -> Vec<T> {
    for at in (1..list.len()).rev() {
        list.swap(at, draws.below(at + 1));
    }
    list
}

/// First one cell of every scenario and fault, then the second of each, and so on: however far it comes, all are there.
fn in_turns(cells: Vec<Cell>, draws: &mut Draws) -> Vec<(usize, Cell)> {
    let mut groups: BTreeMap<(Scenario, Fault), usize> = BTreeMap::new();
    let mut order = Vec::new();
    for cell in shuffled(cells, draws) {
        let turn = groups.entry((cell.scenario, cell.fault)).or_default();
        order.push((*turn, cell));
        *turn += 1;
    }
    order.sort_by_key(|(turn, _)| *turn);
    order
}

/// Runs cells on several threads until they or the time are over; returns the red ones.
fn run_all(
    known: &BTreeMap<Scenario, Known>,
    cells: Vec<(usize, Cell)>,
    time: Duration,
    results: &Results,
) -> Vec<String> {
    let (begun, red) = (Instant::now(), Mutex::new(Vec::new()));
    let total = cells.len();
    let queue = Mutex::new(cells.into_iter());
    let next = || queue.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                let bench = Bench::default();
                while let Some((turn, cell)) = next() {
                    if turn > 0 && begun.elapsed() > time {
                        break;
                    }
                    if results.has(&cell) {
                        continue;
                    }
                    let came = run_one(&bench, &cell, &known[&cell.scenario].ends);
                    println!("{}: {} -> {}", cell.name(), came.place, came.verdict.outcome);
                    match told(&cell, &came) {
                        Some(fault) => red.lock().unwrap().push(fault),
                        None => results.add(&cell, &came),
                    }
                }
            });
        }
    });
    println!("{} of {total} cells in {:.0} s", total - queue.lock().unwrap().len(), begun.elapsed().as_secs_f64());
    red.into_inner().unwrap()
}

/// A test that gives up is a red cell, not the end of the others.
fn run_one(bench: &Bench, cell: &Cell, ends: &Ends) -> Came {
    let run = std::panic::AssertUnwindSafe(|| cell.run(bench, ends));
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        Came { place: String::new(), verdict: Verdict { outcome: "unknown".into(), faults: vec![said] } }
    })
}

fn told(cell: &Cell, came: &Came) -> Option<String> {
    let faults = &came.verdict.faults;
    let text = format!("RED {}: {} -> {}\n  {}", cell.name(), came.place, came.verdict.outcome, faults.join("\n  "));
    (!faults.is_empty()).then(|| println!("{text}")).map(|()| text)
}

#[test]
fn a_migration_hit_at_any_step_by_any_fault_ends_as_before_or_as_after_and_says_so() {
    let mut draws = Draws::from_environment_or(SEED);
    let known = known(&Bench::default());
    let cells: Vec<Cell> = known.iter().flat_map(|(scenario, known)| points::cells(*scenario, &known.labels)).collect();
    let chosen = std::env::var("HOLDFAST_TEST_CELL").ok();
    let cells: Vec<Cell> =
        cells.into_iter().filter(|cell| chosen.as_ref().is_none_or(|text| cell.name().contains(text))).collect();
    let time = if is_long() || chosen.is_some() { Duration::MAX } else { SAMPLE };
    let results = Results::open();
    let red = run_all(&known, in_turns(cells, &mut draws), time, &results);
    assert_eq!(red, Vec::<String>::new(), "HOLDFAST_TEST_SEED={}", draws.seed());
    if std::env::var_os("HOLDFAST_TEST_BLESS").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/crash-matrix.md");
        std::fs::write(file, results.table()).unwrap();
    }
}

#[test]
fn a_worker_killed_at_any_time_leaves_nothing_half_done() {
    let mut draws = Draws::from_environment_or(SEED);
    let known = known(&Bench::default());
    let number = if is_long() { 300 } else { 50 };
    let cells = (0..number).map(|at| {
        // PostgreSQL takes longer: one in three.
        let ours: Vec<Scenario> =
            Scenario::ALL.into_iter().filter(|scenario| scenario.is_postgres() == (at % 3 == 0)).collect();
        let scenario = *draws.pick(&ours);
        let took = usize::try_from(known[&scenario].took.as_millis()).unwrap();
        (0, Cell { scenario, fault: Fault::Worker, when: When::After(draws.below(took) as u64) })
    });
    let cells = cells.collect();
    let red = run_all(&known, cells, Duration::MAX, &Results::default());
    assert_eq!(red, Vec::<String>::new(), "HOLDFAST_TEST_SEED={}", draws.seed());
}
