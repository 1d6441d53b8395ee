//! Tables as wide as they get, and how long profiles take.

use super::{Subject, told};
use std::time::Instant;
use tests::postgres::TestDatabase;
use tests::sqlite::TestFile;

async fn of_1600_columns(subject: Subject) {
    let names = |from: usize| (from..1600).map(|at| format!("c{at}")).collect::<Vec<_>>();
    let columns: Vec<String> = names(0).iter().map(|name| format!("{name} int")).collect();
    let values: Vec<String> = (0..1600).map(|at| at.to_string()).collect();
    let before = format!(
        "CREATE TABLE wide ({}); INSERT INTO wide VALUES ({});
         INSERT INTO wide (c1599) VALUES (7);",
        columns.join(", "),
        values.join(", ")
    );
    let effects = subject
        .effects(&before, "UPDATE wide SET c1599 = NULL WHERE c1599 = 7; ALTER TABLE wide DROP COLUMN c700")
        .await;
    assert_eq!(told(&effects), ["wide:c700 1", "wide:c1599 1"]);
}

#[tokio::test]
async fn a_postgresql_table_of_1600_columns_is_profiled() {
    of_1600_columns(Subject::Postgres(TestDatabase::new())).await;
}

#[tokio::test]
async fn an_sqlite_table_of_1600_columns_is_profiled() {
    of_1600_columns(Subject::Sqlite(TestFile::new())).await;
}

async fn million(subject: Subject, fill: &str) {
    subject.run("CREATE TABLE t (id integer PRIMARY KEY, a integer, b text, c text, d double precision)");
    subject.run(fill);
    let begun = Instant::now();
    let profile = subject.engine().profile(2).await.unwrap();
    println!("a million rows of five columns: {:?}", begun.elapsed());
    let table = profile.tables.values().next().unwrap();
    assert_eq!(table.rows, 1_000_000);
    assert!(table.columns.iter().all(|column| column.values == 1_000_000), "{table:?}");
}

#[tokio::test]
async fn a_million_rows_are_summed_up_by_postgresql() {
    let fill = "INSERT INTO t SELECT n, n * 7, 'name ' || n, md5(n::text), n / 3.0 FROM generate_series(1, 1000000) n";
    million(Subject::Postgres(TestDatabase::new()), fill).await;
}

#[tokio::test]
async fn a_million_rows_are_summed_up_from_sqlite() {
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
        INSERT INTO t SELECT i, i * 7, 'name ' || i, hex(i * 7919), i / 3.0 FROM n";
    million(Subject::Sqlite(TestFile::new()), fill).await;
}
