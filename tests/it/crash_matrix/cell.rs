//! One cell: a scenario, a place, a fault.

use super::judge::{Ends, Verdict, judge, settled};
use super::world::{Bench, Scenario, World};
use std::time::{Duration, Instant};
use tests::agent::{Agent, Run, Running};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// kill -9 of the worker.
    Worker,
    /// kill -9 of the tool.
    Tool,
    /// The server stops as in a power cut and comes back.
    Server,
    /// Everything about the store fails until the worker has ended.
    Store,
    /// The record's file is away until the worker has ended.
    State,
    /// The worker stands still for longer than its lease, and another one takes over.
    Takeover,
}

/// When it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// At this point of the worker, from 1.
    Point(usize),
    /// So many milliseconds after the start of the tool's n-th run that changes something, from 1.
    InTool(usize, u64),
    /// So many milliseconds after the start of the worker.
    After(u64),
}

/// A cell of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    pub scenario: Scenario,
    pub fault: Fault,
    pub when: When,
}

/// What a cell came to.
#[derive(Debug, Clone)]
pub struct Came {
    /// Where it went wrong: the label of the point.
    pub place: String,
    pub verdict: Verdict,
}

/// The lease of [`World`], and a bit.
pub const LAPSED: Duration = Duration::from_millis(3300);

impl Cell {
    /// A name that is the same in every run.
    pub fn name(&self) -> String {
        format!("{}; {:?}; {:?}", self.scenario.name(), self.fault, self.when)
    }

    /// Runs the cell to its verdict.
    pub fn run(&self, bench: &Bench, ends: &Ends) -> Came {
        let pause_s = if matches!(self.when, When::InTool(..)) { 1 } else { 0 };
        let mut world = World::new(bench, self.scenario, pause_s);
        let trace = world.trace();
        world.agent.set_env("HOLDFAST_CRASH_TRACE", trace);
        let (place, worker) = self.strike(&world);
        world.agent.set_env("HOLDFAST_CRASH_TRACE", "");
        let _ = std::fs::remove_file(world.trace());
        let mut verdict = recovered(&world, ends);
        if !verdict.faults.is_empty() {
            verdict.faults.push(format!("the worker said {}", said(&worker)));
        }
        Came { place, verdict }
    }

    /// Starts the worker, does the harm, and waits for the end of both; returns where it was done, and the worker's run.
    fn strike(&self, world: &World<'_>) -> (String, Run) {
        let (worker, place) = match self.when {
            When::Point(number) => {
                let mut worker = world.agent.start_to_stop_at(number, self.scenario.arguments());
                worker.stops();
                let place = world.labels().get(number - 1).cloned();
                (worker, place.unwrap_or_else(|| "after the end".into()))
            }
            When::InTool(run, after) => {
                let mut worker = world.agent.start(self.scenario.arguments());
                let tool = tool_of(&mut worker, run);
                std::thread::sleep(Duration::from_millis(after));
                if self.fault == Fault::Tool
                    && let Some(tool) = tool
                {
                    kill(tool);
                }
                let what = if run == 1 { "rehearsed" } else { "applied" };
                (worker, format!("while the tool is being {what}"))
            }
            When::After(milliseconds) => {
                let worker = world.agent.start(self.scenario.arguments());
                std::thread::sleep(Duration::from_millis(milliseconds));
                (worker, "at any time".into())
            }
        };
        (place, self.harm(world, worker))
    }

    fn harm(&self, world: &World<'_>, mut worker: Running) -> Run {
        let goes_on = |worker: &mut Running| {
            if worker.is_running() {
                worker.signal("CONT");
            }
        };
        match self.fault {
            Fault::Worker => worker.kill(),
            Fault::Tool => worker.wait(),
            Fault::Server => {
                let mut server = world.bench.server().borrow_mut();
                world.has_crashed.set(true);
                server.stop_immediately();
                // Sometimes the worker finds it gone, sometimes only its sessions.
                if matches!(self.when, When::Point(number) if number % 2 == 0) {
                    goes_on(&mut worker);
                    std::thread::sleep(Duration::from_secs(1));
                }
                server.start_again();
                goes_on(&mut worker);
                worker.wait()
            }
            Fault::Store => {
                let (store, away) = (world.agent.store_dir(), world.agent.home().join("store.away"));
                let was_there = std::fs::rename(&store, &away).is_ok();
                std::fs::write(&store, "not a folder").unwrap();
                goes_on(&mut worker);
                let run = worker.wait();
                std::fs::remove_file(&store).unwrap();
                if was_there {
                    std::fs::rename(&away, &store).unwrap();
                }
                run
            }
            Fault::State => {
                moved(&world.agent, "holdfast-state.db", "away.db");
                goes_on(&mut worker);
                let run = worker.wait();
                moved(&world.agent, "away.db", "holdfast-state.db");
                run
            }
            Fault::Takeover => {
                std::thread::sleep(LAPSED);
                let mut second = world.start_recovery();
                // Whoever is killed meanwhile is waited for, as its parent would.
                while second.is_running() {
                    worker.is_running();
                    std::thread::sleep(Duration::from_millis(5));
                }
                goes_on(&mut worker);
                worker.wait()
            }
        }
    }
}

fn said(run: &Run) -> String {
    format!("{:?}: {} {}", run.code, run.stdout.trim(), run.stderr.trim())
}

/// Recovers twice and judges after each.
fn recovered(world: &World<'_>, ends: &Ends) -> Verdict {
    let first = world.start_recovery().wait();
    let mut verdict = judge(world, ends);
    if first.code != Some(world.recovered_code()) {
        verdict.faults.push(format!("the recovery ended with {}", said(&first)));
    }
    if !verdict.faults.is_empty() {
        verdict.faults.push(format!("the recovery said {}", said(&first)));
        return verdict;
    }
    let settled_as = settled(world);
    let second = world.start_recovery().wait();
    if settled(world) != settled_as {
        verdict.faults.push(format!("a second recovery changed something: {}", said(&second)));
    }
    verdict.faults.extend(judge(world, ends).faults.into_iter().map(|fault| format!("after the second: {fault}")));
    verdict
}

/// Moves an SQLite file with what belongs to it; what has its name by then goes.
fn moved(agent: &Agent, from: &str, to: &str) {
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (agent.home().join(format!("{from}{suffix}")), agent.home().join(format!("{to}{suffix}")));
        let _ = std::fs::remove_file(&to);
        let _ = std::fs::rename(from, to);
    }
}

/// The process id of the tool's `run`-th run that changes something; none where the worker ends before.
pub fn tool_of(worker: &mut Running, run: usize) -> Option<u32> {
    let mut seen = Vec::new();
    let begun = Instant::now();
    while worker.is_running() {
        assert!(begun.elapsed() < Duration::from_secs(120), "the tool was not started");
        for pid in children(worker.pid()) {
            if !seen.contains(&pid) {
                seen.push(pid);
                if seen.len() == run {
                    return Some(pid);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

/// Running `sql-runner up` of this worker.
fn children(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = folder.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = std::fs::read_to_string(folder.path().join("stat")).unwrap_or_default();
        let is_child =
            stat.rsplit(')').next().is_some_and(|rest| rest.split_whitespace().nth(1) == Some(&parent.to_string()));
        let command = || std::fs::read(folder.path().join("cmdline")).unwrap_or_default();
        if is_child && command().split(|byte| *byte == 0).any(|word| word == b"up") {
            found.push(pid);
        }
    }
    found
}

/// Sends SIGKILL.
pub fn kill(pid: u32) {
    // It may have ended by itself.
    let _ = std::process::Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .stderr(std::process::Stdio::null())
        .status();
}
