//! The command: a program that gets the message on standard input.

use super::{Undelivered, message};
use shared::config::{Config, ConfigError, NotifyConfig};
use shared::model::{Task, TaskEvent};
use shared::subprocess::{Subprocess, SubprocessError};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How much of its output is kept to look at.
const KEPT_BYTES: usize = 4096;

/// A program and its arguments, which may hold secrets.
pub(super) struct Hook {
    program: PathBuf,
    args: Vec<String>,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Hook {
    /// The command of a section, if it has one. A relative path counts from the configuration file; a bare name is looked
    /// up in PATH when it is run.
    pub(super) fn read(config: &Config, section: &str, notify: &NotifyConfig) -> Result<Option<Hook>, ConfigError> {
        let Some(command) = &notify.command else { return Ok(None) };
        let Some((program, args)) = command.split_first().filter(|(program, _)| !program.trim().is_empty()) else {
            return Err(ConfigError::Value(format!("command of {section}: names no program")));
        };
        let program = if program.contains('/') { config.base.join(program) } else { PathBuf::from(program) };
        Ok(Some(Hook { program, args: args.to_vec() }))
    }

    /// Runs the program once. Ending with 0 means that the message has arrived.
    pub(super) async fn run(&self, task: &Task, event: &TaskEvent, deadline: Duration) -> Result<(), Undelivered> {
        let body = message::body(task, event).into_bytes();
        let run = Subprocess::new(&self.program).args(&self.args).stdin(body).deadline(deadline).keep(KEPT_BYTES).run();
        let finished = run.await.map_err(|error: SubprocessError| Undelivered::Unreachable(error.to_string()))?;
        if finished.status.success() {
            return Ok(());
        }
        // What it wrote stays out of the record: it may repeat an address or a token.
        tracing::debug!(stderr = finished.stderr.trim_end(), "the command of a notify section failed");
        Err(Undelivered::Unreachable(format!("the command ended with {}", finished.status)))
    }
}
