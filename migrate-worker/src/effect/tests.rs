//! The rule, case by case on databases in memory, and with random moves and deletions.

mod cases;
mod random;
mod words;

use sha2::{Digest, Sha256};
use shared::model::{ColumnProfile, Profile, TableProfile, ValueSum};
use std::collections::BTreeMap;

/// A table in memory; an empty text is NULL, and the first column is its key.
#[derive(Debug, Clone)]
struct Rows {
    identity: u64,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// A database in memory.
type Tables = BTreeMap<String, Rows>;

/// A table whose columns are given by names, and whose rows by a line each, both separated by blanks; `-` is NULL.
fn table(identity: u64, columns: &str, rows: &[&str]) -> Rows {
    let words = |line: &str| line.split(' ').map(|word| word.trim_start_matches('-').to_owned()).collect();
    Rows { identity, columns: words(columns), rows: rows.iter().map(|row| words(row)).collect() }
}

fn database<const N: usize>(tables: [(&str, Rows); N]) -> Tables {
    tables.into_iter().map(|(name, table)| (format!("public.{name}"), table)).collect()
}

fn profile(tables: &Tables) -> Profile {
    let hash = |value: &String| {
        let mut first = [0; 16];
        first.copy_from_slice(&Sha256::digest(value)[..16]);
        ValueSum::of(first)
    };
    let column = |table: &Rows, at: usize| {
        let values = table.rows.iter().map(|row| &row[at]).filter(|value| !value.is_empty());
        ColumnProfile {
            name: table.columns[at].clone(),
            kind: "text".into(),
            key: at == 0,
            values: values.clone().count() as u64,
            sum: values.map(hash).fold(ValueSum::default(), ValueSum::plus),
        }
    };
    let table = |table: &Rows| TableProfile {
        identity: table.identity,
        storage: table.identity,
        rows: table.rows.len() as u64,
        columns: (0..table.columns.len()).map(|at| column(table, at)).collect(),
    };
    Profile { tables: tables.iter().map(|(name, rows)| (name.clone(), table(rows))).collect() }
}
