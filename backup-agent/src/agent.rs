//! The program that is left alone: makes backups by schedule, keeps and removes what it should, proves what it keeps.
//!
//! A schedule only submits; the work is claimed from the TaskLog. While the TaskLog is not there, slots are worked off
//! without it, and that is said: a backup matters more than its record.

mod attempt;
mod bring_back;
mod daemon;
mod missed;
mod slots;
mod standing;
mod work;
mod world;

pub use attempt::{Ended, Job, run as attempt};
pub use bring_back::RestoreSpec;
pub use daemon::{on_signals, run};
pub use slots::{Entry, schedule_name};
pub use world::{StoreSource, World};

use crate::error::Error;
use crate::policy::DrillPolicy;
use crate::record::pause;
use crate::status::DatabaseStatus;
use crate::stop::{self, StopReason, Stopper};
use jiff::{SignedDuration, Timestamp};
use shared::connect;
use shared::model::{Class, DatabaseName, JobId, NewTask, TaskKind, TaskState};
use shared::task_log::{TaskLog, Wanted, Worker};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// What the agent claims; changing databases is for another program.
const KINDS: [TaskKind; 4] = [TaskKind::Backup, TaskKind::Verify, TaskKind::Drill, TaskKind::Prune];
/// How often a record that is not there is looked for.
const RECONNECT: SignedDuration = SignedDuration::from_secs(10);

/// How long the agent's loop waits for the store. Tasks wait for it by themselves, and for longer.
const STORE_PATIENCE: Duration = Duration::from_secs(20);

/// A look at the store that must not keep the loop from turning.
async fn patiently<T>(look: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(STORE_PATIENCE, look).await {
        Ok(found) => found,
        Err(_) => Err(Error::failed(format!("no answer within {} s", STORE_PATIENCE.as_secs()))),
    }
}

/// The agent's state between two turns.
pub struct Agent {
    world: Arc<World>,
    worker: Worker,
    wanted: Wanted,
    entries: Vec<Entry>,
    record: Option<Arc<dyn TaskLog>>,
    record_tried: Option<Timestamp>,
    /// The newest slot of each entry that was submitted or worked off.
    seen: HashMap<String, Timestamp>,
    /// Tasks the record does not know of.
    local: Vec<Local>,
    running: JoinSet<Ended>,
    stoppers: HashMap<JobId, Stopper>,
    /// Whether proofs that an earlier run did not come to were looked for.
    looked_for_missed: bool,
    statuses: BTreeMap<DatabaseName, DatabaseStatus>,
    to_refresh: VecDeque<DatabaseName>,
    problems: Problems,
}

/// Why the agent cannot work as it should.
#[derive(Default)]
struct Problems {
    record: Option<String>,
    store: Option<String>,
}

/// A task that waits in memory, because the record is not there.
struct Local {
    task: NewTask,
    attempt: u32,
    not_before: Timestamp,
}

impl Agent {
    /// An agent that has done nothing yet.
    pub fn new(world: Arc<World>) -> Self {
        let entries = Entry::all(&world.policies);
        let targets = world.config.databases.keys().cloned().collect();
        Agent {
            world,
            worker: Worker::here("backup-agent"),
            wanted: Wanted { targets: Some(targets), ..Wanted::kinds(&KINDS) },
            entries,
            record: None,
            record_tried: None,
            seen: HashMap::new(),
            local: Vec::new(),
            running: JoinSet::new(),
            stoppers: HashMap::new(),
            looked_for_missed: false,
            statuses: BTreeMap::new(),
            to_refresh: VecDeque::new(),
            problems: Problems::default(),
        }
    }

    /// Submits what is due and starts what may run; returns when the next slot begins.
    pub async fn turn(&mut self) -> Option<Timestamp> {
        self.world.health.turned();
        self.find_record().await;
        self.submit_due().await;
        self.prove_what_was_missed().await;
        self.start().await;
        let now = self.world.clock.now();
        let waiting = self.local.iter().map(|local| local.not_before).filter(|at| *at > now);
        self.entries.iter().filter_map(|entry| entry.next(now)).chain(waiting).min()
    }

    /// Waits until a running task has ended; none when none runs. Safe to cancel.
    pub async fn ended(&mut self) -> Option<Ended> {
        loop {
            match self.running.join_next().await? {
                Ok(ended) => return Some(ended),
                Err(error) => tracing::error!(%error, "a task ended by a defect of this program"),
            }
        }
    }

    /// Turns until nothing is left to be done now.
    pub async fn until_idle(&mut self) -> Option<Timestamp> {
        loop {
            let next = self.turn().await;
            match self.ended().await {
                Some(ended) => self.conclude(ended).await,
                None => return next,
            }
        }
    }

    /// Whether tasks run.
    pub fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// How many tasks run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// The record, while it is there.
    pub fn record(&self) -> Option<&Arc<dyn TaskLog>> {
        self.record.as_ref()
    }

    /// Asks all running tasks for their end.
    pub fn stop_all(&self, reason: StopReason) {
        for stopper in self.stoppers.values() {
            stopper.stop(reason);
        }
    }

    async fn find_record(&mut self) {
        let now = self.world.clock.now();
        let waited = self.record_tried.is_none_or(|tried| now >= tried + RECONNECT || now < tried);
        if self.record.is_some() || !waited {
            return;
        }
        let is_first = self.record_tried.is_none();
        self.record_tried = Some(now);
        match connect::task_log(&self.world.config, self.world.clock.clone()).await {
            Ok(record) => {
                if !is_first {
                    tracing::warn!(record = record.describe(), "the record is there again");
                }
                self.record = Some(record);
                self.problems.record = None;
            }
            Err(error) => {
                if is_first {
                    tracing::warn!(%error, "the record is not there; scheduled work is done without it");
                }
                self.problems.record = Some(format!("the record is not there: {error}"));
            }
        }
        self.tell_problems();
    }

