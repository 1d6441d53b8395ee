//! A tool's program: finding it, starting it, what it left.

use super::{RunnerError, ToolCall, ToolProcess, ToolRun};
use shared::subprocess::{Scrubber, Subprocess, SubprocessError, Watch, Watched};
use std::path::{Path, PathBuf};

/// How much of a tool's output is kept, at the beginning and at the end.
const CAP_BYTES: usize = 1 << 20;

/// Runs a program under a call's deadline and stop, found again by the call's job.
pub(super) async fn watch(program: Subprocess, secrets: Vec<String>, call: &ToolCall) -> Result<Watched, RunnerError> {
    let (begun, stop) = (call.begun.clone(), call.stop.clone());
    let watch = Watch {
        job: call.job.to_string(),
        cap_bytes: CAP_BYTES,
        scrubber: Scrubber::new(secrets),
        begun: Box::new(move |pid, start_ticks| begun(ToolProcess { pid, start_ticks })),
        stop: Box::pin(async move { stop.wait().await.to_string() }),
    };
    program.deadline(call.deadline).watch(watch).await.map_err(failed)
}

impl From<Watched> for ToolRun {
    fn from(done: Watched) -> Self {
        ToolRun {
            exit: done.status.code(),
            ended_early: done.ended_early,
            output: done.log,
            strays: done.strays,
            duration: done.duration,
            failed_step: None,
        }
    }
}

/// What went wrong with the program itself.
pub(super) fn failed(error: SubprocessError) -> RunnerError {
    RunnerError::new(error.to_string())
}

/// The program as an absolute path: a name is looked up on PATH, a path counts from `base`.
///
/// `package` is what brings it.
pub(crate) fn find(program: &str, base: &Path, package: &str) -> Result<PathBuf, RunnerError> {
    let missing = |message: String| {
        let hint = format!("install {package}, or name the program: program = [\"PATH/TO/{program}\"]");
        RunnerError::new(message).hint(hint)
    };
    if program.contains('/') {
        let path = base.join(program);
        return if is_program(&path) {
            Ok(path)
        } else {
            Err(missing(format!("there is no program {}", path.display())))
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| is_program(file));
    found.ok_or_else(|| missing(format!("there is no program {program} on PATH")))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// A directory that must be there; `what` is named where it is not.
pub(super) fn directory(what: &str, path: &Path) -> Result<(), RunnerError> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(RunnerError::new(format!("{what} {} is no directory", path.display()))),
        Err(error) => Err(RunnerError::new(format!("{what} {} cannot be read: {error}", path.display()))
            .hint("relative paths count from the configuration file")),
    }
}

/// The line of a tool's output that most likely says what went wrong: the error of Python's last traceback, else the last
/// line that speaks of one, else the last.
pub fn last_words(output: &str) -> &str {
    // Behind the error SQLAlchemy prints the statement, which may be long, and the address of a page.
    let of_python = output.rfind(TRACEBACK).and_then(|at| {
        let below = output[at..].lines().skip(1);
        below.map(str::trim_end).find(|line| !line.is_empty() && !line.starts_with([' ', '\t']))
    });
    let backwards = || output.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let speaks = |line: &&str| {
        let line = line.to_ascii_lowercase();
        line.contains("error") && !line.starts_with('(') || line.starts_with("failed")
    };
    of_python.or_else(|| backwards().find(speaks)).or_else(|| backwards().next()).unwrap_or("it said nothing")
}

/// Above the calls that led to an error, which are indented.
const TRACEBACK: &str = "Traceback (most recent call last):\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_what_went_wrong_is_found() {
        let python = "INFO running\nTraceback (most recent call last):\n  File \"a.py\", line 1\n    x()\n\nNameError: one\n\n\
                      The above exception was the direct cause:\n\nTraceback (most recent call last):\n  File \"b.py\"\n\
                      sqlalchemy.exc.OperationalError: no such table\n[SQL: INSERT\n  INTO t]\n(Background at: https://x)\n";
        assert_eq!(last_words(python), "sqlalchemy.exc.OperationalError: no such table");
        assert_eq!(last_words("one\n  two \n\n"), "two");
        assert_eq!(last_words("Traceback (most recent call last):\n  cut off"), "cut off");
        assert_eq!(last_words("FAILED: Multiple head revisions\nbye"), "FAILED: Multiple head revisions");
        assert_eq!(last_words(" \n"), "it said nothing");
    }
}
