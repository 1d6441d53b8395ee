//! Odd contents of real databases: what becomes of each case when it is backed up and restored by the real program.
//!
//! The cases are files of SQL below `tests/fixtures/contents`; their outcomes, judged by pg_dump and sqlite3, are the
//! table in `docs/contents.md`. An outcome that changes fails the test; `HOLDFAST_TEST_BLESS=1` writes the table anew.
//! Cases of hundreds of megabytes are judged in the long run (`HOLDFAST_TEST_LONG=1`); every other run looks whether the
//! table tells of each.

mod cases;
mod images;
mod outcome;
mod postgres;
mod sqlite;

use cases::{Setup, World};
use outcome::Outcome;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tests::is_long;

const HEAD: &str = "# Odd contents and what becomes of them\n\n\
Every case was made by psql, sqlite3 or Python, backed up and restored with proof by the real program, and compared with \
its source by pg_dump or sqlite3. Written by `HOLDFAST_TEST_BLESS=1` and the tests `contents`, which fail when an outcome \
is another one. The statements are in `tests/fixtures/contents`. Large cases are judged in the long run. SQLite files with \
bytes changed at random (60 in every run, 2,000 in the long one) are refused, or come back with what SQLite says of them.\n\n\
- *comes back equal*: nothing differs\n\
- *comes back equal; said: …*: nothing differs but what the program says\n\
- *all rows come back; said: …*: what differs is named, it is no row; the restore ends with exit code 1\n\
- *backed up, not restored: …*: nothing is left at the target; the rows are in the backup, `export` reads them\n\
- *refused: …*: no backup is made, since it would not be whole\n";

/// Judges every world, two at a time, and returns the outcomes in their order.
#[track_caller]
fn all(worlds: &[World], judge: &(dyn Fn(&World) -> Outcome + Sync)) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(vec![None; worlds.len()]);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::SeqCst);
            let Some(world) = worlds.get(at) else { break };
            // So that one bad case does not hide the others; what it says stands in the output.
            let outcome = catch_unwind(AssertUnwindSafe(|| judge(world)));
            if outcome.is_err() {
                eprintln!("while judging {world}");
            }
            outcomes.lock().unwrap()[at] = outcome.ok();
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    let outcomes = outcomes.into_inner().unwrap();
    let bad = outcomes.iter().filter(|outcome| outcome.is_none()).count();
    assert_eq!(bad, 0, "cases that came back wrong, of {}", worlds.len());
    outcomes.into_iter().flatten().collect()
}

/// One product's part of the table. What is said of a shared database cannot be told of one of its cases.
fn table(title: &str, worlds: &[World], outcomes: &[Outcome]) -> String {
    let mut text = format!("## {title}\n");
    let mut last = "";
    let mut said_of_all: &[String] = &[];
    for (world, outcome) in worlds.iter().zip(outcomes) {
        if world.file_title != last {
            text.push_str(&below(std::mem::take(&mut said_of_all)));
            let _ = write!(text, "\n### {}\n\n| case | what becomes of it |\n|---|---|\n", world.file_title);
            last = &world.file_title;
        }
        let shown = match outcome {
            Outcome::EqualSaid(said) if world.setup == Setup::Shared => {
                said_of_all = said;
                Outcome::Equal.to_string()
            }
            outcome => outcome.to_string(),
        };
        for case in &world.cases {
            let _ = writeln!(text, "| {} | {} |", cell(&case.title), cell(&shown));
        }
    }
    text + &below(said_of_all)
}

fn below(said: &[String]) -> String {
    if said.is_empty() { String::new() } else { format!("\nSaid of these: {}\n", cell(&said.join("; "))) }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Where the table is.
fn documentation() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/contents.md")
}

/// The parts of the documentation.
fn documented() -> Vec<String> {
    let text = std::fs::read_to_string(documentation()).unwrap_or_else(|_| HEAD.to_owned());
    let (_, parts) = text.split_once("\n## ").unwrap_or((&text, ""));
    parts.split("\n## ").filter(|part| !part.is_empty()).map(|part| format!("## {}\n", part.trim_end())).collect()
}

