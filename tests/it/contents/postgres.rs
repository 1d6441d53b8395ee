//! The cases of PostgreSQL.

use super::cases::{Setup, World};
use super::outcome::{Differences, Outcome, go_round};
use std::collections::BTreeSet;
use tests::postgres::{TestDatabase, dump_differences, pg_dump_with_settings, psql, server_url};
use tests::tools::Held;

/// Makes the database of a world by psql, and tells what becomes of it.
#[track_caller]
pub fn outcome(world: &World) -> Outcome {
    let what = world.to_string();
    let (source, held) = made(world);
    let target = TestDatabase::reserved();
    let url = source.url();
    let server = url.split_once('@').and_then(|(_, rest)| rest.split_once('/')).expect("a server").0;
    let names = [(source.name(), "DATABASE"), (target.name(), "COPY"), (server, "SERVER")];
    let outcome = go_round(&what, &source.url(), &target.url(), &names, &|| compare(world, &source, &target), &|| {
        target.exists()
    });
    drop(held);
    [&source, &target].into_iter().filter(|database| database.exists()).for_each(make_droppable);
    outcome
}

/// The database, and the session that stays in it.
#[track_caller]
fn made(world: &World) -> (TestDatabase, Option<Held>) {
    let database = match &world.setup {
        Setup::Created(options) => TestDatabase::created(&format!("TEMPLATE template0 {options}")),
        _ => TestDatabase::new(),
    };
    if world.setup == Setup::Held {
        let held = database.held(&world.cases[0].text);
        return (database, Some(held));
    }
    for (number, case) in world.cases.iter().enumerate() {
        let schema = format!("CREATE SCHEMA case_{number}; SET search_path = case_{number}, public;\n");
        let schema = if world.setup == Setup::Shared { &schema } else { "" };
        let sql = format!("SET client_min_messages = error;\n{schema}{}", case.text);
        database.try_psql(&sql).unwrap_or_else(|error| panic!("{world}: {}: {error}", case.title));
    }
    (database, None)
}

#[track_caller]
fn compare(world: &World, source: &TestDatabase, target: &TestDatabase) -> Differences {
    if world.cases.iter().all(|case| case.text.trim().is_empty()) {
        // Nothing is never compared with nothing by pg_dump.
        let made = target.query_value("SELECT count(*) FROM pg_class WHERE oid >= 16384");
        assert_eq!(made, "0", "the source is empty, the copy is not");
        return Differences::default();
    }
    // The server itself writes the text of a view in the one way first, and in the other after a restore.
    let text = |database: &TestDatabase| pg_dump_with_settings(&database.url()).replace("( VALUES", "(VALUES");
    let found = dump_differences(&text(source), &text(target));
    let (rows, schema): (Vec<_>, Vec<_>) = found.into_iter().partition(|line| line.starts_with("data of "));
    let partitions: BTreeSet<String> = source.query_rows(PARTITIONS).into_iter().flatten().collect();
    let is_moved = |line: &String| partitions.iter().any(|name| line.starts_with(&format!("data of {name} ")));
    if !rows.is_empty() && rows.iter().all(is_moved) && roots(source) == roots(target) {
        return Differences { rows: Vec::new(), schema, seen: vec!["some rows lie in another partition".into()] };
    }
    Differences { rows, schema, seen: Vec::new() }
}

const PARTITIONS: &str = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relispartition";

/// Takes away what keeps the server from dropping a database.
fn make_droppable(database: &TestDatabase) {
    // Neither is possible where the removal of a database was interrupted, and nothing keeps it then.
    let _ = psql(&server_url(), &format!("ALTER DATABASE {} IS_TEMPLATE false", database.name()));
    let own = "FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let _ = database.try_psql(&format!(
        "SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE database = current_database() \\gexec
         SELECT format('ALTER SUBSCRIPTION %I DISABLE', subname) {own} \\gexec
         SELECT format('ALTER SUBSCRIPTION %I SET (slot_name = NONE)', subname) {own} \\gexec
         SELECT format('DROP SUBSCRIPTION %I', subname) {own} \\gexec"
    ));
}

/// All partitioned tables, and the rows one sees through them.
#[track_caller]
fn roots(database: &TestDatabase) -> Vec<String> {
    let roots = database.query_rows("SELECT oid::regclass FROM pg_class WHERE relkind = 'p' AND NOT relispartition");
    let roots = roots.into_iter().flatten();
    roots
        .map(|root| format!("{root}: {:?}", database.query_rows(&format!("SELECT r FROM {root} r ORDER BY r::text"))))
        .collect()
}
