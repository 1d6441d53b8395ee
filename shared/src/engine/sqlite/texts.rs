//! The texts beside `database.sqlite` in the tar: for reading, and for restoring with sh and sqlite3 alone.

use super::fingerprint::Reading;
use crate::engine::Entry;

/// Restores the unpacked backup; kept in a file of its own so that a person can read and lint it.
const RESTORE: &str = include_str!("restore.sh");

/// The definitions of everything in the database, for reading: `database.sqlite` already holds them.
pub(super) fn schema_sql(reading: &Reading) -> Entry {
    let mut body = b"-- The schema, for reading. A restore needs only database.sqlite.\n".to_vec();
    for sql in reading.schema.iter().filter_map(|row| row.sql.as_deref()) {
        body.extend_from_slice(sql);
        body.extend_from_slice(b";\n");
    }
    Entry::Text { path: "schema.sql".into(), body }
}

/// Compares the number of rows of every table; `restore.sh` compares what it prints with the first line.
pub(super) fn verify_sql(reading: &Reading, bytes: u64, sha256: &str) -> Entry {
    let tables = &reading.fingerprint.tables;
    let integrity = if reading.checks.sound() { "ok" } else { "known problems" };
    let mut text = format!(
        "-- expect: verified {} tables, {} rows\n-- integrity: {integrity}\n-- bytes: {bytes}\n-- sha256: {sha256}\n.bail on\n\
         CREATE TEMP TABLE holdfast_verify (name TEXT, expected INTEGER, found INTEGER);\n",
        tables.len(),
        reading.fingerprint.rows(),
    );
    for (name, table) in tables {
        let literal = name.replace('\'', "''");
        text.push_str(&format!(
            "INSERT INTO temp.holdfast_verify VALUES ('{literal}', {}, (SELECT count(*) FROM main.{name} NOT INDEXED));\n",
            table.rows
        ));
    }
    text.push_str(
        "SELECT 'table ' || name || ' has ' || found || ' rows instead of ' || expected\n  \
         FROM temp.holdfast_verify WHERE found IS NOT expected;\n\
         SELECT 'verified ' || count(*) || ' tables, ' || coalesce(sum(found), 0) || ' rows'\n  \
         FROM temp.holdfast_verify WHERE found IS expected;\n",
    );
    Entry::Text { path: "verify.sql".into(), body: text.into_bytes() }
}

/// The script for a person with sh and sqlite3.
pub(super) fn restore_sh() -> Entry {
    Entry::Text { path: "restore.sh".into(), body: RESTORE.into() }
}
