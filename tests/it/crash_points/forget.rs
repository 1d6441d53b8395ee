//! `forget`, `unforget`, `hold`, `release` and `prune`, killed.

use super::{Killed, Scenario, assert_rooms, complete, sell_something, shop};
use std::collections::BTreeMap;
use std::time::Duration;
use tests::agent::Agent;
use tests::sqlite::{TestFile, sqlite_differences};
use tests::store_files::StoreFiles;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A store with some backups of one file, each with the dump text it must bring back.
struct Stored {
    base: Agent,
    source: TestFile,
    dumps: BTreeMap<String, String>,
}

impl Stored {
    /// `count` backups, all of them written an hour ago.
    fn with(count: usize) -> Self {
        let mut stored = Stored { base: Agent::new(), source: shop(), dumps: BTreeMap::new() };
        for number in 0..count {
            sell_something(&stored.source, &format!("sold {number}"));
            let id = stored.base.ok(&["backup", &stored.source.url()]).stdout.trim().to_owned();
            stored.dumps.insert(id, stored.source.dump_text());
        }
        // No writer can be at work on what is this old.
        stored.files().age("", Duration::from_secs(3600));
        stored
    }

    fn files(&self) -> StoreFiles {
        StoreFiles::at(&self.base.store_dir())
    }

    fn id(&self, number: usize) -> &str {
        self.dumps.keys().nth(number).unwrap()
    }

    /// A program with a copy of the store.
    fn world(&self) -> Agent {
        let agent = Agent::new();
        self.files().copy_to(&agent.store_dir());
        agent
    }

    /// Whatever was killed: every file is whole, every backup is listed or in the trash with all its packs, and what is
    /// listed comes back as it was.
    #[track_caller]
    fn nothing_is_lost(&self, killed: &Killed) {
        let store = killed.store();
        store.are_whole();
        let mut known = store.ids();
        known.extend(store.trashed().into_iter().map(|manifest| manifest.id));
        for id in self.dumps.keys() {
            assert!(known.contains(id), "{}: {id} is neither listed nor in the trash", killed.place);
        }
        self.what_is_listed_comes_back(killed);
    }

    #[track_caller]
    fn what_is_listed_comes_back(&self, killed: &Killed) {
        let dumps = killed.store().sqlite_dumps();
        for id in complete(&killed.agent) {
            assert!(dumps.contains_key(&id), "{}: {id} is complete without a manifest", killed.place);
        }
        for (id, dump) in dumps {
            assert_eq!(sqlite_differences(&self.dumps[&id], &dump), Vec::<String>::new(), "{}: {id}", killed.place);
        }
    }
}

#[test]
fn forget_killed_anywhere_loses_nothing_and_is_done_by_the_next() {
    let stored = Stored::with(2);
    let (old, new) = (stored.id(0), stored.id(1));
    let (world, arguments) = (|| stored.world(), ["forget", old, "--apply"]);
    let killed_at = Scenario { world: &world, arguments: &arguments, chosen: &|_| true }.kill_everywhere(&|killed| {
        stored.nothing_is_lost(&killed);
        let (agent, place) = (&killed.agent, &killed.place);
        assert!(complete(agent).contains(&new.to_owned()), "{place}");
        let again = agent.run(&arguments);
        let was_done = again.code == Some(3) && again.stderr.contains("was forgotten at");
        assert!(again.code == Some(0) || was_done, "{place}: {again:?}");
        assert_eq!(killed.store().ids(), [new], "{place}");
        stored.nothing_is_lost(&killed);
        // And the way back is open.
        agent.ok(&["unforget", old]);
        assert_eq!(complete(agent), [old, new], "{place}");
        stored.what_is_listed_comes_back(&killed);
    });
    assert_rooms(&killed_at, &["forget:", "store:"]);
}

