//! Workers killed around the wait: what was not told is begun anew, what waits goes on waiting.

use super::{MAY_DROP, Shop};
use tests::sqlite::{sqlite_dump_text, sqlite3};

/// Points from the plan to the end of the worker that let go of its job.
const BEFORE_IT_WAITS: [&str; 5] = [
    "plan: after its note",
    "let-go: before its note",
    "let-go: the journal is gone, not yet noted in the record",
    "let-go: after its note",
    "task log: before a task waits for approval",
];

#[test]
fn a_worker_killed_before_the_record_knew_that_it_waits_is_recovered_and_it_waits_then() {
    for point in BEFORE_IT_WAITS {
        let mut shop = Shop::on_sqlite();
        let before = sqlite_dump_text(&shop.database());
        shop.agent.killed_at(point, &[&["apply", "shop"][..], &MAY_DROP].concat());
        let job = shop.newest()["job_id"].as_str().unwrap().to_owned();
        shop.work();
        shop.is(&job, "waiting");
        assert_eq!(sqlite_dump_text(&shop.database()), before, "{point}");
        shop.approve(&job);
        shop.work();
        shop.is(&job, "succeeded");
    }
}

#[test]
fn a_worker_killed_while_a_job_waits_changes_nothing() {
    let mut shop = Shop::on_sqlite();
    shop.agent.killed_at("task log: after a task waits for approval", &[&["apply", "shop"][..], &MAY_DROP].concat());
    let job = shop.newest()["job_id"].as_str().unwrap().to_owned();
    shop.is(&job, "waiting");
    let row = || {
        let sql =
            format!("SELECT * FROM task_log WHERE job_id = '{job}'; SELECT * FROM task_event; SELECT * FROM task_step");
        sqlite3(&shop.agent.home().join("holdfast-state.db"), &sql).unwrap()
    };
    let (before, database) = (row(), sqlite_dump_text(&shop.database()));
    let worker = shop.agent.start(&["run"]);
    // It does another job, so it has seen this one.
    let other = shop.agent.ok(&["submit", "shop", "--expected-from", "7"]).stdout.trim().to_owned();
    shop.until("refused");
    worker.kill();
    assert_eq!(sqlite_dump_text(&shop.database()), database);
    let ours = |rows: String| rows.lines().filter(|line| !line.contains(&other)).collect::<Vec<_>>().join("\n");
    assert_eq!(ours(row()), ours(before));
    shop.approve(&job);
    shop.work();
    shop.is(&job, "succeeded");
}

#[test]
fn a_worker_killed_after_the_approval_is_recovered_by_the_next_and_the_approval_counts() {
    let mut shop = Shop::on_sqlite();
    let (_, job) = shop.waits();
    shop.be("ben");
    shop.agent.killed_at("task log: after a task is approved", &["approve", &job]);
    shop.is(&job, "queued");
    for point in [
        "task log: after a task is claimed",
        "begin: its intent is written, before the effect",
        "rehearse: after its note",
        "plan: after its note",
    ] {
        shop.agent.killed_at(point, &["run", "--until-idle"]);
    }
    shop.work();
    let shown = shop.is(&job, "succeeded");
    assert_eq!(shown["approved_by"], "ben");
    assert!(!shop.tables().contains("old"));
    // Approved before the record knew is not approved.
    let mut shop = Shop::on_sqlite();
    let (_, job) = shop.waits();
    shop.be("ben");
    shop.agent.killed_at("task log: before a task is approved", &["approve", &job]);
    shop.is(&job, "waiting");
}

#[test]
fn a_worker_that_let_go_of_a_job_is_not_taken_for_the_one_that_was_lost_over_it() {
    let mut shop = Shop::on_sqlite();
    let first = shop.agent.start(&["run"]);
    shop.agent.ok(&[&["submit", "shop"][..], &MAY_DROP].concat());
    let job = shop.until("waiting");
    // Stopped, so that it does not take up the job itself; and it looks like one that does not answer.
    first.signal("STOP");
    shop.approve(&job);
    shop.agent.killed_at("rehearse: after its note", &["run", "--until-idle"]);
    shop.work();
    shop.is(&job, "succeeded");
    let mut first = first;
    assert!(first.is_running(), "who had let go of the job was ended as if it had been lost");
    first.signal("CONT");
    first.signal("TERM");
    first.wait().expect_code(0);
}

#[test]
fn a_worker_that_stopped_while_it_let_go_writes_nothing_when_it_goes_on_too_late() {
    let mut shop = Shop::on_sqlite();
    let apply = shop.agent.start_and_stop_at("let-go: after its note", &[&["apply", "shop"][..], &MAY_DROP].concat());
    let job = shop.newest()["job_id"].as_str().unwrap().to_owned();
    // Its lease runs out, and another one takes over.
    shop.work();
    shop.is(&job, "waiting");
    let before = shop.show(&job);
    apply.signal("CONT");
    let late = apply.wait().expect_code(1);
    assert!(late.stderr.contains("no longer ours"), "{}", late.stderr);
    assert_eq!(shop.show(&job), before);
    shop.approve(&job);
    shop.work();
    shop.is(&job, "succeeded");
}
