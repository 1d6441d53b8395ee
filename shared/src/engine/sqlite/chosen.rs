//! Restoring some tables only: which ones are meant, the new database that holds just them, what it should equal.

use super::fingerprint::{SchemaRow, is_statistics, schema};
use super::open::{immutable_uri, open_private, plain, sql_error};
use super::quote;
use super::rows::{Table, columns, rowid_word};
use crate::engine::EngineError;
use crate::model::Fingerprint;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// Finds the tables a person named. Names compare as in SQLite: ASCII letters without regard to case.
pub(super) fn choose(backup: &Fingerprint, wanted: &[String]) -> Result<Vec<String>, EngineError> {
    let known: Vec<String> =
        backup.tables.keys().filter_map(|name| unquote(name)).filter(|name| !is_internal(name)).collect();
    let mut chosen: Vec<String> = Vec::new();
    for typed in wanted {
        let table = find(&known, typed).ok_or_else(|| unknown(backup, &known, typed))?;
        if !chosen.contains(table) {
            chosen.push(table.clone());
        }
    }
    Ok(chosen)
}

fn find<'a>(known: &'a [String], typed: &str) -> Option<&'a String> {
    let after_main = typed.get(..5).filter(|start| start.eq_ignore_ascii_case("main.")).map(|_| &typed[5..]);
    // As typed first: a table may be called "main.x", with or without the quotes.
    [Some(typed), after_main].into_iter().flatten().find_map(|text| {
        let unquoted = unquote(text);
        let is = |name: &&String| name.as_str() == text || unquoted.as_deref() == Some(name.as_str());
        let is_like = |name: &&String| {
            name.eq_ignore_ascii_case(text) || unquoted.as_deref().is_some_and(|text| name.eq_ignore_ascii_case(text))
        };
        known.iter().find(is).or_else(|| known.iter().find(is_like))
    })
}

fn unknown(backup: &Fingerprint, known: &[String], typed: &str) -> EngineError {
    let list = if known.is_empty() { "none".into() } else { known.join(", ") };
    let name = quote(&unquote(typed).unwrap_or(typed.into()));
    let is = |kind: &str| backup.schema.iter().any(|statement| statement.starts_with(&format!("{kind} {name} on ")));
    if (is("view") || is("table")) && !is_internal(typed) {
        return EngineError::refused(format!("{typed} is a view or a virtual table and holds no rows of its own"))
            .with_hint(format!("restore the whole backup, or choose among its tables: {list}"));
    }
    EngineError::refused(format!("the backup has no table {typed}; its tables are: {list}"))
}

/// What a database of only the chosen tables should equal.
pub(super) fn expected(backup: &Fingerprint, chosen: &[String]) -> Fingerprint {
    let chosen: Vec<String> = chosen.iter().map(|name| quote(name)).collect();
    let mut part = Fingerprint::default();
    part.tables
        .extend(backup.tables.iter().filter(|(name, _)| chosen.contains(name)).map(|(n, t)| (n.clone(), t.clone())));
    let sound = backup.schema.iter().any(|statement| statement == "integrity_check: ok");
    let wanted = |statement: &&String| match parse(statement) {
        Some((kind, _, table)) => kind != "view" && chosen.contains(&table),
        None => !statement.starts_with("foreign_key_check: ") && (sound || !statement.starts_with("integrity_check: ")),
    };
    part.schema = backup.schema.iter().filter(wanted).cloned().collect();
    part
}

/// What of a new database's fingerprint can be compared with [`expected`]: SQLite's own tables follow the others.
pub(super) fn comparable(mut found: Fingerprint, backup: &Fingerprint) -> Fingerprint {
    found.tables.retain(|name, _| !unquote(name).is_some_and(|name| is_internal(&name)));
    let sound = backup.schema.iter().any(|statement| statement == "integrity_check: ok");
    found.schema.retain(|statement| match parse(statement) {
        Some((_, _, table)) => !unquote(&table).is_some_and(|name| is_internal(&name)),
        None => !statement.starts_with("foreign_key_check: ") && (sound || !statement.starts_with("integrity_check: ")),
    });
    found
}

