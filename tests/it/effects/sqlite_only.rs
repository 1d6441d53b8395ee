//! What only SQLite has.

use super::{Subject, told};
use tests::sqlite::TestFile;

async fn effects(before: &str, migration: &str) -> migrate_worker::effect::Effects {
    Subject::Sqlite(TestFile::new()).effects(before, migration).await
}

#[tokio::test]
async fn a_rebuild_with_another_type_loses_nothing() {
    let before = "CREATE TABLE t (id integer PRIMARY KEY, a integer, b integer, c text, d blob);
        INSERT INTO t VALUES (1, 10, 20, '30', x'00ff'), (2, -1, 9007199254740993, '1.5', x'31'), (3, NULL, 0, NULL, NULL);";
    let rebuilt = |select: &str| {
        format!(
            "CREATE TABLE n (id integer PRIMARY KEY, a text, b integer, c real, d blob);
             INSERT INTO n SELECT {select} FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t"
        )
    };
    assert_eq!(told(&effects(before, &rebuilt("id, a, b, c, d")).await), [""; 0]);
    assert_eq!(told(&effects(before, &rebuilt("id, a, b, c, NULL")).await), ["t:d 2"]);
    assert_eq!(told(&effects(before, &rebuilt("id, a, b, c, CAST(d AS text)")).await), ["t:d 2"], "a blob is no text");
}

#[tokio::test]
async fn an_update_is_told_from_a_table_made_again() {
    let before = "CREATE TABLE a (id integer PRIMARY KEY); CREATE TABLE t (id integer PRIMARY KEY, name text);
        CREATE INDEX i ON t (name); INSERT INTO t VALUES (1, 'a'), (2, 'b');";
    let other = "INSERT INTO t VALUES (1, 'c'), (2, 'd')";
    assert_eq!(told(&effects(before, "UPDATE t SET name = CASE id WHEN 1 THEN 'c' ELSE 'd' END").await), [""; 0]);
    let again = format!(
        "DROP TABLE t; CREATE TABLE t (id integer PRIMARY KEY, name text); CREATE INDEX i ON t (name); {other}"
    );
    assert_eq!(told(&effects(before, &again).await), ["t 2"]);
    let renamed = format!(
        "DROP TABLE t; CREATE TABLE u (id integer PRIMARY KEY, name text); {}",
        other.replace("INTO t", "INTO u")
    );
    let effects = effects(before, &renamed).await;
    assert_eq!(told(&effects), ["t 2"]);
    assert_eq!(effects.lines()[0], "table t: dropped, 2 rows lost", "it was not renamed");
}

#[tokio::test]
async fn numbering_apart_changes_nothing_anybody_sees() {
    let file = TestFile::copy_of(&tests::fixtures::fixture("chinook.sqlite"));
    let (text, subject) = (file.dump_text(), Subject::Sqlite(file));
    for _ in 0..5 {
        subject.engine().number_apart().await.unwrap();
    }
    let Subject::Sqlite(file) = subject else { unreachable!() };
    assert_eq!(file.dump_text(), text);
    assert_eq!(file.sqlite3("PRAGMA integrity_check").trim(), "ok");
    file.sqlite3("CREATE TABLE more (id integer PRIMARY KEY); DROP TABLE more; VACUUM;");
}

#[tokio::test]
async fn what_sqlite_keeps_for_itself_is_no_data() {
    let before = "CREATE TABLE t (id integer PRIMARY KEY AUTOINCREMENT, a text, b text AS (a || '!'));
        INSERT INTO t (a) VALUES ('x'); ANALYZE;
        CREATE TABLE gone (id integer PRIMARY KEY AUTOINCREMENT); INSERT INTO gone DEFAULT VALUES; DELETE FROM gone;
        CREATE VIRTUAL TABLE words USING fts5(body);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
        INSERT INTO words SELECT 'word' || i || ' text' FROM n;";
    let merge = "DROP TABLE gone; ALTER TABLE t DROP COLUMN b; INSERT INTO words (words) VALUES ('optimize')";
    assert_eq!(told(&effects(before, merge).await), [""; 0]);
    let dropped = effects(before, "DROP TABLE words").await;
    assert_eq!(told(&dropped), ["words_content 2000", "words_docsize 2000"]);
}

#[tokio::test]
async fn awkward_values_are_summed_up_in_every_encoding() {
    for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
        let subject = Subject::Sqlite(tests::fixtures::awkward_sqlite(encoding));
        let engine = subject.engine();
        let source = tests::memory::dump(engine.as_ref(), &Default::default()).await.unwrap();
        let fingerprint = &shared::engine::DumpSource::fingerprint(&source).tables;
        engine.number_apart().await.unwrap();
        let profile = engine.profile(1).await.unwrap();
        assert!(profile.tables.len() > 3, "{encoding}");
        for (name, table) in &profile.tables {
            assert_eq!(table.rows, fingerprint[name].rows, "{encoding}: {name}");
        }
    }
}
