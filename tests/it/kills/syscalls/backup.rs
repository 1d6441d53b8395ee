//! `backup` of a SQLite file into a directory store: its spool, and the store's own files.

use super::restore::with_record_at;
use super::sweep::{Disturbed, Sweep, assert_flush_is_heard, claims_success};
use crate::kills::common::{age_unfinished, assert_spool_is_empty, complete, sell_something, shop, store, unfinished};
use tests::agent::Agent;
use tests::postgres::TestDatabase;
use tests::sqlite::sqlite_differences;

/// Judges a disturbed backup of what is `dump` into a store that had the backups `before`.
#[track_caller]
fn judge(disturbed: &Disturbed, arguments: &[&str], before: &[String], dump: &str) {
    let (agent, place, store) = (&disturbed.agent, &disturbed.place, store(&disturbed.agent));
    let is_claimed = claims_success(disturbed);
    store.are_whole();
    // Every object is written anew, into another file, as long as that may help.
    assert_flush_is_heard(disturbed, &|file| file.starts_with("store"));
    if is_claimed {
        let id = disturbed.run.stdout.trim().to_owned();
        assert_eq!(complete(agent).last(), Some(&id), "{place}\n{}", disturbed.run.stderr);
    }
    let left = store.ids();
    assert!(before.iter().all(|id| left.contains(id)), "{place}: {left:?}");
    // Those from before are whole, which was seen by their checksums.
    for id in left.iter().filter(|id| !before.contains(id)) {
        assert_eq!(sqlite_differences(dump, &store.sqlite_dump(id)), Vec::<String>::new(), "{place}: {id}");
    }
    age_unfinished(agent);
    let id = agent.ok(arguments).stdout.trim().to_owned();
    assert_eq!(store.ids(), [left, vec![id.clone()]].concat(), "{place}");
    assert_eq!(complete(agent).last(), Some(&id), "{place}");
    store.are_whole();
    assert_eq!(sqlite_differences(dump, &store.sqlite_dump(&id)), Vec::<String>::new(), "{place}: {id}");
    assert_eq!(unfinished(&store), Vec::<String>::new(), "{place}");
    assert_spool_is_empty(agent, place);
}

#[test]
fn a_backup_whose_nth_call_fails_leaves_the_store_whole_and_never_claims_what_is_not_there() {
    let (source, record, base) = (shop(4096, 300), TestDatabase::new(), Agent::new());
    let url = source.url();
    base.ok(&["backup", &url]);
    let (repository, before) = (store(&base), store(&base).ids());
    sell_something(&source, "sold");
    let dump = source.dump_text();
    let world = || {
        let agent = with_record_at(&record.url());
        repository.copy_to(&agent.store_dir());
        agent
    };
    let arguments = ["backup", &url];
    let least =
        [("openat", 2), ("write", 2), ("pwrite64", 1), ("fsync", 3), ("linkat", 2), ("unlink", 2), ("mkdir", 2)];
    Sweep { world: &world, arguments: &arguments, until: None, everyday: 2 }
        .everywhere(&least, &|disturbed| judge(&disturbed, &arguments, &before, &dump));
}

#[test]
fn a_first_backup_whose_nth_call_fails_makes_a_repository_or_says_why_not() {
    let (source, record) = (shop(4096, 100), TestDatabase::new());
    let (url, dump) = (source.url(), source.dump_text());
    let world = || with_record_at(&record.url());
    let arguments = ["backup", &url];
    let least = [("openat", 1), ("write", 1), ("fsync", 2), ("linkat", 1), ("rename", 1), ("unlink", 1)];
    // What follows is as in any other backup.
    Sweep { world: &world, arguments: &arguments, until: Some("backup: before the lease"), everyday: 1 }
        .everywhere(&least, &|disturbed| judge(&disturbed, &arguments, &[], &dump));
}
