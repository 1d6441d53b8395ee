//! What can go wrong while keeping backups and bringing them back.

use crate::repository::ManifestError;
use crate::stop::StopReason;
use shared::engine::EngineError;
use shared::model::{Class, Difference};
use shared::store::StoreError;
use shared::task_log::TaskLogError;

/// An error of this crate's verbs. [`Error::class`] decides the exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A database failed or refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The record of tasks failed.
    #[error(transparent)]
    TaskLog(#[from] TaskLogError),
    /// A manifest cannot be used.
    #[error("backup {backup}: {source}")]
    Manifest {
        /// `<database>/<id>`.
        backup: String,
        /// Why.
        source: ManifestError,
    },
    /// The work was not begun; nothing was touched.
    #[error("refused: {message}")]
    Refused {
        /// Facts.
        message: String,
        /// What a person can do.
        hint: Option<String>,
    },
    /// The work failed.
    #[error("{message}")]
    Failed {
        /// Facts and the state left behind.
        message: String,
        /// What a person can do.
        hint: Option<String>,
    },
    /// The work came to no end, and a database is in the middle of it: the task stays, and whoever has it next goes on.
    #[error("{0}")]
    Unfinished(String),
    /// The work was given up at somebody's wish.
    #[error("{0}")]
    Stopped(StopReason),
    /// Stored bytes are not what was written.
    #[error("{0}")]
    Damaged(String),
    /// What was restored is not what was backed up.
    #[error("{message}")]
    Different {
        /// Facts and the state left behind.
        message: String,
        /// Every difference.
        differences: Vec<Difference>,
    },
}

const DAMAGE_HINT: &str = "choose another backup (backup-agent list); backup-agent verify tells what else is damaged, and a new backup stores it again";

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Error::Store(error)
    }
}

impl Error {
    /// A refusal.
    pub fn refused(message: impl Into<String>, hint: impl Into<Option<&'static str>>) -> Self {
        Error::Refused { message: message.into(), hint: hint.into().map(str::to_owned) }
    }

    /// The facts alone, without the word a refusal begins with: for a sentence that says so itself.
    pub fn facts(&self) -> String {
        let text = self.to_string();
        text.strip_prefix("refused: ").map(str::to_owned).unwrap_or(text)
    }

    /// A store that could not be opened: nothing was touched where it is not there at all.
    pub fn opening(error: StoreError) -> Self {
        match error {
            StoreError::Missing { ref hint, .. } => Error::Refused { message: error.to_string(), hint: hint.clone() },
            other => Error::Store(other),
        }
    }

    /// A permanent failure.
    pub fn failed(message: impl Into<String>) -> Self {
        Error::Failed { message: message.into(), hint: None }
    }

    /// What a caller may conclude.
    pub fn class(&self) -> Class {
        match self {
            Error::Engine(error) => error.class(),
            Error::Store(error) => error.class(),
            Error::TaskLog(error) => error.class(),
            Error::Unfinished(_) | Error::Stopped(StopReason::Shutdown | StopReason::LeaseLost) => Class::Transient,
            Error::Stopped(StopReason::Deadline | StopReason::Cancelled) => Class::Permanent,
            Error::Manifest { source: ManifestError::Future(_), .. } => Class::Refused,
            Error::Manifest { .. } | Error::Damaged(_) => Class::Corrupt,
            Error::Refused { .. } => Class::Refused,
            Error::Failed { .. } | Error::Different { .. } => Class::Permanent,
        }
    }

    /// What a person can do, where something can be done.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Engine(EngineError::Damaged(_)) => Some(DAMAGE_HINT),
            Error::Engine(error) => error.hint(),
            Error::Store(error) => error.hint(),
            Error::TaskLog(error) => error.hint(),
            Error::Stopped(_) | Error::Unfinished(_) => None,
            Error::Refused { hint, .. } | Error::Failed { hint, .. } => hint.as_deref(),
            Error::Manifest { source: ManifestError::Future(_), .. } => {
                Some("use the version of Holdfast that wrote it, or a newer one")
            }
            Error::Manifest { .. } | Error::Damaged(_) => Some(DAMAGE_HINT),
            Error::Different { .. } => None,
        }
    }

    /// Exit code of a command that ends in this error.
    pub fn exit_code(&self) -> u8 {
        match (self, self.class()) {
            (Error::Different { .. }, _) => 7,
            (_, Class::Refused) => 3,
            (_, Class::Corrupt) => 6,
            (_, Class::Transient | Class::Permanent) => 1,
        }
    }
}
