//! Prune beside those who write, forget and die.

use super::*;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

/// A backup that stands right before its manifest and builds on packs only its forgotten parent names.
struct Suspended {
    agent: Agent,
    store: StoreFiles,
    writer: tests::agent::Running,
    parent: String,
    /// What the writer read.
    dump: String,
    newest: String,
    newest_dump: String,
}

/// Parent, suspended writer, a newer backup of other content, and the parent forgotten 30 days ago.
fn suspended_writer() -> Suspended {
    let (agent, source) = (Agent::new(), shop("one"));
    let store = StoreFiles::at(&agent.store_dir());
    let parent = id_of(agent.run(&["backup", &source.url()]));
    let dump = source.dump_text();
    let writer = agent.start_and_stop_at("backup: before the manifest", &["backup", &source.url()]);
    fill(&source, "two");
    let newest = id_of(agent.run(&from_another_host(&agent, &source)));
    let newest_dump = source.dump_text();
    let (old, new) = (store.manifest(&parent).packs, store.manifest(&newest).packs);
    assert!(old.is_disjoint(&new), "the newest must not keep the parent's packs: {old:?} {new:?}");
    store.age("backups/", HOUR);
    agent.ok(&["forget", &parent, "--apply"]);
    for folder in ["backups/", "marks/", "packs/", "trash/"] {
        store.age(folder, 30 * DAY);
    }
    Suspended { agent, store, writer, parent, dump, newest, newest_dump }
}

#[test]
fn prune_spares_what_a_suspended_writer_builds_on() {
    let Suspended { agent, store, writer, parent, dump, newest, newest_dump } = suspended_writer();
    let packs = store.packs();
    agent.ok(&["prune", "--apply"]);
    assert_eq!(store.packs(), packs, "a living lease names the parent");
    writer.signal("CONT");
    let written = id_of(writer.wait());
    is_good(&agent, &written, &dump);
    is_good(&agent, &newest, &newest_dump);
    assert_eq!(listed(&agent).len(), 2, "{parent} stays forgotten");
}

#[test]
fn a_writer_suspended_until_its_lease_has_run_out_gives_up_loudly() {
    let Suspended { agent, store, writer, parent, newest, newest_dump, .. } = suspended_writer();
    store.age("leases/", HOUR);
    agent.ok(&["prune", "--apply"]);
    let left = store.packs();
    assert_eq!(left, store.manifest(&newest).packs, "what only {parent} named is gone");
    writer.signal("CONT");
    let run = writer.wait();
    assert!(run.code == Some(6) || run.code == Some(1), "{run:?}");
    assert!(run.stderr.contains("withdrawn") || run.stderr.contains("given up"), "{}", run.stderr);
    assert_eq!(listed(&agent), [(newest.clone(), true)], "nothing broken is listed");
    is_good(&agent, &newest, &newest_dump);
    assert_eq!(store.ids(), [newest]);
}

#[test]
fn what_killed_writers_left_goes_after_the_grace_time_and_not_before() {
    let (agent, source) = (Agent::new(), shop("one"));
    let store = StoreFiles::at(&agent.store_dir());
    let kept = id_of(agent.run(&["backup", &source.url()]));
    let dump = source.dump_text();
    for (word, label) in
        [("two", "backup: after a pack"), ("three", "backup: before the manifest"), ("four", "backup: after a pack")]
    {
        fill(&source, word);
        agent.killed_at(label, &["backup", &source.url()]);
    }
    let orphans = store.orphans();
    assert!(orphans.len() >= 3 && store.public("leases/").len() == 3, "{:?}", store.all());
    // At once, and a little before the default grace time of 72 hours is over: nothing may go.
    for age in [Duration::ZERO, 71 * HOUR] {
        store.age("packs/", age);
        store.age("leases/", age);
        agent.ok(&["prune", "--apply"]);
        assert_eq!(store.orphans(), orphans, "after {age:?}");
    }
    store.age("packs/", 73 * HOUR);
    store.age("leases/", 73 * HOUR);
    let plan = agent.ok(&["prune"]);
    assert_eq!(store.orphans(), orphans, "without --apply nothing is touched: {}", plan.stdout);
    agent.ok(&["prune", "--apply"]);
    assert!(store.orphans().is_empty(), "{:?}", store.all());
    assert_eq!(store.public("leases/"), Vec::<String>::new());
    assert_eq!(listed(&agent), [(kept.clone(), true)]);
    is_good(&agent, &kept, &dump);
}

#[test]
fn prune_beside_backups_under_way_hurts_none_of_them() {
    let (agent, source) = (Agent::new(), shop("one"));
    let store = StoreFiles::at(&agent.store_dir());
    let mut dumps = vec![(id_of(agent.run(&["backup", &source.url()])), source.dump_text())];
    for round in 0..4 {
        if round % 2 == 0 {
            fill(&source, &format!("round {round}"));
        }
        store.age("packs/", 30 * DAY);
        let writer = agent.start(&["backup", &source.url()]);
        let mut pruned = 0;
        let mut writer = writer;
        while writer.is_running() || pruned == 0 {
            agent.ok(&["prune", "--apply"]);
            pruned += 1;
        }
        dumps.push((id_of(writer.wait()), source.dump_text()));
        for (id, dump) in &dumps {
            assert_eq!(sqlite_differences(dump, &store.sqlite_dump(id)), Vec::<String>::new(), "round {round}: {id}");
        }
    }
    assert_eq!(listed(&agent).iter().filter(|(_, complete)| *complete).count(), dumps.len());
    agent.ok(&["verify"]);
}

#[test]
fn a_prune_that_stops_before_it_deletes_looks_again() {
    let (agent, source) = (Agent::new(), shop("one"));
    let store = StoreFiles::at(&agent.store_dir());
    let old = id_of(agent.run(&["backup", &source.url()]));
    let dump = source.dump_text();
    fill(&source, "two");
    id_of(agent.run(&["backup", &source.url()]));
    store.age("", HOUR);
    agent.ok(&["forget", &old, "--apply"]);
    // The trash is young, so it keeps the packs; prune plans while it lies there, and it is brought back meanwhile.
    store.age("packs/", 30 * DAY);
    fill(&source, "three");
    agent.killed_at("backup: after a pack", &["backup", &source.url()]);
    store.age("packs/", 30 * DAY);
    store.age("leases/", 30 * DAY);
    // What the first point of its own is called is told by another prune of the same store.
    let trace = agent.home().join("trace");
    let other = Agent::new().with_env("HOLDFAST_CRASH_TRACE", &trace);
    store.copy_to(&other.store_dir());
    other.ok(&["prune", "--apply"]);
    let labels = std::fs::read_to_string(&trace).unwrap();
    let first = labels.lines().find(|label| label.starts_with("prune:")).expect("prune has labelled points").to_owned();
    let prune = agent.start_and_stop_at(&first, &["prune", "--apply"]);
    agent.ok(&["unforget", &old]);
    prune.signal("CONT");
    prune.wait();
    is_good(&agent, &old, &dump);
}
