//! How the agent stands, as its loop notes it and as `/healthz`, `/readyz` and `/metrics` tell it.

use crate::notify::Tally;
use crate::status::DatabaseStatus;
use jiff::Timestamp;
use shared::clock::{Clock, Moment};
use shared::model::{DatabaseName, TaskKind, TaskState};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the agent's parts note and the HTTP door reads. Every call is short and never waits for anything but the others.
#[derive(Debug)]
pub struct Health {
    clock: Arc<dyn Clock>,
    alive_within: Duration,
    facts: Mutex<Facts>,
}

/// What is known; [`crate::metrics::render`] writes it down.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) turned: Moment,
    pub(crate) reasons: Vec<String>,
    pub(crate) databases: Vec<DatabaseStatus>,
    pub(crate) tasks: BTreeMap<(TaskKind, TaskState), u64>,
    pub(crate) oldest_queued: Option<Timestamp>,
    pub(crate) ended: BTreeMap<(TaskKind, TaskState), u64>,
    pub(crate) durations: BTreeMap<TaskKind, (u64, f64)>,
    pub(crate) successes: BTreeMap<(TaskKind, String), Timestamp>,
    pub(crate) bytes_new: BTreeMap<DatabaseName, u64>,
    pub(crate) leases_lost: u64,
    pub(crate) is_record_up: bool,
    pub(crate) is_store_up: bool,
    pub(crate) deliveries: Tally,
}

impl Health {
    /// An agent that begins now, is not ready yet, and counts as dead when its loop has not turned for `alive_within`.
    pub fn new(clock: Arc<dyn Clock>, alive_within: Duration) -> Self {
        let facts = Facts {
            turned: Moment::now(&*clock),
            reasons: vec!["the agent is starting".into()],
            databases: Vec::new(),
            tasks: BTreeMap::new(),
            oldest_queued: None,
            ended: BTreeMap::new(),
            durations: BTreeMap::new(),
            successes: BTreeMap::new(),
            bytes_new: BTreeMap::new(),
            leases_lost: 0,
            is_record_up: false,
            is_store_up: false,
            deliveries: Tally::default(),
        };
        Health { clock, alive_within, facts: Mutex::new(facts) }
    }

    /// The loop has turned once more.
    pub fn turned(&self) {
        let now = Moment::now(&*self.clock);
        self.facts().turned = now;
    }

    /// Whether the loop turned lately.
    pub fn is_alive(&self) -> bool {
        let turned = self.facts().turned;
        // A step of the wall clock is no reason to restart the agent, so only the other one is asked.
        turned.elapsed_monotonic(&*self.clock) <= self.alive_within
    }

    /// Why the agent cannot work; none when it can.
    pub fn set_ready(&self, reasons: Vec<String>) {
        self.facts().reasons = reasons;
    }

    /// Why the agent cannot work; empty when it can.
    pub fn reasons(&self) -> Vec<String> {
        self.facts().reasons.clone()
    }

    /// How the databases stand.
    pub fn set_databases(&self, databases: Vec<DatabaseStatus>) {
        self.facts().databases = databases;
    }

    /// How many tasks wait or are worked on, and when the oldest of those that may be claimed came in or was due.
    pub fn set_tasks(&self, tasks: BTreeMap<(TaskKind, TaskState), u64>, oldest_queued: Option<Timestamp>) {
        let mut facts = self.facts();
        facts.tasks = tasks;
        facts.oldest_queued = oldest_queued;
    }

    /// A task ended after so many seconds of work.
    pub fn task_ended(&self, kind: TaskKind, state: TaskState, seconds: f64) {
        let mut facts = self.facts();
        *facts.ended.entry((kind, state)).or_default() += 1;
        let (count, sum) = facts.durations.entry(kind).or_default();
        *count += 1;
        *sum += seconds.max(0.0);
    }

    /// A task succeeded then; without a target it was for the whole repository. An older success than the one known
    /// changes nothing, so that a start-up may tell what the record holds.
    pub fn succeeded(&self, kind: TaskKind, target: Option<&DatabaseName>, at: Timestamp) {
        let target = target.map(ToString::to_string).unwrap_or_default();
        let mut facts = self.facts();
        let newest = facts.successes.entry((kind, target)).or_insert(at);
        *newest = at.max(*newest);
    }

    /// The newest backup of a database stored so many bytes that were not there before.
    pub fn backup_stored(&self, target: &DatabaseName, bytes: u64) {
        self.facts().bytes_new.insert(target.clone(), bytes);
    }

    /// A task was taken from this agent because its lease had run out.
    pub fn lease_lost(&self) {
        self.facts().leases_lost += 1;
    }

    /// Whether the TaskLog answers.
    pub fn set_record_up(&self, yes: bool) {
        self.facts().is_record_up = yes;
    }

    /// Whether the store answers.
    pub fn set_store_up(&self, yes: bool) {
        self.facts().is_store_up = yes;
    }

    /// What became of deliveries since the program began.
    pub fn set_deliveries(&self, tally: Tally) {
        self.facts().deliveries = tally;
    }

    /// All of it, in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        let facts = self.facts().clone();
        crate::metrics::render(&facts, self.is_alive(), self.clock.now())
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        // A panic elsewhere leaves no half-written fact: every change is one assignment.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
