//! The runner `sql`.

use super::{Fresh, call, go, planned, refused};
use migrate_worker::runner::sql::SqlRunner;
use migrate_worker::runner::{Environment, Runner};
use shared::engine::{DumpOptions, Nowhere};
use std::sync::Arc;
use tests::agent::program;

/// A directory of migrations.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Files(tempfile::tempdir().unwrap());
        files.iter().for_each(|(name, text)| folder.write(name, text));
        folder
    }

    /// A table that grows by a column a version; the last one cannot be taken back.
    fn growing() -> Self {
        Files::new(&[
            ("1_first.up.sql", "CREATE TABLE a (x integer);"),
            ("1_first.down.sql", "DROP TABLE a;"),
            ("0002_second_one.up.sql", "ALTER TABLE a ADD y integer;\nINSERT INTO a VALUES (1, 2);"),
            ("0002_second_one.down.sql", "ALTER TABLE a DROP y;"),
            ("30_third.sql", "ALTER TABLE a ADD z integer;"),
            ("README.md", "no migration"),
        ])
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn runner(&self) -> SqlRunner {
        SqlRunner::new(self.0.path().to_owned(), program("migrate-worker"), Environment::default())
    }
}

#[tokio::test]
async fn sql_migrations_go_up_and_down() {
    let files = Files::growing();
    let runner = files.runner();
    for database in Fresh::both() {
        let url = database.url();
        assert_eq!(runner.probe(&url, &call()).await.unwrap(), Vec::<String>::new());
        let (history, current, _) = planned(&runner, &url, "head").await.unwrap();
        let told: Vec<_> = history.revisions.iter().map(|r| (&*r.id, &*r.message, r.has_downgrade)).collect();
        assert_eq!(told, [("1", "first", true), ("2", "second one", true), ("30", "third", false)]);
        assert_eq!((current.heads.len(), current.own_tables.len()), (0, 0));

        let (run, current) = go(&runner, &url, "+2").await;
        assert_eq!(run.exit, Some(0), "{}", run.output);
        assert!(
            run.output.starts_with("applied 1 first (") && run.output.contains("applied 2 second one ("),
            "{run:?}"
        );
        assert_eq!((database.columns("a").as_str(), current.faults.len()), ("x,y", 0));
        assert_eq!(runner.probe(&url, &call()).await.unwrap(), ["2"]);
        let (run, _) = go(&runner, &url, "-1").await;
        assert!(run.output.starts_with("reverted 2 second one ("), "{run:?}");
        assert_eq!(database.columns("a"), "x");
        let (_, current) = go(&runner, &url, "head").await;
        assert_eq!(database.columns("a"), "x,y,z");
        assert!(refused(planned(&runner, &url, "base").await).starts_with("revision 30 has no way back"));
        // Fingerprints call the table the same.
        let engine = shared::connect::engine(url);
        let spool = tempfile::tempdir().unwrap();
        let options = DumpOptions { spool: spool.path().to_owned(), ..DumpOptions::default() };
        let dump = engine.dump(Arc::new(Nowhere), &options).await.unwrap();
        assert!(dump.fingerprint.tables.contains_key(&current.own_tables[0]), "{:?}", dump.fingerprint.tables.keys());
    }
}

#[tokio::test]
async fn an_sql_migration_that_fails_says_why_and_leaves_what_was_before_it() {
    let files = Files::growing();
    files.write("40_bad.sql", "CREATE TABLE b (x integer);\nINSERT INTO nowhere VALUES (1);");
    for database in Fresh::both() {
        let (run, current) = go(&files.runner(), &database.url(), "head").await;
        assert_eq!((run.exit, current.heads.as_slice()), (Some(1), &["30".to_owned()][..]), "{}", run.output);
        assert!(
            run.output.contains("error: while executing migration 40") && run.output.contains("nowhere"),
            "{run:?}"
        );
        // A line of the server's own source would be taken for one of the file.
        assert!(!run.output.contains("at line"), "{run:?}");
        assert_eq!((database.columns("b"), database.columns("a")), (String::new(), "x,y,z".into()));
    }
}

#[tokio::test]
async fn a_migration_without_a_transaction_keeps_what_it_did() {
    let files = Files::new(&[
        ("1_a.sql", "CREATE TABLE a (x integer);"),
        ("2_b.sql", "-- no-transaction\nCREATE INDEX CONCURRENTLY a_x ON a (x);"),
    ]);
    let Fresh::Postgres(database) = &Fresh::both()[1] else { unreachable!() };
    let url = database.url().parse().unwrap();
    let (run, current) = go(&files.runner(), &url, "head").await;
    assert_eq!((run.exit, current.heads.as_slice()), (Some(0), &["2".to_owned()][..]), "{}", run.output);
    assert_eq!(database.query_value("SELECT count(*) FROM pg_indexes WHERE indexname = 'a_x'"), "1");
}

