//! Running the tools the oracles rely on.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a tool answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) success: bool,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Answer {
    /// Standard output of a tool that must have succeeded.
    ///
    /// Panics with `what` and the tool's own words otherwise.
    #[track_caller]
    pub(crate) fn expect(self, what: &str) -> Vec<u8> {
        assert!(self.success, "{what} failed: {}", self.stderr.trim());
        self.stdout
    }
}

/// Runs `command` with `input` on its standard input and waits for it.
///
/// Panics if the tool cannot be started, naming the Debian package that brings it.
#[track_caller]
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Answer {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}", missing(&program, &error)));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // From a thread: a tool that answers while it still reads would otherwise stop both of us.
    let feeder = std::thread::spawn(move || {
        // A tool that has seen enough closes its input; its exit status tells whether that was right.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    let mut stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        let _ = write!(stderr, " ({program}: {})", output.status);
    }
    Answer { success: output.status.success(), stdout: output.stdout, stderr }
}

/// A program that holds something as long as this is there; the end of its input tells it to end.
#[derive(Debug)]
pub struct Held(Child);

impl Held {
    /// Starts it, gives it `input`, and waits until it prints the line `held`.
    ///
    /// Panics with its words if it ends before.
    #[track_caller]
    pub(crate) fn start(command: &mut Command, input: &[u8]) -> Held {
        let program = command.get_program().to_string_lossy().into_owned();
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("{}", missing(&program, &error)));
        // A program that has ended says why below.
        let _ = child.stdin.as_mut().expect("it was piped").write_all(input);
        let lines = BufReader::new(child.stdout.as_mut().expect("it was piped")).lines();
        if !lines.map_while(Result::ok).any(|line| line == "held") {
            let output = child.wait_with_output().unwrap();
            panic!("{program} held nothing: {}", String::from_utf8_lossy(&output.stderr));
        }
        Held(child)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The sentence for a program that could not be started.
pub(crate) fn missing(program: &str, error: &std::io::Error) -> String {
    let name = Path::new(program).file_name().map_or(program.into(), |name| name.to_string_lossy());
    let package = match name.as_ref() {
        "psql" | "pg_dump" | "pg_restore" => "postgresql-client",
        "postgres" | "initdb" => "postgresql",
        other => other,
    };
    format!("cannot start {program}: {error}; install the package {package} (apt-get install {package})")
}

/// The first file called `program` on PATH.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
