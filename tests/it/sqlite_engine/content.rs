//! Whatever a database holds comes round.

use super::{Place, goes_round, sqlite3};
use rusqlite::Connection;

/// Goes round, and the sqlite3 program finds the same in both files; `marker` must be part of what it finds.
async fn round(sql: &str, marker: &str) {
    let place = Place::new();
    let path = place.database("odd.db", sql);
    goes_round(&place, &path).await;
    let (before, after) = (sqlite3(&path, ".dump"), sqlite3(&place.path("restored.db"), ".dump"));
    assert!(before.contains(marker), "{marker} is not in {before}");
    assert_eq!(before, after);
}

#[tokio::test]
async fn every_kind_of_table_goes_round() {
    round(
        "CREATE TABLE wr(a TEXT, b INT, PRIMARY KEY(b, a)) WITHOUT ROWID; INSERT INTO wr VALUES('x', 2), ('y', 1);
         CREATE TABLE st(i INTEGER, a ANY, t TEXT) STRICT; INSERT INTO st VALUES(1, x'00', 't'), (2, 1.5, NULL);
         CREATE TABLE g(a INT, v INT AS (a * 2) VIRTUAL, s TEXT AS (a || 'x') STORED); INSERT INTO g(a) VALUES(1), (NULL);
         CREATE TABLE au(id INTEGER PRIMARY KEY AUTOINCREMENT, x); INSERT INTO au VALUES(5, 1); DELETE FROM au;
         CREATE TABLE gaps(x); INSERT INTO gaps(rowid, x) VALUES(-9, 1), (9223372036854775807, 2);
         CREATE TABLE empty(x, y DEFAULT 7);
         CREATE VIEW broken AS SELECT * FROM nowhere;
         CREATE TRIGGER tr AFTER INSERT ON empty BEGIN SELECT 1; END;
         CREATE INDEX part ON wr(a) WHERE b > 1; CREATE UNIQUE INDEX ex ON st(i + 1);
         PRAGMA user_version = 12; PRAGMA application_id = 77;",
        "WITHOUT ROWID",
    )
    .await;
}

#[tokio::test]
async fn columns_may_bear_the_names_of_the_rowid() {
    round(
        "CREATE TABLE one(rowid TEXT); INSERT INTO one VALUES('a');
         CREATE TABLE two(rowid, oid); INSERT INTO two VALUES(1, 2);
         CREATE TABLE three(rowid, OID, _rowid_); INSERT INTO three VALUES(1, 2, 3);
         CREATE TABLE alias(_rowid_ INTEGER PRIMARY KEY, rowid TEXT); INSERT INTO alias VALUES(7, 'x');",
        "alias",
    )
    .await;
}

#[tokio::test]
async fn full_text_tables_go_round_with_their_shadows() {
    let place = Place::new();
    let path = place.database(
        "fts.db",
        "CREATE VIRTUAL TABLE docs USING fts5(title, body); INSERT INTO docs VALUES('one', 'the quick fox'), ('two', 'a dog');
         CREATE VIRTUAL TABLE bare USING fts5(x, content=''); INSERT INTO bare(rowid, x) VALUES(1, 'unseen words');
         CREATE VIRTUAL TABLE box USING rtree(id, x0, x1); INSERT INTO box VALUES(1, 0.5, 2.5);",
    );
    let source = goes_round(&place, &path).await;
    assert!(source.dump.fingerprint.tables.contains_key("\"docs_content\""), "shadow tables are data");
    assert!(!source.dump.fingerprint.tables.contains_key("\"docs\""));
    assert_eq!(sqlite3(&place.path("restored.db"), "SELECT title FROM docs WHERE docs MATCH 'fox'"), "one\n");
}

#[tokio::test]
async fn names_and_texts_may_hold_anything() {
    let newline = "line\nbreak";
    round(
        &format!(
            "CREATE TABLE \"a \"\"quoted\"\" 'name';\"(\"{newline}\" TEXT, \"🦀\"); INSERT INTO \"a \"\"quoted\"\" 'name';\" VALUES('x', 'y');
             CREATE TABLE \"tab\there\"(x); CREATE TABLE \"select\"(\"from\"); INSERT INTO \"select\" VALUES(1);
             CREATE INDEX \"i\"\"x\" ON \"select\"(\"from\"); CREATE TABLE \"{newline}\"(\"a.b\"); CREATE TABLE \"\"(x); INSERT INTO \"\" VALUES(3);
             CREATE TABLE \"a.b\"(c); CREATE TABLE a(\"b.c\"); CREATE TABLE SQLITExx(x); INSERT INTO SQLITExx VALUES(1);"
        ),
        "🦀",
    )
    .await;
}

