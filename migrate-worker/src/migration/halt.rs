//! How a migration ends before its end.

use super::wait::Asked;
use crate::Error;
use crate::runner::RunnerError;
use backup_agent::stop::StopReason;
use shared::engine::EngineError;
use shared::task_log::TaskLogError;

/// Why a migration goes no further, as a statement about the database.
#[derive(Debug)]
pub enum Halt {
    /// Nothing of it reached the database.
    Refused(Reason),
    /// It failed; the database is proven to be as it was.
    Restored(Reason),
    /// It failed and the way back is not proven: a person is needed.
    Stuck(Reason),
    /// Its plan must be approved first; nothing of it reached the database.
    Waiting(Box<Asked>),
    /// Somebody else has the task, or will have it: nothing more is written.
    Lost(String),
}

/// Facts, and what a person can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Facts on one line.
    pub message: String,
    /// What a person can do.
    pub hint: Option<String>,
}

impl Reason {
    /// Facts without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Reason { message: message.into(), hint: None }
    }

    /// The same with what a person can do.
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Reason { hint: Some(hint.into()), ..self }
    }
}

impl Halt {
    /// A refusal.
    pub fn refused(message: impl Into<String>) -> Self {
        Halt::Refused(Reason::new(message))
    }

    /// A refusal and what a person can do.
    pub fn refused_with(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Halt::Refused(Reason::new(message).with_hint(hint))
    }

    /// The same reason, of a failure after which the database must be looked at.
    pub fn reason(self) -> Result<Reason, Halt> {
        match self {
            Halt::Refused(reason) => Ok(reason),
            other => Err(other),
        }
    }
}

impl From<Error> for Halt {
    /// Before the database is changed every error refuses; who changes it turns that into what it means then.
    fn from(error: Error) -> Self {
        if let Error::TaskLog(TaskLogError::LeaseLost { .. })
        | Error::Stopped(StopReason::LeaseLost | StopReason::Shutdown) = error
        {
            return Halt::Lost(error.to_string());
        }
        Halt::Refused(Reason { message: error.facts(), hint: error.hint().map(str::to_owned) })
    }
}

impl From<EngineError> for Halt {
    fn from(error: EngineError) -> Self {
        Error::from(error).into()
    }
}

impl From<RunnerError> for Halt {
    fn from(error: RunnerError) -> Self {
        Halt::Refused(Reason { message: error.message, hint: error.hint })
    }
}
