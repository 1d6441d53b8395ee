//! SQLite databases for tests, made and judged by the real `sqlite3`.

use crate::tools::{self, Held};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A SQLite file in a temporary folder of its own.
#[derive(Debug)]
pub struct TestFile {
    folder: tempfile::TempDir,
    name: String,
}

impl TestFile {
    /// A path with nothing there yet.
    pub fn new() -> Self {
        Self::named("test.sqlite")
    }

    /// A path with nothing there yet, with this file name.
    pub fn named(name: &str) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), name: name.to_owned() }
    }

    /// A copy of an existing file that nobody writes to.
    #[track_caller]
    pub fn copy_of(file: &Path) -> Self {
        let copy = Self::new();
        std::fs::copy(file, copy.path()).unwrap_or_else(|error| panic!("copying {}: {error}", file.display()));
        copy
    }

    /// Where the database is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// The folder, for what lies beside the database.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The database as the product is told about it: `sqlite:PATH`.
    pub fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }

    /// Runs SQL by `sqlite3 -bail` and returns what it printed. Panics with its words if a statement fails.
    #[track_caller]
    pub fn sqlite3(&self, sql: &str) -> String {
        sqlite3(&self.path(), sql).unwrap_or_else(|error| panic!("sqlite3 on {}: {error}", self.path().display()))
    }

    /// Like [`TestFile::sqlite3`], but returns the error text.
    #[track_caller]
    pub fn try_sqlite3(&self, sql: &str) -> Result<String, String> {
        sqlite3(&self.path(), sql)
    }

    /// Starts a script of Python with this file's path as its argument. It prints `held` when it holds what it is to
    /// hold, and ends when its input does.
    #[track_caller]
    pub fn held_by(&self, script: &Path) -> Held {
        Held::start(Command::new("python3").arg(script).arg(self.path()), b"")
    }

    /// Runs a file of statements.
    #[track_caller]
    pub fn sqlite3_file(&self, file: &Path) {
        let sql = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("reading {}: {error}", file.display()));
        self.sqlite3(&sql);
    }

    /// The rows of one query, each value as text.
    #[track_caller]
    pub fn query_rows(&self, sql: &str) -> Vec<Vec<String>> {
        let answer = self.sqlite3(&format!(".mode ascii\n{sql}"));
        let rows = answer.split('\u{1e}').filter(|row| !row.is_empty());
        rows.map(|row| row.split('\u{1f}').map(str::to_owned).collect()).collect()
    }

    /// [`sqlite_dump_text`] of this file.
    #[track_caller]
    pub fn dump_text(&self) -> String {
        sqlite_dump_text(&self.path())
    }
}

impl Default for TestFile {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs SQL or dot commands by `sqlite3 -bail`; the error is what it said.
#[track_caller]
pub fn sqlite3(file: &Path, sql: &str) -> Result<String, String> {
    let mut command = Command::new("sqlite3");
    let answer = tools::run(command.args(["-batch", "-bail", "-init", "/dev/null"]).arg(file), sql.as_bytes());
    if answer.success { Ok(String::from_utf8_lossy(&answer.stdout).into_owned()) } else { Err(answer.stderr) }
}

/// What `sqlite3` says about everything in a file: `.dump` with row numbers, a hash of the content (`.dump` stops at
/// a NUL inside a text), and the numbers in the header that belong to the user.
///
/// Panics when the file cannot be read, the dump is cut short, or there is no table in it.
#[track_caller]
pub fn sqlite_dump_text(file: &Path) -> String {
    // sqlite3 would make an empty database of a file that does not exist.
    assert!(file.is_file(), "there is no file {}", file.display());
    let script = ".dump --preserve-rowids\n.sha3sum --schema\n\
                  PRAGMA user_version; PRAGMA application_id; PRAGMA encoding; PRAGMA page_size; PRAGMA auto_vacuum;";
    let text = sqlite3(file, script).unwrap_or_else(|error| panic!("sqlite3 on {}: {error}", file.display()));
    if let Err(error) = check_sqlite_dump(&text) {
        panic!("dump of {}: {error}", file.display());
    }
    text
}

/// Whether a text is a whole dump with at least one table.
pub fn check_sqlite_dump(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("the dump is empty".into());
    }
    if text.contains("\nROLLBACK; -- due to errors") || !text.lines().any(|line| line == "COMMIT;") {
        return Err("the dump is cut short".into());
    }
    if !text.lines().any(|line| line.starts_with("CREATE TABLE") || line.starts_with("INSERT INTO sqlite_schema")) {
        return Err("the dump holds no table".into());
    }
    Ok(())
}

/// The lines in which two dumps differ, at most ten; empty where the files are equal.
///
/// Panics when one of the texts is not a whole dump with at least one table.
#[track_caller]
pub fn sqlite_differences(left: &str, right: &str) -> Vec<String> {
    for text in [left, right] {
        if let Err(error) = check_sqlite_dump(text) {
            panic!("refused to compare: {error}");
        }
    }
    if left == right {
        return Vec::new();
    }
    let (a, b): (Vec<&str>, Vec<&str>) = (left.lines().collect(), right.lines().collect());
    let common: std::collections::HashSet<&str> = a.iter().copied().collect();
    let other: std::collections::HashSet<&str> = b.iter().copied().collect();
    let gone = a.iter().filter(|line| !other.contains(*line)).map(|line| format!("-{line}"));
    let new = b.iter().filter(|line| !common.contains(*line)).map(|line| format!("+{line}"));
    let mut found: Vec<String> = gone.chain(new).take(10).collect();
    if found.is_empty() {
        found.push("the same lines in another order or number".into());
    }
    found
}
