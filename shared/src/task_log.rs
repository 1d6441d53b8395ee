//! The door to the record of all tasks: who asked for what, who does it, what became of it.
//!
//! Every way in (a command, a schedule, a message) submits a task in one durable transaction; whoever may do the work
//! claims it by a lease with an epoch. Every write of the holder names the epoch, so one that was taken for dead and
//! comes back writes nothing. The record never lives in a database it protects.

mod approval;
mod claim;
mod events;
mod hold;
mod migrations;
mod outbox;
pub mod postgres;
mod record;
mod rows;
mod session;
pub mod sqlite;
mod steps;
mod stuck;
mod submit;
mod tidy;
mod worker;

use crate::model::{Class, DatabaseName, JobId, NewTask, StepNote, Task, TaskEvent, TaskKind, TaskReport, TaskState};
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// It was inserted with its first event.
    New,
    /// The same task was there already; nothing happened.
    Same,
    /// Another task with the same `unique_key` waits already; nothing happened.
    Superseded(JobId),
}

/// A process that does tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Random id of this run of the program.
    pub id: String,
    /// Program and version.
    pub program: String,
    /// Host name.
    pub host: String,
    /// Id of the host's boot.
    pub boot_id: String,
    /// Process id.
    pub pid: u32,
    /// When the process began, in clock ticks since boot (field 22 of `/proc/<pid>/stat`), so that a pid used again is
    /// not taken for the same process.
    pub start_ticks: u64,
}

/// Which tasks a worker can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Of these kinds.
    pub kinds: Vec<TaskKind>,
    /// Of these databases, and such as are of none; none: of any. Several workers may share a record and know different
    /// databases.
    pub targets: Option<Vec<DatabaseName>>,
    /// Only such as wait to be recovered.
    pub only_lost: bool,
    /// Also such as a schedule asked for.
    pub scheduled: bool,
}

impl Wanted {
    /// Tasks of these kinds, whatever database they are of.
    pub fn kinds(kinds: &[TaskKind]) -> Self {
        Wanted { kinds: kinds.to_vec(), targets: None, only_lost: false, scheduled: true }
    }
}

/// A claimed task: the right to work on it until the lease runs out.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The task.
    pub task: Task,
    /// The lease.
    pub lease: TaskLease,
    /// Whether somebody else held it before and was lost: look before you act.
    pub is_recovery: bool,
}

/// The right to write to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLease {
    /// The task.
    pub job_id: JobId,
    /// Grows with every claim of the task.
    pub epoch: u64,
    /// Who holds it.
    pub worker: String,
}

/// What the holder of a lease hears when it renews.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// Somebody wishes the task's end.
    pub cancel_requested: bool,
}

/// How far a task is, told with a renewal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskProgress {
    /// The step in words.
    pub step: Option<String>,
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes expected, where known.
    pub bytes_expected: Option<u64>,
}

/// How a try ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// A terminal state; [`TaskState::Queued`] to be tried again, not before `again_at`; or, of a migration or a restore,
    /// [`TaskState::Stuck`].
    pub state: TaskState,
    /// When to try again.
    pub again_at: Option<Timestamp>,
    /// What it gave.
    pub report: TaskReport,
}

/// A person's word that a plan may be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Digest of the plan that is meant: another one is not approved by it.
    pub plan: String,
    /// Who says so.
    pub by: String,
    /// What they have to say.
    pub comment: Option<String>,
}

/// Which tasks are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Only this one.
    pub job_id: Option<JobId>,
    /// Only of this database.
    pub target: Option<DatabaseName>,
    /// Only of these kinds; empty = all.
    pub kinds: Vec<TaskKind>,
    /// Only in these states; empty = all.
    pub states: Vec<TaskState>,
    /// At most so many, the newest first; 0 = all.
    pub limit: u32,
}

/// A message of the outbox: an event somebody is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Its id in the outbox.
    pub id: i64,
    /// Whom to tell: one of the task's channels.
    pub channel: String,
    /// The event.
    pub event: TaskEvent,
    /// The task as it is now.
    pub task: Task,
    /// Tries so far.
    pub attempts: u32,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// It arrived.
    Done,
    /// It did not; try again then.
    Again {
        /// When.
        at: Timestamp,
        /// Why, without secrets.
        error: String,
    },
    /// It never will; kept for a person to see.
    GivenUp {
        /// Why, without secrets.
        error: String,
    },
}

/// The record of all tasks.
///
/// Every call is one transaction; calls must run to their end (not be cancelled halfway by `select!` or a timeout), which
/// every adapter sees to by itself.
#[async_trait]
pub trait TaskLog: StepLog {
    /// Inserts a task and its first event, and notes its slot. Fails with [`TaskLogError::Conflict`] when the id is
    /// taken by another task.
    async fn submit(&self, task: &NewTask) -> Result<Submitted, TaskLogError>;

    /// Inserts a task already leased to `worker`: for a command that does the work itself. Fails with
    /// [`TaskLogError::Busy`] when another active task has the database, and with [`TaskLogError::NotStuck`] when it is
    /// to help with a task that is not stuck.
    async fn submit_claimed(&self, task: &NewTask, worker: &Worker, lease: Duration) -> Result<Claimed, TaskLogError>;

