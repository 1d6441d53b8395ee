//! A task: a piece of work somebody asked for, and what became of it.

use super::DatabaseName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// The name of a task, chosen by whoever submits it: the same id submitted twice is one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// A new id; ids sort by the time of their making.
    pub fn random() -> Self {
        JobId(Uuid::now_v7())
    }

    /// The id of the task that `schedule` demands at `slot`: the same for everybody, so that a slot fires once.
    pub fn of_slot(schedule: &str, slot: Timestamp) -> Self {
        // A namespace of our own, so that no other program's name-based id can be the same.
        const NAMESPACE: Uuid = Uuid::from_u128(0x6d1f_0b3a_52c7_4f0e_9a64_7b1d_c3e8_5f20);
        JobId(Uuid::new_v5(&NAMESPACE, format!("{schedule}@{slot}").as_bytes()))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for JobId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(JobId).map_err(|_| format!("{text:?} is not a job id (a UUID)"))
    }
}

/// An enum whose values have one word each, in the TaskLog, in JSON and on the command line.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All there are.
            pub const ALL: &[$name] = &[$($name::$variant,)+];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let known = Self::ALL.iter().copied().find(|known| known.as_str() == text);
                known.ok_or_else(|| format!(concat!("unknown ", stringify!($name), " {:?}"), text))
            }
        }
    };
}

words! {
    /// What is to be done.
    TaskKind {
        /// Change a database by its migration tool.
        Migrate = "migrate",
        /// Do that on a copy only.
        Rehearse = "rehearse",
        /// Make a backup.
        Backup = "backup",
        /// Restore a backup.
        Restore = "restore",
        /// Read every stored byte.
        Verify = "verify",
        /// Restore the newest backup into a scratch database and prove it.
        Drill = "drill",
        /// Remove what retention lets go.
        Prune = "prune",
    }
}

impl TaskKind {
    /// Whether such a task, once begun, is brought to an end or taken back whatever happens: when its holder is lost it
    /// is recovered, never tried anew and never given up; where that does not succeed it is stuck.
    pub fn is_saga(self) -> bool {
        matches!(self, TaskKind::Migrate | TaskKind::Restore)
    }
}

words! {
    /// How far a task is.
    TaskState {
        /// Waits for its time.
        Scheduled = "scheduled",
        /// May be claimed.
        Queued = "queued",
        /// Its plan was made and waits for a person's approval. Nobody holds it.
        Waiting = "waiting",
        /// Somebody holds its lease.
        Running = "running",
        /// Its worker was lost; what is there is being looked at.
        Recovering = "recovering",
        /// Failed, and the way back is not proven: a person is needed.
        Stuck = "stuck",
        /// Done.
        Succeeded = "succeeded",
        /// Not begun; nothing was touched.
        Refused = "refused",
        /// Failed; the database is proven to be as it was.
        Restored = "restored",
        /// Failed.
        Failed = "failed",
        /// Ended at somebody's wish.
        Cancelled = "cancelled",
        /// Its time was over before it began.
        Expired = "expired",
    }
}

impl TaskState {
    /// Whether nothing will change it any more.
    pub fn is_terminal(self) -> bool {
        self >= TaskState::Succeeded
    }

    /// Whether somebody works on it, or a person must: it keeps others away from its database.
    pub fn is_active(self) -> bool {
        matches!(self, TaskState::Running | TaskState::Recovering | TaskState::Stuck)
    }
}

words! {
    /// How a task came in.
    TaskDoor {
        /// A command on this machine.
        Command = "command",
        /// A schedule of the configuration.
        Schedule = "schedule",
        /// A message queue.
        Amqp = "amqp",
        /// A message queue, sent by Celery.
        Celery = "celery",
        /// HTTP.
        Http = "http",
        /// SQL.
        Sql = "sql",
    }
}

/// A task as it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// Its name.
    pub job_id: JobId,
    /// What is to be done.
    pub kind: TaskKind,
    /// To which configured database; none where the whole repository is meant.
    pub target: Option<DatabaseName>,
    /// Details, by kind. Never a command, an address, a path or a credential.
    pub spec: serde_json::Value,
    /// Of the tasks that bear the same key only one may wait: a second one is not inserted.
    pub unique_key: Option<String>,
    /// Not before this time.
    pub run_at: Option<Timestamp>,
    /// Not after this time.
    pub expires_at: Option<Timestamp>,
    /// How long it may take, in seconds.
    pub deadline_s: Option<u64>,
    /// 0 (last) to 9 (first).
    pub priority: u8,
    /// How often it is tried before it has failed; only transient errors are tried again. At least 1.
    pub max_attempts: u32,
    /// How it came in.
    pub door: TaskDoor,
    /// Who asked, for a person.
    pub requested_by: String,
    /// Words of the one who asked.
    pub labels: BTreeMap<String, String>,
    /// The schedule's slot it is for, where there is one.
    pub slot: Option<Slot>,
    /// Who is told of its events: names the configuration knows, see [`TaskEvent`].
    pub channels: Vec<String>,
    /// The stuck task of the same database it is to help with; a backup or a restore only. Not part of what tells two
    /// tasks of the same id apart.
    pub stuck_job: Option<JobId>,
    /// Where its end is told, besides the channels. Not part of what tells two tasks of the same id apart.
    pub reply: Option<Reply>,
}

