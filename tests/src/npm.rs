//! Projects whose migrations are started by the real npm: dbmate and knex.

use crate::{fixtures, tools};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder `node_modules` that has dbmate, knex and pg.
///
/// Panics where none was prepared for the tests: see `ops/test`.
#[track_caller]
pub fn node_tools() -> PathBuf {
    let folder = std::env::var_os("HOLDFAST_TEST_NODE_TOOLS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| panic!("HOLDFAST_TEST_NODE_TOOLS is not set: run the tests by ops/test"));
    assert!(
        folder.join(".bin/dbmate").exists(),
        "there is no dbmate in {}: run the tests by ops/test",
        folder.display()
    );
    folder
}

/// Copies a project of the fixtures to a place where there is nothing yet, with the packages it needs.
#[track_caller]
pub fn project(fixture: &str, at: &Path) {
    fixtures::copy_folder(fixture, at);
    std::os::unix::fs::symlink(node_tools(), at.join("node_modules")).unwrap();
}

/// Runs a script of a project as a person would, who has set DATABASE_URL, and returns what it printed.
///
/// Panics with its words where it fails.
#[track_caller]
pub fn run(project: &Path, script: &str, database_url: &str) -> String {
    let mut npm = Command::new("npm");
    npm.args(["run", "--silent", script]).current_dir(project).env("DATABASE_URL", database_url);
    String::from_utf8(tools::run(&mut npm, b"").expect(&format!("npm run {script}"))).expect("npm prints text")
}
