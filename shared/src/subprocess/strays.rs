//! Processes that outlive the program that started them, found by a variable of their environment.

use rustix::process::{Pid, Signal, getpid, getuid, kill_process};
use std::collections::BTreeSet;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// The variable every process of a tool bears; its value is the job.
pub const JOB_VARIABLE: &str = "HOLDFAST_JOB";

/// How long a killed process may take to vanish: one that waits for a dead disk or mount does not.
const VANISH: Duration = Duration::from_secs(10);

/// Ends every process of this user whose environment says `HOLDFAST_JOB=value`, and returns how many those were.
///
/// Daemons that left their group and session are found too; a process that threw its environment away is not. Never
/// ends the calling process. Blocks until all are gone; fails where one is still there after 10 s, or without `/proc`.
pub fn end_tagged(value: &str) -> Result<usize> {
    let entry = format!("{JOB_VARIABLE}={value}").into_bytes();
    let begun = Instant::now();
    let mut ended = BTreeSet::new();
    loop {
        // Again and again: what is killed may have started something since it was seen.
        let found = bearing(&entry)?;
        if found.is_empty() {
            return Ok(ended.len());
        }
        if begun.elapsed() > VANISH {
            let pids: Vec<String> = found.iter().map(|(pid, _)| pid.as_raw_nonzero().to_string()).collect();
            let message = format!("processes of job {value} do not end: {}", pids.join(", "));
            return Err(Error::new(ErrorKind::TimedOut, message));
        }
        for (pid, start_ticks) in found {
            // An error means that it is gone already, which the next look tells.
            let _ = kill_process(pid, Signal::KILL);
            ended.insert((pid.as_raw_nonzero(), start_ticks));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// When a process began, in clock ticks since boot; none where it is gone.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything; the 20th field behind it is the 22nd of all.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn bearing(entry: &[u8]) -> Result<Vec<(Pid, u64)>> {
    let (own, user) = (getpid(), getuid().as_raw());
    let mut found = Vec::new();
    for folder in std::fs::read_dir("/proc")? {
        let folder = folder?;
        let Some(number) = folder.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Some(pid) = Pid::from_raw(number).filter(|pid| *pid != own) else { continue };
        // What vanishes meanwhile, and what belongs to somebody else, is none of ours.
        if !folder.metadata().is_ok_and(|metadata| metadata.uid() == user) {
            continue;
        }
        let Ok(environment) = std::fs::read(folder.path().join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|variable| variable == entry) {
            found.push((pid, start_ticks(number.unsigned_abs()).unwrap_or_default()));
        }
    }
    Ok(found)
}

/// Ends what is left of a job when the future that watches it is dropped.
#[derive(Debug)]
pub(super) struct EndOnDrop(pub(super) Option<String>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some(value) = self.0.take()
            && let Err(error) = end_tagged(&value)
        {
            tracing::warn!(%error, "what a tool started could not be ended");
        }
    }
}
