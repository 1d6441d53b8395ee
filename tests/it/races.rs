//! Several real processes at one store, with one of them stopped or killed where it matters most.

mod prune;
mod two_backups;

use tests::agent::Agent;
use tests::sqlite::{TestFile, sqlite_differences, sqlite_dump_text};
use tests::store_files::StoreFiles;

/// A SQLite file of a few hundred small pages, whose rows are `word` and something random.
fn shop(word: &str) -> TestFile {
    let file = TestFile::named("shop.db");
    fill(&file, word);
    file
}

/// The arguments of a backup on another host: one with a record of its own, which knows nothing of this one's tasks.
fn from_another_host(agent: &Agent, file: &TestFile) -> [String; 4] {
    let config = agent.home().join("another-host.toml");
    std::fs::write(&config, "[state]\nurl = \"sqlite:another-host.db\"\n").unwrap();
    ["--config".into(), config.display().to_string(), "backup".into(), file.url()]
}

/// Puts other rows in the place of all there are, so that nothing stored before is of use.
fn fill(file: &TestFile, word: &str) {
    file.sqlite3(&format!(
        "PRAGMA page_size = 512; DROP TABLE IF EXISTS t; CREATE TABLE t (id INTEGER PRIMARY KEY, t TEXT);
         WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 800)
         INSERT INTO t SELECT i, '{word}' || hex(randomblob(60)) FROM c; VACUUM;"
    ));
}

/// What is listed: ids, and whether each is complete, oldest first.
fn listed(agent: &Agent) -> Vec<(String, bool)> {
    let list = agent.json(&["list"]);
    let line = |backup: &serde_json::Value| (backup["id"].as_str().unwrap().to_owned(), backup["complete"] == true);
    list.as_array().unwrap().iter().map(line).collect()
}

/// Asserts that a backup is complete, that the program restores and proves it, that the plain tools do, and that both
/// bring `dump` back.
#[track_caller]
fn is_good(agent: &Agent, id: &str, dump: &str) {
    assert!(listed(agent).contains(&(id.to_owned(), true)), "{id} is not complete: {:?}", listed(agent));
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("restored.db");
    let restored = agent.json(&["restore", id, "--into", &format!("sqlite:{}", target.display())]);
    assert_eq!(restored["proven"], true, "{id}");
    assert_eq!(sqlite_differences(dump, &sqlite_dump_text(&target)), Vec::<String>::new(), "{id}, by the program");
    let plain = StoreFiles::at(&agent.store_dir()).sqlite_dump(id);
    assert_eq!(sqlite_differences(dump, &plain), Vec::<String>::new(), "{id}, by the plain tools");
}

/// The id a backup printed.
#[track_caller]
fn id_of(run: tests::agent::Run) -> String {
    run.expect_code(0).stdout.trim().to_owned()
}
