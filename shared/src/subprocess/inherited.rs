//! Running somebody's own command in the place of this program: it has our input, our outputs and our environment.

use super::strays::{EndOnDrop, JOB_VARIABLE, end_tagged, start_ticks};
use super::{GRACE, signal_group};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Result};
use std::process::ExitStatus;
use tokio::process::{Child, Command};
use tokio::signal::unix::SignalKind;

/// A command that runs. Dropping the value ends it and everything it started.
#[derive(Debug)]
pub struct Inherited {
    child: Child,
    job: String,
    leftovers: EndOnDrop,
    /// Of a group of its own: at a terminal it stays in ours, because only that one may read there.
    group: bool,
}

impl Inherited {
    /// Starts `program` with `args`, found as a shell would; it and all it starts bear `HOLDFAST_JOB=job`.
    pub fn start(program: &OsStr, args: &[OsString], job: &str) -> Result<Self> {
        let group = !std::io::stdin().is_terminal();
        let mut command = Command::new(program);
        command.args(args).env(JOB_VARIABLE, job).kill_on_drop(true);
        if group {
            command.process_group(0);
        }
        let child = command.spawn()?;
        Ok(Inherited { child, job: job.to_owned(), leftovers: EndOnDrop(Some(job.to_owned())), group })
    }

    /// Its process id, and its start in clock ticks since boot.
    pub fn process(&self) -> Option<(u32, u64)> {
        let pid = self.child.id()?;
        Some((pid, start_ticks(pid)?))
    }

    /// Waits for its end. What it left running is left: somebody may have meant it. May be given up and taken up again.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.leftovers.0 = None;
        Ok(status)
    }

    /// Passes a signal on. What a terminal sends it sends to all of its group, so the command has it already.
    pub fn pass_on(&self, signal: SignalKind) {
        let (Some(pid), Some(signal)) = (self.child.id(), Signal::from_named_raw(signal.as_raw_value())) else {
            return;
        };
        if self.group {
            signal_group(signal, pid);
        } else if signal != Signal::INT
            && let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        {
            // An error means that it has ended.
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends it and everything it started: politely, then for good.
    pub async fn end(&mut self) -> Result<ExitStatus> {
        self.pass_on(SignalKind::terminate());
        let ended = tokio::time::timeout(GRACE, self.child.wait()).await;
        let job = self.job.clone();
        let strays = tokio::task::spawn_blocking(move || end_tagged(&job)).await;
        strays.unwrap_or_else(|error| Err(std::io::Error::other(error)))?;
        self.leftovers.0 = None;
        match ended {
            Ok(status) => status,
            Err(_) => self.child.wait().await,
        }
    }
}
