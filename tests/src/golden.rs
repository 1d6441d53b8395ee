//! The databases in the golden repositories of `tests/golden`: how they are made, and what is expected of them.
//!
//! The repositories were written once by the version they are named after and are never written again; what comes back
//! from them is compared with texts that stand beside them, and with a database made anew from the same statements.

use crate::postgres::TestDatabase;
use crate::sqlite::{TestFile, sqlite_dump_text};
use std::path::{Path, PathBuf};

/// The states of each database that a golden repository holds a backup of.
pub const STATES: [usize; 2] = [1, 2];

/// A path below `tests/golden`.
pub fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(path)
}

fn source(name: &str) -> PathBuf {
    golden("source").join(name)
}

/// Leads the SQLite database from the state before to `state`.
#[track_caller]
pub fn advance_sqlite(file: &TestFile, state: usize) {
    file.sqlite3_file(&source(&format!("sqlite-{state}.sql")));
}

/// Leads the PostgreSQL database from the state before to `state`.
#[track_caller]
pub fn advance_postgres(database: &TestDatabase, state: usize) {
    database.psql_file(&source(&format!("postgres-{state}.sql")));
}

/// What is expected of the SQLite database, as text.
#[track_caller]
pub fn sqlite_text(file: &Path) -> String {
    sqlite_dump_text(file)
}

/// What is expected of the PostgreSQL database: every row, sequence and large object, by queries whose answers do not
/// depend on the server's version.
#[track_caller]
pub fn postgres_text(database: &TestDatabase) -> String {
    let settings = "SET timezone = 'UTC'; SET datestyle = 'ISO, MDY'; SET bytea_output = 'hex'; SET search_path = '';";
    let tables =
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relkind IN ('r', 'p') AND NOT relispartition AND nspname = 'app' ORDER BY 1";
    let mut text = String::new();
    for row in database.query_rows(tables) {
        let rows = database.psql(&format!("{settings} COPY (SELECT * FROM {} ORDER BY 1) TO STDOUT", row[0]));
        text += &format!("== {}\n{rows}", row[0]);
    }
    assert!(text.lines().count() > 10, "too little to compare: {text}");
    text += "== sequences\n";
    text += &database.psql(
        "SELECT last_value, is_called FROM app.never_called; SELECT last_value, is_called FROM app.order_id_seq;",
    );
    text += "== large objects\n";
    text += &database.psql(&format!("{settings} SELECT oid, lo_get(oid) FROM pg_largeobject_metadata ORDER BY oid;"));
    text
}
