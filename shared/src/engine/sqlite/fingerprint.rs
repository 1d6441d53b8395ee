//! The fingerprint of an SQLite database: its tables' digests, its schema, and the results of its own checks.

use super::check::{Checks, check};
use super::quote;
use super::rows::{Table, digest_table};
use crate::model::Fingerprint;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};
use std::collections::HashSet;

/// A fingerprint and what was learned while taking it.
pub(super) struct Reading {
    /// The state.
    pub fingerprint: Fingerprint,
    /// The results of SQLite's checks.
    pub checks: Checks,
    /// What a person should know, a line each.
    pub defects: Vec<String>,
    /// Facts for the manifest.
    pub facts: Value,
    /// Statements of the schema in the order of creation.
    pub schema: Vec<SchemaRow>,
}

/// A row of `sqlite_schema`.
#[derive(Debug, Clone)]
pub(super) struct SchemaRow {
    /// `table`, `index`, `view` or `trigger`.
    pub kind: String,
    /// The object's name.
    pub name: String,
    /// The table it belongs to.
    pub table: String,
    /// Holds rows of its own.
    pub stored: bool,
    /// Its definition; `None` for indexes that SQLite makes by itself.
    pub sql: Option<Vec<u8>>,
}

/// Reads everything in one snapshot: the connection must be inside a read transaction, or own its file.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Reading> {
    let schema = schema(connection)?;
    let settings = Settings::read(connection)?;
    let encoding = settings.encoding.clone();
    let tables = stored_tables(connection, &schema)?;
    let checks = check(connection, tables.iter().map(|table| table.name.as_str()))?;
    let mut defects = checks.defects();
    let mut fingerprint = Fingerprint::default();
    for table in &tables {
        let digests = digest_table(connection, table, encoding != "UTF-8")?;
        if let Some(why) = digests.unreadable {
            defects.push(format!("generated columns of {} are not compared: {why}", quote(&table.name)));
        }
        fingerprint.tables.insert(quote(&table.name), digests.fingerprint);
    }
    fingerprint.schema = schema.iter().map(SchemaRow::statement).collect();
    fingerprint.schema.extend(settings.statements());
    fingerprint.schema.extend(checks.statements());
    fingerprint.schema.sort();
    let facts = json!({
        "page_size": number(connection, "page_size")?,
        "page_count": number(connection, "page_count")?,
        "auto_vacuum": number(connection, "auto_vacuum")?,
        "user_version": settings.user_version,
        "application_id": settings.application_id,
        "encoding": encoding,
        "integrity": checks.integrity,
        "foreign_keys": checks.foreign_keys,
    });
    Ok(Reading { fingerprint, checks, defects, facts, schema })
}

/// The schema's statements without the results of SQLite's checks, which read every row.
pub(super) fn statements(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let settings = Settings::read(connection)?;
    Ok(schema(connection)?.iter().map(SchemaRow::statement).chain(settings.statements()).collect())
}

/// What belongs to the schema besides `sqlite_schema`.
struct Settings {
    user_version: i64,
    application_id: i64,
    encoding: String,
}

impl Settings {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        Ok(Settings {
            user_version: number(connection, "user_version")?,
            application_id: number(connection, "application_id")?,
            encoding: connection.query_row("PRAGMA main.encoding", [], |row| row.get(0))?,
        })
    }

    fn statements(&self) -> [String; 3] {
        [
            format!("user_version: {}", self.user_version),
            format!("application_id: {}", self.application_id),
            format!("encoding: {}", self.encoding),
        ]
    }
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA main.{pragma}"), [], |row| row.get(0))
}

/// The whole schema, in the order of creation.
pub(super) fn schema(connection: &Connection) -> rusqlite::Result<Vec<SchemaRow>> {
    let mut statement =
        connection.prepare("SELECT type, name, tbl_name, rootpage, sql FROM main.sqlite_schema ORDER BY rowid")?;
    let rows = statement.query_map([], |row| {
        Ok(SchemaRow {
            kind: row.get(0)?,
            name: row.get(1)?,
            table: row.get(2)?,
            stored: !matches!(row.get_ref(3)?, ValueRef::Null | ValueRef::Integer(0)),
            sql: match row.get_ref(4)? {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes.to_vec()),
                _ => None,
            },
        })
    })?;
    rows.collect()
}

/// Tables with rows of their own, shadow tables included; the query planner's statistics are not data.
fn stored_tables(connection: &Connection, schema: &[SchemaRow]) -> rusqlite::Result<Vec<Table>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_list WHERE schema = 'main' AND wr = 1")?;
    let without_rowid: HashSet<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let tables = schema.iter().filter(|row| row.kind == "table" && row.stored && !is_statistics(&row.name));
    Ok(tables.map(|row| Table { name: row.name.clone(), without_rowid: without_rowid.contains(&row.name) }).collect())
}

/// `sqlite_stat1` and its relatives; a name that only begins like theirs is a table like any other.
pub(super) fn is_statistics(name: &str) -> bool {
    (1..=4).any(|number| name.eq_ignore_ascii_case(&format!("sqlite_stat{number}")))
}

impl SchemaRow {
    /// The row as one statement of the fingerprint. Names are quoted, so that no two rows give the same statement.
    pub fn statement(&self) -> String {
        let head = format!("{} {} on {}", self.kind, quote(&self.name), quote(&self.table));
        match &self.sql {
            None => head,
            Some(sql) => match std::str::from_utf8(sql) {
                Ok(sql) => format!("{head}: {sql}"),
                Err(_) => format!("{head}: not UTF-8, in hexadecimal {}", hex::encode(sql)),
            },
        }
    }
}