#[tokio::test]
async fn values_keep_their_bits() {
    round(
        "CREATE TABLE v(x);
         INSERT INTO v VALUES(CAST(x'ff61fe' AS TEXT)), (CAST(x'610062' AS TEXT)), (-0.0), (9e999), (-9e999), (1e308),
           (NULL), (''), (x''), (0), (0.0), (1), (1.0), ('1'), (x'31'), (9223372036854775807), (-9223372036854775808),
           (5e-324), (zeroblob(300000));
         CREATE TABLE loose(i INTEGER, r REAL, t TEXT); INSERT INTO loose VALUES('abc', 'def', 3), (x'00', 7, x'01');",
        "loose",
    )
    .await;
}

#[tokio::test]
async fn page_sizes_and_encodings_go_round() {
    for setting in [
        "PRAGMA page_size = 512",
        "PRAGMA page_size = 65536",
        "PRAGMA encoding = 'UTF-16le'",
        "PRAGMA encoding = 'UTF-16be'; PRAGMA page_size = 1024",
        "PRAGMA auto_vacuum = FULL",
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA page_size = 8192",
    ] {
        round(
            &format!(
                "{setting}; CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT);
                 WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
                   INSERT INTO t SELECT i, 'größe 🦀 ' || i FROM n; DELETE FROM t WHERE id % 7 = 0;"
            ),
            "größe",
        )
        .await;
    }
}

#[tokio::test]
async fn unpaired_surrogates_of_utf16_are_told_apart() {
    let place = Place::new();
    let sql = |bytes| {
        format!("PRAGMA encoding = 'UTF-16le'; CREATE TABLE t(x); INSERT INTO t VALUES(CAST(x'{bytes}' AS TEXT));")
    };
    let one = goes_round(&place, &place.database("one.db", &sql("00d86100"))).await;
    let two = place.dump(&place.database("two.db", &sql("01d86100"))).await.unwrap();
    assert_eq!(one.dump.fingerprint.differences(&two.dump.fingerprint).len(), 1);
}

#[tokio::test]
async fn a_table_of_two_thousand_columns_goes_round() {
    let columns: Vec<String> = (0..2000).map(|n| format!("c{n}")).collect();
    let list = columns.join(",");
    for setting in ["PRAGMA encoding = 'UTF-8'", "PRAGMA encoding = 'UTF-16le'"] {
        let place = Place::new();
        let path = place
            .database("wide.db", &format!("{setting}; CREATE TABLE w({list}); INSERT INTO w(c1999) VALUES('end')"));
        let source = goes_round(&place, &path).await;
        Connection::open(&path).unwrap().execute("UPDATE w SET c1998 = 1", []).unwrap();
        let changed = place.dump(&path).await.unwrap();
        assert_eq!(source.dump.fingerprint.differences(&changed.dump.fingerprint).len(), 1);
    }
}

#[tokio::test]
async fn old_sins_are_named_and_come_round() {
    let place = Place::new();
    let path = place.database(
        "sins.db",
        "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p REFERENCES p(id)); INSERT INTO c VALUES(1), (2), (NULL);
         CREATE TABLE k(x); INSERT INTO k VALUES(NULL); PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE TABLE k(x NOT NULL)' WHERE name = 'k';
         CREATE TABLE mismatch(x REFERENCES k(x)); INSERT INTO mismatch VALUES(1);",
    );
    let source = goes_round(&place, &path).await;
    let defects = source.dump.defects.join("\n");
    for said in ["NULL value in k.x", "2 rows of c point to rows missing in p", "\"mismatch\" could not run"] {
        assert!(defects.contains(said), "{said} is not in {defects}");
    }
}

#[tokio::test]
async fn a_function_or_module_only_the_application_knows_does_not_stop_a_dump() {
    let place = Place::new();
    let path = place.database(
        "own.db",
        "CREATE TABLE t(x, y); INSERT INTO t VALUES(1, 2); CREATE TABLE g(a, b AS (a + 1)); INSERT INTO g(a) VALUES(1);
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE TABLE g(a, b AS (own_function(a)))' WHERE name = 'g';
         INSERT INTO sqlite_schema VALUES('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING own_module(x)');",
    );
    let source = goes_round(&place, &path).await;
    let defects = source.dump.defects.join("\n");
    assert!(defects.contains("generated columns of \"g\" are not compared"), "{defects}");
    assert_eq!(source.dump.fingerprint.tables["\"t\""].rows, 1);
}

#[tokio::test]
async fn several_thousand_tables_go_round() {
    let place = Place::new();
    let tables: String = (0..3000).map(|n| format!("CREATE TABLE t{n}(x); INSERT INTO t{n} VALUES({n});")).collect();
    let path = place.database("many.db", &format!("BEGIN; {tables} COMMIT;"));
    let source = goes_round(&place, &path).await;
    assert_eq!(source.dump.fingerprint.tables.len(), 3000);
}
