//! What migrations do to a PostgreSQL database and its server that no exit code tells.

use super::{Shop, files_below, project, says};
use tests::postgres::pg_dump_text;
use tests::private_postgres::PrivatePostgres;

/// A server with a database `shop` of a few rows.
fn server() -> PrivatePostgres {
    let server = PrivatePostgres::start();
    server.create("shop");
    server.psql(
        "shop",
        "CREATE TABLE orders (id int PRIMARY KEY, item text, note text);
         INSERT INTO orders SELECT i, 'item ' || i % 10, 'note' FROM generate_series(1, 100) i",
    );
    server
}

/// Asserts that nothing happened to the database, and that nothing else is there.
#[track_caller]
fn untouched(server: &PrivatePostgres, before: &str, what: &str) {
    assert_eq!(pg_dump_text(&server.url("shop")), before, "{what}");
    assert_eq!(server.databases("shop"), ["shop"], "{what}");
}

#[test]
fn what_reaches_beyond_the_database_or_stays_half_done_is_refused_naming_it() {
    let server = server();
    let shop = Shop::sql(&server.url("shop"), &[]);
    let before = pg_dump_text(&server.url("shop"));

    shop.add("1_trap.sql", "-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY orders_item ON orders (item);");
    let run = shop.apply(&[], "refused");
    says(&run, &["could not create unique index", "shop was not touched"]);
    untouched(&server, &before, "an index that cannot be built");

    shop.add("1_trap.sql", "CREATE ROLE trap_role LOGIN;");
    let run = shop.apply(&[], "refused");
    says(&run, &["the rehearsal changed what is not in the database", "role trap_role", "DROP ROLE trap_role"]);
    untouched(&server, &before, "CREATE ROLE");
    server.psql("postgres", "DROP ROLE trap_role");

    let alter = "DO $$ BEGIN EXECUTE 'ALTER DATABASE shop SET work_mem = ''64MB'''; END $$;";
    shop.add("1_trap.sql", alter);
    let run = shop.apply(&[], "refused");
    says(&run, &["the rehearsal changed what is not in the database", "work_mem", "RESET"]);
    server.psql("postgres", "ALTER DATABASE shop RESET work_mem");
    untouched(&server, &before, "ALTER DATABASE");

    shop.add("1_trap.sql", "SELECT pg_advisory_lock(42); CREATE TABLE more (x int);");
    shop.apply(&[], "succeeded");
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), "0");
}

#[test]
fn what_keeps_a_database_from_being_renamed_or_was_left_half_done_before_is_refused() {
    let server = server();
    let shop = Shop::sql(&server.url("shop"), &[("1_more.sql", "CREATE TABLE more (x int);")]);
    let before = pg_dump_text(&server.url("shop"));

    server.psql("shop", "BEGIN; UPDATE orders SET note = 'x' WHERE id = 1; PREPARE TRANSACTION 'left over'");
    let run = shop.apply(&[], "refused");
    says(&run, &["transaction \"left over\" is prepared", "ROLLBACK PREPARED 'left over'", "shop was not touched"]);
    server.psql("shop", "ROLLBACK PREPARED 'left over'");
    untouched(&server, &before, "a prepared transaction");

    server.try_psql("shop", "CREATE UNIQUE INDEX CONCURRENTLY orders_item ON orders (item)").unwrap_err();
    says(&shop.apply(&[], "refused"), &["index public.orders_item is invalid", "REINDEX INDEX"]);
    server.psql("shop", "DROP INDEX orders_item");
    untouched(&server, &before, "an invalid index");

    // One that is not there on the copy, and an error that is caught: the tool ends well.
    let catches = "DO $$ BEGIN
        IF current_database() LIKE '%\\_\\_mig\\_%' THEN CREATE INDEX orders_note ON orders (note);
            UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'orders_note'::regclass;
        END IF; END $$;";
    shop.add("1_more.sql", catches);
    let run = shop.apply(&[], "restored");
    says(&run, &["something was left over: index public.orders_note is invalid", "shop is as it was"]);
    assert_eq!(pg_dump_text(&server.url("shop")), before, "an invalid index left on the real one only");
}

#[test]
fn a_whole_upgrade_of_alembic_is_one_transaction_and_its_password_is_seen_nowhere() {
    const PASSWORD: &str = "quite-secret-42";
    let server = server();
    server.psql("postgres", &format!("CREATE ROLE app SUPERUSER LOGIN PASSWORD '{PASSWORD}'"));
    let before = pg_dump_text(&server.url("shop"));
    let project = project();
    project.add(
        "r1",
        &[],
        "import os\nprint(os.environ['DATABASE_URL'], os.environ['PGPASSWORD'])\nop.execute('CREATE TABLE a (x integer)')\nop.execute('UPDATE orders SET note = item')",
        "op.execute('DROP TABLE a')",
    );
    project.add_sql("r2", &["r1"], "INSERT INTO nowhere VALUES (1)", "SELECT 1");
    let url = server.url_as("shop", "app", PASSWORD);
    let mut shop = Shop::alembic(&url, project);
    shop.agent.set_env("HOLDFAST_LOG", "trace");
    let run = shop.apply(&[], "refused");
    run.never_says(PASSWORD);
    says(&run, &["the rehearsal failed", "nowhere"]);
    untouched(&server, &before, "an upgrade that fails at its end");

    // Only on the real one: nothing of r1 is there either.
    let project = shop.alembic.as_ref().unwrap();
    project.add(
        "r2",
        &["r1"],
        "if '__mig_' in op.get_bind().engine.url.database:\n    op.execute('INSERT INTO nowhere VALUES (1)')",
        "",
    );
    let run = shop.apply(&[], "restored");
    run.never_says(PASSWORD);
    says(&run, &["nothing of it was left"]);
    untouched(&server, &before, "an upgrade that fails at its end on the real one");

    let record = shop.record();
    assert!(record.contains("***") && !record.contains(PASSWORD), "the record tells the password: {record}");
    for file in files_below(&shop.file("")).into_iter().filter(|file| !file.ends_with("holdfast.toml")) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes());
        assert!(!found, "{} holds the password", file.display());
    }
}

#[test]
fn a_tool_that_upgrades_the_live_database_instead_of_the_copy_ends_stuck_naming_the_backup() {
    let server = server();
    let url = server.url("shop");
    let project = project();
    project.add_sql("r1", &[], "UPDATE orders SET note = 'around'", "SELECT 1");
    let text = std::fs::read_to_string(project.env_py()).unwrap();
    let told = "config = context.config\n";
    let address = url.replace("postgres://", "postgresql://");
    let fixed = format!(
        "{told}import sys\nif 'upgrade' in sys.argv:\n    config.set_main_option('sqlalchemy.url', '{address}')\n"
    );
    std::fs::write(project.env_py(), text.replace(told, &fixed)).unwrap();
    let shop = Shop::alembic(&url, project);
    let run = shop.apply(&[], "stuck");
    says(&run, &["shop moved while the copy was rehearsed on: it stands at r1 instead of base", "backup shop/"]);
    assert_eq!(server.databases("shop"), ["shop"]);
    // A stuck database is not touched again before somebody has looked.
    let again = shop.agent.run(&["apply", "shop"]);
    assert!(again.code == Some(3) || again.code == Some(5), "{}{}", again.stdout, again.stderr);
}
