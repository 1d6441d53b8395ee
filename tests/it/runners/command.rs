//! Other teams' tools by their commands: dbmate and knex by `npm run`, as they are.

use super::{Fresh, call, planned, refused};
use migrate_worker::runner::{Branches, Runner, of};
use shared::config::Config;
use std::path::Path;
use tests::npm;

const DBMATE: &str = "current = \"SELECT max(version) FROM schema_migrations\"";
const KNEX: &str = "current = \"SELECT name FROM knex_migrations ORDER BY id DESC LIMIT 1\"
own_tables = [\"knex_migrations_lock\"]";

fn runner(folder: &Path, more: &str) -> Box<dyn Runner> {
    let path = folder.join("holdfast.toml");
    let text = format!(
        "[database.shop]\nurl = \"sqlite:shop.db\"\n[database.shop.migrations]\nrunner = \"command\"\ndirectory = \"p\"\n\
         upgrade = [\"npm\", \"run\", \"migrate:prod\"]\ndowngrade = [\"npm\", \"run\", \"migrate:rollback\"]\n\
         probe = [\"npm\", \"run\", \"--silent\", \"migrate:probe\"]\n{more}\n"
    );
    std::fs::write(&path, text).unwrap();
    of(&Config::load(Some(&path)).unwrap(), &"shop".parse().unwrap()).unwrap()
}

/// The whole way up and one step back, as the tool's own answer and our query see it.
async fn up_and_back(runner: &dyn Runner, database: &Fresh, revisions: [&str; 2], own_tables: usize) {
    let url = database.url();
    assert_eq!(runner.probe(&url, &call()).await.unwrap(), Vec::<String>::new());
    let (history, before, route) = planned(runner, &url, "head").await.unwrap();
    assert_eq!((history.branches, before.heads.len()), (Branches::Unlisted { has_downgrade: true }, 0));
    assert!(route.open && route.revisions.is_empty());
    let run = runner.run(&url, &route, &call()).await.unwrap();
    assert_eq!(run.exit, Some(0), "{}", run.output);
    let stands = async || runner.current(&*shared::connect::engine(url.clone()), &history).await.unwrap();
    let after = stands().await;
    assert_eq!((&after.heads[..], after.own_tables.len()), (&[revisions[1].to_owned()][..], own_tables), "{after:?}");
    assert_eq!(runner.probe(&url, &call()).await.unwrap(), [revisions[1]]);
    assert_eq!(database.columns("items"), "id,name,note");

    let (_, _, back) = planned(runner, &url, "-1").await.unwrap();
    let run = runner.run(&url, &back, &call()).await.unwrap();
    assert_eq!(run.exit, Some(0), "{}", run.output);
    assert_eq!(stands().await.heads, [revisions[0]]);
    assert_eq!(database.columns("items"), "id,name");
}

#[tokio::test]
async fn dbmate_is_driven_by_npm_on_both_databases() {
    for database in Fresh::both() {
        let folder = tempfile::tempdir().unwrap();
        npm::project("tools/dbmate", &folder.path().join("p"));
        let runner = runner(folder.path(), DBMATE);
        up_and_back(&*runner, &database, ["20260101000000", "20260102000000"], 1).await;
    }
}

#[tokio::test]
async fn knex_is_driven_by_npm_on_postgresql() {
    let folder = tempfile::tempdir().unwrap();
    npm::project("tools/knex", &folder.path().join("p"));
    let runner = runner(folder.path(), KNEX);
    let [_, database] = Fresh::both();
    up_and_back(&*runner, &database, ["20260101000000_items.js", "20260102000000_note.js"], 2).await;
}

#[tokio::test]
async fn what_dbmate_prints_is_not_believed() {
    let database = Fresh::sqlite();
    let folder = tempfile::tempdir().unwrap();
    npm::project("tools/dbmate", &folder.path().join("p"));
    tests::fixtures::copy_folder("tools/dbmate/failing", &folder.path().join("p/db/migrations"));
    let runner = runner(folder.path(), DBMATE);
    let (history, _, route) = planned(&*runner, &database.url(), "head").await.unwrap();
    let run = runner.run(&database.url(), &route, &call()).await.unwrap();
    assert_eq!(run.exit, Some(2), "{}", run.output);
    assert!(run.output.contains("Applied: 20260102000000_note.sql"), "{}", run.output);
    let current = runner.current(&*shared::connect::engine(database.url()), &history).await.unwrap();
    assert_eq!(current.heads, ["20260102000000"]);
    assert_eq!(database.columns("items"), "id,name,note,half", "half of it is there, and its exit code alone says so");
}

#[tokio::test]
async fn what_a_team_of_commands_lacks_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("m")).unwrap();
    let section = "[database.shop]\nurl = \"sqlite:shop.db\"\n[database.shop.migrations]\nrunner = \"command\"\ndirectory = \"m\"\n";
    let whole = ["upgrade = [\"true\"]", "probe = [\"true\"]", "current = \"SELECT 1\""];
    let path = folder.path().join("holdfast.toml");
    let said = |text: &str| {
        std::fs::write(&path, format!("{section}{text}\n")).unwrap();
        match Config::load(Some(&path)) {
            Ok(config) => refused(of(&config, &"shop".parse().unwrap()).map(|runner| runner.name())),
            Err(error) => error.to_string(),
        }
    };
    for (at, key) in ["upgrade", "probe", "current"].into_iter().enumerate() {
        let rest: Vec<&str> =
            whole.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, line)| *line).collect();
        assert!(said(&rest.join("\n")).contains(&format!("the runner command needs {key}")), "{key}");
    }
    let whole = whole.join("\n");
    for (more, expected) in [
        ("downgrade = []", "downgrade is empty"),
        ("downgrade = [\"no-such-program\"]", "downgrade: there is no program no-such-program on PATH"),
        ("program = [\"x\"]", "program means nothing to the runner command"),
        ("settings = \"x\"", "settings means nothing to the runner command"),
        ("[[database.shop.migrations.then]]\nname = \"x\"", "give exactly one of command and sql"),
        (
            "[[database.shop.migrations.then]]\nname = \"x\"\nsql = \"SELECT 1\"\ncommand = [\"true\"]",
            "give exactly one",
        ),
        (
            "[[database.shop.migrations.then]]\nname = \"x\"\ncommand = [\"no-such-program\"]",
            "then \"x\": there is no program",
        ),
    ] {
        let said = said(&format!("{whole}\n{more}"));
        assert!(said.contains(expected), "{more}: {said}");
    }
}
