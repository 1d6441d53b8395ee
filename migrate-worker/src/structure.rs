//! Two schemas beside each other: what only one of them has, and what differs between them.
//!
//! PostgreSQL's statements come from its own dump and are compared as they are. SQLite keeps the text somebody typed, so
//! there the words are compared: a table that was rebuilt by a migration tool is written differently and is the same.

mod words;

use serde::Serialize;
use shared::model::{EngineKind, Structure};
use std::collections::BTreeMap;
use words::{parts, words};

/// An object that both have, differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Its kind and name.
    pub object: String,
    /// Parts of its statement that only the left one has: columns, constraints.
    pub only_left: Vec<String>,
    /// Parts that only the right one has.
    pub only_right: Vec<String>,
}

/// How two structures differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Statements of objects that only the left one has.
    pub only_left: Vec<String>,
    /// Statements of objects that only the right one has.
    pub only_right: Vec<String>,
    /// Objects of both that are not the same.
    pub changed: Vec<Changed>,
}

impl Comparison {
    /// Compares two structures of one product.
    pub fn of(kind: EngineKind, left: &Structure, right: &Structure) -> Self {
        let (mut left, mut right) = (objects(kind, left), objects(kind, right));
        let mut found = Comparison::default();
        for (object, statements) in std::mem::take(&mut left) {
            let Some(others) = right.remove(&object) else {
                found.only_left.extend(statements);
                continue;
            };
            let key = |list: &[String]| list.iter().map(|one| key(kind, one)).collect::<Vec<_>>();
            if key(&statements) != key(&others) {
                found.changed.push(changed(kind, object, &statements, &others));
            }
        }
        found.only_right.extend(right.into_values().flatten());
        found
    }

    /// Whether both are the same.
    pub fn is_equal(&self) -> bool {
        *self == Comparison::default()
    }

    /// The report for people, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        lines.extend(self.only_left.iter().map(|statement| format!("- {statement}")));
        lines.extend(self.only_right.iter().map(|statement| format!("+ {statement}")));
        for changed in &self.changed {
            lines.push(format!("~ {}", changed.object));
            lines.extend(changed.only_left.iter().map(|part| format!("    - {part}")));
            lines.extend(changed.only_right.iter().map(|part| format!("    + {part}")));
        }
        lines
    }
}

/// The statements by the object they make; several where there are more of one.
fn objects(kind: EngineKind, structure: &Structure) -> BTreeMap<String, Vec<String>> {
    let mut objects: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for statement in structure.statements() {
        objects.entry(object(kind, statement)).or_default().push(statement.clone());
    }
    objects
}

/// What a statement is compared by.
fn key(kind: EngineKind, statement: &str) -> String {
    match kind {
        EngineKind::Sqlite => words(statement).join(" "),
        EngineKind::Postgres => statement.to_owned(),
    }
}

/// The object a statement makes; the statement itself where that is not known, so that it is told as a whole.
fn object(kind: EngineKind, statement: &str) -> String {
    match kind {
        // `table "orders" on "orders": CREATE TABLE …`, `user_version: 3`
        EngineKind::Sqlite => {
            let (head, _) = statement.split_once(": ").unwrap_or((statement, ""));
            let (object, table) = head.split_once(" on ").unwrap_or((head, ""));
            if object.starts_with("index ") || object.starts_with("trigger ") {
                return head.to_owned();
            }
            debug_assert!(!table.contains(": "));
            object.to_owned()
        }
        EngineKind::Postgres => of_postgres(statement).unwrap_or_else(|| statement.to_owned()),
    }
}

fn of_postgres(statement: &str) -> Option<String> {
    let first = statement.lines().next()?;
    if let Some((table, rest)) =
        statement.strip_prefix("ALTER TABLE ").and_then(|rest| rest.split_once("ADD CONSTRAINT "))
    {
        let table = table.trim().trim_start_matches("ONLY ").trim();
        return Some(format!("constraint {} on {table}", rest.split_whitespace().next()?));
    }
    let rest = first.strip_prefix("CREATE ")?;
    let rest = ["UNIQUE ", "OR REPLACE ", "UNLOGGED ", "MATERIALIZED "]
        .iter()
        .fold(rest, |rest, word| rest.trim_start_matches(word));
    let (kind, rest) = rest.split_once(' ')?;
    let name = match kind {
        "FUNCTION" | "PROCEDURE" | "AGGREGATE" => rest.split_inclusive(')').next()?,
        "TABLE" | "INDEX" | "VIEW" | "SEQUENCE" | "TYPE" | "DOMAIN" | "SCHEMA" | "TRIGGER" => {
            rest.split([' ', '(']).next()?
        }
        _ => return None,
    };
    Some(format!("{} {}", kind.to_lowercase(), name.trim_end_matches(';')))
}

