//! `strace`: what a process asks the system for, and calls that are made to fail.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running `strace`. Dropping it detaches it.
#[derive(Debug)]
pub struct Tracer {
    strace: Child,
    output: PathBuf,
}

impl Tracer {
    /// Attaches to all threads of a process. `arguments` say what is traced and injected.
    #[track_caller]
    pub fn attach(pid: u32, output: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-y", "-s", "120", "-e", "signal=none", "-o"]).arg(output).args(arguments);
        command.args(["-p", &pid.to_string()]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let tracer = Tracer { strace: command.spawn().expect("strace starts"), output: output.to_owned() };
        let begun = Instant::now();
        while !is_traced(pid) {
            assert!(begun.elapsed().as_secs() < 30, "strace may not look at the program");
            std::thread::sleep(Duration::from_millis(1));
        }
        tracer
    }

    /// What it has written so far.
    pub fn so_far(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Lets the program go on without it.
    pub fn detach(&mut self) {
        let _ = Command::new("kill").arg(self.strace.id().to_string()).stderr(Stdio::null()).status();
        let begun = Instant::now();
        while matches!(self.strace.try_wait(), Ok(None)) {
            // Beside a program that is just dying it may wait for ever.
            if begun.elapsed().as_secs() >= 2 {
                let _ = self.strace.kill();
                let _ = self.strace.wait();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if matches!(self.strace.try_wait(), Ok(None)) {
            self.detach();
        }
    }
}

fn is_traced(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let is_traced = |text: String| text.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"));
    let mut texts = threads.map(|thread| std::fs::read_to_string(thread.path().join("status")).unwrap_or_default());
    texts.all(is_traced)
}

/// A command as it is under `strace` from its beginning.
pub fn traced<S: AsRef<std::ffi::OsStr>>(command: &Command, output: &Path, arguments: &[S]) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-y", "-s", "120", "-e", "signal=none", "-o"]).arg(output).args(arguments);
    traced.arg(command.get_program()).args(command.get_args()).env_clear();
    traced.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    traced.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    traced
}
