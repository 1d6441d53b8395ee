//! The SQLite engine against real files: what goes round, what is refused, what stays behind.

mod bad_input;
mod changing;
mod content;
mod live;
mod mutations;
mod restoring;

use rusqlite::Connection;
use shared::engine::sqlite::SqliteEngine;
use shared::engine::{Aside, DumpOptions, Engine, EngineError, LoadOptions, Progress};
use shared::model::Fingerprint;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;
use tests::memory::{self, MemorySource};

/// A directory for one test.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    /// A database made by `sql`, closed.
    fn database(&self, name: &str, sql: &str) -> PathBuf {
        let path = self.path(name);
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        connection.close().unwrap();
        path
    }

    fn options(&self) -> DumpOptions {
        DumpOptions { spool: self.path("spool"), lock_timeout_s: 1, ..DumpOptions::default() }
    }

    async fn dump(&self, path: &Path) -> Result<MemorySource, EngineError> {
        memory::dump(&SqliteEngine::new(path.to_owned()), &self.options()).await
    }

    /// Names in the directory, sorted, without the spool, which must be empty.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name != "spool")
            .collect();
        names.sort();
        if let Ok(mut spool) = std::fs::read_dir(self.path("spool")) {
            assert!(spool.next().is_none(), "something was left in the spool directory");
        }
        names
    }
}

fn silent() -> Progress {
    Arc::new(|_| {})
}

fn chinook() -> PathBuf {
    tests::fixtures::fixture("chinook.sqlite")
}

async fn begin(target: &Path, source: &MemorySource) -> Result<Box<dyn Aside>, EngineError> {
    SqliteEngine::new(target.to_owned()).aside(source).await
}

/// Restores everything into `target` with the proof, and returns the proof's fingerprint.
async fn restore(source: &MemorySource, target: &Path) -> Result<Fingerprint, EngineError> {
    let aside = begin(target, source).await?;
    aside.load(Arc::new(source.clone()), &LoadOptions::default(), silent()).await?;
    let found = aside.fingerprint(source, 2).await?;
    aside.promote().await?;
    Ok(found)
}

/// Dumps, restores, and checks that bytes and fingerprint came round.
async fn goes_round(place: &Place, path: &Path) -> MemorySource {
    let source = place.dump(path).await.unwrap();
    let target = place.path("restored.db");
    let found = restore(&source, &target).await.unwrap();
    assert_eq!(source.dump.fingerprint.differences(&found), []);
    assert_eq!(std::fs::read(&target).unwrap(), source.bytes(0));
    let again = SqliteEngine::new(target).fingerprint(&source, 1).await.unwrap();
    assert_eq!(source.dump.fingerprint, again);
    source
}

/// What the sqlite3 program says, which shares no code with the product.
fn sqlite3(path: &Path, command: &str) -> String {
    let output = Command::new("sqlite3").arg("-batch").arg(path).arg(command).output().unwrap();
    assert!(output.status.success(), "sqlite3 {command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refusal(result: Result<impl Sized, EngineError>) -> String {
    match result {
        Ok(_) => panic!("a refusal was expected"),
        Err(error @ EngineError::Refused { .. }) => error.to_string(),
        Err(error) => panic!("a refusal was expected, not {error:?}"),
    }
}

/// A program that runs a test where it may mount a file system of its own.
const NAMESPACE: [&str; 3] = ["unshare", "--map-root-user", "--mount"];

/// Mounts a file system of 1 MiB at `dir`, if this process may.
fn small_disk(dir: &Path) -> bool {
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir).output();
    mount.is_ok_and(|output| output.status.success())
}

/// Runs one test of this binary under another program, once, and fails if it fails there.
fn run_again(program: &[&str], test: &str) {
    assert!(std::env::var_os("HOLDFAST_TEST_AGAIN").is_none(), "{} gave {test} no other rights", program.join(" "));
    let output = Command::new(program[0])
        .args(&program[1..])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env("HOLDFAST_TEST_AGAIN", "1")
        .output()
        .unwrap_or_else(|error| panic!("{test} needs the program {}: {error}", program[0]));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn chinook_goes_round_byte_by_byte() {
    let place = Place::new();
    let live = place.path("chinook.db");
    std::fs::copy(chinook(), &live).unwrap();
    let source = goes_round(&place, &live).await;
    assert!(source.dump.fingerprint.rows() > 10_000, "{} rows", source.dump.fingerprint.rows());
    assert_eq!(source.dump.defects, Vec::<String>::new());
    let (before, after) = (sqlite3(&live, ".dump"), sqlite3(&place.path("restored.db"), ".dump"));
    assert!(before.len() > 500_000, "a dump of {} bytes compares nothing", before.len());
    assert!(before == after, "sqlite3 .dump differs");
    assert_eq!(place.names(), ["chinook.db", "restored.db"]);
}