fn changed(kind: EngineKind, object: String, left: &[String], right: &[String]) -> Changed {
    let pieces = |list: &[String]| list.iter().flat_map(|statement| parts(statement)).collect::<Vec<_>>();
    let (left, right) = (pieces(left), pieces(right));
    let only = |these: &[String], those: &[String]| {
        let known: Vec<String> = those.iter().map(|part| key(kind, part)).collect();
        these.iter().filter(|part| !known.contains(&key(kind, part))).cloned().collect::<Vec<_>>()
    };
    let (only_left, only_right) = (only(&left, &right), only(&right, &left));
    // The same parts in another order.
    let is_order = only_left.is_empty() && only_right.is_empty();
    if is_order {
        Changed { object, only_left: left, only_right: right }
    } else {
        Changed { object, only_left, only_right }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(kind: EngineKind, left: &[&str], right: &[&str]) -> Vec<String> {
        let of = |list: &[&str]| Structure::of(list.iter().map(|one| (*one).to_owned()).collect());
        let found = Comparison::of(kind, &of(left), &of(right));
        assert_eq!(found.is_equal(), found.lines().is_empty());
        found.lines()
    }

    #[test]
    fn sqlite_is_compared_by_words_and_not_by_text() {
        let left =
            "table \"users\" on \"users\": CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT DEFAULT 'It''s')";
        for same in [
            "table \"users\" on \"users\": CREATE TABLE IF NOT EXISTS \"users\" ( id integer primary key,\n  [name] text default 'It''s' )",
            "table \"users\" on \"users\": create table `users` (id INTEGER PRIMARY KEY /* key */, name TEXT -- name\n DEFAULT 'It''s')",
        ] {
            assert_eq!(compared(EngineKind::Sqlite, &[left], &[same]), Vec::<String>::new(), "{same}");
        }
        let other = "table \"users\" on \"users\": CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT DEFAULT 'it''s', age INT)";
        assert_eq!(
            compared(EngineKind::Sqlite, &[left, "user_version: 3"], &[other, "user_version: 4"]),
            [
                "~ table \"users\"",
                "    - name TEXT DEFAULT 'It''s'",
                "    + name TEXT DEFAULT 'it''s'",
                "    + age INT",
                "~ user_version",
                "    - user_version: 3",
                "    + user_version: 4",
            ]
        );
        let index = "index \"by_name\" on \"users\": CREATE INDEX by_name ON users (name)";
        assert_eq!(compared(EngineKind::Sqlite, &[left], &[left, index]), [format!("+ {index}")]);
    }

    #[test]
    fn postgresql_is_compared_object_by_object() {
        let orders = "CREATE TABLE public.orders (\n    id integer NOT NULL,\n    note text\n)";
        let wider =
            "CREATE TABLE public.orders (\n    id integer NOT NULL,\n    shop_id integer,\n    note numeric(10,2)\n)";
        let key = "ALTER TABLE ONLY public.orders\n    ADD CONSTRAINT orders_pkey PRIMARY KEY (id)";
        let other_key = "ALTER TABLE ONLY public.orders\n    ADD CONSTRAINT orders_pkey PRIMARY KEY (id, note)";
        assert_eq!(
            compared(
                EngineKind::Postgres,
                &[orders, key],
                &[wider, other_key, "CREATE SEQUENCE public.s\n    START WITH 1"]
            ),
            [
                "+ CREATE SEQUENCE public.s\n    START WITH 1",
                "~ constraint orders_pkey on public.orders",
                "    - id",
                "    + id, note",
                "~ table public.orders",
                "    - note text",
                "    + shop_id integer",
                "    + note numeric(10,2)",
            ]
        );
        assert_eq!(compared(EngineKind::Postgres, &[orders, key], &[key, orders]), Vec::<String>::new());
    }
}
