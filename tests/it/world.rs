//! The test world itself: is the server private, do the fixtures load, do the oracles see?

use tests::fixtures;
use tests::postgres::{self, TestDatabase, check_pg_dump, dump_differences, pg_dump_text};
use tests::sqlite::{TestFile, check_sqlite_dump, sqlite_differences};

#[test]
fn the_server_is_private_and_up() {
    let pid = std::env::var("HOLDFAST_TEST_PG_PID").unwrap();
    assert!(postgres::server_url().contains("@127.0.0.1:"));
    assert!(std::path::Path::new("/proc").join(&pid).exists());
    let data = postgres::on_server("SHOW data_directory");
    assert_eq!(data.trim(), std::env::var("HOLDFAST_TEST_PG_DATA").unwrap());
    assert_eq!(postgres::on_server("SHOW max_connections").trim(), "200");
}

#[test]
fn the_server_asks_one_role_for_its_password() {
    let database = TestDatabase::new();
    assert!(postgres::psql(&database.scram_url(Some(postgres::SCRAM_PASSWORD)), "SELECT 1").is_ok());
    let refused = postgres::psql(&database.scram_url(Some("wrong")), "SELECT 1").unwrap_err();
    assert!(refused.contains("password authentication failed"), "{refused}");
}

#[test]
fn a_database_is_gone_when_its_value_is() {
    let database = TestDatabase::named("t_\"odd\" näme/with. all");
    let name = database.name().to_owned();
    assert_eq!(database.query_value("SELECT current_database()"), name);
    drop(database);
    assert!(!TestDatabase::adopt(&name).exists());
}

#[test]
fn query_rows_keeps_null_empty_and_line_ends_apart() {
    let database = TestDatabase::new();
    let rows = database.query_rows("SELECT NULL, '', E'a\\nb|c' UNION ALL SELECT '1', '2', '3' ORDER BY 1 DESC");
    assert_eq!(rows, [[postgres::NULL, "", "a\nb|c"], ["1", "2", "3"]]);
    assert_eq!(database.query_rows("SELECT 1 WHERE false"), Vec::<Vec<String>>::new());
}

#[test]
fn chinook_loads_and_equals_itself_but_not_a_copy_with_one_row_changed() {
    let (left, right) = (fixtures::postgres("chinook-postgres.sql"), fixtures::postgres("chinook-postgres.sql"));
    let before = pg_dump_text(&left.url());
    assert_eq!(dump_differences(&before, &pg_dump_text(&right.url())), Vec::<String>::new());
    right.psql("UPDATE artist SET name = name || ' ' WHERE artist_id = 17");
    let found = dump_differences(&before, &pg_dump_text(&right.url()));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("data of public.artist"), "{found:?}");
}

#[test]
fn the_dump_comparer_sees_what_differs_and_only_that() {
    let left = TestDatabase::new();
    let right = TestDatabase::new();
    let tables = "CREATE TABLE p (a int, b text); CREATE TABLE c (b text, z int, a int); ALTER TABLE c INHERIT p;";
    left.psql(&format!("{tables} INSERT INTO c VALUES ('x', 1, 2), (NULL, 3, 4), (NULL, 3, 4)"));
    let other = "CREATE TABLE p (a int, b text); CREATE TABLE c (a int, b text, z int); ALTER TABLE c INHERIT p;";
    right.psql(&format!("{other} INSERT INTO c VALUES (4, NULL, 3), (2, 'x', 1), (4, NULL, 3)"));
    let compare = || dump_differences(&pg_dump_text(&left.url()), &pg_dump_text(&right.url()));
    assert!(compare().iter().all(|line| line.contains("Type: TABLE;")), "{:?}", compare());
    for (sql, undo) in [
        ("DELETE FROM c WHERE ctid = '(0,3)'", "INSERT INTO c VALUES (4, NULL, 3)"),
        ("UPDATE c SET b = '' WHERE b IS NULL", "UPDATE c SET b = NULL WHERE b = ''"),
        ("INSERT INTO c VALUES (2, 'x', 1)", "DELETE FROM c WHERE ctid = (SELECT max(ctid) FROM c WHERE b = 'x')"),
    ] {
        let equal = compare();
        right.psql(sql);
        assert_ne!(compare(), equal, "{sql}");
        right.psql(undo);
        assert_eq!(compare(), equal, "{undo}");
    }
}

