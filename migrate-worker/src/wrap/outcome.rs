//! How a wrapped command ended, as the record, a person and a shell hear it.

use crate::Error;
use crate::gate::Report;
use crate::migration::{After, Outcome};
use backup_agent::stop::StopReason;
use serde_json::{Value, json};
use shared::model::{Class, DatabaseName, TaskState};
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::signal::unix::SignalKind;

/// A task of with-lock that came to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// What the record is told.
    pub outcome: Outcome,
    /// The exit code of with-lock.
    pub code: u8,
}

/// Where the database stands after something that is not known is for the gate to tell.
const GATE: &str = "gate tells where the database stands";

fn ended(state: TaskState, message: String, code: u8) -> Ended {
    let outcome = Outcome { state, message, hint: None, backup: None, result: json!({"mode": super::spec::WRAP}) };
    Ended { outcome, code }
}

impl Ended {
    fn with(mut self, name: &str, value: Value) -> Self {
        self.outcome.result[name] = value;
        self
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.outcome.hint = Some(hint.into());
        self
    }
}

/// The code a shell would give.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// How a command ended, where that could be seen.
type Status = std::io::Result<ExitStatus>;

fn how(program: &str, status: &Status, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    match status.as_ref().map(|status| (status.code(), status.signal())) {
        Ok((Some(code), _)) => format!("{program} ended with exit code {code} after {seconds:.1} s"),
        Ok((None, Some(signal))) => format!("{program} was ended by signal {signal} after {seconds:.1} s"),
        Ok((None, None)) => format!("{program} ended after {seconds:.1} s"),
        Err(error) => format!("{program} could not be watched any more after {seconds:.1} s: {error}"),
    }
}

fn of_status(state: TaskState, message: String, status: &Status, took: Duration) -> Ended {
    let seen = status.as_ref().ok();
    ended(state, message, seen.map_or(1, |status| code_of(*status)))
        .with("exit", json!(seen.and_then(|status| status.code())))
        .with("signal", json!(seen.and_then(|status| status.signal())))
        .with("duration_s", json!(took.as_secs_f64()))
}

/// The command came to its end by itself.
pub(super) fn of_command(program: &str, status: Status, took: Duration, after: Option<After>) -> Ended {
    let how = how(program, &status, took);
    if status.as_ref().is_ok_and(ExitStatus::success) {
        return of_status(TaskState::Succeeded, how, &status, took).with("after", json!(after));
    }
    of_status(TaskState::Failed, format!("{how}; what it did is not known; {GATE}"), &status, took)
}

/// The command was ended at somebody's wish.
pub(super) fn stopped(program: &str, status: Status, took: Duration, reason: StopReason) -> Ended {
    let message = format!("{reason}: {}; what it did is not known; {GATE}", how(program, &status, took));
    let state = if reason == StopReason::Cancelled { TaskState::Cancelled } else { TaskState::Failed };
    // A shell must not take that for success.
    let ended = of_status(state, message, &status, took);
    Ended { code: ended.code.max(1), ..ended }
}

/// The program is not there, or is none.
pub(super) fn cannot_start(program: &str, error: &std::io::Error) -> Ended {
    let code = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
    ended(TaskState::Failed, format!("{program} cannot be started: {error}; nothing was done"), code)
}

/// The database stands where it is to stand.
pub(super) fn nothing_to_do(report: &Report) -> Ended {
    let message = format!("nothing to do, the command was not started: {}", report.summary);
    ended(TaskState::Succeeded, message, 0)
}

/// Somebody wished the end of with-lock before the command was started.
pub(super) fn told_to_end(signal: SignalKind) -> Ended {
    let number = signal.as_raw_value();
    let code = u8::try_from(128 + number).unwrap_or(1);
    ended(TaskState::Cancelled, format!("ended by signal {number} before the command was started"), code)
}

