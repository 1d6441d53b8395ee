//! A PATH with nothing on it but the tools a stranger has: to restore without Holdfast.

use crate::tools;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The programs of the GNU core utilities that a script may use.
const CORE: &[&str] = &[
    "base64",
    "basename",
    "cat",
    "cp",
    "cut",
    "dd",
    "dirname",
    "env",
    "head",
    "ln",
    "ls",
    "mkdir",
    "mktemp",
    "mv",
    "od",
    "readlink",
    "rm",
    "sha256sum",
    "sort",
    "stat",
    "sync",
    "tail",
    "tr",
    "true",
    "wc",
];

/// A folder of links to `sh` (dash), `tar`, `gzip`, the core utilities and the programs a test adds, and a home.
#[derive(Debug)]
pub struct PlainTools {
    folder: tempfile::TempDir,
}

/// What a script left.
#[derive(Debug)]
pub struct Said {
    /// Whether it ended with 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl PlainTools {
    /// Links the programs; `more` may name `zstd`, `sqlite3` or `psql`.
    #[track_caller]
    pub fn with(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for part in ["bin", "home", "tmp"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
        }
        for name in CORE.iter().chain(&["tar", "gzip"]).chain(more) {
            symlink(found(name), folder.path().join("bin").join(name)).unwrap();
        }
        symlink(found("dash"), folder.path().join("bin/sh")).unwrap();
        assert!(!folder.path().join("bin/backup-agent").exists());
        Self { folder }
    }

    /// Runs a program of the folder in `dir`, with an environment that holds nothing else.
    #[track_caller]
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, dir: &Path, program: &str, arguments: &[S]) -> Said {
        let bin = self.folder.path().join("bin");
        let mut command = Command::new(bin.join(program));
        command.args(arguments).current_dir(dir).env_clear().env("PATH", &bin).stdin(Stdio::null());
        command.env("HOME", self.folder.path().join("home")).env("TMPDIR", self.folder.path().join("tmp"));
        let output = command.output().unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        let left = std::fs::read_dir(self.folder.path().join("tmp")).unwrap().count();
        assert_eq!(left, 0, "{program} left temporary files behind");
        Said {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a program that must end with 0, and returns its standard output.
    #[track_caller]
    pub fn ok<S: AsRef<std::ffi::OsStr> + std::fmt::Debug>(
        &self,
        dir: &Path,
        program: &str,
        arguments: &[S],
    ) -> String {
        let said = self.run(dir, program, arguments);
        assert!(said.success, "{program} {arguments:?} failed: {}{}", said.stdout, said.stderr);
        said.stdout
    }

    /// Runs a program that must fail, and returns what it said on standard error.
    #[track_caller]
    pub fn fails<S: AsRef<std::ffi::OsStr> + std::fmt::Debug>(
        &self,
        dir: &Path,
        program: &str,
        arguments: &[S],
    ) -> String {
        let said = self.run(dir, program, arguments);
        assert!(!said.success, "{program} {arguments:?} should have failed; it said: {}{}", said.stdout, said.stderr);
        said.stderr
    }
}

/// The program itself: the `psql` of Debian's PATH is a script that needs Perl.
#[track_caller]
fn found(name: &str) -> PathBuf {
    let server = std::env::var_os("HOLDFAST_TEST_PG_BIN").map(|folder| PathBuf::from(folder).join(name));
    let found = server.filter(|file| name == "psql" && file.is_file()).or_else(|| tools::on_path(name));
    found.unwrap_or_else(|| panic!("{name} is not on PATH: install the package that brings it"))
}
