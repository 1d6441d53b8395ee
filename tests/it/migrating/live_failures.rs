//! Migrations that pass the rehearsal and fail on the database itself: it is as it was, proven.

use super::{Shop, beside, orders, project, says, until};
use tests::postgres::pg_dump_text;
use tests::private_postgres::PrivatePostgres;

/// Fails where the database is the fenced one.
const ONLY_LIVE: &str = "DO $$ BEGIN
    IF current_database() LIKE '%\\_\\_mig\\_%' THEN RAISE EXCEPTION 'this happens to the real one only'; END IF;
END $$;";

/// A first one, so that the tool's own table is there: a runner may make it before anything else.
const GOOD: &str = "CREATE TABLE good (x int);";

#[test]
fn on_sqlite_a_failure_at_the_end_leaves_the_database_as_it_was() {
    let file = orders(50);
    let project = project();
    project.add_sql("r1", &[], "UPDATE orders SET note = 'changed'", "SELECT 1");
    // The real tool does all of it, and then fails, the second time.
    let script = "if [ $verb = upgrade ]; then
            \"$alembic\" \"$@\" || exit
            if [ -e $home/rehearsed ]; then echo the second time is different >&2; exit 3; fi
            touch $home/rehearsed
            exit 0
        fi
        exec \"$alembic\" \"$@\"";
    let shop = Shop::alembic_by(&file.url(), project, "", script);
    let before = file.dump_text();
    let run = shop.apply(&[], "restored");
    says(&run, &["alembic ended with exit code 3", "the second time is different", "shop is as it was"]);
    assert_eq!(file.dump_text(), before);
    assert_eq!(beside(&file), Vec::<String>::new());
}

#[test]
fn on_postgresql_nothing_is_restored_where_nothing_is_left_and_the_backup_swapped_in_where_something_is() {
    let server = PrivatePostgres::start();
    server.create("shop");
    server.psql("shop", "CREATE TABLE orders (id serial PRIMARY KEY, note text); INSERT INTO orders (note) SELECT 'note ' || i FROM generate_series(1, 500) i");
    let shop = Shop::sql(&server.url("shop"), &[("1_good.sql", GOOD)]);
    shop.apply(&[], "succeeded");
    shop.add("2_fails.sql", &format!("UPDATE orders SET note = 'x' || note; {ONLY_LIVE}"));
    let oid = || server.psql("postgres", "SELECT oid FROM pg_database WHERE datname = 'shop'");
    let (before, same) = (pg_dump_text(&server.url("shop")), oid());

    let run = shop.apply(&[], "restored");
    says(&run, &["this happens to the real one only", "nothing of it was left", "shop is as it was"]);
    assert_eq!(pg_dump_text(&server.url("shop")), before, "one transaction: everything is as it was");
    assert_eq!((server.databases("shop"), oid()), (vec!["shop".to_owned()], same.clone()));

    // The first of two is committed before the second fails.
    shop.add("2_fails.sql", "UPDATE orders SET note = 'x' || note; CREATE TABLE half (x int);");
    shop.add("3_fails.sql", ONLY_LIVE);
    let run = shop.apply(&[], "restored");
    says(&run, &["this happens to the real one only", "took its place; the failed database is kept as shop__failed_"]);
    assert_eq!(pg_dump_text(&server.url("shop")), before, "two transactions: the backup took the database's place");
    assert_ne!(oid(), same);
    let databases = server.databases("shop");
    assert!(databases.len() == 2 && databases[1].starts_with("shop__failed_"), "{databases:?}");
    let failed =
        server.psql("postgres", &format!("SELECT datallowconn FROM pg_database WHERE datname = '{}'", databases[1]));
    assert_eq!(failed, "f", "the failed database is closed");

    // And then the mended one goes through.
    shop.add("3_fails.sql", "CREATE TABLE whole (x int);");
    says(&shop.apply(&[], "succeeded"), &["it stands at 3", "nobody could connect for"]);
    assert_eq!(server.psql("shop", "SELECT count(*) FROM orders WHERE note LIKE 'xnote %'"), "500");
}

#[test]
fn on_postgresql_a_statement_whose_client_was_killed_never_commits() {
    let server = PrivatePostgres::start();
    server.create("shop");
    server.psql("shop", "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1)");
    // Outside of a transaction, and told not to look whether its client is still there.
    let late = "-- no-transaction
        SET client_connection_check_interval = 0; CREATE TABLE late AS
        SELECT pg_sleep(CASE WHEN current_database() LIKE '%\\_\\_mig\\_%' THEN 9 ELSE 0 END)::text AS x;";
    let shop = Shop::sql_with(&server.url("shop"), "deadline = \"3s\"", &[("1_good.sql", GOOD)]);
    shop.apply(&[], "succeeded");
    shop.add("2_late.sql", late);
    let before = pg_dump_text(&server.url("shop"));
    let run = shop.apply(&[], "restored");
    says(&run, &["it did not end within 3 s", "nothing of it was left"]);
    assert_eq!(pg_dump_text(&server.url("shop")), before);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'holdfast-%' OR query LIKE '%late%' AND pid <> pg_backend_pid()";
    assert_eq!(server.psql("shop", sessions), "0", "the statement goes on without its client");
    assert_eq!(server.databases("shop"), ["shop"]);
}

#[test]
fn whoever_is_told_to_end_in_the_middle_takes_back_what_has_begun() {
    let server = PrivatePostgres::start();
    server.create("shop");
    server.psql("shop", "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1)");
    let long = "CREATE TABLE half AS SELECT pg_sleep(CASE WHEN current_database() LIKE '%\\_\\_mig\\_%' THEN 60 ELSE 0 END)::text AS x;";
    let shop = Shop::sql(&server.url("shop"), &[("1_long.sql", long)]);
    for signal in ["TERM", "HUP"] {
        let before = pg_dump_text(&server.url("shop"));
        let running = shop.agent.start(&["apply", "shop"]);
        until("the tool works on the database", || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'shop\\_\\_mig\\_%' AND query LIKE 'CREATE TABLE half%'";
            server.psql("postgres", sql) == "1"
        });
        running.signal(signal);
        says(&shop.ended(running.wait(), "restored"), &["sql was ended: ", "shop is as it was"]);
        assert_eq!(pg_dump_text(&server.url("shop")), before, "{signal}");
    }
}
