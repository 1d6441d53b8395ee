//! What a successor does with a task whose worker was lost: a pure decision from what was noted and what is seen.

use super::facts::{Applying, Outcome, State, step};
use crate::Error;
use backup_agent::journal::ledger::Ledger;
use shared::model::Phase;

/// What to do with an SQLite database's task.
#[derive(Debug, Clone, PartialEq)]
pub enum Promoted {
    /// It ended; only the record does not know.
    Ended(Outcome),
    /// The commit may have been made: the database shows it, or does not.
    Committing(Applying),
    /// The tool had begun, on its copy.
    Applying(Applying),
    /// Nothing had begun that concerns the database: all of it again.
    Again,
}

/// Reads the journal of an SQLite database's task, the newest beginning of it.
pub fn promoted(ledger: &Ledger) -> Result<Promoted, Error> {
    if let Some(outcome) = ledger.find::<Outcome>(step::OUTCOME, Phase::Done)? {
        return Ok(Promoted::Ended(outcome));
    }
    if let Some(note) = ledger.find::<Applying>(step::COMMIT, Phase::Intent)? {
        return Ok(Promoted::Committing(note));
    }
    Ok(match ledger.find::<Applying>(step::APPLY, Phase::Intent)? {
        Some(note) => Promoted::Applying(note),
        None => Promoted::Again,
    })
}

/// What a database shows, measured by what was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// The state before.
    Before,
    /// The state after.
    After,
    /// Another one.
    Neither,
}

/// Compares what is seen with what was noted.
pub fn shows(note: &Applying, now: &State) -> Shows {
    match now {
        now if *now == note.after => Shows::After,
        now if *now == note.before => Shows::Before,
        _ => Shows::Neither,
    }
}
