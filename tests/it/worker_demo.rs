//! `migrate-worker demo`: what it says is so.

use std::path::Path;
use tests::agent::{Agent, Run};
use tests::sqlite::sqlite3;

fn ask(database: &Path, sql: &str) -> String {
    sqlite3(database, sql).unwrap_or_else(|error| panic!("{}: {error}", database.display())).trim().to_owned()
}

/// The states the demo's record tells of, oldest first, as sqlite3 reads them.
fn recorded(folder: &Path) -> Vec<String> {
    let sql = "SELECT task_name || ' ' || status FROM tasklog ORDER BY started_at";
    ask(&folder.join("holdfast-state.db"), sql).lines().map(str::to_owned).collect()
}

fn check(run: &Run, folder: &Path) {
    let (shop, restored) = (folder.join("shop.db"), folder.join("restored.db"));
    let number = |ending: &str| -> u64 {
        let line = run.stdout.lines().find(|line| line.contains(ending)).unwrap_or_else(|| panic!("{}", run.stdout));
        line.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    let sold = number("orders came in; all of them are there");
    assert!(sold > 0);
    assert_eq!(ask(&shop, "SELECT count(*) FROM orders"), (100_000 + sold).to_string());
    // The good migration is in; the refused and the killed one left nothing.
    assert_eq!(ask(&shop, "SELECT group_concat(version || success) FROM _sqlx_migrations"), "11");
    assert_eq!(ask(&shop, "SELECT count(note) FROM orders WHERE delivered_on = day + 3 AND id <= 100000"), "100000");
    assert_eq!(ask(&shop, "SELECT count(*) FROM pragma_table_info('orders') WHERE name = 'vat_cents'"), "0");
    assert_eq!(ask(&shop, "SELECT count(*) FROM sqlite_schema WHERE name = 'invoices'"), "0");
    assert_eq!(ask(&shop, "PRAGMA integrity_check"), "ok");
    // Last night's backup is from before any of it.
    assert_eq!(ask(&restored, "SELECT count(*) FROM orders"), "100000");
    assert_eq!(ask(&restored, "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'"), "0");
    assert_eq!(
        recorded(folder),
        [
            "backup:shop succeeded",
            "migrate:shop succeeded",
            "migrate:shop refused",
            "migrate:shop restored",
            "restore:shop succeeded"
        ]
    );
    for said in ["hint: allow it with --may-drop orders:note", "kill -9    the first file was in", "restored: "] {
        assert!(run.stdout.contains(said), "it does not say {said:?}: {}", run.stdout);
    }
    assert!(!folder.join("holdfast-spool/jobs").exists() || is_empty(&folder.join("holdfast-spool/jobs")));
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn the_demo_tells_the_whole_story_again_and_again() {
    let agent = Agent::worker().with_store(None);
    let folder = agent.home().join("holdfast-demo");
    for _ in 0..2 {
        check(&agent.ok(&["demo"]), &folder);
    }
    // What it advises at its end works.
    let history = agent.ok(&["history", "--config", "holdfast-demo/holdfast.toml"]);
    assert_eq!(history.stdout.lines().count(), 4, "{}", history.stdout);
}

#[test]
fn the_demo_leaves_a_folder_alone_that_is_not_its_own() {
    let agent = Agent::worker().with_store(None);
    let folder = agent.home().join("mine");
    std::fs::create_dir_all(folder.join("migrations")).unwrap();
    std::fs::write(folder.join("shop.db"), "mine").unwrap();
    let run = agent.run(&["demo", "--directory", "mine"]).expect_code(3);
    assert!(run.stderr.contains("not made by a demo") && run.stderr.contains("--directory"), "{}", run.stderr);
    assert_eq!(std::fs::read_to_string(folder.join("shop.db")).unwrap(), "mine");
}
