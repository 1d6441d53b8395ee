//! What only PostgreSQL has.

use super::{Subject, told};
use tests::postgres::TestDatabase;

async fn effects(before: &str, migration: &str) -> migrate_worker::effect::Effects {
    Subject::Postgres(TestDatabase::new()).effects(before, migration).await
}

#[tokio::test]
async fn another_type_is_no_loss_and_shows_as_a_rewrite() {
    let before = "CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int);
        INSERT INTO t SELECT n, n, n, n FROM generate_series(1, 10) n;";
    let sql = "ALTER TABLE t ALTER a TYPE bigint, ALTER b TYPE text, ALTER c TYPE numeric(9, 2)";
    let effects = effects(before, sql).await;
    assert_eq!(told(&effects), [""; 0]);
    let types = "column a integer -> bigint, column b integer -> text, column c integer -> numeric(9,2)";
    assert_eq!(effects.lines(), [format!("table t: {types}, rewritten; 10 rows")], "values are the same");
}

#[tokio::test]
async fn a_partitioned_table_is_one_table() {
    let before = "CREATE TABLE t (id int, at int, x text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);
        CREATE TABLE t2 (x text, at int NOT NULL, id int NOT NULL);
        ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM (10) TO (20);
        INSERT INTO t SELECT n, n, 'x' || n FROM generate_series(0, 19) n;
        CREATE TABLE plain (id int PRIMARY KEY, x text); INSERT INTO plain VALUES (1, 'p');";
    let dropped = effects(before, "DROP TABLE t1").await;
    assert_eq!(told(&dropped), ["t 10"]);
    let detached = effects(before, "ALTER TABLE t DETACH PARTITION t1").await;
    assert_eq!(told(&detached), [""; 0], "{:?}", detached.lines());
    assert!(
        detached.lines().contains(&"table t: rewritten; 20 rows before, 10 now (now in t1)".to_owned()),
        "{:?}",
        detached.lines()
    );
    let moved = "CREATE TABLE p (LIKE t) PARTITION BY RANGE (at);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (99); INSERT INTO p SELECT * FROM t; DROP TABLE t;
        ALTER TABLE p RENAME TO t";
    assert_eq!(told(&effects(before, moved).await), [""; 0]);
}

#[tokio::test]
async fn generated_columns_are_no_data() {
    let before = "CREATE TABLE t (id int PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) STORED);
        INSERT INTO t SELECT n, n FROM generate_series(1, 10) n;";
    assert_eq!(told(&effects(before, "ALTER TABLE t DROP COLUMN b").await), [""; 0]);
    assert_eq!(told(&effects(before, "UPDATE t SET a = NULL").await), ["t:a 10"]);
}

#[tokio::test]
async fn schemas_truncation_and_collations_are_told_apart() {
    let before = "CREATE SCHEMA shop; CREATE TABLE shop.t (id int PRIMARY KEY, x bytea, j jsonb, r point[]);
        INSERT INTO shop.t SELECT n, 'abc', '{\"a\": 1}', ARRAY[point(1, n)] FROM generate_series(1, 3) n;
        CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE c (id int PRIMARY KEY, word text COLLATE ci); INSERT INTO c VALUES (1, 'Word');";
    assert_eq!(told(&effects(before, "TRUNCATE shop.t").await), ["shop.t 3"]);
    assert_eq!(told(&effects(before, "ALTER TABLE shop.t SET SCHEMA public").await), [""; 0]);
    assert_eq!(told(&effects(before, "ALTER TABLE shop.t DROP COLUMN r").await), ["shop.t:r 3"]);
    let cased = effects(before, "UPDATE c SET word = 'word'").await;
    assert_eq!(cased.lines()[0], "table c: column word changed; 1 row");
}

#[tokio::test]
async fn profiles_name_tables_as_fingerprints_do() {
    let subject = Subject::Postgres(tests::fixtures::loaded("awkward.sql"));
    let engine = subject.engine();
    let source = tests::memory::dump(engine.as_ref(), &Default::default()).await.unwrap();
    let profile = engine.profile(3).await.unwrap();
    let fingerprint = &shared::engine::DumpSource::fingerprint(&source).tables;
    let profiled: Vec<_> = profile.tables.iter().map(|(name, table)| (name, table.rows)).collect();
    assert_eq!(profiled, fingerprint.iter().map(|(name, table)| (name, table.rows)).collect::<Vec<_>>());
    assert!(!profiled.is_empty());
    assert_eq!(profile, engine.profile(1).await.unwrap(), "it does not depend on how many read");
}