#[test]
fn unforget_killed_anywhere_loses_nothing_and_is_done_by_the_next() {
    let stored = Stored::with(2);
    let (old, new) = (stored.id(0), stored.id(1));
    stored.base.ok(&["forget", old, "--apply"]);
    let (world, arguments) = (|| stored.world(), ["unforget", old]);
    let killed_at = Scenario { world: &world, arguments: &arguments, chosen: &|_| true }.kill_everywhere(&|killed| {
        stored.nothing_is_lost(&killed);
        let (agent, place) = (&killed.agent, &killed.place);
        let again = agent.run(&arguments);
        let was_done = again.code == Some(3) && again.stderr.contains("is not forgotten");
        assert!(again.code == Some(0) || was_done, "{place}: {again:?}");
        assert_eq!(complete(agent), [old, new], "{place}");
        stored.what_is_listed_comes_back(&killed);
    });
    assert_rooms(&killed_at, &["unforget:", "store:"]);
}

#[test]
fn hold_and_release_killed_anywhere_are_done_by_the_next() {
    let stored = Stored::with(2);
    let old = stored.id(0);
    let (world, arguments) = (|| stored.world(), ["hold", old, "--owner", "bob"]);
    let killed_at = Scenario { world: &world, arguments: &arguments, chosen: &|_| true }.kill_everywhere(&|killed| {
        stored.nothing_is_lost(&killed);
        killed.agent.ok(&arguments);
        killed.agent.run(&["forget", old, "--apply"]).expect_code(3);
        assert_eq!(complete(&killed.agent).len(), 2, "{}", killed.place);
    });
    assert_rooms(&killed_at, &["hold:"]);

    stored.base.ok(&arguments);
    stored.base.ok(&arguments);
    let arguments = ["release", old, "--owner", "bob"];
    let killed_at = Scenario { world: &world, arguments: &arguments, chosen: &|_| true }.kill_everywhere(&|killed| {
        stored.nothing_is_lost(&killed);
        killed.agent.run(&arguments);
        assert!(!killed.store().is_marked(old, "hold-bob"), "{}", killed.place);
        killed.agent.ok(&["forget", old, "--apply"]);
        stored.nothing_is_lost(&killed);
    });
    assert_rooms(&killed_at, &["release:"]);
}

#[test]
fn prune_killed_anywhere_leaves_what_is_kept_whole_and_the_next_one_ends_where_it_would_have() {
    let mut stored = Stored::with(3);
    let (old, kept): (String, Vec<String>) = (stored.id(0).into(), vec![stored.id(1).into(), stored.id(2).into()]);
    stored.base.ok(&["forget", &old, "--apply"]);
    // What two killed writers left, and a change that nobody stored.
    for word in ["lost", "gone"] {
        sell_something(&stored.source, word);
        stored.base.killed_at("backup: after a pack", &["backup", &stored.source.url()]);
    }
    let files = stored.files();
    assert!(files.orphans().len() >= 2 && files.public("leases/").len() >= 2, "{:?}", files.all());
    files.age("", 30 * DAY);
    stored.dumps.remove(&old);
    let (world, arguments) = (|| stored.world(), ["prune", "--apply"]);
    let scenario = Scenario { world: &world, arguments: &arguments, chosen: &|_| true };

    let (agent, _) = scenario.undisturbed();
    let expected = StoreFiles::at(&agent.store_dir());
    assert_eq!((expected.ids(), expected.trashed(), expected.orphans().len()), (kept.clone(), vec![], 0));
    assert_eq!(expected.public("leases/"), Vec::<String>::new());
    assert!(expected.public(&format!("marks/{old}")).is_empty(), "{:?}", expected.all());

    let killed_at = scenario.kill_everywhere(&|killed| {
        let (agent, place, store) = (&killed.agent, &killed.place, killed.store());
        store.ids().iter().for_each(|id| drop(store.manifest(id)));
        stored.what_is_listed_comes_back(&killed);
        assert_eq!(complete(agent), kept, "{place}");
        agent.ok(&arguments);
        let probe = |key: &String| !key.starts_with("leases/probe-");
        let left: Vec<String> = store.public("").into_iter().filter(probe).collect();
        assert_eq!(left, expected.public(""), "{place}");
        stored.what_is_listed_comes_back(&killed);
    });
    assert_rooms(&killed_at, &["prune:", "store:"]);
}
