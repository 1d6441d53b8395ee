//! The same on a server: while a plan waits there is no fence, no lock and no copy.

use super::{MAY_DROP, Shop};
use tests::postgres::pg_dump_text;
use tests::private_postgres::PrivatePostgres;

#[test]
fn on_postgresql_nothing_is_held_while_a_plan_waits_and_it_is_carried_out_once_approved() {
    let server = PrivatePostgres::start();
    server.create("shop");
    server.psql(
        "shop",
        "CREATE TABLE item (id int PRIMARY KEY, name text); INSERT INTO item VALUES (1, 'one');
         CREATE TABLE old (id int PRIMARY KEY); INSERT INTO old VALUES (1), (2), (3)",
    );
    let mut shop = Shop::of(&server.url("shop"), "");
    let before = pg_dump_text(&server.url("shop"));
    let (run, job) = shop.waits();
    assert!(run.stdout.contains("waiting: base -> 1 (1 revision), loses table old (3 rows)"), "{}", run.stdout);
    let nothing_is_held = || {
        assert_eq!(server.databases("shop"), ["shop"]);
        let held = "SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
            (SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'holdfast%')";
        assert_eq!(server.psql("postgres", held), "0|0");
    };
    nothing_is_held();
    assert_eq!(pg_dump_text(&server.url("shop")), before);

    shop.approve(&job);
    server.psql("shop", "INSERT INTO old VALUES (4); INSERT INTO item VALUES (2, 'two')");
    shop.work();
    let shown = shop.is(&job, "waiting");
    let why = shown["error_message"].as_str().unwrap();
    assert!(why.ends_with("no longer loss: table old (3 rows); new loss: table old (4 rows)"), "{why}");
    nothing_is_held();

    shop.approve(&job);
    // Rows where nothing is lost are the application's affair.
    server.psql("shop", "INSERT INTO item VALUES (3, 'three')");
    shop.agent.killed_at("plan: after its note", &["run", "--until-idle"]);
    shop.work();
    shop.is(&job, "succeeded");
    let tables =
        "SELECT string_agg(tablename, ' ' ORDER BY tablename COLLATE \"C\") FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(server.psql("shop", tables), "_sqlx_migrations item note");
    assert_eq!(server.psql("shop", "SELECT count(*) FROM item"), "3");
    assert_eq!(server.databases("shop"), ["shop"]);
    let all =
        ["queued", "running", "waiting", "approved", "running", "waiting", "approved", "running", "lost", "recovering"];
    assert_eq!(shop.events(&job)[..10], all);
}

#[test]
fn with_the_record_on_postgresql_a_plan_waits_is_approved_and_carried_out() {
    let server = PrivatePostgres::start();
    server.create("record");
    let state = format!("url = \"{}\"\n", server.url("record"));
    let mut shop = Shop::of("sqlite:shop.db", &state);
    shop.sqlite3("CREATE TABLE old (id INTEGER PRIMARY KEY); INSERT INTO old VALUES (1)");
    let worker = shop.agent.start(&["run"]);
    let run = shop.agent.run(&[&["submit", "shop", "--wait"][..], &MAY_DROP].concat()).expect_code(9);
    let job = run.stdout.lines().next().unwrap().to_owned();
    let status = "SELECT status FROM holdfast.tasklog";
    assert_eq!(server.psql("record", status), "waiting");
    shop.approve(&job);
    shop.until("succeeded");
    worker.signal("TERM");
    worker.wait().expect_code(0);
    assert!(!shop.tables().contains("old"));
}