    /// Claims the next task that is wanted and due, or one whose holder was lost; none when there is nothing to do.
    ///
    /// Of one database only one task of migrate, rehearse, backup and restore in place (`"in_place": true` in its spec)
    /// is active at a time. A migration or a restore whose holder was lost stays active, as `recovering`, and is handed
    /// out before everything else under the same try. Other tasks whose holder was lost go back into the queue; expired
    /// ones and those whose holder was lost on their last attempt are ended on the way. What waits for approval is never
    /// handed out, but expires like others. A task that helps with a stuck
    /// one is handed out while that one is stuck, and expires when it no longer is. Where migrations are wanted and one
    /// waits for a scheduled backup of its database, the backup's holder is asked to end it.
    async fn claim(&self, worker: &Worker, wanted: &Wanted, lease: Duration) -> Result<Option<Claimed>, TaskLogError>;

    /// Renews a lease and tells how far the task is. Fails with [`TaskLogError::LeaseLost`].
    async fn renew(&self, lease: &TaskLease, time: Duration, progress: &TaskProgress) -> Result<Renewal, TaskLogError>;

    /// Ends a try, writes its event and the outbox. Fails with [`TaskLogError::LeaseLost`], and then wrote nothing.
    async fn finish(&self, lease: &TaskLease, ending: &Ending) -> Result<(), TaskLogError>;

    /// Lets go of a migration whose plan is made: it waits until a person approves the plan, and is nobody's meanwhile.
    ///
    /// `plan` is the digest of what would be done; a plan it waited with before, and its approval, count no more. The try
    /// is given back. Where somebody wishes the task's end it is cancelled instead; returns the state it then has. The
    /// same call again, because its answer was lost, is no loss and is written once. Fails with
    /// [`TaskLogError::LeaseLost`], and with [`TaskLogError::Unusable`] for a task that cannot wait: only migrations can,
    /// and none that was stuck.
    async fn wait_for_approval(
        &self,
        lease: &TaskLease,
        plan: &str,
        report: &TaskReport,
    ) -> Result<TaskState, TaskLogError>;

    /// Approves the plan a task waits with: it is queued then, and whoever claims it begins anew.
    ///
    /// Fails with [`TaskLogError::NotWaiting`], with [`TaskLogError::OtherPlan`] where it waits with another plan, and
    /// with [`TaskLogError::OwnWish`] where the one who approves is one of those who asked; nothing is written then.
    async fn approve(&self, job: &JobId, approval: &Approval) -> Result<(), TaskLogError>;

    /// Asks for a task's end: a waiting one is cancelled at once, a running one by its holder. Returns the state it then has.
    async fn cancel(&self, job: &JobId, by: &str) -> Result<TaskState, TaskLogError>;

    /// The tasks asked for, newest first.
    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>, TaskLogError>;

    /// The tasks whose id is `typed` or begins with it, newest first.
    async fn by_beginning(&self, typed: &str) -> Result<Vec<Task>, TaskLogError> {
        let job_id = typed.parse::<JobId>().ok();
        let mut tasks = self.tasks(&TaskFilter { job_id, ..TaskFilter::default() }).await?;
        let wanted = typed.to_ascii_lowercase();
        tasks.retain(|task| job_id.is_some() || task.job_id.to_string().starts_with(&wanted));
        Ok(tasks)
    }

    /// All events of a task, in order; their hash chain is checked ([`TaskLogError::Damaged`]).
    async fn events(&self, job: &JobId) -> Result<Vec<TaskEvent>, TaskLogError>;

    /// The newest slot of a schedule that was ever submitted.
    async fn last_slot(&self, schedule: &str) -> Result<Option<Timestamp>, TaskLogError>;

    /// Takes up to `limit` deliveries that are due, for `hold`: nobody else gets them meanwhile.
    async fn take_deliveries(&self, limit: u32, hold: Duration) -> Result<Vec<Delivery>, TaskLogError>;

    /// Notes what became of a delivery.
    async fn delivered(&self, id: i64, outcome: &Delivered) -> Result<(), TaskLogError>;

    /// Removes ended tasks beyond 400 days, but never the newest 50 of a database, in small batches; returns how many.
    async fn tidy(&self) -> Result<u64, TaskLogError>;

    /// Where the record is, for a person: an absolute path or a URL without credentials.
    fn describe(&self) -> String;
}

/// What a tool printed while it did a step of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOutput {
    /// The step.
    pub step: String,
    /// When it was written down.
    pub at: Timestamp,
    /// Head and tail of it, without secrets; at most 1 MiB each.
    pub text: String,
}

/// The steps of the tasks that must be finished or taken back, never left half done: their second journal.
#[async_trait]
pub trait StepLog: Send + Sync {
    /// Writes a note of the journal down, of this epoch or an earlier one; the same note twice is one.
    ///
    /// Fails with [`TaskLogError::LeaseLost`], and with [`TaskLogError::Damaged`] when another note stands at its place.
    async fn note_step(&self, lease: &TaskLease, note: &StepNote) -> Result<(), TaskLogError>;

