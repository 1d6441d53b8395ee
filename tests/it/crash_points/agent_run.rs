//! `run --until-idle`, killed.

use super::{Scenario, assert_rooms, complete, shop};
use tests::agent::Agent;
use tests::sqlite::{TestFile, sqlite_differences};
use tests::store_files::StoreFiles;

/// A configured agent whose database has no backup yet, so that its first one is due at once.
fn agent(shop: &TestFile, repository: &StoreFiles) -> Agent {
    let agent = Agent::new();
    repository.copy_to(&agent.store_dir());
    let url = shop.url();
    // Once a year, so that no slot comes while this runs.
    let text =
        format!("[agent]\nlisten = \"off\"\n[database.shop]\nurl = \"{url}\"\nschedule = {{ cron = \"0 3 1 1 *\" }}\n");
    std::fs::write(agent.home().join("holdfast.toml"), text).unwrap();
    agent
}

/// Kinds and states of all tasks.
fn tasks(agent: &Agent) -> Vec<(String, String)> {
    let history = agent.json(&["history", "--limit", "0"]);
    let line = |task: &serde_json::Value| {
        (task["kind"].as_str().unwrap().to_owned(), task["state"].as_str().unwrap().to_owned())
    };
    history.as_array().unwrap().iter().map(line).collect()
}

#[test]
fn the_agent_killed_anywhere_has_a_proven_backup_after_its_next_start() {
    let source = shop();
    let dump = source.dump_text();
    let empty = Agent::new();
    empty.ok(&["init"]);
    let repository = StoreFiles::at(&empty.store_dir());
    let world = || agent(&source, &repository);
    // What the store does below each point is tried with the commands.
    let chosen = |label: &str| !label.starts_with("store:");
    let arguments = ["run", "--until-idle"];
    let scenario = Scenario { world: &world, arguments: &arguments, chosen: &chosen };
    let killed_at = scenario.kill_everywhere(&|killed| {
        let (agent, place, store) = (&killed.agent, &killed.place, killed.store());
        store.are_whole();
        for (id, found) in store.sqlite_dumps() {
            assert_eq!(sqlite_differences(&dump, &found), Vec::<String>::new(), "{place}: {id}");
        }
        agent.ok(&arguments);
        store.are_whole();
        let list = agent.json(&["list"]);
        let newest = list.as_array().unwrap().last().unwrap_or_else(|| panic!("{place}: there is no backup"));
        assert!(newest["proven_at"].is_string(), "{place}: {list}\n{:?}", tasks(agent));
        let newest = newest["id"].as_str().unwrap();
        assert!(complete(agent).contains(&newest.to_owned()), "{place}: {list}");
        assert_eq!(sqlite_differences(&dump, &store.sqlite_dump(newest)), Vec::<String>::new(), "{place}");
        let tasks = tasks(agent);
        let is_done = |kind: &str| tasks.iter().any(|task| *task == (kind.to_owned(), "succeeded".to_owned()));
        assert!(is_done("backup"), "{place}: {tasks:?}");
        assert!(tasks.iter().all(|(_, state)| state == "succeeded"), "{place}: {tasks:?}");
        let leases = store.public("leases/");
        assert!(leases.len() <= 1, "{place}: only the killed writer's lease may be left: {leases:?}");
        // A third start finds nothing to do.
        let before = store.public("backups/");
        agent.ok(&arguments);
        assert_eq!(store.public("backups/"), before, "{place}");
    });
    assert_rooms(&killed_at, &["task log: before a task is claimed", "task log: after a task is finished"]);
    assert_rooms(&killed_at, &["backup: before the lease", "backup: after the manifest", "mark:"]);
}