    fn lose_record(&mut self, error: &dyn std::fmt::Display) {
        tracing::warn!(%error, "the record does not answer; scheduled work is done without it");
        self.record = None;
        self.record_tried = Some(self.world.clock.now());
        self.problems.record = Some(format!("the record does not answer: {error}"));
        self.tell_problems();
    }

    async fn submit_due(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        for entry in &entries {
            let since = self.since(entry).await;
            let now = self.world.clock.now();
            self.seen.entry(entry.name.clone()).or_insert(since);
            if let Some(slot) = entry.due(since, now) {
                self.submit(entry.task(slot)).await;
                self.seen.insert(entry.name.clone(), slot);
            }
        }
        self.entries = entries;
    }

    /// Up to when a schedule's slots are done: as remembered, as recorded, as the newest backup tells; else from now on.
    /// A database without any backup gets its first one at once.
    async fn since(&mut self, entry: &Entry) -> Timestamp {
        if let Some(seen) = self.seen.get(&entry.name) {
            return *seen;
        }
        if let Some(record) = self.record.clone() {
            match record.last_slot(&entry.name).await {
                Ok(Some(slot)) => return slot,
                Ok(None) => {}
                Err(error) => self.lose_record(&error),
            }
        }
        let now = self.world.clock.now();
        let (Some(target), TaskKind::Backup) = (&entry.target, entry.kind) else { return now };
        // Without a record the store tells whether last night's backup was made.
        let ids = patiently(async { self.world.repository().await?.ids(target).await }).await;
        ids.map_or(now, |ids| ids.last().map_or(Timestamp::UNIX_EPOCH, |id| id.second()))
    }

    async fn submit(&mut self, mut task: NewTask) {
        task.channels = self.world.notifier.channels(task.target.as_ref(), task.kind);
        task.deadline_s = Some(self.world.config.agent.deadline.0.as_secs());
        let now = self.world.clock.now();
        let Some(record) = self.record.clone() else {
            self.local.push(Local { task, attempt: 1, not_before: now });
            return;
        };
        if let Err(error) = record.submit(&task).await {
            if error.class() != Class::Transient {
                tracing::error!(job = %task.job_id, %error, "a task could not be recorded; it is done without the record");
            }
            self.lose_record(&error);
            self.local.push(Local { task, attempt: 1, not_before: now });
        }
    }

    /// Starts tasks while there is room.
    async fn start(&mut self) {
        let room = usize::from(self.world.config.agent.parallel);
        while self.running.len() < room {
            let Some(job) = self.next_job().await else { return };
            let (stopper, stop) = stop::channel();
            self.stoppers.insert(job.task.job_id, stopper.clone());
            self.running.spawn(attempt::run(self.world.clone(), job, stopper, stop));
        }
    }

    async fn next_job(&mut self) -> Option<Job> {
        let now = self.world.clock.now();
        let is_free = |local: &Local| local.not_before <= now && !self.stoppers.contains_key(&local.task.job_id);
        if let Some(at) = self.local.iter().position(is_free) {
            let Local { task, attempt, .. } = self.local.remove(at);
            return Some(Job { max_attempts: task.max_attempts, task, attempt, is_recovery: false, record: None });
        }
        let record = self.record.clone()?;
        match record.claim(&self.worker, &self.wanted, self.world.config.lease()).await {
            Ok(claimed) => claimed.map(|claimed| Job::claimed(claimed, record)),
            Err(error) => {
                self.lose_record(&error);
                None
            }
        }
    }

    /// Draws the conclusions of a task's end: a proof to follow, a try to come, the status.
    pub async fn conclude(&mut self, ended: Ended) {
        self.stoppers.remove(&ended.task.job_id);
        let Ended { task, attempt, ending, seconds, was_recorded } = ended;
        self.world.health.task_ended(task.kind, ending.state, seconds);
        if ending.state == TaskState::Succeeded {
            self.world.health.succeeded(task.kind, task.target.as_ref(), self.world.clock.now());
            if let (TaskKind::Backup, Some(target), Some(bytes)) = (task.kind, &task.target, ending.report.bytes_out) {
                self.world.health.backup_stored(target, bytes);
            }
        }
        if ending.state == TaskState::Queued && !was_recorded {
            let not_before = self.world.clock.now() + pause(attempt);
            self.local.push(Local { task: task.clone(), attempt: attempt + 1, not_before });
        }
        if task.kind == TaskKind::Backup && ending.state == TaskState::Succeeded {
            self.prove_soon(&task, ending.report.backup_id.as_deref()).await;
        }
        if let Some(target) = &task.target {
            self.refresh_status(target).await;
        }
    }

    /// After a backup its proof is a task of its own, where the configuration says so.
    async fn prove_soon(&mut self, task: &NewTask, backup: Option<&str>) {
        let (Some(target), Some(backup)) = (&task.target, backup) else { return };
        let policy = self.world.policies.databases.get(target);
        if !policy.is_some_and(|policy| matches!(policy.drill, DrillPolicy::AfterBackup)) {
            return;
        }
        let id = backup.rsplit('/').next().unwrap_or(backup);
        let drill = NewTask {
            // Named after the backup, so that a try whose end was not recorded does not prove it twice.
            job_id: JobId::of_slot(&format!("drill-of:{backup}"), Timestamp::UNIX_EPOCH),
            spec: serde_json::json!({"backup": id}),
            max_attempts: 3,
            door: task.door,
            requested_by: task.requested_by.clone(),
            ..NewTask::new(TaskKind::Drill, Some(target.clone()))
        };
        self.submit(drill).await;
    }
}
