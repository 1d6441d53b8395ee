//! From 1.0 to 1.1: services down, backup, migration, default shop, backfill, services up; all of it or nothing.

use super::{SHOP, SHOPS};
use crate::seeds::desk::Door;
use crate::seeds::team::Team;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use tests::alembic::alembic;
use tests::postgres::pg_dump_text;
use tests::scripted_http::{ScriptedHttp, reply};

/// Steps 3 and 4 of the upgrade path.
fn steps() -> [String; 2] {
    let step = |what: &str| format!("[[database.etsy_sevdesk.migrations.then]]\n{what}\n");
    let python = alembic().with_file_name("python");
    [
        step(&format!("name = \"default shop\"\ncommand = [{python:?}, \"scripts/create_default_shop.py\"]")),
        step("name = \"orders get their shop\"\nsql = \"UPDATE orders SET shop_id = 1 WHERE shop_id IS NULL\""),
    ]
}

const CHECKS: &str = "
[[database.etsy_sevdesk.checks]]
name = \"no order without a shop\"
sql = \"SELECT id FROM orders WHERE shop_id IS NULL\"
expect = \"zero\"

[[database.etsy_sevdesk.checks]]
name = \"as many orders and invoices\"
sql = \"SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM invoices)\"
expect = \"unchanged\"

[[database.etsy_sevdesk.checks]]
name = \"orders by status\"
sql = \"SELECT status, count(*) FROM orders GROUP BY status ORDER BY status\"
expect = \"distribution\"
";

const ENVIRONMENT: &str = "required_env = [\"ETSY_DEFAULT_SHOP_ID\"]\n";

/// The shop with everything its guide does by hand in the configuration.
fn shop(door: Door, steps: &[String], more: &str) -> Team {
    let mut team = Team::new(SHOP, door, &format!("{ENVIRONMENT}\n{}{CHECKS}{more}", steps.concat()));
    team.desk.set_env("ETSY_DEFAULT_SHOP_ID", "12345678");
    team
}

