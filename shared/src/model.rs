//! Pure nouns: no I/O, no async, no clock.

mod backup_id;
mod canonical;
mod database;
mod fault;
mod fingerprint;
mod moment;
mod profile;
mod secret;
mod step;
mod structure;
mod task;

pub use backup_id::{BackupId, InvalidBackupId};
pub use canonical::canonical_json;
pub use database::{DatabaseName, DatabaseUrl, EngineKind, Identity, InvalidName, InvalidUrl, PostgresUrl};
pub use fault::Class;
pub use fingerprint::{Difference, DifferenceKind, Fingerprint, LargeObject, RowSum, SequenceState, TableFingerprint};
pub use moment::{At, InvalidAt, parse_at};
pub use profile::{ColumnProfile, Profile, TableProfile, ValueSum};
pub use secret::Secret;
pub use step::{Phase, StepNote};
pub use structure::Structure;
pub use task::{JobId, NewTask, Reply, Slot, Task, TaskDoor, TaskEvent, TaskKind, TaskPlan, TaskReport, TaskState};
