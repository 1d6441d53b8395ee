//! Running somebody else's tool: everything it starts is found again, and nothing of it outlives it.

use super::log::Log;
use super::strays::{EndOnDrop, JOB_VARIABLE, end_tagged, start_ticks};
use super::{GRACE, Scrubber, Subprocess, SubprocessError, signal_group};
use futures_util::future::BoxFuture;
use rustix::process::Signal;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout};

/// How long output may go on after the program has ended: what still holds its pipes then is ended.
const LINGER: Duration = Duration::from_millis(500);

/// How a program is watched.
pub struct Watch {
    /// Value of `HOLDFAST_JOB` in the environment of the program and of all it starts.
    pub job: String,
    /// How many bytes of output are kept at the beginning, and as many at the end.
    pub cap_bytes: usize,
    /// What must not be seen in the output.
    pub scrubber: Scrubber,
    /// Hears of the program's process id and of its start in clock ticks since boot, before anything is waited for.
    pub begun: Box<dyn FnOnce(u32, u64) + Send>,
    /// Ends the program early, and says why.
    pub stop: BoxFuture<'static, String>,
}

/// What a watched program left.
#[derive(Debug)]
pub struct Watched {
    /// How it ended.
    pub status: ExitStatus,
    /// Why it was ended before its time, where it was.
    pub ended_early: Option<String>,
    /// Standard output and standard error as they came, cut in the middle, without secrets, without NUL.
    pub log: String,
    /// Standard output alone, cut off at the limit, without secrets.
    pub stdout: String,
    /// Processes that outlived it and were ended.
    pub strays: usize,
    /// How long it took.
    pub duration: Duration,
}

impl Subprocess {
    /// Runs the program until it ends, its deadline passes or `watch.stop` comes, and then ends whatever it left running.
    ///
    /// It is asked politely first and killed after 5 s. Ending early is no error. Dropping the future ends all of it at
    /// once. Standard input is empty; what [`Subprocess::stdin`] and [`Subprocess::stdout_to`] were told does not count.
    pub async fn watch(self, watch: Watch) -> Result<Watched, SubprocessError> {
        let program = self.name();
        let begun = Instant::now();
        let mut command = self.command();
        command.env(JOB_VARIABLE, &watch.job).stdin(Stdio::null()).stdout(Stdio::piped());
        let start = |error| SubprocessError::Start { program: program.clone(), error };
        let mut child = command.spawn().map_err(start)?;
        let mut leftovers = EndOnDrop(Some(watch.job.clone()));
        if let Some(pid) = child.id() {
            (watch.begun)(pid, start_ticks(pid).unwrap_or_default());
        }
        let mut pipes = Pipes::new(&mut child, watch.cap_bytes, watch.scrubber);
        let ended_early = tokio::select! {
            biased;
            _ = child.wait() => None,
            reason = watch.stop => Some(reason),
            () = tokio::time::sleep(self.deadline) => {
                Some(format!("stopped: it did not end within {} s", self.deadline.as_secs()))
            }
            () = pipes.read_for_ever() => None,
        };
        let broken = |error| SubprocessError::Output { program: program.clone(), error };
        let status = end(&mut child, &mut pipes).await.map_err(broken)?;
        // A daemon may hold the pipes for as long as it lives.
        let quiet = tokio::time::timeout(LINGER, pipes.read_to_end()).await.is_ok();
        let job = watch.job;
        let strays = tokio::task::spawn_blocking(move || end_tagged(&job)).await;
        let strays = strays.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(broken)?;
        leftovers.0 = None;
        if !quiet && tokio::time::timeout(LINGER, pipes.read_to_end()).await.is_err() {
            tracing::warn!(program, "something that is not known still holds the output of a tool");
        }
        let (log, stdout) = pipes.finish();
        Ok(Watched { status, ended_early, log, stdout, strays, duration: begun.elapsed() })
    }
}

/// Waits for a program that has ended, or makes it end: politely, then for good.
async fn end(child: &mut Child, pipes: &mut Pipes) -> std::io::Result<ExitStatus> {
    if let Some(status) = child.try_wait()? {
        return Ok(status);
    }
    let Some(group) = child.id() else { return child.wait().await };
    signal_group(Signal::TERM, group);
    tokio::select! {
        status = child.wait() => return status,
        () = tokio::time::sleep(GRACE) => {}
        () = pipes.read_for_ever() => {}
    }
    signal_group(Signal::KILL, group);
    tokio::select! {
        status = child.wait() => status,
        () = pipes.read_for_ever() => child.wait().await,
    }
}

/// Both outputs of a program. Every read may be given up and taken up again.
struct Pipes {
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    log: Log,
    scrubber: Scrubber,
    kept: Vec<u8>,
    cap_bytes: usize,
}

impl Pipes {
    fn new(child: &mut Child, cap_bytes: usize, scrubber: Scrubber) -> Self {
        let log = Log::new(cap_bytes, scrubber.clone());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Pipes { stdout, stderr, log, scrubber, kept: Vec::new(), cap_bytes }
    }

    async fn read_to_end(&mut self) {
        let (mut out, mut err) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        while self.stdout.is_some() || self.stderr.is_some() {
            tokio::select! {
                length = read(&mut self.stdout, &mut out), if self.stdout.is_some() => match length {
                    0 => self.stdout = None,
                    length => {
                        let room = self.cap_bytes.saturating_sub(self.kept.len()).min(length);
                        self.kept.extend_from_slice(&out[..room]);
                        self.log.push(0, &out[..length]);
                    }
                },
                length = read(&mut self.stderr, &mut err), if self.stderr.is_some() => match length {
                    0 => self.stderr = None,
                    length => self.log.push(1, &err[..length]),
                },
            }
        }
    }

    /// Reads beside something else that ends.
    async fn read_for_ever(&mut self) {
        self.read_to_end().await;
        std::future::pending().await
    }

    fn finish(self) -> (String, String) {
        let stdout = self.scrubber.scrub(&self.kept);
        (self.log.finish(), String::from_utf8_lossy(&stdout).into_owned())
    }
}

/// The next bytes; none at the end, also where reading fails: how the program ended is what counts.
async fn read(stream: &mut Option<impl AsyncRead + Unpin>, into: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(into).await.unwrap_or(0),
        None => 0,
    }
}
