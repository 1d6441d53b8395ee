//! What an operator declares around a migration: steps behind the tool, checks, hooks, a window.

use super::{Shop, orders, says};
use std::os::unix::fs::PermissionsExt;
use tests::agent::Agent;
use tests::postgres::pg_dump_text;
use tests::private_postgres::PrivatePostgres;
use tests::scripted_http::{ScriptedHttp, reply};
use tests::sqlite::TestFile;

const ADDS: (&str, &str) = ("1_paid.sql", "ALTER TABLE orders ADD COLUMN paid INTEGER;");

/// A SQLite shop that Holdfast's own runner migrates; `migrations` are further lines of its section, `more` what follows.
fn shop(file: &TestFile, migrations: &str, more: &str) -> Shop {
    shop_at(&file.url(), migrations, more)
}

fn shop_at(url: &str, migrations: &str, more: &str) -> Shop {
    let agent = Agent::worker().with_config(&format!(
        "[database.shop]\nurl = {url:?}\n\n[database.shop.migrations]\nrunner = \"sql\"\ndirectory = \"m\"\n{migrations}\n{more}\n"
    ));
    std::fs::create_dir(agent.home().join("m")).unwrap();
    let shop = Shop { agent, alembic: None };
    shop.add(ADDS.0, ADDS.1);
    shop
}

