//! Any tool by its commands: nobody believes what it says, and where it leads is seen at the rehearsal.

use super::{Shop, beside, orders, says};
use std::os::unix::fs::PermissionsExt;
use tests::agent::Agent;
use tests::fixtures;
use tests::npm;
use tests::postgres::TestDatabase;
use tests::sqlite::TestFile;

/// A worker whose tool is three scripts of a shell: `$db` is the database they are told, `$home` the test's own folder.
fn scripts(url: &str, upgrade: &str, probe: &str, more: &str) -> Shop {
    let agent = Agent::worker().with_config(&format!(
        "[database.shop]\nurl = {url:?}\n\n[database.shop.migrations]\nrunner = \"command\"\ndirectory = \".\"\n\
         upgrade = [\"./upgrade\"]\nprobe = [\"./probe\"]\n\
         current = \"SELECT max(version) FROM versions\"\n{more}\n"
    ));
    let shop = Shop { agent, alembic: None };
    let head = format!("#!/bin/sh\nset -e\nhome={}\ndb=${{DATABASE_URL#sqlite://}}\n", shop.agent.home().display());
    for (name, script) in [("upgrade", upgrade), ("probe", probe)] {
        std::fs::write(shop.file(name), format!("{head}{script}\n")).unwrap();
        std::fs::set_permissions(shop.file(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    shop
}

const UPGRADE: &str = "sqlite3 $db 'CREATE TABLE IF NOT EXISTS versions (version); ALTER TABLE orders ADD COLUMN paid;
    INSERT INTO versions VALUES (1)'";
const PROBE: &str = "sqlite3 $db 'SELECT max(version) FROM versions' 2>/dev/null || true";

#[test]
fn an_upgrade_goes_as_far_as_the_tool_goes_and_once_more_finds_nothing_to_do() {
    let file = orders(3);
    let guarded = format!("[ \"$(sqlite3 $db 'SELECT max(version) FROM versions' 2>/dev/null)\" = 1 ] || {UPGRADE}");
    let shop = scripts(&file.url(), &guarded, PROBE, "");
    let run = shop.apply(&[], "succeeded");
    says(&run, &["from base as far as the tool goes", "base -> 1", "it stands at 1"]);
    assert_eq!(file.sqlite3("SELECT group_concat(name) FROM pragma_table_info('orders')").trim(), "id,item,note,paid");
    let before = file.dump_text();
    says(&shop.apply(&[], "succeeded"), &["nothing to do: it stands at 1 already"]);
    assert_eq!(file.dump_text(), before);
    says(&shop.apply(&["--to", "-1"], "refused"), &["there is no command that goes back"]);
    says(&shop.apply(&["--to", "+1"], "refused"), &["the runner command has no list of revisions"]);
    let pending = shop.agent.run(&["pending", "shop"]).expect_code(3);
    assert!(pending.stderr.contains("no list of revisions"), "{}", pending.stderr);
    assert_eq!(shop.agent.ok(&["current", "shop"]).stdout, "1\n");
}

#[test]
fn a_tool_whose_answer_is_wrong_is_refused_before_it_runs() {
    for (probe, expected) in [
        ("echo 7", "says that an empty database stands at 7"),
        ("echo one two", "probe printed what is no revision"),
        ("echo 7; echo 8", "probe printed what is no revision"),
        ("exit 3", "probe failed"),
    ] {
        let file = orders(3);
        let before = file.dump_text();
        let shop = scripts(&file.url(), "touch $home/ran", probe, "");
        says(&shop.apply(&[], "refused"), &[expected]);
        assert!(!shop.file("ran").exists(), "{probe}: the tool ran");
        assert_eq!((file.dump_text(), beside(&file)), (before, Vec::new()));
    }
    // It looks at an empty database of its own, wherever it is sent.
    let file = orders(3);
    file.sqlite3("CREATE TABLE versions (version); INSERT INTO versions VALUES (4)");
    let shop = scripts(&file.url(), "touch $home/ran", "true", "");
    says(&shop.apply(&[], "refused"), &["probe says that a copy of it stands at base, but by current it stands at 4"]);
    assert!(!shop.file("ran").exists());
}

#[test]
fn a_change_that_no_revision_tells_of_is_refused() {
    for (upgrade, expected) in [
        (
            "sqlite3 $db \"UPDATE orders SET note = 'x'\"",
            "changed the database, but by current it still stands at base",
        ),
        ("sqlite3 $db 'CREATE TABLE more (x)'", "changed the database, but by current it still stands at base"),
        (
            "sqlite3 $db \"CREATE TABLE versions (version); INSERT INTO versions VALUES ('a b')\"",
            "which is no revision",
        ),
        (
            "sqlite3 $db 'CREATE TABLE versions (version, x); INSERT INTO versions VALUES (1, 2)'; exit 4",
            "command ended with exit code 4",
        ),
    ] {
        let file = orders(3);
        let before = file.dump_text();
        let shop = scripts(&file.url(), upgrade, PROBE, "");
        says(&shop.apply(&[], "refused"), &[expected]);
        assert_eq!(file.dump_text(), before, "{upgrade}");
    }
}

#[test]
fn npm_run_migrates_and_goes_back_and_what_would_be_lost_stops_it() {
    let sqlite = TestFile::named("shop.db");
    sqlite.sqlite3("CREATE TABLE kept (x); INSERT INTO kept VALUES (1)");
    let postgres = TestDatabase::new();
    for url in [sqlite.url(), postgres.url()] {
        let agent = Agent::worker().with_config(&format!(
            "[database.shop]\nurl = {url:?}\n\n[database.shop.migrations]\nrunner = \"command\"\ndirectory = \"p\"\n\
             upgrade = [\"npm\", \"run\", \"migrate:prod\"]\ndowngrade = [\"npm\", \"run\", \"migrate:rollback\"]\n\
             probe = [\"npm\", \"run\", \"--silent\", \"migrate:probe\"]\n\
             current = \"SELECT max(version) FROM schema_migrations\"\n"
        ));
        npm::project("tools/dbmate", &agent.home().join("p"));
        let shop = Shop { agent, alembic: None };
        says(&shop.apply(&[], "succeeded"), &["base -> 20260102000000", "it stands at 20260102000000"]);
        // Text says "Applied", and half of it is there: on the copy only.
        fixtures::copy_folder("tools/dbmate/failing", &shop.file("p/db/migrations"));
        says(&shop.apply(&[], "refused"), &["the rehearsal failed: command ended with exit code 2"]);
        std::fs::remove_file(shop.file("p/db/migrations/20260103000000_half.sql")).unwrap();
        says(&shop.apply(&["--to", "-1"], "refused"), &["would delete data", "items"]);
        let back = shop.apply(&["--to", "-1", "--may-drop", "items"], "succeeded");
        says(&back, &["20260102000000 -> 20260101000000"]);
    }
}
