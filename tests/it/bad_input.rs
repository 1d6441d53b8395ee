//! Bad input through the program: each is a clear error with its exit code, and leaves nothing behind.

mod command_line;
mod full_disks;
mod ids;
mod postgres;
mod sqlite;
mod stores;
mod times;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tests::agent::{Agent, Run};
use tests::sqlite::TestFile;

/// Asserts that standard error has this in it.
#[track_caller]
fn says(run: &Run, wanted: &str) {
    assert!(run.stderr.contains(wanted), "{wanted:?} expected: {}: {}", run.arguments, run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

/// Asserts exit code 3 and the reason.
#[track_caller]
fn refuses(agent: &Agent, arguments: &[&str], why: &str) -> Run {
    let run = agent.run(arguments).expect_code(3);
    says(&run, why);
    assert_eq!(run.stdout, "", "a refusal is no data");
    run
}

/// Asserts exit code 2 and the reason.
#[track_caller]
fn misused(agent: &Agent, arguments: &[&str], why: &str) -> Run {
    let run = agent.run(arguments).expect_code(2);
    says(&run, why);
    assert_eq!(run.stdout, "", "wrong usage is no data");
    run
}

/// Everything below the program's home, as paths from there, sorted.
fn left(agent: &Agent) -> Vec<String> {
    let mut found = files(agent.home());
    found.iter_mut().for_each(|path| *path = path.strip_prefix(agent.home()).unwrap().to_owned());
    found.iter().map(|path| path.display().to_string()).collect()
}

/// Files and empty folders below `folder`, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let below = if path.is_dir() { files(&path) } else { Vec::new() };
        if below.is_empty() { found.push(path) } else { found.extend(below) }
    }
    found.sort();
    found
}

fn small() -> TestFile {
    let file = TestFile::named("small.db");
    file.sqlite3("CREATE TABLE t (id INTEGER PRIMARY KEY, t TEXT); INSERT INTO t VALUES (1, 'one'), (2, 'two');");
    file
}

/// A store with one backup of [`small`], and its id.
fn one_backup() -> (Agent, TestFile, String) {
    let (agent, source) = (Agent::new(), small());
    let id = agent.ok(&["backup", &source.url()]).stdout.trim().to_owned();
    (agent, source, id)
}

/// Runs the program as `wrapper… program arguments…`.
fn wrapped(agent: &Agent, wrapper: &[&str], arguments: &[&str]) -> Run {
    let inner = agent.command(arguments);
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(agent.home()).stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {}: {error}", wrapper[0]));
    Run {
        arguments: format!("{command:?}"),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        peak_rss_bytes: 0,
        elapsed: std::time::Duration::ZERO,
    }
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

/// Runs the program as somebody who may not do everything: as nobody when the tests run as root.
fn unprivileged(agent: &Agent, arguments: &[&str]) -> Run {
    if !is_root() {
        return agent.run(arguments);
    }
    set_mode(agent.home(), 0o755);
    wrapped(agent, &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], arguments)
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs `script` by `sh` in a mount namespace where `small` in the home is a disk of `kib` KiB.
fn on_a_small_disk(agent: &Agent, kib: u32, script: &str) -> Run {
    std::fs::create_dir_all(agent.home().join("small")).unwrap();
    let script = format!("mount -t tmpfs -o size={kib}k tmpfs small || exit 99\n{script}");
    // The program's own command line becomes "$@", without arguments of a command.
    let wrapper = ["unshare", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
    let run = wrapped(agent, &wrapper, &[] as &[&str]);
    assert_ne!(run.code, Some(99), "no small disk can be mounted here: {}", run.stderr);
    run
}

fn text(path: impl AsRef<OsStr>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}