#[test]
fn the_oracles_refuse_dumps_that_are_empty_or_cut_short() {
    let database = TestDatabase::new();
    database.psql("CREATE TABLE t (a int)");
    let whole = pg_dump_text(&database.url());
    assert_eq!(check_pg_dump(&whole), Ok(()));
    assert_eq!(check_pg_dump(""), Err("the dump is empty".into()));
    assert_eq!(check_pg_dump(&whole[..whole.len() / 2]), Err("the dump is cut short".into()));
    database.psql("DROP TABLE t");
    let nothing = std::panic::catch_unwind(|| pg_dump_text(&database.url()));
    assert!(nothing.is_err(), "a dump without a table was taken");
    assert!(std::panic::catch_unwind(|| dump_differences("", "")).is_err(), "nothing was compared with nothing");

    let file = TestFile::new();
    file.sqlite3("CREATE TABLE t (a)");
    let whole = file.dump_text();
    assert_eq!(check_sqlite_dump(&whole), Ok(()));
    assert_eq!(check_sqlite_dump(&whole.replace("COMMIT;", "ROLLBACK; -- due to errors")).ok(), None);
    file.sqlite3("DROP TABLE t");
    assert!(std::panic::catch_unwind(|| file.dump_text()).is_err(), "a dump without a table was taken");
    assert!(std::panic::catch_unwind(|| sqlite_differences("", "")).is_err(), "nothing was compared with nothing");
}

#[test]
fn the_sqlite_oracle_sees_a_changed_value_type_and_row_number() {
    let source = fixtures::sqlite("chinook.sqlite");
    let before = source.dump_text();
    assert_eq!(sqlite_differences(&before, &fixtures::sqlite("chinook.sqlite").dump_text()), Vec::<String>::new());
    for sql in [
        "UPDATE Artist SET Name = 'AC/DC ' WHERE ArtistId = 1",
        "UPDATE Artist SET Name = 'a' || char(0) || 'b' WHERE ArtistId = 1",
        "UPDATE PlaylistTrack SET rowid = 900000 WHERE rowid = 5",
        "PRAGMA user_version = 5",
        "PRAGMA application_id = 7",
        "DELETE FROM Genre WHERE GenreId = 25",
    ] {
        let changed = TestFile::copy_of(&source.path());
        changed.sqlite3(sql);
        assert!(!sqlite_differences(&before, &changed.dump_text()).is_empty(), "{sql}");
    }
    let (one, other) = (fixtures::sqlite("chinook.sqlite"), fixtures::sqlite("chinook.sqlite"));
    one.sqlite3("UPDATE Artist SET Name = 'a' || char(0) || 'b' WHERE ArtistId = 1");
    other.sqlite3("UPDATE Artist SET Name = 'a' || char(0) || 'c' WHERE ArtistId = 1");
    assert!(!sqlite_differences(&one.dump_text(), &other.dump_text()).is_empty(), "behind a NUL nothing was seen");
}

#[test]
fn every_fixture_loads() {
    for name in ["awkward.sql", "unrestorable.sql", "unrestorable-table.sql"] {
        let database = fixtures::loaded(name);
        pg_dump_text(&database.url());
    }
    for name in ["refused/pending-detach.sql", "refused/row-type-order.sql", "refused/system-schema.sql"] {
        pg_dump_text(&fixtures::loaded(name).url());
    }
    for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
        let file = fixtures::awkward_sqlite(encoding);
        assert_eq!(file.sqlite3("PRAGMA encoding").trim(), encoding);
        assert_eq!(file.sqlite3("PRAGMA integrity_check").trim(), "ok");
        file.dump_text();
    }
}

#[test]
fn the_generators_make_what_they_say() {
    let database = TestDatabase::new();
    fixtures::many_tables(&database, 200, 3);
    fixtures::huge_value(&database, 2);
    let counted = database.query_value("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ '^t[0-9]+$'");
    assert_eq!(counted, "200");
    assert_eq!(database.query_value("SELECT max(length(t)) FROM huge"), (2 << 20).to_string());
    assert_eq!(fixtures::sqlite_many_tables(30, 3).sqlite3("SELECT count(*) FROM sqlite_schema").trim(), "30");
    let huge = fixtures::sqlite_huge_value(2);
    assert_eq!(huge.sqlite3("SELECT max(length(b)) FROM huge").trim(), (2 << 20).to_string());
}

/// What pg_restore itself can bring back must be equal for the comparer, or it would cry wolf at the product.
#[test]
fn the_dump_comparer_takes_a_copy_made_by_pg_dump_for_equal() {
    let (source, copy) = (TestDatabase::new(), TestDatabase::new());
    let parts = "roles names columns types values partitions inheritance references sequences views code security \
                 storage large-objects extension";
    for part in parts.split_whitespace() {
        source.psql_file(&fixtures::fixture(&format!("awkward/{part}.sql")));
    }
    // Filled through a function, which hides from pg_dump what has to be filled before.
    source.psql("DROP MATERIALIZED VIEW views.a_hidden");
    let before = pg_dump_text(&source.url());
    copy.psql(&before);
    assert_eq!(dump_differences(&before, &pg_dump_text(&copy.url())), Vec::<String>::new());
    let settings = postgres::pg_dump_with_settings(&source.url());
    assert!(settings.contains("CREATE DATABASE THIS_DATABASE "), "{}", &settings[..1000]);
    assert!(!settings.contains(source.name()));
    assert_eq!(dump_differences(&settings, &postgres::pg_dump_with_settings(&copy.url())), Vec::<String>::new());
}