/// Builds the database at `new` (an empty file) from the whole one. Returns what it could not create, and what it left
/// out, a line each.
pub(super) fn build(whole: &Path, new: &Path, chosen: &[String]) -> Result<Vec<String>, EngineError> {
    let source = open_private(whole)?;
    let read = |error| sql_error(whole, error);
    let write = |error| sql_error(new, error);
    let rows = schema(&source).map_err(read)?;
    let target = open_new(&source, whole, new).map_err(write)?;
    let mut notes = Vec::new();
    let of_chosen = |kind: &'static str| {
        rows.iter().filter(move |row| row.kind == kind && row.sql.is_some() && chosen.contains(&row.table))
    };
    target.execute_batch("BEGIN").map_err(write)?;
    for row in of_chosen("table") {
        create(&target, row).map_err(write)?;
        copy_rows(&source, &target, &row.name).map_err(|error| {
            EngineError::failed(format!("the rows of {} could not be copied: {}", quote(&row.name), plain(&error)))
        })?;
        notes.extend(foreign_keys(&source, &row.name, chosen).map_err(read)?);
    }
    copy_sequences(&target, &rows, chosen).map_err(write)?;
    // After the rows: a trigger must not fire, an index is made in one go.
    for row in of_chosen("index").chain(of_chosen("trigger")) {
        if let Err(error) = create(&target, row) {
            notes.push(format!("{} {} could not be created: {}", row.kind, quote(&row.name), plain(&error)));
        }
    }
    target.execute_batch("COMMIT; DETACH whole").map_err(write)?;
    target.close().map_err(|(_, error)| write(error))?;
    Ok(notes)
}

/// Opens `new` with the properties that cannot be changed once something is in it, and attaches the whole database.
fn open_new(source: &Connection, whole: &Path, new: &Path) -> rusqlite::Result<Connection> {
    let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let target = Connection::open_with_flags(new, access)?;
    let encoding: String = source.query_row("PRAGMA encoding", [], |row| row.get(0))?;
    let mut settings = format!("PRAGMA encoding = '{encoding}';");
    for name in ["page_size", "auto_vacuum", "user_version", "application_id"] {
        let value: i64 = source.query_row(&format!("PRAGMA main.{name}"), [], |row| row.get(0))?;
        settings.push_str(&format!("PRAGMA main.{name} = {value};"));
    }
    // Nobody reads the file after a crash. Rows that broke a rule at the source are to come over all the same.
    settings.push_str(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; \
         PRAGMA ignore_check_constraints = ON;",
    );
    target.execute_batch(&settings)?;
    target.execute("ATTACH ?1 AS whole", [immutable_uri(whole)])?;
    Ok(target)
}

/// SQLite keeps definitions without the schema's name, so the text goes into `main` as it is.
fn create(target: &Connection, row: &SchemaRow) -> rusqlite::Result<()> {
    let sql = row.sql.as_deref().unwrap_or_default();
    let sql = std::str::from_utf8(sql).map_err(|error| rusqlite::Error::Utf8Error(4, error))?;
    target.execute_batch(sql)
}

fn copy_rows(source: &Connection, target: &Connection, name: &str) -> rusqlite::Result<()> {
    let without_rowid: bool =
        source.query_row("SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1", [name], |row| {
            row.get(0)
        })?;
    let columns = columns(source, name)?;
    let table = Table { name: name.to_owned(), without_rowid };
    let rowid = rowid_word(&table, &columns).map(str::to_owned);
    let stored = columns.iter().filter(|column| !column.generated).map(|column| quote(&column.name));
    let list = rowid.into_iter().chain(stored).collect::<Vec<_>>().join(", ");
    let table = quote(name);
    target.execute_batch(&format!("INSERT INTO main.{table} ({list}) SELECT {list} FROM whole.{table} NOT INDEXED"))
}

