//! Would the judge see it? Rules of the recovery are switched off, and a named cell must turn red.

use super::cell::tool_of;
use super::judge::{Ends, Verdict, judge, left_processes};
use super::undisturbed;
use super::world::{APPLY, Bench, Course, Kind, RECOVER, Scenario, World};
use std::time::Duration;

const SQLITE: Scenario = Scenario { kind: Kind::SqliteWal, course: Course::Good };
const POSTGRES: Scenario = Scenario { kind: Kind::PostgresWhole, course: Course::Good };

/// Both verdicts of a cell: with all rules, and with some of them off.
#[track_caller]
fn only_without(rule: &str, cell: impl Fn(&str) -> Verdict) {
    let with = cell("");
    assert_eq!(with.faults, Vec::<String>::new(), "the cell of {rule} is green while the rule is on");
    let without = cell(rule);
    println!("without {rule}: {} {:?}", without.outcome, without.faults);
    assert!(!without.faults.is_empty(), "nobody would notice that the rule {rule} is gone: {}", without.outcome);
}

fn recover_without(world: &mut World<'_>, rules: &str) {
    world.agent.set_env("HOLDFAST_RULES_OFF", rules);
    world.start_recovery().wait();
    world.agent.set_env("HOLDFAST_RULES_OFF", "");
}

/// Kills the worker some milliseconds after its tool began to apply.
fn killed_while_applying(world: &World<'_>, after: u64) {
    let mut worker = world.agent.start(APPLY);
    tool_of(&mut worker, 2).expect("the tool was started twice");
    std::thread::sleep(Duration::from_millis(after));
    assert_eq!(worker.kill().code, None, "the worker was killed while its tool was at work");
}

#[test]
fn a_recovery_that_leaves_the_tool_alone_is_seen() {
    let bench = Bench::default();
    let ends = undisturbed(&bench, SQLITE).ends;
    only_without("end-the-tool", |rules| {
        let mut world = World::new(&bench, SQLITE, 6);
        killed_while_applying(&world, 50);
        recover_without(&mut world, rules);
        let verdict = judge(&world, &ends);
        left_processes(&world).into_iter().for_each(super::cell::kill);
        verdict
    });
}

#[test]
fn a_recovery_that_leaves_the_fence_up_is_seen() {
    let bench = Bench::default();
    let ends = undisturbed(&bench, POSTGRES).ends;
    only_without("unfence-on-resume", |rules| {
        let mut world = World::new(&bench, POSTGRES, 0);
        world.agent.killed_at("in place: ready to apply", APPLY);
        recover_without(&mut world, rules);
        judge(&world, &ends)
    });
}

#[test]
fn a_way_back_that_restores_without_looking_is_seen() {
    let bench = Bench::default();
    let scenario = Scenario { course: Course::FailsLive, ..POSTGRES };
    let ends = undisturbed(&bench, scenario).ends;
    only_without("compare-before-restore", |rules| {
        let mut world = World::new(&bench, scenario, 0);
        world.agent.set_env("HOLDFAST_RULES_OFF", rules);
        world.agent.run(APPLY).expect_code(4);
        judge(&world, &ends)
    });
}

#[test]
fn a_recovery_that_does_again_what_was_told_already_is_seen() {
    let bench = Bench::default();
    let scenario = Scenario { course: Course::FailsLive, ..SQLITE };
    let ends = undisturbed(&bench, scenario).ends;
    only_without("outcome-replay", |rules| {
        let mut world = World::new(&bench, scenario, 0);
        world.agent.killed_at("outcome: after its note", APPLY);
        // The mended migration is for the next job: this one was told to be restored.
        world.mend();
        recover_without(&mut world, rules);
        judge(&world, &ends)
    });
}

/// A statement that commits by itself after its client was killed, and does not look whether that is still there.
const LATE: &str = "-- no-transaction\nDO $$ BEGIN PERFORM set_config('client_connection_check_interval', '0', false);
    PERFORM pg_sleep(4); CREATE TABLE late (x int); END $$;\n";

#[test]
fn a_recovery_that_cuts_nobody_off_is_seen() {
    let bench = Bench::default();
    only_without("cut-off", |rules| {
        let mut world = World::new(&bench, POSTGRES, 0);
        std::fs::write(world.agent.home().join("migrations/1_people.sql"), LATE).unwrap();
        let ends = Ends { before: world.dump(), after: None };
        killed_while_applying(&world, 500);
        world.agent.set_env("HOLDFAST_RULES_OFF", rules);
        let mut second = world.agent.start_and_stop_at("unfence: begun", RECOVER);
        let at_work =
            "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'shop\\_\\_mig%' AND query LIKE '%pg_sleep%'";
        while bench.server().borrow().psql("postgres", at_work) != "0" {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(second.is_running());
        second.signal("CONT");
        second.wait();
        judge(&world, &ends)
    });
}

/// A worker stands still before its commit, a second one takes over, the first one goes on.
fn overtaken(bench: &Bench, ends: &Ends, rules: &str) -> Verdict {
    let mut world = World::new(bench, SQLITE, 0);
    world.agent.set_env("HOLDFAST_RULES_OFF", rules);
    let mut first = world.agent.start_and_stop_at("promote: the live database is locked", APPLY);
    std::thread::sleep(super::cell::LAPSED);
    let mut second = world.agent.start(RECOVER);
    while second.is_running() {
        first.is_running();
        std::thread::sleep(Duration::from_millis(5));
    }
    if first.is_running() {
        first.signal("CONT");
    }
    first.wait();
    world.agent.set_env("HOLDFAST_RULES_OFF", "");
    world.start_recovery().wait();
    judge(&world, ends)
}

#[test]
fn an_overtaken_worker_that_may_commit_is_seen() {
    let bench = Bench::default();
    let ends = undisturbed(&bench, SQLITE).ends;
    let none = overtaken(&bench, &ends, "end-the-worker,target-lock,lease-check");
    println!("without all three: {} {:?}", none.outcome, none.faults);
    assert!(!none.faults.is_empty(), "nobody would notice that all three rules are gone: {}", none.outcome);
    // With the others off, ending the stopped worker is enough.
    let ended = overtaken(&bench, &ends, "target-lock,lease-check");
    assert_eq!(ended.faults, Vec::<String>::new(), "{}", ended.outcome);
}
