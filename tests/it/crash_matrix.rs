//! The crash matrix: every step of a migration, hit by every fault, recovered, and judged without the product.

mod cell;
mod judge;
mod world;

use cell::{APPLY, Cell, Fault, When};
use judge::{Ends, judge};
use world::{Bench, Scenario, World};

/// Both ends of a scenario and the labels of all points, from a run that nothing disturbs.
fn undisturbed(bench: &Bench, scenario: Scenario) -> (Ends, Vec<String>) {
    let mut world = World::new(bench, scenario, 0);
    let before = world.dump();
    let trace = world.trace();
    world.agent.set_env("HOLDFAST_CRASH_TRACE", trace);
    let code = if scenario.fails_live { 4 } else { 0 };
    world.agent.run(APPLY).expect_code(code);
    world.agent.set_env("HOLDFAST_CRASH_TRACE", "");
    let labels = world.labels();
    std::fs::remove_file(world.trace()).unwrap();
    assert!(!labels.is_empty(), "no point was reached: is this a release build?");
    let ends = Ends { before, after: (!scenario.fails_live).then(|| world.dump()) };
    assert_ne!(ends.after.as_deref(), Some(ends.before.as_str()), "the migration changes something");
    let verdict = judge(&world, &ends);
    let expected = if scenario.fails_live { "restored" } else { "succeeded" };
    assert_eq!((verdict.outcome.as_str(), verdict.faults), (expected, vec![]), "{}", scenario.name());
    (ends, labels)
}

#[test]
fn sqlite_worker_killed_first_slice() {
    let bench = Bench::default();
    let only: Option<usize> = std::env::var("CM_ONLY").ok().and_then(|text| text.parse().ok());
    let mut red = 0;
    for scenario in Scenario::ALL.into_iter().filter(|scenario| !scenario.is_postgres()) {
        let (ends, labels) = undisturbed(&bench, scenario);
        for number in 1..=labels.len() {
            if only.is_some_and(|only| number != only) { continue; }
            let cell = Cell { scenario, fault: Fault::Worker, when: When::Point(number) };
            let came = cell.run(&bench, &ends);
            println!("{}: {} -> {} {:?}", cell.name(), came.place, came.verdict.outcome, came.verdict.faults);
            red += usize::from(!came.verdict.faults.is_empty());
        }
    }
    assert_eq!(red, 0);
}
