//! Files of cases: `--- TITLE` begins one.
//!
//! Cases of a file share a database, unless the title says otherwise: `alone: TITLE` has one of its own,
//! `alone, created with OPTIONS: TITLE` one that is made with these options, and `python: TITLE` is a script that makes
//! the file named by its first argument. `held: TITLE` and `held by python: TITLE` stay connected while the database is
//! backed up; the script prints `held` when it is ready, and ends when its input does.

use std::fmt;
use std::path::Path;

/// How the database of a world is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setup {
    /// All these cases, one after the other.
    Shared,
    /// One case.
    Alone,
    /// One case, in a database made with these options of `CREATE DATABASE`.
    Created(String),
    /// One case, by a script of Python.
    Python,
    /// One case, whose session stays.
    Held,
    /// One case, by a script of Python that stays.
    HeldByPython,
}

/// One case.
#[derive(Debug)]
pub struct Case {
    pub title: String,
    pub text: String,
}

/// Cases that share a database.
#[derive(Debug)]
pub struct World {
    /// As "D9 Foreign keys".
    pub file_title: String,
    pub setup: Setup,
    pub cases: Vec<Case>,
}

impl fmt::Display for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles: Vec<&str> = self.cases.iter().map(|case| case.title.as_str()).collect();
        write!(formatter, "{}: {}", self.file_title, titles.join(", "))
    }
}

/// All worlds below a folder of `tests/fixtures/contents`, in the order of file and case; what is shared first.
#[track_caller]
pub fn read(folder: &str) -> Vec<World> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/contents").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{}: no files", folder.display());
    files.iter().flat_map(|file| worlds(file)).collect()
}

#[track_caller]
fn worlds(file: &Path) -> Vec<World> {
    let text = std::fs::read_to_string(file).unwrap();
    let (head, rest) = text.split_once("\n--- ").unwrap_or_else(|| panic!("{}: no case", file.display()));
    let head = head.lines().next().and_then(|line| line.strip_prefix("-- ")).expect("a file begins with its title");
    let number = file.file_stem().unwrap().to_str().unwrap();
    let file_title = format!("{}{} {head}", number[..1].to_uppercase(), number[1..].trim_start_matches('0'));
    let world = |setup, cases| World { file_title: file_title.clone(), setup, cases };
    let mut shared = Vec::new();
    let mut others = Vec::new();
    for case in rest.split("\n--- ") {
        let (title, text) = case.split_once('\n').unwrap_or((case, ""));
        let (setup, title) = setup(title);
        let case = Case { title: title.to_owned(), text: text.to_owned() };
        match setup {
            Setup::Shared => shared.push(case),
            setup => others.push(world(setup, vec![case])),
        }
    }
    let shared = (!shared.is_empty()).then(|| world(Setup::Shared, shared));
    shared.into_iter().chain(others).collect()
}

/// The title is what is left when the mark is taken off.
fn setup(title: &str) -> (Setup, &str) {
    if let Some(title) = title.strip_prefix("alone: ") {
        (Setup::Alone, title)
    } else if let Some(title) = title.strip_prefix("python: ") {
        (Setup::Python, title)
    } else if let Some(title) = title.strip_prefix("held: ") {
        (Setup::Held, title)
    } else if let Some(title) = title.strip_prefix("held by python: ") {
        (Setup::HeldByPython, title)
    } else if let Some((options, title)) =
        title.strip_prefix("alone, created with ").and_then(|rest| rest.split_once(": "))
    {
        (Setup::Created(options.to_owned()), title)
    } else {
        (Setup::Shared, title)
    }
}
