//! Django projects for tests, run by the real Django.

use crate::tools;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Python that has Django and its driver for PostgreSQL.
///
/// Panics where none was prepared for the tests: see `ops/test`.
#[track_caller]
pub fn python() -> PathBuf {
    let program = std::env::var_os("HOLDFAST_TEST_DJANGO").map(PathBuf::from);
    let program = program.unwrap_or_else(|| panic!("HOLDFAST_TEST_DJANGO is not set: run the tests by ops/test"));
    assert!(program.is_file(), "there is no {}: run the tests by ops/test", program.display());
    program
}

/// Runs `manage.py` of a project as a person would, who has set DATABASE_URL, and returns what it printed.
///
/// Panics with its words where it fails.
#[track_caller]
pub fn manage(project: &Path, database_url: &str, arguments: &[&str]) -> String {
    let mut python = Command::new(python());
    python.arg("manage.py").args(arguments).current_dir(project);
    python.env("DATABASE_URL", database_url).env("SECRET_KEY", "of the tests").env("PYTHONDONTWRITEBYTECODE", "1");
    let printed = tools::run(&mut python, b"").expect(&format!("manage.py {}", arguments.join(" ")));
    String::from_utf8(printed).expect("Django prints text")
}
