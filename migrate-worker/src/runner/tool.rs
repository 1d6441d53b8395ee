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
pub(super) fn find(program: &str, base: &Path, package: &str) -> Result<PathBuf, RunnerError> {
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

/// The last line of a tool's output that says something.
pub(super) fn last_words(output: &str) -> &str {
    output.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it said nothing")
}
