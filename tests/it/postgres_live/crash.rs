//! kill -9 at every point of every step: what is left is one of the states a successor knows, and it can go on or back.

use super::{Target, fenced_as, step};
use shared::engine::postgres::{Exchange, FencePlan, FenceState, PostgresLive, SwapPlan};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;
use tests::postgres::{on_server, psql, quoted, url_of};

/// Runs a step in a process of its own, killed at the given point (0: not at all); returns the points it reached.
fn run(target: &Target, name: &str, plan: &str, at: usize) -> (Output, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let mut command = step(&target.url(), name, plan);
    command.env("HOLDFAST_CRASH_TRACE", &trace).env("HOLDFAST_CRASH_AT", at.to_string());
    let output = command.output().unwrap();
    (output, labels(&trace))
}

fn labels(trace: &Path) -> Vec<String> {
    std::fs::read_to_string(trace).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Runs a step, killed at its n-th point, for n from 1 until it ends by itself; returns the points.
///
/// `prepare` makes the state before and the step's plan, `judge` looks at what was left and goes on.
async fn kill_everywhere<P>(
    name: &str,
    prepare: impl AsyncFn(&Target) -> (P, String),
    judge: impl AsyncFn(&Target, &P, &str),
) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    for at in 1.. {
        let target = Target::new();
        let (plan, json) = prepare(&target).await;
        let (output, labels) = run(&target, name, &json, at);
        let place = format!("{name} at point {at}: {}", labels.last().map_or("", String::as_str));
        judge(&target, &plan, &place).await;
        if output.status.success() {
            assert_eq!(labels.len(), at - 1, "{place}");
            assert!(at > 2, "{name} reached no points");
            return reached;
        }
        assert_eq!(output.status.code(), None, "{place}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(labels.len(), at, "{place}");
        reached.extend(labels.last().cloned());
    }
    unreachable!("the numbers end")
}

async fn planned(target: &Target) -> (FencePlan, String) {
    let plan = target.live.plan_fence(1).await.unwrap();
    let json = serde_json::to_string(&plan).unwrap();
    (plan, json)
}

async fn fenced(target: &Target) -> (FencePlan, String) {
    let (plan, json) = planned(target).await;
    target.live.fence(&plan).await.unwrap();
    (plan, json)
}

/// The original is back under its name, whole, and nothing else is left.
#[track_caller]
fn assert_home(target: &Target, place: &str) {
    assert_eq!(target.names(), [target.name()], "{place}");
    assert_eq!(target.psql("TABLE t"), "1\n", "{place}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_killed_anywhere_can_be_finished_and_taken_down() {
    for go_on in [true, false] {
        let states = std::sync::Mutex::new(BTreeSet::new());
        let judge = async |target: &Target, plan: &FencePlan, place: &str| {
            let state = target.live.observe(plan).await.unwrap();
            states.lock().unwrap().insert(format!("{state}").replace(&plan.fenced, "X"));
            if go_on {
                target.live.fence(plan).await.unwrap();
                assert_eq!(target.live.observe(plan).await.unwrap(), fenced_as(plan), "{place}");
                assert_eq!(psql(&url_of(&plan.fenced), "TABLE t").unwrap(), "1\n", "{place}");
            }
            target.live.unfence(plan).await.unwrap();
            assert_home(target, place);
        };
        let reached = kill_everywhere("fence", planned, judge).await;
        for label in ["fence: begun", "fence: placeholder created", "fence: original closed", "fence: sessions ended"] {
            assert!(reached.contains(label), "{label} is not in {reached:?}");
        }
        let states = states.into_inner().unwrap();
        assert_eq!(states.len(), 4, "{states:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_killed_anywhere_can_be_finished() {
    let judge = async |target: &Target, plan: &FencePlan, place: &str| {
        let FenceState::Fenced { name, .. } = target.live.observe(plan).await.unwrap() else { panic!("{place}") };
        let new = target.live.cut_off(plan, 7).await.unwrap();
        assert_ne!(new.fenced, name, "{place}");
        assert_eq!(psql(&url_of(&new.fenced), "TABLE t").unwrap(), "1\n", "{place}");
        target.live.unfence(plan).await.unwrap();
        assert_home(target, place);
    };
    let reached = kill_everywhere("cut-off", fenced, judge).await;
    assert!(reached.contains("cut-off: renamed"), "{reached:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfence_killed_anywhere_can_be_finished() {
    let judge = async |target: &Target, plan: &FencePlan, place: &str| {
        target.live.unfence(plan).await.unwrap();
        assert_eq!(target.live.observe(plan).await.unwrap(), FenceState::Open, "{place}");
        assert_home(target, place);
    };
    let reached = kill_everywhere("unfence", fenced, judge).await;
    for label in ["unfence: closed", "unfence: names swapped", "drop: closed and empty", "drop: dropped"] {
        assert!(reached.contains(label), "{label} is not in {reached:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_killed_anywhere_can_be_finished() {
    let prepare = async |target: &Target| {
        let (plan, _) = fenced(target).await;
        let name = PostgresLive::scratch_name(target.name(), "__res_").unwrap();
        on_server(&format!("CREATE DATABASE {} TEMPLATE {}", quoted(&name), quoted(&plan.fenced)));
        psql(&url_of(&name), "INSERT INTO t VALUES (2)").unwrap();
        let oid = on_server(&format!("SELECT oid FROM pg_database WHERE datname = '{name}'")).trim().parse().unwrap();
        let swap = target.live.plan_swap(&plan, oid, Exchange::Failed);
        let json = serde_json::to_string(&swap).unwrap();
        (swap, json)
    };
    let judge = async |target: &Target, plan: &SwapPlan, place: &str| {
        let state = target.live.observe(&plan.fence).await.unwrap();
        assert!(matches!(state, FenceState::Fenced { .. } | FenceState::Swapped { .. }), "{place}: {state}");
        target.live.swap(plan).await.unwrap();
        assert_eq!(target.names(), [target.name(), &plan.failed], "{place}");
        assert_eq!(target.psql("TABLE t"), "1\n2\n", "{place}");
    };
    let reached = kill_everywhere("swap", prepare, judge).await;
    for label in ["swap: original closed", "swap: restored closed", "swap: names swapped", "drop: dropped"] {
        assert!(reached.contains(label), "{label} is not in {reached:?}");
    }
}