/// Writes down how `docker-compose` is called.
fn docker_compose(team: &Team) {
    let file = team.desk.file("docker-compose");
    std::fs::write(&file, "#!/bin/sh\necho \"docker-compose $*\" >> called\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

const HOOKS: &str = "
[database.etsy_sevdesk.hooks]
stop = [\"./docker-compose\", \"down\"]
start = [\"./docker-compose\", \"up\", \"-d\"]
";

fn the_shop_goes_to_1_1_with_its_default_shop_and_every_order_in_it(door: Door) {
    // Two times it is not up yet.
    let health = ScriptedHttp::start(|asked, _| reply(if asked < 2 { "502 Bad Gateway" } else { "200 OK" }, "", "{}"));
    let more = format!(
        "{HOOKS}health_url = \"{}/health\"\n\n[database.etsy_sevdesk.window]\nfrom = \"00:00\"\nto = \"00:00\"\n",
        health.endpoint()
    );
    let mut team = shop(door, &steps(), &more);
    docker_compose(&team);
    let before = team.dump();

    let ended = team.migrate(json!({}), "succeeded");
    ended.says(&["it stands at b84d06f5c17e"]);
    assert_eq!(team.current(), "b84d06f5c17e (head)");
    assert_eq!(team.psql("SELECT id, etsy_shop_id, name, active FROM shops"), "1|12345678|Default Shop|t");
    assert_eq!(team.psql("SELECT count(*), count(shop_id), min(shop_id), max(shop_id) FROM orders"), "4812|4812|1|1");
    let index = "SELECT indexdef FROM pg_indexes WHERE indexname = 'idx_orders_shop_created'";
    assert!(team.psql(index).ends_with("(shop_id, created_at)"), "{}", team.psql(index));

    assert_eq!(ended.check("no order without a shop")["passed"], true);
    assert_eq!(ended.check("as many orders and invoices")["passed"], true);
    let by_status = &ended.check("orders by status")["after"];
    assert_eq!(*by_status, json!([["completed", "1203"], ["paid", "1203"], ["refunded", "1203"], ["shipped", "1203"]]));
    let called = std::fs::read_to_string(team.desk.file("called")).unwrap();
    assert_eq!(called, "docker-compose down\ndocker-compose up -d\n");
    assert_eq!(health.requests().len(), 3);
    assert!(health.requests()[0].line.starts_with("GET /health "), "{:?}", health.requests());

    // The guide's list for production, by what was really done.
    let list = team.desk.agent.ok(&["show", ended.job["job_id"].as_str().unwrap(), "--checklist"]).stdout;
    for item in [
        "[x] backup made: etsy_sevdesk/",
        "[x] maintenance window: ",
        "[x] services stopped: stop: ",
        "[x] migration tested on a copy of production: ",
        "[x] migration applied: ",
        "[x] data checked: no order without a shop, ",
        "[x] output of the tool kept and read: ",
        "[x] services started: start: ",
        "[x] health check: health: ",
        "[x] way back ready: ",
    ] {
        assert!(list.lines().any(|line| line.starts_with(item)), "{item}:\n{list}");
    }

    // 1.0 is in the backup that was made for it.
    let into = team.url_of("as_it_was");
    team.backup_agent(&["restore", &ended.backup(), "--into", &into]).expect_code(0);
    assert_eq!(pg_dump_text(&into), before);
    team.migrate(json!({}), "succeeded").says(&["nothing to do: it stands at b84d06f5c17e already"]);
    assert_eq!(std::fs::read_to_string(team.desk.file("called")).unwrap(), called, "nothing was to do");
}

#[test]
fn the_shop_goes_to_1_1_with_its_default_shop_and_every_order_in_it_by_command() {
    the_shop_goes_to_1_1_with_its_default_shop_and_every_order_in_it(Door::Command);
}

#[test]
fn the_shop_goes_to_1_1_with_its_default_shop_and_every_order_in_it_by_message() {
    the_shop_goes_to_1_1_with_its_default_shop_and_every_order_in_it(Door::Message);
}

fn steps_in_the_wrong_order_or_left_out_are_refused_and_nothing_is_changed(door: Door) {
    let [default_shop, backfill] = steps();
    let mut team = shop(door, &[backfill, default_shop.clone()], HOOKS);
    docker_compose(&team);
    let before = team.dump();
    team.migrate(json!({}), "refused").says(&[
        "the rehearsal failed: the step \"orders get their shop\" behind alembic ended with exit code 1",
        "orders_shop_id_fkey: orders (shop_id) = 1 is not in shops, as the migration itself writes",
    ]);
    assert_eq!(team.dump(), before);
    // Without the backfill the check finds what is missing.
    team.configure(&format!("{ENVIRONMENT}\n{default_shop}{CHECKS}{HOOKS}"));
    team.migrate(json!({}), "refused")
        .says(&["the rehearsal failed: the check \"no order without a shop\" failed: 4812 rows where none may be"]);
    assert_eq!(team.dump(), before);
    assert!(!team.desk.file("called").exists(), "the services were stopped for nothing");
}

#[test]
fn steps_in_the_wrong_order_or_left_out_are_refused_and_nothing_is_changed_by_command() {
    steps_in_the_wrong_order_or_left_out_are_refused_and_nothing_is_changed(Door::Command);
}

#[test]
fn steps_in_the_wrong_order_or_left_out_are_refused_and_nothing_is_changed_by_message() {
    steps_in_the_wrong_order_or_left_out_are_refused_and_nothing_is_changed(Door::Message);
}

fn a_step_that_fails_in_production_only_takes_all_of_it_back(door: Door) {
    let [default_shop, backfill] = steps();
    let mut team = shop(door, &[default_shop, backfill], HOOKS);
    docker_compose(&team);
    let script = team.file("scripts/create_default_shop.py");
    let text = std::fs::read_to_string(&script).unwrap();
    let only_there =
        "    if '__mig_' in connection.engine.url.database:\n        raise SystemExit('Etsy answers 429')\n";
    let (head, rest) = text.split_once("    made = ").unwrap();
    std::fs::write(&script, format!("{head}{only_there}    made = {rest}")).unwrap();
    let before = team.dump();
    team.migrate(json!({}), "restored").says(&["the step \"default shop\" behind alembic ended", "Etsy answers 429"]);
    assert_eq!(team.dump(), before, "the migration had succeeded already, and is taken back with its step");
    assert_eq!(team.current(), SHOP.revision);
    let called = std::fs::read_to_string(team.desk.file("called")).unwrap();
    assert_eq!(called, "docker-compose down\ndocker-compose up -d\n", "the services are up again");
    std::fs::write(&script, text).unwrap();
    team.migrate(json!({}), "succeeded").says(&["it stands at b84d06f5c17e"]);
    assert_eq!(team.psql("SELECT count(shop_id) FROM orders"), "4812");
}

#[test]
fn a_step_that_fails_in_production_only_takes_all_of_it_back_by_command() {
    a_step_that_fails_in_production_only_takes_all_of_it_back(Door::Command);
}

#[test]
fn a_step_that_fails_in_production_only_takes_all_of_it_back_by_message() {
    a_step_that_fails_in_production_only_takes_all_of_it_back(Door::Message);
}

#[test]
fn a_variable_that_1_1_renames_is_asked_for_before_anything_is_begun() {
    let mut team = Team::new(SHOP, Door::Command, ENVIRONMENT);
    team.desk.set_env("ETSY_SHOP_ID", "12345678");
    let before = team.dump();
    let run = team.desk.agent.run(&["apply", SHOP.database]).expect_code(3);
    assert!(run.stdout.contains("variables that are not set: ETSY_DEFAULT_SHOP_ID"), "{}{}", run.stdout, run.stderr);
    assert_eq!(team.dump(), before);
    assert!(!team.desk.agent.store_dir().exists(), "something was begun");
    // sed -i 's/ETSY_SHOP_ID/ETSY_DEFAULT_SHOP_ID/g' .env
    team.desk.set_env("ETSY_DEFAULT_SHOP_ID", "12345678");
    team.migrate(json!({}), "succeeded").says(&[&format!("it stands at {SHOPS}")]);
}
