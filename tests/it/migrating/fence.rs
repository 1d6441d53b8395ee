//! A PostgreSQL database behind its fence: nobody gets in, and whoever does is not undone.

use super::{Shop, says, until};
use std::process::{Child, Command, Stdio};
use tests::postgres::client;
use tests::private_postgres::PrivatePostgres;

/// A `psql` that runs one statement; killed when dropped.
struct Psql(Child);

impl Psql {
    fn begin(url: &str, sql: &str) -> Self {
        let mut command: Command = client("psql");
        command.args(["-Xq", "-d", url, "-c", sql]).stdout(Stdio::null()).stderr(Stdio::null());
        Psql(command.spawn().unwrap())
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_application_that_is_superuser_is_put_out_and_kept_out() {
    let server = PrivatePostgres::start();
    server.create("shop");
    server.psql("shop", "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1)");
    let shop = Shop::sql(&server.url("shop"), &[("1_more.sql", "CREATE TABLE more (x int);")]);
    let mut application = Psql::begin(&server.url("shop"), "SELECT pg_sleep(600)");
    until("the application is connected", || {
        server.psql(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND datname = 'shop'",
        ) == "1"
    });
    let worker = shop.agent.start_and_stop_at("in place: ready to apply", &["apply", "shop"]);
    until("its session has ended", || application.0.try_wait().unwrap().is_some());
    let refused = server.try_psql("shop", "INSERT INTO orders VALUES (2)").unwrap_err();
    assert!(refused.contains("not currently accepting connections") || refused.contains("does not exist"), "{refused}");
    worker.signal("CONT");
    shop.ended(worker.wait(), "succeeded");
    server.psql("shop", "INSERT INTO orders VALUES (3)");
    assert_eq!(server.psql("shop", "SELECT string_agg(id::text, ',' ORDER BY id) FROM orders"), "1,3");
    assert_eq!(server.databases("shop"), ["shop"]);
}

#[test]
fn what_somebody_wrote_behind_the_fence_is_not_undone_by_a_restore() {
    let server = PrivatePostgres::start();
    server.create("shop");
    server.psql("shop", "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1)");
    // The first is committed; the second waits for us, on the database itself only, and fails.
    let wait = "DO $$ BEGIN
        IF current_database() LIKE '%\\_\\_mig\\_%' THEN
            FOR i IN 1..600 LOOP
                EXIT WHEN (SELECT count(*) FROM orders WHERE id = 2) = 1;
                PERFORM pg_sleep(0.05);
            END LOOP;
            PERFORM pg_sleep(1.5);
            RAISE EXCEPTION 'this happens to the real one only';
        END IF;
    END $$;";
    let shop = Shop::sql(&server.url("shop"), &[("1_half.sql", "CREATE TABLE half (x int);"), ("2_wait.sql", wait)]);
    let running = shop.agent.start(&["apply", "shop"]);
    let mut fenced = String::new();
    until("the tool works on the fenced database", || {
        let sql =
            "SELECT datname FROM pg_stat_activity WHERE datname LIKE 'shop\\_\\_mig\\_%' AND query LIKE 'DO %' LIMIT 1";
        fenced = server.psql("postgres", sql);
        !fenced.is_empty()
    });
    // Somebody who knows the secret name, and stays.
    let _intruder = Psql::begin(&server.url(&fenced), "INSERT INTO orders VALUES (2) ; COMMIT; SELECT pg_sleep(600)");
    let run = shop.ended(running.wait(), "stuck");
    says(&run, &["this happens to the real one only", "somebody else was behind the fence", "hint: ", "shop/"]);
    // Nothing of it is lost: the database as it is, under the name it has now, and the backup.
    let kept: Vec<String> = server.databases("shop").into_iter().filter(|name| name.contains("__mig_")).collect();
    assert_eq!(kept.len(), 1, "{:?}", server.databases("shop"));
    assert!(run.stdout.contains(&kept[0]), "the story does not name {}: {}", kept[0], run.stdout);
    let fenced = &kept[0];
    server.psql("postgres", &format!("ALTER DATABASE \"{fenced}\" ALLOW_CONNECTIONS true"));
    assert_eq!(server.psql(fenced, "SELECT string_agg(id::text, ',' ORDER BY id) FROM orders"), "1,2");
    assert!(server.try_psql("shop", "SELECT 1").is_err(), "the public name leads to something");
}