/// Where among the parts the one of this title is.
fn position(parts: &[String], title: &str) -> Option<usize> {
    parts.iter().position(|part| part.starts_with(&format!("## {title}\n")))
}

/// Compares a part with the one in the documentation, or puts it there.
#[track_caller]
fn agrees_with_the_documentation(title: &str, part: &str) {
    let lock = std::fs::File::open(env!("CARGO_MANIFEST_DIR")).unwrap();
    lock.lock().unwrap();
    let mut parts = documented();
    let at = position(&parts, title);
    if std::env::var_os("HOLDFAST_TEST_BLESS").is_some() {
        match at {
            Some(at) => part.clone_into(&mut parts[at]),
            None => parts.push(part.to_owned()),
        }
        parts.sort();
        std::fs::write(documentation(), format!("{HEAD}\n{}", parts.join("\n"))).unwrap();
        return;
    }
    let old = at.map_or("", |at| &parts[at]);
    let changed: Vec<&str> = part.lines().filter(|line| !old.lines().any(|old| old == *line)).collect();
    assert_eq!(changed, Vec::<&str>::new(), "docs/contents.md says otherwise of these cases");
    assert_eq!(part, old, "docs/contents.md is not what the cases gave");
}

/// `HOLDFAST_TEST_CASE`, where that is set, takes only the cases whose title contains it, for a look at them.
#[track_caller]
fn judged(title: &str, folder: &str, judge: &(dyn Fn(&World) -> Outcome + Sync)) {
    let wanted = std::env::var("HOLDFAST_TEST_CASE").ok();
    let mut worlds = cases::read(folder);
    worlds.retain(|world| wanted.as_ref().is_none_or(|wanted| world.to_string().contains(wanted)));
    let outcomes = all(&worlds, judge);
    if wanted.is_some() {
        println!("{}", table(title, &worlds, &outcomes));
        return;
    }
    // What shares a database is there to come back exactly; what does not has one of its own.
    let unequal: Vec<String> = worlds
        .iter()
        .zip(&outcomes)
        .filter(|(world, _)| world.setup == Setup::Shared)
        .filter(|(_, outcome)| !matches!(outcome, Outcome::Equal | Outcome::EqualSaid(_)))
        .map(|(world, outcome)| format!("{world}: {outcome}"))
        .collect();
    assert_eq!(unequal, Vec::<String>::new());
    agrees_with_the_documentation(title, &table(title, &worlds, &outcomes));
}

/// Judges the cases in the long run; in any other one the documentation must tell of each.
#[track_caller]
fn judged_at_length(title: &str, folder: &str, judge: &(dyn Fn(&World) -> Outcome + Sync)) {
    if is_long() {
        return judged(title, folder, judge);
    }
    let cases = cases::read(folder).into_iter().flat_map(|world| world.cases);
    let cases: Vec<String> = cases.map(|case| cell(&case.title)).collect();
    let parts = documented();
    let part = position(&parts, title).map_or("", |at| &parts[at]);
    let told = part.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let told: Vec<&str> = told.filter(|title| *title != "case").collect();
    assert_eq!(told, cases, "docs/contents.md does not tell of these cases");
}

#[test]
fn large_contents_of_postgresql_come_back_or_are_named() {
    judged_at_length("PostgreSQL, large", "postgresql-large", &postgres::outcome);
}

#[test]
fn large_contents_of_sqlite_come_back_or_are_named() {
    judged_at_length("SQLite, large", "sqlite-large", &sqlite::outcome);
}

#[test]
fn odd_contents_of_postgresql_come_back_or_are_named() {
    judged("PostgreSQL", "postgresql", &postgres::outcome);
}

#[test]
fn odd_contents_of_sqlite_come_back_or_are_named() {
    judged("SQLite", "sqlite", &sqlite::outcome);
}
