//! PostgreSQL servers, roles, tools and targets that will not do.

use super::*;
use backup_agent::backup::{BackupOptions, backup};
use backup_agent::error::Error;
use backup_agent::repository::{Codec, Repository};
use shared::engine::postgres::PostgresEngine;
use shared::model::DatabaseUrl;
use std::sync::Arc;
use tests::memory_store::MemoryStore;
use tests::postgres::{self, TestDatabase, on_server, url_as};

fn database() -> TestDatabase {
    let made = TestDatabase::new();
    made.psql("CREATE TABLE open (id int PRIMARY KEY, t text); INSERT INTO open VALUES (1, 'one'), (2, 'two')");
    made
}

/// A store with one backup of [`database`] under the name `shop`, and its id.
fn stored() -> (Agent, TestDatabase, String) {
    let (agent, source) = (Agent::new(), database());
    let id = agent.ok(&["backup", &source.url(), "--name", "shop"]).stdout.trim().to_owned();
    (agent, source, id)
}

/// A store may have been made, but nothing of a backup is in it.
#[track_caller]
fn holds_no_backup(agent: &Agent) {
    for folder in ["backups", "packs", "leases", "marks"] {
        assert!(!agent.store_dir().join(folder).exists(), "{folder} was left");
    }
}

#[test]
fn a_server_or_database_that_is_not_there_is_told_without_the_password() {
    let agent = Agent::new();
    let there = TestDatabase::new();
    for (url, why) in [
        (url_as(&postgres::url_of("no_such_database"), "postgres", Some("canary")), "does not exist"),
        (there.scram_url(Some("canary")), "password authentication failed"),
        (there.scram_url(None), "password"),
        (url_as(&there.url(), "no_such_role", Some("canary")), "no_such_role"),
        ("postgres://postgres:canary@127.0.0.1:1/shop".to_owned(), "cannot connect"),
        ("postgres://postgres:canary@host.invalid/shop".to_owned(), "cannot connect"),
        ("postgres:///shop?host=/no/such/socket&password=canary".to_owned(), "cannot connect"),
    ] {
        let run = agent.run(&["-vv", "backup", &url, "--name", "shop"]).expect_code(1);
        says(&run, why);
        run.never_says("canary");
        assert_eq!(left(&agent), Vec::<String>::new(), "{url}");
    }
}

#[test]
fn a_password_is_taken_from_the_url_the_environment_or_the_configuration_and_stored_nowhere() {
    let source = database();
    source.psql("GRANT SELECT ON open TO scram_user");
    let agent = Agent::new();
    let with = |text: &str| std::fs::write(agent.home().join("holdfast.toml"), text).unwrap();
    with(&format!("[database.shop]\nurl = \"{}\"\n", source.scram_url(Some(postgres::SCRAM_PASSWORD))));
    agent.ok(&["-vv", "backup", "shop"]).never_says(postgres::SCRAM_PASSWORD);
    agent.ok(&["-vv", "backup", &source.scram_url(Some(postgres::SCRAM_PASSWORD)), "--name", "shop"]);
    std::fs::remove_file(agent.home().join("holdfast.toml")).unwrap();
    let agent = agent.with_env("PGPASSWORD", postgres::SCRAM_PASSWORD);
    agent.ok(&["-vv", "backup", &source.scram_url(None), "--name", "shop"]).never_says(postgres::SCRAM_PASSWORD);
    let encoded = postgres::SCRAM_PASSWORD.replace(' ', "%20");
    for file in files(&agent.store_dir()) {
        let bytes = std::fs::read(&file).unwrap();
        let mut plain = Vec::new();
        let unpacked = std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&bytes[..]), &mut plain);
        let text = String::from_utf8_lossy(if unpacked.is_ok() { &plain } else { &bytes }).into_owned();
        assert!(!text.contains(postgres::SCRAM_PASSWORD) && !text.contains(&encoded), "{}", file.display());
    }
}

