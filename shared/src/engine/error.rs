//! What can go wrong at a database.

use crate::model::Class;

/// What went wrong at a database.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The work was not begun; nothing was touched.
    #[error("refused: {message}")]
    Refused {
        /// Facts.
        message: String,
        /// What a person can do.
        hint: Option<String>,
    },
    /// The server could not be reached, or was busy for longer than allowed.
    #[error("{message}")]
    Unreachable {
        /// Facts and the state left behind.
        message: String,
        /// What a person can do.
        hint: Option<String>,
    },
    /// The work failed and will fail again.
    #[error("{message}")]
    Failed {
        /// Facts and the state left behind.
        message: String,
        /// What a person can do.
        hint: Option<String>,
    },
    /// A query names a table that is not there.
    #[error("{0}")]
    NoSuchTable(String),
    /// Stored bytes are damaged; no row of them reached the database.
    #[error("{0}")]
    Damaged(String),
    /// The sink or source failed.
    #[error("{0}")]
    Store(#[from] crate::store::StoreError),
}

impl EngineError {
    /// A refusal without a hint.
    pub fn refused(message: impl Into<String>) -> Self {
        EngineError::Refused { message: message.into(), hint: None }
    }

    /// A permanent failure without a hint.
    pub fn failed(message: impl Into<String>) -> Self {
        EngineError::Failed { message: message.into(), hint: None }
    }

    /// The same error with a hint for the person who reads it.
    pub fn with_hint(self, text: impl Into<String>) -> Self {
        let new = Some(text.into());
        match self {
            EngineError::Refused { message, .. } => EngineError::Refused { message, hint: new },
            EngineError::Unreachable { message, .. } => EngineError::Unreachable { message, hint: new },
            EngineError::Failed { message, .. } => EngineError::Failed { message, hint: new },
            other => other,
        }
    }

    /// What a caller may conclude.
    pub fn class(&self) -> Class {
        match self {
            EngineError::Refused { .. } => Class::Refused,
            EngineError::Unreachable { .. } => Class::Transient,
            EngineError::Failed { .. } | EngineError::NoSuchTable(_) => Class::Permanent,
            EngineError::Damaged(_) => Class::Corrupt,
            EngineError::Store(error) => error.class(),
        }
    }

    /// What a person can do, where something can be done.
    pub fn hint(&self) -> Option<&str> {
        match self {
            EngineError::Refused { hint, .. }
            | EngineError::Unreachable { hint, .. }
            | EngineError::Failed { hint, .. } => hint.as_deref(),
            EngineError::NoSuchTable(_) | EngineError::Damaged(_) => None,
            EngineError::Store(error) => error.hint(),
        }
    }
}
