//! Sample databases: files under `tests/fixtures`, and generators for what is too large to keep.

use crate::postgres::TestDatabase;
use crate::sqlite::TestFile;
use std::path::{Path, PathBuf};

/// A file of `tests/fixtures`.
#[track_caller]
pub fn fixture(name: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    assert!(file.is_file(), "there is no fixture {}", file.display());
    file
}

/// Copies what is in a folder of `tests/fixtures` into a folder, which may be there; files of the same name are replaced.
#[track_caller]
pub fn copy_folder(name: &str, into: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    assert!(from.is_dir(), "there is no folder {}", from.display());
    copy_all(&from, into);
}

fn copy_all(from: &Path, into: &Path) {
    std::fs::create_dir_all(into).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap(), into.join(entry.as_ref().unwrap().file_name()));
        if entry.path().is_dir() {
            copy_all(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A PostgreSQL database filled by the fixture `name`, which is loaded once in a test run and then copied.
///
/// Settings and grants of the database itself are not copied: load such a fixture with [`loaded`].
#[track_caller]
pub fn postgres(name: &str) -> TestDatabase {
    let key = name.trim_end_matches(".sql").replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
    TestDatabase::filled_once(&key, |database| database.psql_file(&fixture(name)))
}

/// A PostgreSQL database into which the fixture `name` was loaded just now.
#[track_caller]
pub fn loaded(name: &str) -> TestDatabase {
    let database = TestDatabase::new();
    database.psql_file(&fixture(name));
    database
}

/// A SQLite file: a copy of the fixture, or made by the fixture if that is a text of statements.
#[track_caller]
pub fn sqlite(name: &str) -> TestFile {
    let file = fixture(name);
    if !name.ends_with(".sql") {
        return TestFile::copy_of(&file);
    }
    let made = TestFile::new();
    made.sqlite3_file(&file);
    made
}

/// A SQLite file made by `awkward-sqlite.sql` in this encoding (`UTF-8`, `UTF-16le`, `UTF-16be`).
#[track_caller]
pub fn awkward_sqlite(encoding: &str) -> TestFile {
    let sql = std::fs::read_to_string(fixture("awkward-sqlite.sql")).unwrap();
    let made = TestFile::new();
    made.sqlite3(&format!("PRAGMA encoding = '{encoding}';\n{sql}"));
    made
}

/// Makes `tables` tables of `rows` rows each, in 20 schemas, every tenth with a foreign key to the one before.
#[track_caller]
pub fn many_tables(database: &TestDatabase, tables: u32, rows: u32) {
    database.psql(&format!(
        "DO $$
        DECLARE
            t text;
            before text;
        BEGIN
            FOR s IN 0..19 LOOP EXECUTE format('CREATE SCHEMA s%s', s); END LOOP;
            FOR i IN 1..{tables} LOOP
                t := format('s%s.t%s', i % 20, i);
                EXECUTE format('CREATE TABLE %s (id int PRIMARY KEY, t text, n numeric)', t);
                EXECUTE format('INSERT INTO %s SELECT g, ''%s row '' || g, g / 3.0 FROM generate_series(1, {rows}) g', t, t);
                IF i % 10 = 0 THEN EXECUTE format('ALTER TABLE %s ADD FOREIGN KEY (id) REFERENCES %s', t, before); END IF;
                before := t;
            END LOOP;
        END $$"
    ));
}

/// Makes a table `huge` with one row whose text has `mib` MiB and does not compress well, between two small ones.
#[track_caller]
pub fn huge_value(database: &TestDatabase, mib: u32) {
    // 32 letters each.
    let parts = mib * 32 * 1024;
    database.psql(&format!(
        "CREATE TABLE huge (id int PRIMARY KEY, t text);
         ALTER TABLE huge ALTER t SET STORAGE EXTERNAL;
         INSERT INTO huge VALUES (1, 'before');
         INSERT INTO huge SELECT 2, string_agg(md5(i::text), '') FROM generate_series(1, {parts}) i;
         INSERT INTO huge VALUES (3, 'behind')"
    ));
}

/// A SQLite file of `tables` tables of `rows` rows each.
#[track_caller]
pub fn sqlite_many_tables(tables: u32, rows: u32) -> TestFile {
    let mut sql = String::from("PRAGMA synchronous = OFF; BEGIN;\n");
    for table in 1..=tables {
        sql += &format!(
            "CREATE TABLE t{table} (id INTEGER PRIMARY KEY, t TEXT);
             WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {rows})
             INSERT INTO t{table} SELECT i, 't{table} row ' || i FROM c;\n"
        );
    }
    let made = TestFile::new();
    made.sqlite3(&(sql + "COMMIT;"));
    made
}

/// A SQLite file with one value of `mib` MiB that does not compress well.
#[track_caller]
pub fn sqlite_huge_value(mib: u32) -> TestFile {
    let made = TestFile::new();
    made.sqlite3(&format!(
        "CREATE TABLE huge (id INTEGER PRIMARY KEY, b BLOB);
         INSERT INTO huge VALUES (1, 'before'), (2, randomblob({})), (3, 'behind');",
        u64::from(mib) << 20
    ));
    made
}
