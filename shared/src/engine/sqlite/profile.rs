//! The profile of an SQLite database: every table read once, every value hashed.

use super::fingerprint::is_statistics;
use super::open::{existing_file, sql_error};
use super::quote;
use crate::engine::EngineError;
use crate::model::{ColumnProfile, Profile, TableProfile, ValueSum};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Columns one statement reads: SQLite allows 2000 in a result.
const COLUMNS_PER_SCAN: usize = 500;

/// Distance between the numbers of two entries of the schema after [`number_apart`].
const GAP: i64 = 1 << 20;

/// Whole numbers a REAL holds exactly lie below this.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads everything in one snapshot: the connection must be inside a read transaction, or own its file.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Profile> {
    let mut profile = Profile::default();
    for entry in entries(connection)? {
        let mut table = TableProfile {
            identity: entry.number,
            storage: entry.root,
            rows: 0,
            columns: columns(connection, &entry.name)?,
        };
        let mut counted = false;
        for part in table.columns.chunks_mut(COLUMNS_PER_SCAN) {
            table.rows = scan(connection, &entry.name, part)?;
            counted = true;
        }
        if !counted {
            // Every column is hidden; rows can still be counted.
            table.rows = scan(connection, &entry.name, &mut [])?;
        }
        profile.tables.insert(quote(&entry.name), table);
    }
    Ok(profile)
}

/// Spreads the numbers of the schema's entries. SQLite gives a new entry the number behind the last one, so that a table
/// made after the last one was dropped would get its number.
pub(super) fn number_apart(path: &Path) -> Result<(), EngineError> {
    let path = existing_file(path)?;
    let spread = || {
        let mut connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(super::LOCK_TIMEOUT)?;
        connection.execute_batch("PRAGMA writable_schema = ON")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut statement = transaction.prepare("SELECT rowid FROM main.sqlite_schema ORDER BY rowid")?;
        let numbers: Vec<i64> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        drop(statement);
        // Below zero first, where no entry is in the way.
        for (number, rank) in numbers.iter().zip(1i64..) {
            transaction.execute("UPDATE main.sqlite_schema SET rowid = ?2 WHERE rowid = ?1", [*number, -rank * GAP])?;
        }
        transaction.execute("UPDATE main.sqlite_schema SET rowid = -rowid", [])?;
        transaction.commit()?;
        connection.close().map_err(|(_, error)| error)
    };
    spread().map_err(|error| sql_error(&path, error))
}

/// A table in the schema.
struct Entry {
    name: String,
    number: u64,
    root: u64,
}

/// Tables with rows a person or a program put there.
fn entries(connection: &Connection) -> rusqlite::Result<Vec<Entry>> {
    let mut statement = connection.prepare(
        "SELECT name, rowid, rootpage, coalesce(rootpage, 0) > 0, coalesce(sql, '') FROM main.sqlite_schema
         WHERE type = 'table' ORDER BY rowid",
    )?;
    let rows = statement.query_map([], |row| {
        let (stored, sql): (bool, String) = (row.get(3)?, row.get(4)?);
        let number = |at| row.get::<_, Option<i64>>(at).map(|number| number.unwrap_or_default() as u64);
        Ok((Entry { name: row.get(0)?, number: number(1)?, root: number(2)? }, stored, sql))
    })?;
    let all: Vec<(Entry, bool, String)> = rows.collect::<Result<_, _>>()?;
    let indexes: Vec<String> =
        all.iter().filter(|(_, _, sql)| is_full_text(sql)).map(|(e, ..)| e.name.clone()).collect();
    let wanted =
        |name: &str| !is_statistics(name) && !name.starts_with("sqlite_") && !indexes.iter().any(|i| inner(i, name));
    Ok(all.into_iter().filter(|(entry, stored, _)| *stored && wanted(&entry.name)).map(|(entry, ..)| entry).collect())
}

/// Whether the statement makes a full-text index.
fn is_full_text(sql: &str) -> bool {
    let words: Vec<String> = sql.split_whitespace().map(str::to_lowercase).collect();
    words.windows(2).any(|pair| pair[0] == "using" && pair[1].starts_with("fts"))
        && words.get(1).is_some_and(|w| w == "virtual")
}

/// Whether `name` is a table in which the full-text index keeps its words. Their rows come and go as it tidies up; the
/// texts themselves, or at least one row for each, lie in other tables beside them.
fn inner(index: &str, name: &str) -> bool {
    let suffix = name.strip_prefix(index);
    suffix.is_some_and(|s| ["_data", "_idx", "_config", "_segments", "_segdir", "_stat"].contains(&s))
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<ColumnProfile>> {
    let mut statement = connection
        .prepare_cached("SELECT name, type, pk FROM pragma_table_xinfo(?1, 'main') WHERE hidden = 0 ORDER BY cid")?;
    let column = |row: &rusqlite::Row<'_>| {
        let key: i64 = row.get(2)?;
        Ok(ColumnProfile { name: row.get(0)?, kind: row.get(1)?, key: key > 0, values: 0, sum: ValueSum::default() })
    };
    statement.query_map([table], column)?.collect()
}

/// Reads these columns of all rows, and returns the number of rows.
fn scan(connection: &Connection, table: &str, columns: &mut [ColumnProfile]) -> rusqlite::Result<u64> {
    let list: Vec<String> = columns.iter().map(|column| quote(&column.name)).collect();
    let list = if list.is_empty() { "0".to_owned() } else { list.join(", ") };
    // NOT INDEXED: an index may be damaged.
    let mut statement = connection.prepare(&format!("SELECT {list} FROM main.{} NOT INDEXED", quote(table)))?;
    let mut rows = statement.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += 1;
        for (at, column) in columns.iter_mut().enumerate() {
            if let Some(sum) = hash(row.get_ref(at)?) {
                column.values += 1;
                column.sum = column.sum.plus(sum);
            }
        }
    }
    Ok(count)
}

/// The hash of a value by its text form: a number is the same whether a column keeps it as INTEGER, REAL or TEXT.
fn hash(value: ValueRef<'_>) -> Option<ValueSum> {
    let (tag, bytes) = match value {
        ValueRef::Null => return None,
        ValueRef::Integer(number) => (b't', number.to_string().into_bytes()),
        ValueRef::Real(number) if number.fract() == 0.0 && number.abs() < EXACT => {
            (b't', (number as i64).to_string().into_bytes())
        }
        ValueRef::Real(number) => (b't', number.to_string().into_bytes()),
        ValueRef::Text(bytes) => return Some(digest(b't', bytes)),
        ValueRef::Blob(bytes) => return Some(digest(b'b', bytes)),
    };
    Some(digest(tag, &bytes))
}

fn digest(tag: u8, bytes: &[u8]) -> ValueSum {
    let digest = Sha256::new().chain_update([tag]).chain_update(bytes).finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    ValueSum::of(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_same_however_a_column_keeps_it() {
        let text = |text: &'static str| hash(ValueRef::Text(text.as_bytes()));
        assert_eq!(hash(ValueRef::Integer(42)), hash(ValueRef::Real(42.0)));
        assert_eq!(hash(ValueRef::Integer(-42)), text("-42"));
        assert_eq!(hash(ValueRef::Real(1.5)), text("1.5"));
        assert_eq!(hash(ValueRef::Real(-0.0)), text("0"));
        assert_ne!(hash(ValueRef::Blob(b"42")), text("42"));
        assert_ne!(text("042"), text("42"));
        assert_ne!(hash(ValueRef::Real(f64::MAX)), hash(ValueRef::Integer(i64::MAX)));
        assert_eq!(hash(ValueRef::Null), None);
    }
}
