//! What is written into the journal, and read from it by a successor.

use crate::around::checks::Answer;
use crate::effect::Effects;
use crate::runner::{Direction, Route};
use serde::{Deserialize, Serialize};
use shared::model::{EngineKind, Phase, Profile, StepNote};

pub use backup_agent::target::{Begun, read};

/// Names of the steps in the journal.
pub mod step {
    pub use backup_agent::target::step::{BEGIN, LET_GO};

    /// The application was stopped.
    pub const STOP: &str = "stop";
    /// It was started again.
    pub const START: &str = "start";
    /// Backup A was made.
    pub const BACKUP_A: &str = "backup-a";
    /// A rehearsal was made.
    pub const REHEARSE: &str = "rehearse";
    /// The plan was found good.
    pub const PLAN: &str = "plan";
    /// The database was fenced.
    pub const FENCE: &str = "fence";
    /// Backup B was made and lies here.
    pub const BACKUP_B: &str = "backup-b";
    /// The tool ran for real.
    pub const APPLY: &str = "apply";
    /// The change became the database.
    pub const COMMIT: &str = "commit";
    /// Somebody was seen behind the fence.
    pub const FENCE_BROKEN: &str = "fence-broken";
    /// The fence was taken away without a change.
    pub const UNFENCE: &str = "unfence";
    /// The failed database was cut off from everybody.
    pub const CUT_OFF: &str = "cut-off";
    /// Backup B was restored beside it.
    pub const RESTORE: &str = "restore";
    /// The restored database took the failed one's place.
    pub const SWAP: &str = "swap";
    /// How it ended.
    pub const OUTCOME: &str = "outcome";
}

/// Where a database stands, as far as a migration changes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Digest of its schema.
    pub schema: String,
    /// Newest applied revisions.
    pub heads: Vec<String>,
}

impl State {
    /// The revisions for a person.
    pub fn at(&self) -> String {
        heads(&self.heads)
    }
}

/// Revisions for a person.
pub fn heads(heads: &[String]) -> String {
    if heads.is_empty() { "base".to_owned() } else { heads.join(", ") }
}

/// A route for a person.
pub fn route_words(route: &Route) -> String {
    if route.open {
        return match (&route.revisions[..], route.direction) {
            ([], Direction::Upgrade) => format!("from {} as far as the tool goes", heads(&route.from)),
            ([], Direction::Downgrade) => format!("from {} one step back", heads(&route.from)),
            _ => format!("{} -> {}", heads(&route.from), heads(&route.to)),
        };
    }
    let number = route.revisions.len();
    let what = if number == 1 { "1 revision".to_owned() } else { format!("{number} revisions") };
    let back = if route.direction == Direction::Downgrade { " taken back" } else { "" };
    format!("{} -> {} ({what}{back})", heads(&route.from), heads(&route.to))
}

/// Backup A, and where the database stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUp {
    /// `<database>/<id>`.
    pub backup: String,
    /// The state it shows.
    pub state: State,
}

/// How a migration leaves a database, to be compared with later: kept in the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    /// Newest applied revisions.
    pub heads: Vec<String>,
    /// Digest of its structure.
    pub structure: String,
    /// What wrote the texts that were digested: others may write the same structure in other words.
    pub written_by: String,
}

/// What writes the texts of a structure: SQLite keeps them as they were given, PostgreSQL's are `pg_dump`'s.
pub fn written_by(engine: EngineKind, server_version: &str, client_version: Option<&str>) -> String {
    match engine {
        EngineKind::Sqlite => engine.to_string(),
        EngineKind::Postgres => {
            let major = server_version.split('.').next().unwrap_or_default();
            format!("pg_dump {} of PostgreSQL {major}", client_version.unwrap_or("(unknown)"))
        }
    }
}

/// What a rehearsal has shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// The way that was gone.
    pub route: Route,
    /// Where the copy stood afterwards.
    pub after: State,
    /// The same for those who compare later; notes of earlier versions do not have it.
    #[serde(default)]
    pub leaves: Option<After>,
    /// Tables whose rows it left as they were.
    pub unchanged: Vec<String>,
    /// What it did. Written for people; a successor does not need it.
    #[serde(skip_deserializing)]
    pub effects: Effects,
    /// What the copy held before.
    #[serde(skip)]
    pub before: Profile,
    /// How long the tool took, in seconds.
    pub tool_s: f64,
}

/// A copy of this machine, by name (PostgreSQL) or path (SQLite).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scratch {
    /// Where it is.
    pub place: String,
}

/// What the tool runs from, for real.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applying {
    /// The backup to go back to.
    pub backup: String,
    /// The state before.
    pub before: State,
    /// The state that is wanted.
    pub after: State,
    /// What the checks answered before.
    #[serde(default)]
    pub checks: Vec<Option<Answer>>,
}

impl Applying {
    /// From `before` to `after`, without checks that were asked before.
    pub fn new(backup: &str, before: &State, after: &State) -> Self {
        Applying { backup: backup.to_owned(), before: before.clone(), after: after.clone(), checks: Vec::new() }
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// `succeeded`, `refused`, `restored`, `stuck`.
    pub state: shared::model::TaskState,
    /// Facts on one line.
    pub message: String,
    /// What a person can do.
    pub hint: Option<String>,
    /// Backup to go back to.
    pub backup: Option<String>,
    /// Details for the record.
    pub result: serde_json::Value,
}

/// Where the database stood and was to stand, as far as a journal tells, for a person.
pub fn noted_states(notes: &[StepNote]) -> Result<Vec<String>, crate::Error> {
    let newest = |step: &str, phase| notes.iter().rev().find(|note| note.step == step && note.phase == phase);
    if let Some(note) = newest(step::APPLY, Phase::Intent) {
        let note: Applying = read(note)?;
        return Ok(vec![format!("it stood at {}, and was to stand at {}", note.before.at(), note.after.at())]);
    }
    let Some(note) = newest(step::BACKUP_A, Phase::Done) else { return Ok(Vec::new()) };
    let note: BackedUp = read(note)?;
    Ok(vec![format!("it stood at {}; the tool had not begun for real", note.state.at())])
}
