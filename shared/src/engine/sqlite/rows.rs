//! Digests of a table's rows.
//!
//! A row is its rowid (if it can be named), then its columns in byte order of name; each value is a type tag, its
//! length in eight little-endian bytes, and its bytes: integers eight bytes, reals their IEEE bits, texts and blobs as
//! stored.

use super::quote;
use crate::model::{RowSum, TableFingerprint};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Rows, Statement};
use sha2::{Digest, Sha256};

/// A table that holds rows of its own.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Its name.
    pub name: String,
    /// The table has no rowid.
    pub without_rowid: bool,
}

/// A column as stored.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Its name.
    pub name: String,
    /// Its values are computed from other columns.
    pub generated: bool,
}

/// Digests of a table, and why its generated columns could not be read, if so.
pub(super) struct TableDigests {
    /// The digests.
    pub fingerprint: TableFingerprint,
    /// SQLite's words on the generated columns.
    pub unreadable: Option<String>,
}

/// Values one statement may return: SQLite allows 2000 columns, in a table as in a result.
const VALUES_PER_STATEMENT: usize = 1000;

/// Columns of `table` in byte order of name.
pub(super) fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    let mut statement = connection.prepare_cached("SELECT name, hidden FROM pragma_table_xinfo(?1, 'main')")?;
    let column = |row: &rusqlite::Row<'_>| {
        let hidden: i64 = row.get(1)?;
        Ok(Column { name: row.get(0)?, generated: hidden != 0 })
    };
    let mut columns: Vec<Column> = statement.query_map([table], column)?.collect::<Result<_, _>>()?;
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(columns)
}

/// The word by which the rowid of `table` can be asked for, if there is one that no column has taken.
pub(super) fn rowid_word(table: &Table, columns: &[Column]) -> Option<&'static str> {
    if table.without_rowid {
        return None;
    }
    let free = |word: &&str| !columns.iter().any(|column| column.name.eq_ignore_ascii_case(word));
    ["rowid", "_rowid_", "oid"].into_iter().find(free)
}

/// Reads all rows of `table`. Memory is that of one row's largest value.
pub(super) fn digest_table(connection: &Connection, table: &Table, utf16: bool) -> rusqlite::Result<TableDigests> {
    let mut columns = columns(connection, &table.name)?;
    let rowid = rowid_word(table, &columns);
    let all = Reader { table, rowid, columns: &columns, utf16 };
    match all.digest(connection) {
        Ok(fingerprint) => Ok(TableDigests { fingerprint, unreadable: None }),
        Err(error) if !columns.iter().any(|column| column.generated) => Err(error),
        // A function that only the application knows, or one that fails on old rows.
        Err(error) => {
            columns.retain(|column| !column.generated);
            let stored = Reader { table, rowid, columns: &columns, utf16 };
            let fingerprint = stored.digest(connection)?;
            Ok(TableDigests { fingerprint, unreadable: Some(super::open::plain(&error)) })
        }
    }
}

struct Reader<'a> {
    table: &'a Table,
    rowid: Option<&'static str>,
    columns: &'a [Column],
    utf16: bool,
}

impl Reader<'_> {
    fn digest(&self, connection: &Connection) -> rusqlite::Result<TableFingerprint> {
        let (queries, shape) = self.queries();
        let mut statements: Vec<Statement<'_>> =
            queries.iter().map(|query| connection.prepare(query)).collect::<Result<_, _>>()?;
        let mut parts: Vec<Rows<'_>> =
            statements.iter_mut().map(|statement| statement.query([])).collect::<Result<_, _>>()?;
        let with_generated = self.columns.iter().any(|column| column.generated);
        let (mut rows, mut stored, mut all) = (0, RowSum::default(), RowSum::default());
        loop {
            let mut row = RowHash { stored: Sha256::new(), all: with_generated.then(Sha256::new) };
            let mut ended = 0;
            for (part, shape) in parts.iter_mut().zip(&shape) {
                match part.next()? {
                    Some(values) => row.add(values, shape)?,
                    None => ended += 1,
                }
            }
            if ended == parts.len() {
                break;
            }
            assert_eq!(ended, 0, "two scans of one table in one snapshot must be of equal length");
            rows += 1;
            stored.add_digest(&row.stored.finalize().into());
            if let Some(hash) = row.all {
                all.add_digest(&hash.finalize().into());
            }
        }
        Ok(TableFingerprint {
            rows,
            digest: stored.to_hex(),
            digest_with_generated: with_generated.then(|| all.to_hex()),
        })
    }

    /// The statements that together read every value of a row, in the order of the table's own tree, and what each
    /// of their values is.
    fn queries(&self) -> (Vec<String>, Vec<Vec<Kind>>) {
        let mut values: Vec<(String, Kind)> = Vec::new();
        if let Some(rowid) = self.rowid {
            values.push((rowid.to_owned(), Kind { generated: false, typed: false }));
        }
        for column in self.columns {
            let name = quote(&column.name);
            if self.utf16 {
                // As text SQLite would convert to UTF-8 and replace what it cannot convert: read the bytes instead.
                let bytes = format!("CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END");
                values.push((
                    format!("typeof({name}) = 'text', {bytes}"),
                    Kind { generated: column.generated, typed: true },
                ));
            } else {
                values.push((name, Kind { generated: column.generated, typed: false }));
            }
        }
        if values.is_empty() {
            // Not even the rowid can be named; rows can still be counted.
            values.push(("0".to_owned(), Kind { generated: false, typed: false }));
        }
        // NOT INDEXED: an index may be damaged, and two scans must see one order.
        let table = quote(&self.table.name);
        let query = |part: &[(String, Kind)]| {
            let list: Vec<&str> = part.iter().map(|(text, _)| text.as_str()).collect();
            format!("SELECT {} FROM main.{table} NOT INDEXED", list.join(", "))
        };
        let parts = values.chunks(VALUES_PER_STATEMENT / if self.utf16 { 2 } else { 1 });
        parts.map(|part| (query(part), part.iter().map(|(_, kind)| *kind).collect())).unzip()
    }
}

/// How one value of a row stands in the result.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// Only part of the digest that includes generated columns.
    generated: bool,
    /// Comes as two results: whether it is text, and its bytes.
    typed: bool,
}

struct RowHash {
    stored: Sha256,
    all: Option<Sha256>,
}

impl RowHash {
    fn add(&mut self, row: &rusqlite::Row<'_>, shape: &[Kind]) -> rusqlite::Result<()> {
        let mut at = 0;
        for kind in shape {
            let mut value = row.get_ref(at + usize::from(kind.typed))?;
            if kind.typed
                && row.get_ref(at)? == ValueRef::Integer(1)
                && let ValueRef::Blob(bytes) = value
            {
                value = ValueRef::Text(bytes);
            }
            at += 1 + usize::from(kind.typed);
            if !kind.generated {
                add_value(&mut self.stored, value);
            }
            if let Some(all) = &mut self.all {
                add_value(all, value);
            }
        }
        Ok(())
    }
}

fn add_value(hash: &mut Sha256, value: ValueRef<'_>) {
    let mut fixed = |tag: u8, bytes: &[u8]| {
        let mut head = [0; 9];
        head[0] = tag;
        head[1..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        hash.update(head);
        hash.update(bytes);
    };
    match value {
        ValueRef::Null => fixed(0, &[]),
        ValueRef::Integer(number) => fixed(1, &number.to_le_bytes()),
        ValueRef::Real(number) => fixed(2, &number.to_bits().to_le_bytes()),
        ValueRef::Text(bytes) => fixed(3, bytes),
        ValueRef::Blob(bytes) => fixed(4, bytes),
    }
}
