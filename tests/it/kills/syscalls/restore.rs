//! `restore --into` a new SQLite file.

use super::sweep::{Disturbed, Sweep, assert_flush_is_heard, claims_success};
use crate::kills::common::{assert_holds, assert_spool_is_empty, names, shop, store};
use std::os::unix::fs::MetadataExt;
use tests::agent::Agent;
use tests::postgres::TestDatabase;

/// The record on a server, so that all local files are those of the work itself; see [`super::record`] for a local one.
pub fn with_record_at(url: &str) -> Agent {
    Agent::new().with_config(&format!("[state]\nurl = \"{url}\"\n"))
}

const ARGUMENTS: [&str; 6] = ["restore", "shop", "--at", "latest", "--into", "sqlite:new.db"];

#[test]
fn a_restore_whose_nth_call_fails_makes_all_of_the_file_or_nothing_and_says_so() {
    let (source, record) = (shop(4096, 300), TestDatabase::new());
    let (dump, first) = (source.dump_text(), Agent::new());
    first.ok(&["backup", &source.url()]);
    let repository = store(&first);
    let world = || {
        let agent = with_record_at(&record.url());
        repository.copy_to(&agent.store_dir());
        agent
    };
    let judge = |disturbed: Disturbed| {
        let (agent, place) = (&disturbed.agent, &disturbed.place);
        let target = agent.home().join("new.db");
        let is_claimed = claims_success(&disturbed);
        store(agent).are_whole();
        // The mark in the store is written anew, under another name; whether its folder is flushed in the end is asked
        // by a test of its own.
        assert_flush_is_heard(&disturbed, &|file| file.starts_with("store"));
        let has_its_name = target.exists();
        assert!(has_its_name || !is_claimed, "{place}: there is no new.db\n{}", disturbed.run.stderr);
        if has_its_name {
            assert_holds(&target, &dump, place);
            agent.run(&ARGUMENTS).expect_code(3);
        } else {
            agent.ok(&ARGUMENTS);
        }
        assert_holds(&target, &dump, place);
        assert_spool_is_empty(agent, place);
        for other in names(agent.home(), "new.db").into_iter().filter(|name| name != "new.db") {
            // See `random::restore::nothing_is_beside`: a second name of the same file.
            let inode = |name: &str| agent.home().join(name).metadata().unwrap().ino();
            assert!(has_its_name && inode(&other) == inode("new.db"), "{place}: {other} is left");
        }
    };
    let least = [("openat", 2), ("write", 2), ("fsync", 3), ("linkat", 2), ("unlink", 2)];
    Sweep { world: &world, arguments: &ARGUMENTS, until: None, everyday: 2 }.everywhere(&least, &judge);
}