/// Where the one who asked by a message waits for the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reply {
    /// The queue.
    pub to: String,
    /// What the answer is told apart by.
    pub correlation_id: Option<String>,
}

/// A time at which a schedule demands a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Name of the schedule, like `backup:shop`.
    pub schedule: String,
    /// Nominal time, without jitter.
    pub at: Timestamp,
}

impl NewTask {
    /// A task by command, tried once, to be run at once.
    pub fn new(kind: TaskKind, target: Option<DatabaseName>) -> Self {
        NewTask {
            job_id: JobId::random(),
            kind,
            target,
            spec: serde_json::json!({}),
            unique_key: None,
            run_at: None,
            expires_at: None,
            deadline_s: None,
            priority: 4,
            max_attempts: 1,
            door: TaskDoor::Command,
            requested_by: String::new(),
            labels: BTreeMap::new(),
            slot: None,
            channels: Vec::new(),
            stuck_job: None,
            reply: None,
        }
    }
}

/// A task as the TaskLog knows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Task {
    /// Its name.
    pub job_id: JobId,
    /// What is to be done.
    pub kind: TaskKind,
    /// To which database.
    pub target: Option<DatabaseName>,
    /// How far it is. A lapsed lease is not seen here: see [`Task::is_lapsed`].
    pub state: TaskState,
    /// The step it is at, in words.
    pub step: Option<String>,
    /// Details, by kind.
    pub spec: serde_json::Value,
    /// Not before this time.
    pub run_at: Option<Timestamp>,
    /// How long it may take, in seconds.
    pub deadline_s: Option<u64>,
    /// 0 (last) to 9 (first).
    pub priority: u8,
    /// Number of the try, from 1; 0 before the first.
    pub attempt: u32,
    /// Tries it has.
    pub max_attempts: u32,
    /// How it came in.
    pub door: TaskDoor,
    /// Who asked.
    pub requested_by: String,
    /// The stuck task it is to help with.
    pub stuck_job: Option<JobId>,
    /// Where its end is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// The plan it waits with for a person's approval, or waited with last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<TaskPlan>,
    /// Who works on it, or worked last; none while it waits to be recovered.
    pub worker: Option<String>,
    /// Whether its lease has run out although it is active: nobody knows what becomes of it.
    pub is_lapsed: bool,
    /// Whether somebody wishes its end.
    pub cancel_requested: bool,
    /// When it came in.
    pub created_at: Timestamp,
    /// When it was first begun.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// What it gave.
    pub report: TaskReport,
}

impl Task {
    /// Seconds from its first beginning to its end.
    pub fn duration_s(&self) -> Option<f64> {
        Some(self.finished_at?.duration_since(self.started_at?).as_secs_f64())
    }
}

/// What a person approves, and whether somebody did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskPlan {
    /// SHA-256 of what would be done, in hex.
    pub digest: String,
    /// Who approved it; none while it waits.
    pub approved_by: Option<String>,
    /// What they had to say.
    pub comment: Option<String>,
}

/// What a task gave, as far as it came.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// The backup made, restored or proven: `<database>/<id>`.
    pub backup_id: Option<String>,
    /// Rows read or loaded.
    pub rows: Option<u64>,
    /// Bytes read from the database, or from the store.
    pub bytes_in: Option<u64>,
    /// Bytes stored anew, or written to the database.
    pub bytes_out: Option<u64>,
    /// What else there is to say, by kind.
    pub result: Option<serde_json::Value>,
    /// `transient`, `permanent`, `corrupt`, `refused`, or `deadline`, `lost`, `cancelled`; of the last try.
    pub error_class: Option<String>,
    /// The error of the last try in one line, without secrets.
    pub error_message: Option<String>,
}

/// Something that happened to a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskEvent {
    /// Position among the events of its task, from 1.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The state it then had, or a word for something else that happened: `cancel-requested`, `retry`, `lost`,
    /// `approved`.
    pub what: String,
    /// Details for a person.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_one_id_and_every_word_reads_back() {
        let at = "2025-01-31T02:30:00Z".parse().expect("valid");
        assert_eq!(JobId::of_slot("backup:shop", at), JobId::of_slot("backup:shop", at));
        assert_ne!(JobId::of_slot("backup:shop", at), JobId::of_slot("drill:shop", at));
        for kind in TaskKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
        }
        for state in TaskState::ALL {
            assert_eq!(state.as_str().parse(), Ok(*state));
            assert!(!(state.is_terminal() && state.is_active()));
        }
        assert!("nonsense".parse::<TaskState>().is_err());
    }
}
