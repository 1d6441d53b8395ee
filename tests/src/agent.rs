//! Runs the product's own program, as a user would.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a run of the program left.
#[derive(Debug, Clone)]
pub struct Run {
    /// The arguments, for messages.
    pub arguments: String,
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The most memory the program itself had in use, without its children, sampled every 20 ms.
    pub peak_rss_bytes: u64,
    /// Wall-clock time.
    pub elapsed: Duration,
}

impl Run {
    /// Asserts the exit code and returns the run.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}\n{}", self.arguments, self.stdout, self.stderr);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{}: not JSON ({error}): {}", self.arguments, self.stdout))
    }

    /// Asserts that `secret` stands in nothing the program printed.
    #[track_caller]
    pub fn never_says(&self, secret: &str) -> &Self {
        assert!(!self.stdout.contains(secret) && !self.stderr.contains(secret), "{} told a secret", self.arguments);
        self
    }
}

/// The program with a home, a working folder and a directory store of its own.
#[derive(Debug)]
pub struct Agent {
    home: tempfile::TempDir,
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
    store: Option<String>,
    deadline: Duration,
}

impl Agent {
    /// The program with an empty home and `--store file:` a folder in it that does not exist yet.
    #[track_caller]
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = format!("file:{}", home.path().join("store").display());
        let environment = ["PATH", "LD_LIBRARY_PATH", "TMPDIR"]
            .iter()
            .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
            .collect();
        Self { home, program: program("backup-agent"), environment, store: Some(store), deadline: DEADLINE }
    }

    /// The same of the program `migrate-worker`.
    #[track_caller]
    pub fn worker() -> Self {
        Self { program: program("migrate-worker"), ..Self::new() }
    }

    /// Uses another store; none leaves `--store` out.
    #[must_use]
    pub fn with_store(mut self, store: Option<&str>) -> Self {
        self.store = store.map(str::to_owned);
        self
    }

    /// Sets a variable in the program's environment, which otherwise holds PATH, HOME and a UTF-8 locale only.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.set_env(name, value);
        self
    }

    /// Sets a variable from now on.
    pub fn set_env(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.into(), value.into()));
    }

    /// Starts the program so that it stops itself at this labelled point, and waits until it has.
    #[track_caller]
    pub fn start_and_stop_at(&self, label: &str, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.env("HOLDFAST_STOP_AT", label);
        let mut running = self.spawn(command);
        running.wait_until_stopped();
        running
    }

    /// Starts the program so that it stops itself at the `number`-th point it reaches, from 1. Does not wait.
    #[track_caller]
    pub fn start_to_stop_at(&self, number: usize, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.env("HOLDFAST_STOP_AT_NUMBER", number.to_string());
        self.spawn(command)
    }

    /// Runs the program and asserts that it was killed at the first point of this label.
    #[track_caller]
    pub fn killed_at(&self, label: &str, arguments: &[&str]) -> Run {
        self.start_and_stop_at(label, arguments).kill()
    }

    /// Ends a run that takes longer than this as a failure; 10 minutes if not set.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Writes the configuration into the working folder. Only its owner may read it: it may hold secrets.
    #[must_use]
    pub fn with_config(self, text: &str) -> Self {
        let file = self.home().join("holdfast.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        self
    }

    /// Home and working folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The folder of the directory store.
    pub fn store_dir(&self) -> PathBuf {
        self.home.path().join("store")
    }

    /// Runs the program to its end, whatever that is.
    #[track_caller]
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Run {
        self.start(arguments).wait()
    }

    /// Runs the program and asserts that it ended with 0.
    #[track_caller]
    pub fn ok<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Run {
        self.run(arguments).expect_code(0)
    }

    /// Runs another program of this workspace to its end, in the same home.
    #[track_caller]
    pub fn run_program<S: AsRef<std::ffi::OsStr>>(&self, name: &str, arguments: &[S]) -> Run {
        self.start_program(name, arguments).wait()
    }

    /// Starts another program of this workspace without waiting, in the same home.
    #[track_caller]
    pub fn start_program<S: AsRef<std::ffi::OsStr>>(&self, name: &str, arguments: &[S]) -> Running {
        self.spawn(self.command_of(&program(name), arguments))
    }

    /// Runs the program with `--json`, asserts that it ended with 0, and parses its answer.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        self.ok(&all).json()
    }

    /// Starts the program without waiting, to look at it or to kill it.
    #[track_caller]
    pub fn start<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Running {
        self.spawn(self.command(arguments))
    }

    #[track_caller]
    fn spawn(&self, mut command: Command) -> Running {
        let text = format!("{command:?}");
        let began = Instant::now();
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", self.program.display()));
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Running {
            child,
            stdout: Collected::of(stdout),
            stderr: Collected::of(stderr),
            arguments: text,
            began,
            deadline: self.deadline,
            peak_rss_bytes: 0,
        }
    }

    /// The command as it would be started, for tests that wrap it.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Command {
        self.command_of(&self.program, arguments)
    }

    fn command_of<S: AsRef<std::ffi::OsStr>>(&self, program: &Path, arguments: &[S]) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.home.path()).env("LANG", "C.UTF-8").env("TZ", "UTC");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.home.path());
        if let Some(store) = &self.store {
            command.args(["--store", store]);
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Default for Agent {
    fn default() -> Self {
        Self::new()
    }
}

/// A run that has not ended yet. Dropping it kills the program.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Collected,
    stderr: Collected,
    arguments: String,
    began: Instant,
    deadline: Duration,
    peak_rss_bytes: u64,
}

