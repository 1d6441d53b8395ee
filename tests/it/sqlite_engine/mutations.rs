//! One change, whatever it is, shows in the fingerprint.

use super::{Place, sqlite3};
use shared::engine::Engine;
use shared::engine::sqlite::SqliteEngine;

const BASE: &str = "CREATE TABLE p(id INTEGER PRIMARY KEY);
    CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT DEFAULT 'd', b REAL, c BLOB, p REFERENCES p(id));
    CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID; CREATE TABLE r(x); CREATE INDEX i ON t(a);
    CREATE TABLE twins(x); INSERT INTO twins VALUES(1), (1);
    CREATE VIEW v AS SELECT 1; CREATE TRIGGER tr AFTER INSERT ON w BEGIN SELECT 1; END;
    CREATE TABLE g(a, b AS (a + 1)); INSERT INTO g(a) VALUES(1);
    INSERT INTO p VALUES(1); INSERT INTO t(a, b, c, p) VALUES('x', 1.5, x'0102', 1), ('', 0.0, x'', NULL), (NULL, NULL, NULL, NULL);
    INSERT INTO w VALUES('k', 1), ('l', '1'); INSERT INTO r VALUES('r');";

/// Each is made by the sqlite3 program; the fingerprint must part in exactly what is named.
const CHANGES: [(&str, &str); 30] = [
    ("UPDATE t SET a = 'y' WHERE id = 1", "table \"t\""),
    ("UPDATE t SET a = NULL WHERE id = 2", "table \"t\""),
    ("UPDATE t SET a = '' WHERE id = 3", "table \"t\""),
    ("UPDATE t SET c = '' WHERE id = 2", "table \"t\""),
    ("UPDATE t SET c = NULL WHERE id = 2", "table \"t\""),
    ("UPDATE t SET b = 1.5000000000000002 WHERE id = 1", "table \"t\""),
    ("UPDATE t SET c = x'0103' WHERE id = 1", "table \"t\""),
    ("UPDATE t SET a = 'x' || char(0) WHERE id = 1", "table \"t\""),
    ("DELETE FROM t WHERE id = 3", "table \"t\""),
    ("INSERT INTO w VALUES('m', NULL)", "table \"w\""),
    ("UPDATE w SET v = '1' WHERE k = 'k'", "table \"w\""),
    ("UPDATE w SET v = 1.0 WHERE k = 'k'", "table \"w\""),
    ("UPDATE w SET k = 'n', v = v WHERE k = 'k'", "table \"w\""),
    ("UPDATE r SET rowid = 2", "table \"r\""),
    ("UPDATE r SET x = CAST('r' AS BLOB)", "table \"r\""),
    ("INSERT INTO twins VALUES(1)", "table \"twins\""),
    ("DELETE FROM twins", "table \"twins\""),
    ("UPDATE g SET a = 2", "table \"g\""),
    ("UPDATE sqlite_sequence SET seq = 99", "table \"sqlite_sequence\""),
    ("PRAGMA user_version = 1", "user_version"),
    ("PRAGMA application_id = 1", "application_id"),
    ("CREATE INDEX j ON t(b)", "index \"j\""),
    ("DROP INDEX i", "index \"i\""),
    ("CREATE TABLE n(x)", "table \"n\""),
    ("DROP TABLE r", "table \"r\""),
    ("DROP VIEW v", "view \"v\""),
    ("DROP TRIGGER tr", "trigger \"tr\""),
    ("ALTER TABLE r ADD COLUMN y DEFAULT 1", "table \"r\""),
    ("ALTER TABLE r RENAME COLUMN x TO z", "table \"r\""),
    ("INSERT INTO t(p) VALUES(77)", "foreign_key_check"),
];

#[tokio::test]
async fn every_single_change_shows() {
    let place = Place::new();
    let base = place.database("base.db", BASE);
    let source = place.dump(&base).await.unwrap();
    for (change, object) in CHANGES {
        let path = place.path("changed.db");
        std::fs::copy(&base, &path).unwrap();
        sqlite3(&path, change);
        let found = SqliteEngine::new(path).fingerprint(&source, 1).await.unwrap();
        let differences = source.dump.fingerprint.differences(&found);
        assert!(
            differences.iter().any(|difference| difference.object.starts_with(object)),
            "{change}: {differences:?}"
        );
    }
}

#[tokio::test]
async fn a_change_of_a_default_shows_and_so_does_one_of_an_index() {
    let place = Place::new();
    let source = place.dump(&place.database("base.db", BASE)).await.unwrap();
    for (from, to) in
        [("DEFAULT 'd'", "DEFAULT 'e'"), ("ON t(a)", "ON t(a DESC)"), ("a TEXT", "a TEXT NOT NULL DEFAULT ''")]
    {
        let changed = BASE.replacen(from, to, 1).replace("(NULL, NULL, NULL, NULL)", "('', NULL, NULL, NULL)");
        let path = place.path("changed.db");
        let _ = std::fs::remove_file(&path);
        place.database("changed.db", &changed);
        let found = SqliteEngine::new(path).fingerprint(&source, 1).await.unwrap();
        let differences = source.dump.fingerprint.differences(&found);
        assert!(differences.iter().any(|difference| difference.what.contains("schema")), "{to}: {differences:?}");
    }
}

#[tokio::test]
async fn the_same_content_gives_the_same_fingerprint_however_it_was_laid_down() {
    let place = Place::new();
    let base = place.database("base.db", BASE);
    let source = place.dump(&base).await.unwrap();
    sqlite3(&base, "PRAGMA page_size = 8192; VACUUM; ANALYZE; DELETE FROM sqlite_stat1; DROP TABLE sqlite_stat1");
    let found = SqliteEngine::new(base).fingerprint(&source, 1).await.unwrap();
    let differences = source.dump.fingerprint.differences(&found);
    let only_statistics = differences.iter().all(|difference| difference.object.contains("sqlite_stat"));
    assert!(only_statistics, "{differences:?}");
}
