//! `restore --into` a new database, killed: the target is not there, or is all of it.

use super::{Killer, kills};
use crate::kills::common::{assert_holds, assert_spool_is_empty, names, shop, store};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::agent::Agent;
use tests::postgres::{TestDatabase, dump_differences, literal, on_server, pg_dump_text, psql, quoted, url_of};

/// Asserts that nothing lies beside a target after the same command ran again.
///
/// Where the target had its name already, that command is refused before it looks for what a killed one left: a second
/// name of the very same file may be there then, until something else is restored into the target's path.
#[track_caller]
fn nothing_is_beside(target: &Path, had_its_name: bool, place: &str) {
    let (folder, name) = (target.parent().unwrap(), target.file_name().unwrap().to_str().unwrap());
    for other in names(folder, name).into_iter().filter(|other| other != name) {
        let inode = |path: &Path| path.metadata().unwrap().ino();
        let is_second_name = other.contains(".restoring-") && inode(&folder.join(&other)) == inode(target);
        assert!(had_its_name && is_second_name, "{place}: {other} is left");
    }
}

#[test]
fn restores_into_a_new_sqlite_file_killed_at_any_moment_make_all_of_it_or_nothing() {
    let source = shop(512, 4000);
    let dump = source.dump_text();
    let mut agent = Agent::new();
    let id = agent.ok(&["backup", &source.url()]).stdout.trim().to_owned();
    let target = agent.home().join("new.db");
    let url = format!("sqlite:{}", target.display());
    let arguments = ["restore", &id, "--into", &url, "--json"];
    agent.ok(&arguments);
    std::fs::remove_file(&target).unwrap();
    let undisturbed = agent.ok(&arguments);
    let mut killer = Killer::of(undisturbed.elapsed);
    let mut with_its_name = 0;
    for _ in 0..kills(25) {
        // Also sweeps what the last round may have left.
        let _ = std::fs::remove_file(&target);
        let killed = killer.kill(&mut agent, &arguments);
        let place = &killed.place;
        store(&agent).are_whole();
        let had_its_name = target.exists();
        if had_its_name {
            with_its_name += 1;
            assert_holds(&target, &dump, place);
            let again = agent.run(&arguments).expect_code(3);
            assert!(again.stderr.contains("not empty"), "{place}: {}", again.stderr);
        } else {
            let again = agent.ok(&arguments);
            killer.took(&again);
            assert_eq!(again.json()["proven"], true, "{place}");
        }
        assert_holds(&target, &dump, place);
        nothing_is_beside(&target, had_its_name, place);
        assert_spool_is_empty(&agent, place);
    }
    println!("{with_its_name} targets had their name");
    killer.assert_hits();
    std::fs::remove_file(&target).unwrap();
    agent.ok(&arguments);
    nothing_is_beside(&target, false, "after the last one");
}

/// The databases beside a target that its unfinished restores made.
fn beside(target: &TestDatabase) -> Vec<String> {
    let query = format!(
        "SELECT datname FROM pg_database WHERE starts_with(datname, {}) AND datname <> {0} ORDER BY 1",
        literal(target.name())
    );
    on_server(&query).lines().map(str::to_owned).collect()
}

/// Drops the one thing that the next restore does not: a database whose maker was killed after it had asked for it and
/// before it had marked it as its own. It is empty. Returns how many there were.
#[track_caller]
fn drop_unmarked(target: &TestDatabase, place: &str) -> usize {
    let left = beside(target);
    for name in &left {
        let comment = format!(
            "SELECT count(*) FROM pg_database WHERE datname = {} AND shobj_description(oid, 'pg_database') IS NOT NULL",
            literal(name)
        );
        assert_eq!(on_server(&comment).trim(), "0", "{place}: {name} is left though it is marked");
        let tables = psql(&url_of(name), "SELECT count(*) FROM pg_class WHERE oid >= 16384").unwrap();
        assert_eq!(tables.trim(), "0", "{place}: {name} is left though it is filled");
        on_server(&format!("DROP DATABASE {}", quoted(name)));
    }
    left.len()
}

/// Waits until the server has noticed that the killed program's sessions are over: until then it is taken for alive.
#[track_caller]
fn until_nobody_is_connected(target: &TestDatabase, place: &str) {
    let query = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
         AND (starts_with(datname, {name}) OR state <> 'idle' AND strpos(query, {name}) > 0)",
        name = literal(target.name())
    );
    let begun = Instant::now();
    while on_server(&query).trim() != "0" {
        assert!(begun.elapsed().as_secs() < 30, "{place}: sessions of the killed program stay");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn restores_into_a_new_postgresql_database_killed_at_any_moment_make_all_of_it_or_nothing() {
    let source = TestDatabase::new();
    source.psql(
        "CREATE TABLE a (id int PRIMARY KEY, t text); INSERT INTO a SELECT i, md5(i::text) FROM generate_series(1, 2000) i;
         CREATE TABLE b (id serial PRIMARY KEY, a int REFERENCES a); INSERT INTO b (a) SELECT id FROM a",
    );
    let dump = pg_dump_text(&source.url());
    let mut agent = Agent::new();
    let id = agent.ok(&["backup", &source.url(), "--name", "shop"]).stdout.trim().to_owned();
    let took = {
        let target = TestDatabase::reserved();
        agent.ok(&["restore", &id, "--into", &target.url()]).elapsed
    };
    let mut killer = Killer::of(took);
    let (mut with_its_name, mut half, mut unmarked) = (0, 0, 0);
    for _ in 0..kills(25) {
        let target = TestDatabase::reserved();
        let url = target.url();
        let arguments = ["restore", &id, "--into", &url, "--json"];
        let killed = killer.kill(&mut agent, &arguments);
        let place = &killed.place;
        store(&agent).are_whole();
        until_nobody_is_connected(&target, place);
        half += usize::from(!beside(&target).is_empty());
        if target.exists() {
            with_its_name += 1;
            assert_eq!(dump_differences(&dump, &pg_dump_text(&url)), Vec::<String>::new(), "{place}");
            agent.run(&arguments).expect_code(3);
            unmarked += drop_unmarked(&target, place);
        } else {
            let again = agent.ok(&arguments);
            killer.took(&again);
            assert_eq!(again.json()["proven"], true, "{place}");
            assert_eq!(dump_differences(&dump, &pg_dump_text(&url)), Vec::<String>::new(), "{place}");
            unmarked += drop_unmarked(&target, &format!("{place}, {}", again.stderr));
        }
        assert_spool_is_empty(&agent, place);
    }
    println!("{with_its_name} targets had their name, {half} had an unfinished one, {unmarked} of these unmarked");
    killer.assert_hits();
    assert!(half > 0, "no kill left an unfinished database");
}