#[test]
fn a_role_that_does_not_see_every_row_is_refused_and_no_partial_backup_is_made() {
    let source = database();
    let role = format!("r_{}", source.name());
    source.psql(&format!(
        "CREATE ROLE {role} LOGIN; CREATE TABLE closed (id int); GRANT SELECT ON open TO {role};
         CREATE TABLE half (id int); INSERT INTO half VALUES (1), (2)"
    ));
    let url = url_as(&source.url(), &role, None);
    let agent = Agent::new();
    let refused = |why: &str| {
        let run = refuses(&agent, &["backup", &url, "--name", "shop"], why);
        says(&run, "hint: ");
        holds_no_backup(&agent);
    };
    refused("public.closed");
    source.psql(&format!(
        "GRANT SELECT ON closed, half TO {role}; ALTER TABLE half ENABLE ROW LEVEL SECURITY;
         CREATE POLICY one ON half TO {role} USING (id = 1)"
    ));
    refused("row-level security hides rows of 1 table public.half");
    source.psql(&format!("ALTER TABLE half DISABLE ROW LEVEL SECURITY; CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int); GRANT SELECT ON hidden.t TO {role}"));
    refused("hidden.t");
    source.psql(&format!("GRANT USAGE ON SCHEMA hidden TO {role}"));
    agent.ok(&["backup", &url, "--name", "shop"]);
    source.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_target_that_is_filled_or_reserved_is_refused_and_not_touched() {
    let (agent, source, id) = stored();
    let filled = database();
    filled.psql("INSERT INTO open VALUES (3, 'precious')");
    let run = refuses(&agent, &["restore", &id, "--into", &filled.url()], "not empty");
    says(&run, filled.name());
    assert_eq!(filled.query_value("SELECT count(*) FROM open"), "3");
    // Into itself.
    refuses(&agent, &["restore", &id, "--into", &source.url()], "not empty");
    assert_eq!(source.query_value("SELECT count(*) FROM open"), "2");
    for reserved in ["template1", "template0", "postgres"] {
        let run = refuses(&agent, &["restore", &id, "--into", &postgres::url_of(reserved)], reserved);
        assert!(!run.stderr.contains("could not"), "{}", run.stderr);
    }
    let names = on_server("SELECT datname FROM pg_database WHERE datname ~ '(__restoring_|template._)'");
    assert_eq!(names.trim(), "", "something was left");
    // One other thing than a table makes a database not empty, too.
    let schema_only = TestDatabase::new();
    schema_only.psql("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'");
    refuses(&agent, &["restore", &id, "--into", &schema_only.url()], "not empty");
}

#[test]
fn a_role_that_may_not_make_a_database_is_told_and_nothing_is_left() {
    let (agent, source, id) = stored();
    let role = format!("r_{}", source.name());
    source.psql(&format!("CREATE ROLE {role} LOGIN"));
    let target = TestDatabase::reserved();
    let run = agent.run(&["restore", &id, "--into", &url_as(&target.url(), &role, None)]);
    assert!(matches!(run.code, Some(1 | 3)), "{:?} {}", run.code, run.stderr);
    says(&run, "permission denied to create database");
    assert!(!target.exists());
    source.psql(&format!("DROP ROLE {role}"));
}

#[test]
fn a_backup_of_one_engine_does_not_go_into_the_other() {
    let (agent, _source, id) = stored();
    let run = refuses(&agent, &["restore", &id, "--into", "sqlite:new.db"], "is of a postgres database");
    says(&run, "hint: give --into a URL of the same kind");
    assert!(!agent.home().join("new.db").exists());
    let (agent, _source, id) = one_backup();
    let target = TestDatabase::reserved();
    refuses(&agent, &["restore", &id, "--into", &target.url()], "is of a sqlite database");
    assert!(!target.exists());
}

/// Backs up with client tools from `folder` only.
fn with_tools(folder: &Path) -> (Error, usize) {
    let source = database();
    let Ok(DatabaseUrl::Postgres(url)) = source.url().parse() else { panic!("no URL") };
    let engine = PostgresEngine::new(url).with_tools_in(vec![folder.to_owned()]);
    let store = MemoryStore::default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime.block_on(async {
        let repository = Repository::open_or_init(Arc::new(store.clone()), Codec::Gzip).await.unwrap().0;
        let name = "shop".parse().unwrap();
        backup(&repository, &name, &engine, &BackupOptions::default(), Arc::new(())).await.unwrap_err()
    });
    let kept = ["holdfast.json", "RESTORE.md", "restore.sh"];
    (error, store.objects().keys().filter(|key| !kept.contains(&key.as_str())).count())
}

#[test]
fn missing_client_tools_are_refused_by_package() {
    let empty = tempfile::tempdir().unwrap();
    let (error, objects) = with_tools(empty.path());
    assert_eq!(error.exit_code(), 3, "{error}");
    assert!(error.to_string().contains("pg_dump and pg_restore were not found"), "{error}");
    assert!(error.hint().unwrap().contains("install the package postgresql-client-"), "{error}");
    assert_eq!(objects, 0, "something was left in the store");
}

#[test]
fn client_tools_older_than_the_server_are_refused_by_version() {
    let folder = tempfile::tempdir().unwrap();
    for tool in ["pg_dump", "pg_restore"] {
        let script = format!("#!/bin/sh\necho '{tool} (PostgreSQL) 9.6.24'\n");
        std::fs::write(folder.path().join(tool), script).unwrap();
        set_mode(&folder.path().join(tool), 0o755);
    }
    let (error, objects) = with_tools(folder.path());
    assert_eq!(error.exit_code(), 3, "{error}");
    assert!(error.to_string().contains("the client tools are version 9.6.24, older than PostgreSQL"), "{error}");
    assert!(error.hint().unwrap().contains("install the package postgresql-client-"), "{error}");
    assert_eq!(objects, 0, "something was left in the store");
}
