//! Two structures beside each other: which objects were added, removed or changed.
//!
//! Compared is what statements mean, as far as that can be told from their text: SQLite keeps every definition as it was
//! typed, and another one, with other quotes, where a table was made anew to be changed.

mod postgres;
mod sqlite;
mod sync;

pub use sync::{Sync, applied};

use serde::Serialize;
use shared::model::{EngineKind, Structure, without_secrets};
use std::collections::{BTreeMap, BTreeSet};

/// What became of an object from the left side to the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Became {
    /// Only the right one has it.
    Added,
    /// Only the left one has it.
    Removed,
    /// Both have it, and not alike.
    Changed,
}

impl Became {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Became::Added => "added",
            Became::Removed => "removed",
            Became::Changed => "changed",
        }
    }
}

/// An object that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// It, as `table "users"`.
    pub object: String,
    /// What became of it.
    pub became: Became,
    /// Its statements on the left side that the right one does not have, without secrets.
    pub left: Vec<String>,
    /// The same of the right side.
    pub right: Vec<String>,
}

/// Two structures beside each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Objects that differ, by name.
    pub changes: Vec<Change>,
    /// Number of objects that are the same.
    pub same: usize,
}

/// A statement as it is compared.
struct Statement {
    /// The object it is of.
    object: String,
    /// What it means: two texts that mean the same are one.
    meaning: String,
    /// As it stands.
    text: String,
}

/// Compares two structures of one product.
pub fn compare(kind: EngineKind, left: &Structure, right: &Structure) -> Comparison {
    let (left, right) = (objects(kind, left), objects(kind, right));
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let mut found = Comparison::default();
    for name in names {
        let none = Vec::new();
        let (on_left, on_right) = (left.get(name).unwrap_or(&none), right.get(name).unwrap_or(&none));
        let (only_left, only_right) = (beyond(on_left, on_right), beyond(on_right, on_left));
        if only_left.is_empty() && only_right.is_empty() {
            found.same += 1;
            continue;
        }
        let became = match (on_left.is_empty(), on_right.is_empty()) {
            (true, _) => Became::Added,
            (_, true) => Became::Removed,
            _ => Became::Changed,
        };
        found.changes.push(Change { object: name.clone(), became, left: only_left, right: only_right });
    }
    found
}

fn objects(kind: EngineKind, structure: &Structure) -> BTreeMap<String, Vec<Statement>> {
    let mut objects: BTreeMap<String, Vec<Statement>> = BTreeMap::new();
    for text in structure.statements() {
        let read = match kind {
            EngineKind::Sqlite => sqlite::read(text),
            EngineKind::Postgres => Some(postgres::read(text)),
        };
        if let Some(statement) = read {
            objects.entry(statement.object.clone()).or_default().push(statement);
        }
    }
    objects
}

/// What one side has and the other one has not; a statement that stands twice must stand twice.
fn beyond(one: &[Statement], other: &[Statement]) -> Vec<String> {
    let mut open: Vec<&str> = other.iter().map(|statement| statement.meaning.as_str()).collect();
    let mut list = Vec::new();
    for statement in one {
        match open.iter().position(|meaning| *meaning == statement.meaning) {
            Some(at) => {
                open.swap_remove(at);
            }
            None => list.push(without_secrets(&statement.text)),
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: EngineKind, left: &[&str], right: &[&str]) -> Vec<String> {
        let structure = |list: &[&str]| Structure::of(list.iter().map(|text| (*text).to_owned()).collect());
        let found = compare(kind, &structure(left), &structure(right));
        let line = |change: &Change| {
            format!("{} {} -{} +{}", change.became.as_str(), change.object, change.left.len(), change.right.len())
        };
        found.changes.iter().map(line).chain([format!("{} same", found.same)]).collect()
    }

    #[test]
    fn objects_are_added_removed_and_changed() {
        let left = [
            "table \"a\" on \"a\": CREATE TABLE a (x)",
            "table \"b\" on \"b\": CREATE TABLE b (x)",
            "index \"i\" on \"a\": CREATE INDEX i ON a (x)",
            "user_version: 1",
        ];
        let right = [
            "table \"a\" on \"a\": CREATE TABLE IF NOT EXISTS \"a\" ( x )",
            "table \"b\" on \"b\": CREATE TABLE b (x, y)",
            "table \"c\" on \"c\": CREATE TABLE c (x)",
            "user_version: 2",
        ];
        let expected = [
            "changed PRAGMA user_version -1 +1",
            "removed index \"i\" -1 +0",
            "changed table \"b\" -1 +1",
            "added table \"c\" -0 +1",
            "1 same",
        ];
        assert_eq!(said(EngineKind::Sqlite, &left, &right), expected);
        assert_eq!(said(EngineKind::Sqlite, &left, &left), ["4 same"]);
    }

    #[test]
    fn statements_of_one_object_are_compared_each() {
        let grant = "GRANT SELECT ON TABLE public.a TO reader";
        let left = ["CREATE TABLE public.a (\n    x integer\n)", "ALTER TABLE public.a OWNER TO one", grant];
        let right = ["CREATE TABLE public.a (\n    x bigint\n)", "ALTER TABLE public.a OWNER TO two"];
        let expected = [
            "removed GRANT SELECT ON TABLE public.a TO reader -1 +0",
            "changed owner of table public.a -1 +1",
            "changed table public.a -1 +1",
            "0 same",
        ];
        assert_eq!(said(EngineKind::Postgres, &left, &right), expected);
        let server = "CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (password 's3cret')";
        let structure = |list: &[&str]| Structure::of(list.iter().map(|text| (*text).to_owned()).collect());
        let found = compare(EngineKind::Postgres, &structure(&[server]), &structure(&[]));
        assert!(found.changes[0].left[0].starts_with("CREATE SERVER s"), "{found:?}");
        assert!(!format!("{found:?}").contains("s3cret"), "{found:?}");
    }
}
