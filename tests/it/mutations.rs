//! The random changes themselves: each really changes what the oracles see, so a proof that reports nothing is wrong.

use std::sync::Mutex;
use tests::is_long;
use tests::mutations::{Draws, Mutation, postgres, sqlite};
use tests::postgres::{dump_differences, pg_dump_with_settings};
use tests::sqlite::sqlite_differences;

/// Runs `check` on every item, four at a time, and panics with all complaints together.
fn each<T: Sync>(items: &[T], seed: u64, check: impl Fn(&T) -> Result<(), String> + Sync) {
    let next = Mutex::new(items.iter());
    let complaints = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(item) = next.lock().unwrap().next() else { return };
                    if let Err(complaint) = check(item) {
                        complaints.lock().unwrap().push(complaint);
                    }
                }
            });
        }
    });
    let complaints = complaints.into_inner().unwrap();
    assert!(complaints.is_empty(), "seed {seed}, {} of {}:\n{}", complaints.len(), items.len(), complaints.join("\n"));
}

fn mutated(mutation: &Mutation, result: Result<Vec<String>, String>) -> Result<(), String> {
    match result {
        Ok(found) if found.is_empty() => Err(format!("{}: no difference: {}", mutation.description, mutation.sql)),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{}: {error}: {}", mutation.description, mutation.sql)),
    }
}

#[test]
fn every_change_to_postgresql_shows_in_pg_dump() {
    let source = postgres::database();
    let before = pg_dump_with_settings(&source.url());
    let catalogue = postgres::Catalogue::read(&source);
    let mut draws = Draws::from_environment();
    let mut changes = catalogue.draw(if is_long() { 300 } else { 40 }, &mut draws);
    if is_long() {
        changes.extend(catalogue.schema_changes().iter().filter(|_| draws.below(3) == 0).cloned());
    }
    each(&changes, draws.seed(), |mutation| {
        let database = postgres::database();
        let result = database.try_psql(&mutation.sql);
        mutated(mutation, result.map(|_| dump_differences(&before, &pg_dump_with_settings(&database.url()))))
    });
}

#[test]
fn every_change_to_sqlite_shows_in_its_dump() {
    let source = sqlite::file();
    let before = source.dump_text();
    let catalogue = sqlite::Catalogue::read(&source);
    let mut draws = Draws::from_environment();
    let mut changes = catalogue.draw(if is_long() { 300 } else { 40 }, &mut draws);
    if is_long() {
        changes.extend(catalogue.schema_changes().iter().filter(|_| draws.below(3) == 0).cloned());
    }
    each(&changes, draws.seed(), |mutation| {
        let file = sqlite::file();
        let result = file.try_sqlite3(&mutation.sql);
        mutated(mutation, result.map(|_| sqlite_differences(&before, &file.dump_text())))
    });
}

/// A draw that finds nothing to change would fail whoever draws it, one run in many.
#[test]
fn a_thousand_changes_to_rows_of_postgresql_find_something_to_change() {
    let database = postgres::database();
    let mut draws = Draws::from_environment();
    let mut changes = postgres::Catalogue::read(&database).draw(1000, &mut draws);
    // What is not of rows may not be possible in a transaction.
    changes.retain(|change| change.sql.contains("there is nothing to change"));
    assert!(changes.len() > 300, "only {} are of rows", changes.len());
    let failed = changes.chunks(50).filter_map(|changes| {
        let all: String = changes.iter().map(|change| format!("BEGIN; {};\nROLLBACK;\n", change.sql)).collect();
        database.try_psql(&all).err()
    });
    assert_eq!(failed.collect::<Vec<_>>(), Vec::<String>::new(), "HOLDFAST_TEST_SEED={}", draws.seed());
}

#[test]
fn three_hundred_different_changes_can_be_drawn_and_drawn_again() {
    let database = postgres::database();
    let file = sqlite::file();
    let draw = |seed| {
        let mut draws = Draws::new(seed);
        let mut drawn = postgres::Catalogue::read(&database).draw(300, &mut draws);
        drawn.extend(sqlite::Catalogue::read(&file).draw(150, &mut draws));
        drawn
    };
    let (one, again, other) = (draw(7), draw(7), draw(8));
    assert_eq!(one, again);
    assert_ne!(one, other);
    let kinds: std::collections::BTreeSet<_> = one.iter().map(|mutation| mutation.kind).collect();
    assert!(kinds.len() > 20, "{kinds:?}");
}
