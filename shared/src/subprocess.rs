//! The only place that starts a process: client tools, migration tools, hooks.
//!
//! Every child has a process group of its own, an environment made from nothing, a deadline, and output that is cut
//! off at a limit. A password reaches a child through its environment only, never through its arguments.

mod inherited;
mod leave;
mod log;
mod strays;
mod watch;

pub use inherited::Inherited;
pub use log::Scrubber;
pub use strays::{JOB_VARIABLE, end_tagged, start_ticks};
pub use watch::{Watch, Watched};

use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// Variables every child inherits where they are set: what a program needs to find itself, its home and its words.
const INHERITED: [&str; 7] = ["PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "SSL_CERT_FILE"];

/// Time between the polite signal and the last one.
const GRACE: Duration = Duration::from_secs(5);

/// A program to be run once.
#[derive(Debug)]
pub struct Subprocess {
    program: PathBuf,
    args: Vec<OsString>,
    // Values may be secrets, so `Debug` must not reach them.
    env: Hidden,
    workdir: Option<PathBuf>,
    stdin: Input,
    stdout: Output,
    deadline: Duration,
    cap_bytes: usize,
}

struct Hidden(Vec<(OsString, OsString)>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// What the child reads; may hold what nobody else is to see, so `Debug` tells the length only.
#[derive(Default)]
struct Input(Option<Vec<u8>>);

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_ref().map(Vec::len).fmt(f)
    }
}

#[derive(Debug)]
enum Output {
    Kept,
    File(PathBuf),
}

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, unless that went to a file; cut off at the limit.
    pub stdout: Vec<u8>,
    /// Its standard error, cut off at the limit.
    pub stderr: String,
}

/// A program that could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum SubprocessError {
    /// It could not be started.
    #[error("{program} could not be started: {error}")]
    Start {
        /// File name of the program.
        program: String,
        /// Why.
        error: std::io::Error,
    },
    /// It did not end in time and was killed with all its children.
    #[error("{program} did not end within {seconds} s and was killed")]
    Deadline {
        /// File name of the program.
        program: String,
        /// The time it was given.
        seconds: u64,
    },
    /// Its output could not be read.
    #[error("the output of {program} could not be read: {error}")]
    Output {
        /// File name of the program.
        program: String,
        /// Why.
        error: std::io::Error,
    },
}

impl Subprocess {
    /// A program without arguments, an hour of time and 1 MiB of kept output.
    pub fn new(program: &Path) -> Self {
        Subprocess {
            program: program.to_owned(),
            args: Vec::new(),
            env: Hidden(Vec::new()),
            workdir: None,
            stdin: Input::default(),
            stdout: Output::Kept,
            deadline: Duration::from_secs(3600),
            cap_bytes: 1 << 20,
        }
    }

    /// Adds an argument. Never a secret: arguments are visible to everybody on the machine.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets variables of the child's environment.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        self.env.0.extend(pairs.into_iter().map(|(name, value)| (name.as_ref().into(), value.as_ref().into())));
        self
    }

    /// Starts the program in this directory. A relative program is then not to be relied on.
    pub fn workdir(mut self, path: &Path) -> Self {
        self.workdir = Some(path.to_owned());
        self
    }

    /// Gives the program `bytes` to read from standard input; without this it finds that empty.
    ///
    /// A program that ends without reading all of it has not failed for that.
    pub fn stdin(mut self, bytes: Vec<u8>) -> Self {
        self.stdin = Input(Some(bytes));
        self
    }

    /// Sends standard output into a new file.
    pub fn stdout_to(mut self, path: &Path) -> Self {
        self.stdout = Output::File(path.to_owned());
        self
    }

    /// Sets how long the program may run.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets how much of each output stream is kept; the rest is read and dropped.
    pub fn keep(mut self, cap_bytes: usize) -> Self {
        self.cap_bytes = cap_bytes;
        self
    }

    /// Runs the program to its end. Whether its exit status is a success is the caller's question.
    ///
    /// Dropping the future kills the program itself; its own children end when their pipes close.
    pub async fn run(self) -> Result<Finished, SubprocessError> {
        let program = self.name();
        let start = |error| SubprocessError::Start { program: program.clone(), error };
        let mut command = self.command();
        command.stdin(if self.stdin.0.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(match &self.stdout {
            Output::Kept => Stdio::piped(),
            Output::File(path) => Stdio::from(File::create(path).map_err(start)?),
        });
        let mut child = command.spawn().map_err(start)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let input = self.stdin.0.unwrap_or_default();
        let cap = self.cap_bytes;
        let work = async {
            tokio::join!(feed(stdin, input), child.wait(), read_capped(stdout, cap), read_capped(stderr, cap))
        };
        let Ok((_, status, stdout, stderr)) = tokio::time::timeout(self.deadline, work).await else {
            kill_group(&mut child).await;
            return Err(SubprocessError::Deadline { program, seconds: self.deadline.as_secs() });
        };
        let broken = |error| SubprocessError::Output { program: program.clone(), error };
        Ok(Finished {
            status: status.map_err(broken)?,
            stdout: stdout.map_err(broken)?,
            stderr: String::from_utf8_lossy(&stderr.map_err(broken)?).into_owned(),
        })
    }
}

impl Subprocess {
    /// File name of the program, for errors.
    fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The program with its arguments, in a group of its own, with an environment made from nothing.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        command.envs(INHERITED.iter().filter_map(|name| std::env::var_os(name).map(|value| (name, value))));
        command.envs(self.env.0.iter().map(|(name, value)| (name, value)));
        if let Some(workdir) = &self.workdir {
            command.current_dir(workdir);
        }
        command
    }
}

/// Writes what the child is to read, beside reading what it writes, or both would wait for each other on full pipes.
async fn feed(stdin: Option<tokio::process::ChildStdin>, bytes: Vec<u8>) {
    let Some(mut stdin) = stdin else { return };
    // A child may end without having read everything; how it ended says whether that matters.
    if let Err(error) = stdin.write_all(&bytes).await {
        tracing::debug!(%error, "a child process did not read all it was given");
    }
    // Dropping the pipe is the end of the input.
}

async fn read_capped(stream: Option<impl AsyncRead + Unpin>, cap_bytes: usize) -> std::io::Result<Vec<u8>> {
    let Some(mut stream) = stream else { return Ok(Vec::new()) };
    let mut kept = Vec::new();
    let mut piece = vec![0; 16 * 1024];
    loop {
        let length = stream.read(&mut piece).await?;
        if length == 0 {
            return Ok(kept);
        }
        // What does not fit is still read, or the child would wait for ever on a full pipe.
        let room = cap_bytes.saturating_sub(kept.len()).min(length);
        kept.extend_from_slice(&piece[..room]);
    }
}

/// Ends a child and everything it started: first politely, then for good.
async fn kill_group(child: &mut tokio::process::Child) {
    let Some(group) = child.id() else { return };
    signal_group(Signal::TERM, group);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        signal_group(Signal::KILL, group);
        if let Err(error) = child.kill().await {
            tracing::warn!(%error, "a child process could not be killed");
        }
    }
}

fn signal_group(signal: Signal, group: u32) {
    let Some(group) = i32::try_from(group).ok().and_then(Pid::from_raw) else { return };
    // An error means that nobody is left in the group.
    let _ = kill_process_group(group, signal);
}

#[cfg(test)]
mod tests;