#[tokio::test]
async fn edited_lost_unfinished_and_late_files_are_told() {
    for database in Fresh::both() {
        let files = Files::growing();
        let (runner, url) = (files.runner(), database.url());
        go(&runner, &url, "head").await;
        files.write("1_first.up.sql", "CREATE TABLE a (x integer);\r\n");
        files.write("4_late.sql", "CREATE TABLE late (x integer);");
        std::fs::rename(files.0.path().join("30_third.sql"), files.0.path().join("31_third.sql")).unwrap();
        database.execute("UPDATE _sqlx_migrations SET success = false WHERE version = 2");
        let history = runner.history().await.unwrap();
        let engine = shared::connect::engine(url.clone());
        let current = runner.current(engine.as_ref(), &history).await.unwrap();
        let expected = [
            "migration 1 was edited after it was applied",
            "migration 2 was begun and never finished",
            "migration 30 was applied, but its file is not there",
        ];
        assert_eq!((current.faults, current.gaps), (expected.map(str::to_owned).to_vec(), vec!["4".to_owned()]));
        let said = refused(planned(&runner, &url, "head").await);
        assert!(said.contains("stands at revision 30") && said.contains("`stamp`"), "{said}");

        // A stamp makes the record right; nothing is run.
        let run = runner.stamp(&url, "2", &call()).await.unwrap();
        assert_eq!(run.exit, Some(0), "{}", run.output);
        let current = runner.current(engine.as_ref(), &history).await.unwrap();
        assert_eq!((current.heads, current.faults.len(), current.gaps.len()), (vec!["2".to_owned()], 0, 0));
        assert_eq!(database.columns("a"), "x,y,z");
        let run = runner.stamp(&url, "7", &call()).await.unwrap();
        assert!(run.exit == Some(1) && run.output.contains("migration 7 is not present"), "{run:?}");
        // sqlx itself applies what was added late.
        database.execute("ALTER TABLE a DROP COLUMN z");
        let (run, current) = go(&runner, &url, "head").await;
        assert_eq!((run.exit, current.heads), (Some(0), vec!["31".to_owned()]), "{}", run.output);
        assert_eq!(database.columns("late"), "x");
    }
}

#[tokio::test]
async fn odd_directories_are_refused() {
    let empty = Files::new(&[("notes.txt", "")]);
    assert!(refused(empty.runner().history().await).starts_with("there is no migration in "));
    let missing = SqlRunner::new("/nowhere/at/all".into(), program("migrate-worker"), Environment::default());
    let said = refused(missing.history().await);
    assert!(said.contains("/nowhere/at/all") && said.contains("No such file"), "{said}");
    let twice = Files::new(&[("1_a.sql", "SELECT 1;"), ("01_b.sql", "SELECT 2;")]);
    assert!(refused(twice.runner().history().await).starts_with("two migrations have the version 1;"));
    let worded = Files::new(&[("one_a.sql", "SELECT 1;")]);
    assert!(refused(worded.runner().history().await).contains("expected integer version prefix"));
}

#[tokio::test]
async fn a_database_that_is_not_there_is_not_made() {
    let files = Files::growing();
    let file = tests::sqlite::TestFile::new();
    let said = refused(files.runner().probe(&file.url().parse().unwrap(), &call()).await);
    assert!(said.contains("the database cannot be opened"), "{said}");
    assert!(!file.path().exists());
}

#[tokio::test]
async fn an_edited_sql_file_has_other_contents_where_it_is_on_the_way() {
    let files = Files::growing();
    let (runner, database) = (files.runner(), Fresh::sqlite());
    let up = planned(&runner, &database.url(), "2").await.unwrap().2;
    go(&runner, &database.url(), "2").await;
    let down = planned(&runner, &database.url(), "-1").await.unwrap().2;
    let all = async || (runner.contents(&up).await.unwrap().unwrap(), runner.contents(&down).await.unwrap().unwrap());
    let before = all().await;
    assert!(before.0.len() == 64 && before.0 != before.1, "{before:?}");
    files.write("30_third.sql", "ALTER TABLE a ADD z text;");
    assert_eq!(all().await, before, "it is not on the way");
    files.write("0002_second_one.down.sql", "ALTER TABLE a DROP y; -- edited");
    let edited = all().await;
    assert!(edited.0 == before.0 && edited.1 != before.1, "{edited:?}");
    files.write("0002_second_one.up.sql", "ALTER TABLE a ADD y integer;\nINSERT INTO a VALUES (1, 3);");
    assert_ne!(all().await.0, before.0);
}
