//! Backups of one database that meet each other, or somebody who finds damage.

use super::*;

#[test]
fn two_backups_started_at_once_both_end_well() {
    let source = shop("one");
    let dump = source.dump_text();
    for round in 0..4 {
        // A new store each time, so that both also make the repository.
        let agent = Agent::new();
        let both = [agent.start(&["backup", &source.url()]), agent.start(&from_another_host(&agent, &source))];
        let [a, b] = both.map(|running| id_of(running.wait()));
        assert_ne!(a, b, "round {round}");
        let store = StoreFiles::at(&agent.store_dir());
        store.are_whole();
        assert_eq!(listed(&agent).len(), 2, "round {round}");
        is_good(&agent, &a, &dump);
        is_good(&agent, &b, &dump);
        assert_eq!(store.public("leases/"), Vec::<String>::new(), "round {round}");
    }
}

#[test]
fn of_two_backups_with_one_record_the_second_is_refused_until_the_first_has_ended() {
    let source = shop("one");
    let agent = Agent::new();
    let slow = agent.start_and_stop_at("backup: before the manifest", &["backup", &source.url()]);
    let refused = agent.run(&["backup", &source.url()]).expect_code(3);
    assert!(refused.stderr.contains("shop is being worked on by job"), "{}", refused.stderr);
    slow.signal("CONT");
    id_of(slow.wait());
    id_of(agent.run(&["backup", &source.url()]));
    // A killed one holds nothing up.
    agent.killed_at("backup: before the manifest", &["backup", &source.url()]);
    id_of(agent.run(&["backup", &source.url()]));
    assert_eq!(listed(&agent).len(), 3);
}

#[test]
fn a_backup_overtaken_by_another_one_ends_well() {
    for label in ["init: before the configuration", "init: after the configuration", "backup: before the manifest"] {
        let source = shop("one");
        let (agent, early) = (Agent::new(), source.dump_text());
        let slow = agent.start_and_stop_at(label, &["backup", &source.url()]);
        let quick = id_of(agent.run(&from_another_host(&agent, &source)));
        slow.signal("CONT");
        let slow = id_of(slow.wait());
        assert_ne!(slow, quick, "{label}");
        is_good(&agent, &slow, &early);
        is_good(&agent, &quick, &early);
        // The next one builds on the newest id, whoever ended last.
        fill(&source, "two");
        let next = id_of(agent.run(&["backup", &source.url()]));
        assert_eq!(listed(&agent).last(), Some(&(next.clone(), true)), "{label}");
        is_good(&agent, &next, &source.dump_text());
    }
}

#[test]
fn a_backup_on_a_pack_found_damaged_meanwhile_is_not_called_complete() {
    let source = shop("one");
    let (agent, dump) = (Agent::new(), source.dump_text());
    let store = StoreFiles::at(&agent.store_dir());
    let first = id_of(agent.run(&["backup", &source.url()]));
    let slow = agent.start_and_stop_at("backup: before the manifest", &["backup", &source.url()]);
    for pack in store.public("packs/") {
        store.flip(&pack);
    }
    agent.run(&["verify"]).expect_code(6);
    slow.signal("CONT");
    slow.wait();
    assert!(listed(&agent).iter().all(|(_, complete)| !complete), "{:?}", listed(&agent));
    // Healed: the next one stores everything again, and a drill proves it.
    let healed = id_of(agent.run(&["backup", &source.url()]));
    is_good(&agent, &healed, &dump);
    agent.ok(&["drill", "shop"]);
    let list = agent.json(&["list"]);
    let newest = list.as_array().unwrap().last().unwrap();
    assert!(newest["proven_at"].is_string() && newest["id"] == healed.as_str(), "{newest}");
    assert!(listed(&agent).contains(&(first, false)));
}
