//! SQLite's own checks of a database: `integrity_check` and `foreign_key_check`.
//!
//! A restore must give the same results as the source did, so they are part of the fingerprint's schema; a source with
//! old sins is backed up all the same, and the sins are named. (On a read-only connection SQLite does not evaluate CHECK
//! constraints; the rows themselves are compared by their digests.)

use super::open::plain;
use super::quote;
use crate::model::RowSum;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode};
use std::collections::BTreeMap;

/// Problems of the integrity check that are kept.
const PROBLEMS: usize = 100;

/// What the checks said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Checks {
    /// `ok`, or the first problems.
    pub integrity: Vec<String>,
    /// `0 rows`, or the number and digest of the rows whose parent is missing.
    pub foreign_keys: String,
    /// Tables whose foreign keys could not be checked, and why.
    pub unchecked: Vec<String>,
    /// Rows without a parent, by child and parent table.
    pub orphans: BTreeMap<(String, String), u64>,
}

impl Checks {
    /// Whether the integrity check found nothing.
    pub fn sound(&self) -> bool {
        self.integrity == ["ok"]
    }

    /// The results as statements of the fingerprint's schema.
    pub fn statements(&self) -> Vec<String> {
        let mut list: Vec<String> =
            self.integrity.iter().map(|problem| format!("integrity_check: {problem}")).collect();
        list.push(format!("foreign_key_check: {}", self.foreign_keys));
        list.extend(self.unchecked.iter().map(|why| format!("foreign_key_check: {why}")));
        list
    }

    /// What a person should know, a line each.
    pub fn defects(&self) -> Vec<String> {
        let mut list = Vec::new();
        if !self.sound() {
            list.extend(self.integrity.iter().map(|problem| format!("integrity_check: {problem}")));
        }
        for ((child, parent), rows) in &self.orphans {
            list.push(format!("foreign_key_check: {rows} rows of {child} point to rows missing in {parent}"));
        }
        list.extend(self.unchecked.iter().map(|why| format!("foreign_key_check: {why}")));
        list
    }
}

/// Runs both checks; `tables` are those that hold rows. Fails only when the file cannot be read or is locked; a check that cannot run says so in its
/// result.
pub(super) fn check<'a>(connection: &Connection, tables: impl Iterator<Item = &'a str>) -> rusqlite::Result<Checks> {
    let integrity = match integrity(connection) {
        Ok(problems) => problems,
        Err(error) if passing(&error) => return Err(error),
        Err(error) => vec![format!("could not run: {}", plain(&error))],
    };
    let mut checks = Checks { integrity, ..Checks::default() };
    let (mut count, mut sum) = (0, RowSum::default());
    // Table by table: one definition that cannot be checked must not hide the rows of the others.
    for table in tables {
        match foreign_keys(connection, table, &mut checks.orphans, &mut sum) {
            Ok(orphans) => count += orphans,
            Err(error) if passing(&error) => return Err(error),
            Err(error) => checks.unchecked.push(format!("{} could not run: {}", quote(table), plain(&error))),
        }
    }
    checks.foreign_keys = if count == 0 { "0 rows".into() } else { format!("{count} rows, digest {}", sum.to_hex()) };
    Ok(checks)
}

/// Says nothing about the database, only about this moment.
fn passing(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
                | ErrorCode::SystemIoFailure
                | ErrorCode::OperationInterrupted
        )
    )
}

fn integrity(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA main.integrity_check({PROBLEMS})"))?;
    let lines = statement.query_map([], |row| Ok(text(row.get_ref(0)?).replace(['\n', '\r'], " ")))?;
    lines.collect()
}

fn foreign_keys(
    connection: &Connection,
    table: &str,
    orphans: &mut BTreeMap<(String, String), u64>,
    sum: &mut RowSum,
) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare(&format!("PRAGMA main.foreign_key_check({})", quote(table)))?;
    let mut rows = statement.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let (child, parent) = (text(row.get_ref(0)?), text(row.get_ref(2)?));
        sum.add_row(format!("{child:?} {} {parent:?} {}", text(row.get_ref(1)?), text(row.get_ref(3)?)).as_bytes());
        count += 1;
        *orphans.entry((child, parent)).or_default() += 1;
    }
    Ok(count)
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "-".into(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}