/// AUTOINCREMENT goes on where it stood, which may be above the highest row.
fn copy_sequences(target: &Connection, rows: &[SchemaRow], chosen: &[String]) -> rusqlite::Result<()> {
    let made: bool =
        target.query_row("SELECT count(*) > 0 FROM main.sqlite_schema WHERE name = 'sqlite_sequence'", [], |row| {
            row.get(0)
        })?;
    if !made || !rows.iter().any(|row| row.name == "sqlite_sequence") {
        return Ok(());
    }
    target.execute_batch("DELETE FROM main.sqlite_sequence")?;
    for name in chosen {
        target.execute(
            "INSERT INTO main.sqlite_sequence (name, seq) SELECT name, seq FROM whole.sqlite_sequence WHERE name = ?1",
            [name],
        )?;
    }
    Ok(())
}

fn foreign_keys(source: &Connection, name: &str, chosen: &[String]) -> rusqlite::Result<Vec<String>> {
    let mut statement = source.prepare_cached("SELECT DISTINCT \"table\" FROM pragma_foreign_key_list(?1, 'main')")?;
    let parents: Vec<String> = statement.query_map([name], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let left = parents.iter().filter(|parent| !chosen.iter().any(|name| name.eq_ignore_ascii_case(parent)));
    Ok(left
        .map(|parent| format!("a foreign key of {} points to {}, which was not chosen", quote(name), quote(parent)))
        .collect())
}

fn is_internal(name: &str) -> bool {
    name == "sqlite_sequence" || is_statistics(name)
}

/// `kind`, quoted name and quoted table of a statement made by [`SchemaRow::statement`].
fn parse(statement: &str) -> Option<(&str, String, String)> {
    let (kind, rest) = statement.split_once(' ')?;
    let name = quoted_at_start(rest)?;
    let table = quoted_at_start(rest[name.len()..].strip_prefix(" on ")?)?;
    Some((kind, name.to_owned(), table.to_owned()))
}

/// The quoted identifier that `text` begins with, with its quotes.
fn quoted_at_start(text: &str) -> Option<&str> {
    let mut chars = text.char_indices();
    chars.next().filter(|(_, c)| *c == '"')?;
    while let Some((at, c)) = chars.next() {
        if c == '"' {
            if text[at + 1..].starts_with('"') {
                chars.next();
            } else {
                return Some(&text[..=at]);
            }
        }
    }
    None
}

fn unquote(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    Some(inner.replace("\"\"", "\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_taken_apart_whatever_the_names() {
        let row = SchemaRow {
            kind: "index".into(),
            name: "a\" on \"b".into(),
            table: "t: \"x\"".into(),
            stored: true,
            sql: Some(b"CREATE INDEX".to_vec()),
        };
        let statement = row.statement();
        let (kind, name, table) = parse(&statement).expect("a statement");
        assert_eq!((kind, name, table), ("index", quote(&row.name), quote(&row.table)));
        for other in ["user_version: 3", "integrity_check: row 1 missing from index \"i\" on \"t\"", "encoding: UTF-8"]
        {
            assert!(parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn tables_are_found_as_people_type_them() {
        let known: Vec<String> = ["Album", "main.x", "a\"b", "x"].map(String::from).into();
        for (typed, found) in [
            ("Album", Some("Album")),
            ("album", Some("Album")),
            ("main.Album", Some("Album")),
            ("MAIN.\"Album\"", Some("Album")),
            ("main.x", Some("main.x")),
            ("\"main.x\"", Some("main.x")),
            ("\"a\"\"b\"", Some("a\"b")),
            ("a\"b", Some("a\"b")),
            ("albums", None),
            ("", None),
        ] {
            assert_eq!(find(&known, typed).map(String::as_str), found, "{typed}");
        }
    }
}