fn script(shop: &Shop, name: &str, text: &str) {
    let head = format!("#!/bin/sh\nhome={}\n", shop.agent.home().display());
    std::fs::write(shop.file(name), format!("{head}{text}\n")).unwrap();
    std::fs::set_permissions(shop.file(name), std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn read(shop: &Shop, name: &str) -> String {
    std::fs::read_to_string(shop.file(name)).unwrap_or_default()
}

#[test]
fn steps_behind_the_tool_are_a_part_of_the_migration() {
    let steps = "[[database.shop.migrations.then]]\nname = \"nobody has paid\"\nsql = \"UPDATE orders SET paid = 0; DELETE FROM orders WHERE id = 99\"\n\
                 [[database.shop.migrations.then]]\nname = \"the first has\"\ncommand = [\"../pay\"]";
    let file = orders(3);
    let with = shop(&file, steps, "");
    script(&with, "pay", "echo paying; sqlite3 ${DATABASE_URL#sqlite://} 'UPDATE orders SET paid = 1 WHERE id = 1'");
    with.apply(&[], "succeeded");
    assert_eq!(file.sqlite3("SELECT group_concat(paid) FROM orders").trim(), "1,0,0");
    let printed = with.record();
    assert!(printed.contains("[then: nobody has paid]") && printed.contains("paying"), "{printed}");

    // A step that fails is a migration that failed.
    let file = orders(3);
    let before = file.dump_text();
    let with = shop(&file, steps, "");
    script(&with, "pay", "echo there is no money >&2; exit 9");
    says(
        &with.apply(&[], "refused"),
        &["the step \"the first has\" behind sql ended with exit code 9: there is no money"],
    );
    assert_eq!(file.dump_text(), before);
    // Nothing of statements is left where one of them fails.
    let failing = "[[database.shop.migrations.then]]\nname = \"half\"\nsql = \"UPDATE orders SET note = 'x'; INSERT INTO nowhere VALUES (1)\"";
    let with = shop(&file, failing, "");
    says(&with.apply(&[], "refused"), &["the step \"half\" behind sql ended with exit code 1", "nowhere"]);

    // Only upgrades take them, and what a step loses stops the migration like any other loss.
    let file = orders(3);
    let with = shop(
        &file,
        "[[database.shop.migrations.then]]\nname = \"clear\"\nsql = \"DELETE FROM orders WHERE id = 2\"",
        "",
    );
    std::fs::remove_file(with.file("m/1_paid.sql")).unwrap();
    with.add("1_paid.up.sql", ADDS.1);
    with.add("1_paid.down.sql", "ALTER TABLE orders DROP COLUMN paid;");
    says(&with.apply(&[], "refused"), &["would delete data", "orders (1 row)"]);
    with.apply(&["--may-drop", "orders"], "succeeded");
    with.apply(&["--to", "base", "--yes"], "succeeded");
    assert_eq!(file.sqlite3("SELECT count(*) FROM orders").trim(), "2");
}

#[test]
fn checks_are_asked_before_and_after_on_the_copy_and_for_real() {
    let checks = "[[database.shop.checks]]\nname = \"all orders\"\nsql = \"SELECT id, item FROM orders\"\nexpect = \"unchanged\"
[[database.shop.checks]]\nname = \"nothing is unpaid\"\nsql = \"SELECT id FROM orders WHERE paid IS NULL\"\nexpect = \"zero\"
[[database.shop.checks]]\nname = \"names\"\nsql = \"SELECT item FROM orders\"\nexpect = \"pattern\"\npattern = '^item \\d+$'\nbefore = true
[[database.shop.checks]]\nname = \"no fewer\"\nsql = \"SELECT count(*) FROM orders\"\nexpect = \"conservation\"\nof = \"SELECT count(*) FROM orders\"
[[database.shop.checks]]\nname = \"payments\"\nsql = \"SELECT paid, count(*) FROM orders GROUP BY 1 ORDER BY 1\"\nexpect = \"distribution\"\n";
    // A distribution by a column that the tool is to add is not answered before; another query must be.
    let file = orders(3);
    let added = shop(
        &file,
        "",
        "[[database.shop.checks]]\nname = \"payments\"\nsql = \"SELECT paid, count(*) FROM orders GROUP BY 1\"\nexpect = \"distribution\"\n",
    );
    says(&added.apply(&[], "succeeded"), &["payments: NULL 3"]);
    let file = orders(3);
    let early = shop(
        &file,
        "",
        "[[database.shop.checks]]\nname = \"paid\"\nsql = \"SELECT paid FROM orders\"\nexpect = \"unchanged\"\n",
    );
    says(&early.apply(&[], "refused"), &["the check \"paid\" cannot be asked"]);

    let file = orders(3);
    file.sqlite3("ALTER TABLE orders ADD COLUMN paid INTEGER");
    let all = shop(&file, "", checks);
    all.add("1_paid.sql", "UPDATE orders SET paid = id % 2;");
    let run = all.apply(&[], "succeeded");
    says(
        &run,
        &[
            "5 as expected",
            "all orders: 3 rows",
            "names: every value matches",
            "no fewer: 3 before, 3 after",
            "payments: 0 1, 1 2",
        ],
    );
    let kept = &all.agent.json(&["history", "shop"])[0]["result"]["checks"];
    assert_eq!(kept[4]["before"], serde_json::json!([[null, "3"]]));
    assert_eq!(kept[4]["after"], serde_json::json!([["0", "1"], ["1", "2"]]));

    for (migration, said) in [
        (
            "UPDATE orders SET paid = 1 WHERE id < 3;",
            "the check \"nothing is unpaid\" failed: 1 row where none may be: 3",
        ),
        (
            "UPDATE orders SET paid = 1; UPDATE orders SET item = 'other' WHERE id = 2;",
            "the check \"all orders\" failed: 3 rows before and after, but not the same",
        ),
    ] {
        let file = orders(3);
        file.sqlite3("ALTER TABLE orders ADD COLUMN paid INTEGER");
        let before = file.dump_text();
        let wrong = shop(&file, "", checks);
        wrong.add("1_paid.sql", migration);
        says(&wrong.apply(&[], "refused"), &["the rehearsal failed", said]);
        assert_eq!(file.dump_text(), before);
    }
    // What must be true before is asked before.
    let file = orders(3);
    file.sqlite3("ALTER TABLE orders ADD COLUMN paid INTEGER; UPDATE orders SET item = 'odd' WHERE id = 3");
    let odd = shop(&file, "", checks);
    says(&odd.apply(&[], "refused"), &["the check \"names\" failed: before it, 1 row do not match", "odd"]);
}

#[test]
fn a_check_that_fails_for_real_takes_the_migration_back() {
    let server = PrivatePostgres::start();
    server.create("shop");
    server.psql("shop", "CREATE TABLE orders (id serial PRIMARY KEY, note text); INSERT INTO orders (note) SELECT 'n' || i FROM generate_series(1, 50) i");
    let check = "[[database.shop.checks]]\nname = \"only here\"\nsql = \"SELECT id FROM orders WHERE id < 3 AND current_database() LIKE '%__mig_%'\"\nexpect = \"zero\"\n";
    let shop = shop_at(&server.url("shop"), "", check);
    let before = pg_dump_text(&server.url("shop"));
    says(
        &shop.apply(&[], "restored"),
        &["the check \"only here\" failed: 2 rows where none may be: 1, 2", "shop is as it was"],
    );
    assert_eq!(pg_dump_text(&server.url("shop")), before);
    assert_eq!(server.databases("shop").len(), 2, "the failed one is kept");
}

const HOOKS: &str = "[database.shop.hooks]\nstop = [\"./hook\", \"stop\"]\npause = [\"./hook\", \"pause\"]\nresume = [\"./hook\", \"resume\"]\nstart = [\"./hook\", \"start\"]\n";
const NOTES: &str = "echo $1 >> $home/hooks";
const ALL: &str = "stop\npause\nresume\nstart\n";

#[test]
fn the_application_is_stopped_and_started_whatever_became_of_it() {
    // Succeeded; the database is changed between stop and start.
    let file = orders(3);
    let good = shop(&file, "", HOOKS);
    script(&good, "hook", NOTES);
    says(&good.apply(&[], "succeeded"), &["stop", "pause", "promote", "resume", "start"]);
    assert_eq!(read(&good, "hooks"), ALL);

    // Refused by the rehearsal: it was never stopped.
    let refused = shop(&file, "", HOOKS);
    refused.add("2_bad.sql", "INSERT INTO nowhere VALUES (1);");
    script(&refused, "hook", NOTES);
    refused.apply(&[], "refused");
    assert_eq!(read(&refused, "hooks"), "");

    // It does not stop: nothing is changed, and what was stopped is started.
    let file = orders(3);
    let before = file.dump_text();
    let stays = shop(&file, "", HOOKS);
    script(&stays, "hook", &format!("{NOTES}\n[ $1 != pause ] || {{ echo it will not >&2; exit 5; }}"));
    says(&stays.apply(&[], "refused"), &["the hook pause failed: exit code 5: it will not"]);
    assert_eq!((read(&stays, "hooks").as_str(), file.dump_text()), (ALL, before));

    // It does not start: that is told, and the outcome stays.
    let file = orders(3);
    let down = shop(&file, "", HOOKS);
    script(&down, "hook", &format!("{NOTES}\n[ $1 != start ] || exit 5"));
    says(&down.apply(&[], "succeeded"), &["look after the application, it is not well (start: exit code 5"]);
    let hooks = &down.agent.json(&["history", "shop"])[0]["result"]["hooks"];
    assert_eq!((&hooks[1]["hook"], &hooks[1]["succeeded"]), (&"start".into(), &false.into()));
}

#[test]
fn a_restored_database_gets_its_application_back_and_a_service_goes_on() {
    let server = PrivatePostgres::start();
    server.create("shop");
    server.psql("shop", "CREATE TABLE orders (id serial PRIMARY KEY)");
    let shop = shop_at(&server.url("shop"), "", HOOKS);
    shop.add("1_paid.sql", "DO $$ BEGIN IF current_database() LIKE '%\\_\\_mig\\_%' THEN RAISE EXCEPTION 'only the real one'; END IF; END $$;");
    // What start leaves behind holds its output, as services do.
    script(
        &shop,
        "hook",
        &format!(
            "{NOTES}\nif [ $1 = start ]; then (while [ ! -e $home/end ]; do echo alive; sleep 0.05; done; touch $home/ended) & fi"
        ),
    );
    says(&shop.apply(&[], "restored"), &["only the real one", "start"]);
    assert_eq!(read(&shop, "hooks"), ALL);
    std::fs::write(shop.file("end"), "").unwrap();
    super::until("the service goes on", || shop.file("ended").exists());
}

#[test]
fn an_application_whose_worker_was_killed_is_started_by_the_next() {
    for point in [
        "hooks: the application is stopped",
        "promote: a copy is made",
        "promote: done, not yet told",
        "hooks: the application is started",
    ] {
        let file = orders(3);
        let shop = shop(&file, "", HOOKS);
        script(&shop, "hook", NOTES);
        shop.agent.killed_at(point, &["apply", "shop"]);
        let stopped = read(&shop, "hooks");
        assert!(stopped.starts_with("stop\npause\n"), "{point}: {stopped}");
        shop.agent.ok(&["run", "--until-idle"]);
        let hooks = read(&shop, "hooks");
        assert!(hooks.ends_with("resume\nstart\n"), "{point}: {hooks}");
        let state = shop.agent.json(&["history", "shop"])[0]["state"].clone();
        assert!(state == "succeeded" || state == "restored", "{point}: {state}");
    }
}

#[test]
fn the_application_is_asked_until_it_is_well() {
    let file = orders(3);
    let http =
        ScriptedHttp::start(|asked, _| reply(if asked == 0 { "503 Service Unavailable" } else { "200 OK" }, "", ""));
    let well = shop(&file, "", &format!("[database.shop.hooks]\nhealth_url = \"{}/health\"\n", http.endpoint()));
    says(&well.apply(&[], "succeeded"), &["the answer was 200"]);
    let file = orders(3);
    let ill =
        shop(&file, "", "[database.shop.hooks]\nhealth_url = \"http://127.0.0.1:9/health\"\nhealth_timeout = \"1s\"\n");
    says(&ill.apply(&[], "succeeded"), &["look after the application", "not well within 1 s: no answer"]);
}

#[test]
fn outside_its_window_a_database_is_not_migrated() {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let hour = |add: i64| now.checked_add(jiff::Span::new().hours(add)).unwrap().strftime("%H:00").to_string();
    let window =
        |from: i64, to: i64| format!("[database.shop.window]\nfrom = \"{}\"\nto = \"{}\"\n", hour(from), hour(to));
    let file = orders(3);
    let before = file.dump_text();
    let closed = shop(&file, "", &window(2, 4));
    says(&closed.apply(&[], "refused"), &["shop is migrated only within its window", "it opens at "]);
    assert_eq!(file.dump_text(), before);
    closed.agent.ok(&["rehearse", "shop"]);
    let open = shop(&file, "", &window(-1, 3));
    says(&open.apply(&[], "succeeded"), &["predicted ", "the window closes at "]);
}

#[test]
fn what_cannot_be_meant_is_named_before_anything_runs() {
    let file = orders(3);
    let check = |more: &str| format!("[[database.shop.checks]]\nname = \"c\"\nsql = \"SELECT 1\"\n{more}");
    for (more, said) in [
        (check("expect = \"value\""), "[database.shop.checks]: \"c\": value is missing"),
        (check("expect = \"pattern\"\npattern = \"(\""), "\"c\": pattern is no regular expression"),
        (check("expect = \"conservation\""), "\"c\": of is missing"),
        (check("expect = \"zero\"\nvalue = \"1\""), "\"c\": value means nothing"),
        ("[database.shop.hooks]\nstop = [\"./gone\"]".into(), "[database.shop.hooks]: stop: there is no program"),
        ("[database.shop.hooks]\nstart = []".into(), "start is empty"),
        ("[database.shop.hooks]\nhealth_url = \"ftp://x\"".into(), "health_url begins with http"),
        (
            "[database.shop.window]\nfrom = \"2\"\nto = \"4\"".into(),
            "[database.shop.window]: from = \"2\" is no time of day",
        ),
    ] {
        let shop = shop(&file, "", &more);
        says(&shop.apply(&[], "refused"), &[said]);
    }
}

#[test]
fn the_checklist_is_ticked_by_what_the_record_holds() {
    let file = orders(3);
    let check =
        "[[database.shop.checks]]\nname = \"orders\"\nsql = \"SELECT count(*) FROM orders\"\nexpect = \"unchanged\"\n";
    let whole = shop(&file, "", &format!("{HOOKS}{check}"));
    script(&whole, "hook", NOTES);
    whole.apply(&[], "succeeded");
    let list = |shop: &Shop| {
        let id = shop.agent.json(&["history", "shop"])[0]["job_id"].as_str().unwrap().to_owned();
        shop.agent.ok(&["show", &id, "--checklist"]).stdout
    };
    let told = list(&whole);
    for item in [
        "[x] backup made: shop/",
        "[-] maintenance window: ",
        "[x] migration tested on a copy of production: ",
        "[x] what it does reviewed: no data is lost",
        "[x] services stopped: stop: done, pause: done",
        "[x] migration applied: ",
        "[x] data checked: orders",
        "[x] services started: resume: done, start: done",
        "[-] health check: ",
        "[x] outcome told: succeeded",
    ] {
        assert!(told.lines().any(|line| line.starts_with(item)), "{item}:\n{told}");
    }

    let refused = shop(&file, "", "");
    refused.add("2_bad.sql", "INSERT INTO nowhere VALUES (1);");
    refused.apply(&[], "refused");
    let told = list(&refused);
    for item in
        ["[x] backup made", "[ ] migration tested", "[ ] migration applied: the job is refused", "[-] services stopped"]
    {
        assert!(told.lines().any(|line| line.starts_with(item)), "{item}:\n{told}");
    }
}
