//! `backup`, killed.

use super::{Killed, Scenario, assert_rooms, complete, sell_something, shop};
use tests::agent::Agent;
use tests::plain_tools::PlainTools;
use tests::postgres::{TestDatabase, dump_differences, pg_dump_text};
use tests::sqlite::sqlite_differences;
use tests::store_files::StoreFiles;

/// Everything a killed backup of SQLite must have left: whole files, and backups that are what `expected` says.
#[track_caller]
fn nothing_is_broken(killed: &Killed, expected: &dyn Fn(&str) -> String) {
    let store = killed.store();
    store.are_whole();
    let ids = store.ids();
    for id in complete(&killed.agent) {
        assert!(ids.contains(&id), "{}: {id} is listed without a manifest", killed.place);
    }
    // Also those that are not complete: everything a manifest names was stored before it.
    for (id, dump) in store.sqlite_dumps() {
        assert_eq!(sqlite_differences(&expected(&id), &dump), Vec::<String>::new(), "{}: {id}", killed.place);
    }
}

/// Runs the backup again: it ends well, is complete and restorable, and nothing of the killed run disturbs it.
#[track_caller]
fn it_converges(killed: &Killed, url: &str, dump: &str) {
    let (agent, place, store) = (&killed.agent, &killed.place, killed.store());
    let before = store.ids();
    let id = agent.ok(&["backup", url]).stdout.trim().to_owned();
    assert!(!before.contains(&id), "{place}: {id} was there already");
    assert_eq!(store.ids().last(), Some(&id), "{place}: the new id does not follow the old ones");
    assert_eq!(complete(agent).last(), Some(&id), "{place}");
    store.are_whole();
    assert_eq!(sqlite_differences(dump, &store.sqlite_dump(&id)), Vec::<String>::new(), "{place}: {id}");
    let target = format!("sqlite:{}", agent.home().join("again.db").display());
    assert_eq!(agent.json(&["restore", &id, "--into", &target])["proven"], true, "{place}");
    // Whose writer died before the mark is completed by verify.
    agent.ok(&["verify"]);
    assert_eq!(complete(agent), store.ids(), "{place}");
    let leases = store.public("leases/");
    assert!(leases.len() <= 1, "{place}: only the killed writer's lease may be left: {leases:?}");
    let spool = std::fs::read_dir(agent.home().join("holdfast-spool")).unwrap().flatten();
    let spool: Vec<_> = spool.map(|entry| entry.file_name()).collect();
    assert!(spool.is_empty(), "{place}: the spool holds {spool:?}");
}

#[test]
fn a_first_backup_killed_anywhere_leaves_nothing_half_and_the_next_one_succeeds() {
    let source = shop();
    let (url, dump) = (source.url(), source.dump_text());
    let scenario = Scenario { world: &Agent::new, arguments: &["backup", &url], chosen: &|_| true };
    let killed_at = scenario.kill_everywhere(&|killed| {
        nothing_is_broken(&killed, &|_| dump.clone());
        it_converges(&killed, &url, &dump);
    });
    assert_rooms(&killed_at, &["init:", "backup:", "mark:", "store:"]);
    let (agent, _) = scenario.undisturbed();
    let store = StoreFiles::at(&agent.store_dir());
    assert_eq!(store.public("leases/"), Vec::<String>::new(), "a backup that ends well ends its lease");
    assert_eq!(store.all(), store.public(""), "and leaves nothing unfinished");
}

#[test]
fn a_second_backup_killed_anywhere_leaves_the_first_one_whole() {
    let source = shop();
    let (url, old) = (source.url(), source.dump_text());
    let base = Agent::new();
    let first = base.ok(&["backup", &url]).stdout.trim().to_owned();
    sell_something(&source, "sold");
    let new = source.dump_text();
    let world = || {
        let agent = Agent::new();
        StoreFiles::at(&base.store_dir()).copy_to(&agent.store_dir());
        agent
    };
    let scenario = Scenario { world: &world, arguments: &["backup", &url], chosen: &|_| true };
    let killed_at = scenario.kill_everywhere(&|killed| {
        nothing_is_broken(&killed, &|id| if id == first { old.clone() } else { new.clone() });
        it_converges(&killed, &url, &new);
    });
    assert_rooms(&killed_at, &["backup: before the lease", "backup: before a pack", "backup: after the manifest"]);
    // What is adopted is what makes this case another one than the first.
    let (agent, _) = scenario.undisturbed();
    let store = StoreFiles::at(&agent.store_dir());
    let (parent, child) = (store.manifest(&first).packs, store.manifest(store.ids().last().unwrap()).packs);
    assert!(parent.intersection(&child).next().is_some() && child.len() > parent.len(), "{parent:?} {child:?}");
}

#[test]
fn a_backup_of_postgresql_killed_anywhere_leaves_nothing_half_and_the_next_one_succeeds() {
    let source = TestDatabase::new();
    source.psql(
        "CREATE TABLE a (id int PRIMARY KEY, t text); INSERT INTO a SELECT i, md5(i::text) FROM generate_series(1, 500) i;
         CREATE TABLE b (id serial PRIMARY KEY, a int REFERENCES a); INSERT INTO b (a) SELECT id FROM a",
    );
    let (url, dump) = (source.url(), pg_dump_text(&source.url()));
    let comes_back = |agent: &Agent, id: &str, place: &str| {
        let (tools, target) = (PlainTools::with(&["psql"]), TestDatabase::reserved());
        let script = agent.store_dir().join("restore.sh").display().to_string();
        tools.ok(agent.home(), "sh", &[&script, id, &target.url()]);
        let found = dump_differences(&dump, &pg_dump_text(&target.url()));
        assert_eq!(found, Vec::<String>::new(), "{place}: {id}");
    };
    // What the store does below each point is the same as for SQLite.
    let chosen = |label: &str| label.starts_with("backup:");
    let arguments = ["backup", &url, "--name", "shop", "--jobs", "1"];
    let killed_at =
        Scenario { world: &Agent::new, arguments: &arguments, chosen: &chosen }.kill_everywhere(&|killed| {
            let (agent, place, store) = (&killed.agent, &killed.place, killed.store());
            store.are_whole();
            let left = store.ids();
            left.iter().for_each(|id| comes_back(agent, id, place));
            let id = agent.ok(&arguments).stdout.trim().to_owned();
            assert_eq!(store.ids(), [left, vec![id.clone()]].concat(), "{place}");
            assert_eq!(complete(agent).last(), Some(&id), "{place}");
            comes_back(agent, &id, place);
        });
    assert_rooms(&killed_at, &["backup: before the lease", "backup: before a pack", "backup: after the mark"]);
}