    /// All notes of a task, in order.
    async fn steps(&self, job: &JobId) -> Result<Vec<StepNote>, TaskLogError>;

    /// Keeps what a tool printed at a step; beyond 2 MiB its middle is left out. Fails with [`TaskLogError::LeaseLost`].
    async fn put_output(&self, lease: &TaskLease, step: &str, text: &str) -> Result<(), TaskLogError>;

    /// What tools printed, in order.
    async fn outputs(&self, job: &JobId) -> Result<Vec<TaskOutput>, TaskLogError>;

    /// Who holds the task's lease or held it last, and whether that process is certainly gone; none where nobody ever
    /// held it.
    async fn holder(&self, job: &JobId) -> Result<Option<(Worker, bool)>, TaskLogError>;

    /// Takes a task that is stuck, to resolve it: it is `recovering` then, under its last try.
    ///
    /// When this holder is lost it is stuck again. Fails with [`TaskLogError::NotStuck`], and with
    /// [`TaskLogError::Busy`] while a task that helps with it is active.
    async fn take_stuck(&self, job: &JobId, worker: &Worker, lease: Duration) -> Result<Claimed, TaskLogError>;
}

/// What went wrong at the record.
#[derive(Debug, thiserror::Error)]
pub enum TaskLogError {
    /// It could not be reached, or did not answer in time.
    #[error("{place}: {message}")]
    Unavailable {
        /// The record.
        place: String,
        /// Facts.
        message: String,
    },
    /// Nobody has made it yet.
    #[error("{place}: there is no record of tasks yet")]
    Missing {
        /// Where it would be.
        place: String,
    },
    /// It cannot be used as it is: of a later version, read-only, of other contents.
    #[error("{place}: {message}")]
    Unusable {
        /// The record.
        place: String,
        /// Facts.
        message: String,
        /// What a person can do.
        hint: Option<String>,
    },
    /// The id is taken by another task.
    #[error("job {0} exists already and asks for something else")]
    Conflict(JobId),
    /// Another active task has the database.
    #[error("{target} {} job {job} ({kind})", busy(*state))]
    Busy {
        /// The database.
        target: DatabaseName,
        /// Whose.
        job: JobId,
        /// What it does.
        kind: TaskKind,
        /// How far it is: running, recovering or stuck.
        state: TaskState,
    },
    /// Somebody else has the task now; nothing was written.
    #[error("job {job} is no longer ours: its lease (epoch {epoch}) was lost")]
    LeaseLost {
        /// The task.
        job: JobId,
        /// The epoch that counts no more.
        epoch: u64,
    },
    /// There is no such task.
    #[error("there is no job {0}")]
    Unknown(JobId),
    /// The task is not stuck.
    #[error("job {job} is {state}, not stuck")]
    NotStuck {
        /// The task.
        job: JobId,
        /// What it is.
        state: TaskState,
    },
    /// The task does not wait for approval.
    #[error("job {job} is {state}, not waiting for approval")]
    NotWaiting {
        /// The task.
        job: JobId,
        /// What it is.
        state: TaskState,
    },
    /// The task waits with another plan than the one that is approved.
    #[error("job {job} waits with plan {waits}, not with {plan}")]
    OtherPlan {
        /// The task.
        job: JobId,
        /// Digest of the plan it waits with.
        waits: String,
        /// Digest of the plan that is meant.
        plan: String,
    },
    /// Whoever asked for a task does not approve it.
    #[error("job {job} was asked for by {requested_by}, so {by} may not approve it")]
    OwnWish {
        /// The task.
        job: JobId,
        /// Who would approve.
        by: String,
        /// Who asked.
        requested_by: String,
    },
    /// What is recorded is not what was written.
    #[error("{place}: {message}")]
    Damaged {
        /// The record.
        place: String,
        /// Facts.
        message: String,
    },
}

/// Why a database is not free, up to the job's id.
fn busy(state: TaskState) -> &'static str {
    match state {
        TaskState::Stuck => "is stuck since",
        TaskState::Recovering => "is being recovered from",
        _ => "is being worked on by",
    }
}

impl TaskLogError {
    /// What a caller may conclude.
    pub fn class(&self) -> Class {
        match self {
            TaskLogError::Unavailable { .. } => Class::Transient,
            TaskLogError::Busy { .. }
            | TaskLogError::NotWaiting { .. }
            | TaskLogError::OtherPlan { .. }
            | TaskLogError::OwnWish { .. } => Class::Refused,
            TaskLogError::Damaged { .. } => Class::Corrupt,
            _ => Class::Permanent,
        }
    }

    /// What a person can do, where something can be done.
    pub fn hint(&self) -> Option<&str> {
        match self {
            TaskLogError::Unusable { hint, .. } => hint.as_deref(),
            TaskLogError::Missing { .. } => Some("backup-agent run makes it"),
            _ => None,
        }
    }
}