/// The command was never started, because of an error.
pub(super) fn not_started(error: &Error) -> Ended {
    let state = match error {
        Error::Stopped(StopReason::Cancelled) => TaskState::Cancelled,
        error if error.class() == Class::Refused => TaskState::Refused,
        _ => TaskState::Failed,
    };
    let code = if state == TaskState::Refused { 3 } else { 1 };
    let ended = ended(state, format!("the command was not started: {}", error.facts()), code);
    match error.hint() {
        Some(hint) => ended.hint(hint),
        None => ended,
    }
}

/// Its with-lock was lost; `number` processes of its command were still running and were ended.
pub(super) fn lost(name: &DatabaseName, number: usize) -> Ended {
    let still = match number {
        0 => String::new(),
        1 => " (1 process of its command was still running and was ended)".to_owned(),
        number => format!(" ({number} processes of its command were still running and were ended)"),
    };
    let message = format!("its process was lost; what it did is not known; {GATE}{still}");
    ended(TaskState::Failed, message, 1).hint(format!("migrate-worker gate {name}"))
}

/// Told before, but the record did not hear of it.
pub(super) fn again(outcome: Outcome) -> Ended {
    Ended { outcome, code: 1 }
}

/// A task nobody can do.
pub(super) fn nobodys() -> Ended {
    let message = "only with-lock itself can run its command, which stands in no record; nothing was run".to_owned();
    ended(TaskState::Failed, message, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As wait(2) gives them: an exit code, or the number of a signal.
    fn status(raw: i32) -> Status {
        Ok(ExitStatus::from_raw(raw))
    }

    #[test]
    fn the_exit_code_is_the_commands_and_the_record_says_what_is_known() {
        let took = Duration::from_millis(1250);
        let by_itself = |raw| of_command("alembic", status(raw), took, None);
        let by_wish = |raw| stopped("alembic", status(raw), took, StopReason::Cancelled);
        let unseen = of_command("alembic", Err(std::io::Error::other("no child")), took, None);
        let missing = std::io::Error::from(ErrorKind::NotFound);
        let forbidden = std::io::Error::from(ErrorKind::PermissionDenied);
        let refused = Error::refused("locked by another", "wait");
        for (ended, state, code, words) in [
            (by_itself(0), TaskState::Succeeded, 0, "alembic ended with exit code 0 after 1.2 s"),
            (by_itself(7 << 8), TaskState::Failed, 7, "alembic ended with exit code 7"),
            (by_itself(15), TaskState::Failed, 143, "was ended by signal 15"),
            (unseen, TaskState::Failed, 1, "could not be watched any more after 1.2 s: no child"),
            (by_wish(15), TaskState::Cancelled, 143, "somebody asked for its end"),
            (by_wish(0), TaskState::Cancelled, 1, "what it did is not known"),
            (cannot_start("x", &missing), TaskState::Failed, 127, "x cannot be started"),
            (cannot_start("x", &forbidden), TaskState::Failed, 126, "nothing was done"),
            (told_to_end(SignalKind::terminate()), TaskState::Cancelled, 143, "before the command was started"),
            (not_started(&refused), TaskState::Refused, 3, "the command was not started: locked by another"),
            (not_started(&Error::failed("no")), TaskState::Failed, 1, "the command was not started: no"),
            (nobodys(), TaskState::Failed, 1, "nothing was run"),
        ] {
            assert_eq!((ended.outcome.state, ended.code), (state, code), "{}", ended.outcome.message);
            assert!(ended.outcome.message.contains(words), "{words}: {}", ended.outcome.message);
            assert_eq!(ended.outcome.result["mode"], "wrap");
        }
    }

    #[test]
    fn of_a_lost_command_nothing_is_claimed() {
        let name = "shop".parse().expect("a name");
        let words = "its process was lost; what it did is not known; gate tells where the database stands";
        assert_eq!(lost(&name, 0).outcome.message, words);
        let still = lost(&name, 2).outcome;
        assert_eq!(still.state, TaskState::Failed);
        assert!(still.message.contains("2 processes of its command were still running and were ended"));
        assert_eq!(still.hint.as_deref(), Some("migrate-worker gate shop"));
    }
}