impl Running {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard error so far.
    pub fn stderr_so_far(&self) -> String {
        self.stderr.so_far()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.sample();
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal by its name, as `CONT` or `TERM`.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(sent.success(), "kill -{name} {}", self.pid());
    }

    /// Waits until the program has stopped itself (SIGSTOP). Panics when it ends instead, or does not stop in time.
    #[track_caller]
    pub fn wait_until_stopped(&mut self) {
        if !self.stops() {
            let (out, err) = (self.stdout.so_far(), self.stderr.so_far());
            panic!("{} ended without having stopped:\n{out}{err}", self.arguments);
        }
    }

    /// Waits until the program has stopped itself or has ended; tells whether it stopped.
    #[track_caller]
    pub fn stops(&mut self) -> bool {
        let is_stopped = |pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        };
        while !is_stopped(self.pid()) {
            if !self.is_running() {
                return false;
            }
            assert!(self.began.elapsed() < self.deadline, "{} did not stop in time", self.arguments);
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Kills the program (SIGKILL) and returns what it left.
    pub fn kill(mut self) -> Run {
        let _ = self.child.kill();
        self.wait()
    }

    /// Waits for the end. Panics, after killing it, when the program is over its deadline.
    #[track_caller]
    pub fn wait(mut self) -> Run {
        let mut turns = 0_u32;
        let status = loop {
            self.sample();
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(self.began.elapsed() < self.deadline, "{} did not end in time", self.arguments);
            // Short commands should not wait for the sampling.
            std::thread::sleep(Duration::from_millis(if turns < 20 { 2 } else { 20 }));
            turns += 1;
        };
        self.ended(status)
    }

    fn ended(&mut self, status: ExitStatus) -> Run {
        Run {
            arguments: self.arguments.clone(),
            code: status.code(),
            elapsed: self.began.elapsed(),
            stdout: self.stdout.whole(),
            stderr: self.stderr.whole(),
            peak_rss_bytes: self.peak_rss_bytes,
        }
    }

    fn sample(&mut self) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        self.peak_rss_bytes = self.peak_rss_bytes.max(kib.unwrap_or(0_u64) * 1024);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

const DEADLINE: Duration = Duration::from_secs(600);

/// Where a program of this workspace lies: `HOLDFAST_TEST_BIN_DIR`, else beside the test.
///
/// Panics where it was not built.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("HOLDFAST_TEST_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().unwrap();
        // target/<profile>/deps/it-<hash>
        let beside = test.parent().unwrap();
        if beside.ends_with("deps") { beside.parent().unwrap().to_path_buf() } else { beside.to_path_buf() }
    });
    let file = folder.join(name);
    assert!(file.is_file(), "there is no {}: build it by `cargo build --workspace`", file.display());
    file
}

/// What comes out of a pipe, read as it comes.
#[derive(Debug)]
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collected {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = bytes.clone();
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(read @ 1..) = pipe.read(&mut chunk) {
                into.lock().unwrap().extend(&chunk[..read]);
            }
        });
        Collected { bytes, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    /// All of it, once the pipe has ended.
    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.so_far()
    }
}
