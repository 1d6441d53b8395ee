//! A rename breaks the code that is live; in two phases it does not.

use super::super::desk::Door;
use super::{Deployment, Side};
use serde_json::json;

fn a_rename_is_told_and_breaks_the_code_that_is_live(door: Door) {
    let mut both = Deployment::new(door);
    both.deploy(Side::Green, "release");
    both.deploy(Side::Green, "rename");
    let ended = both.desk.upgrade("green", "succeeded");
    let effects = ended.job["result"]["effects"].to_string();
    assert!(effects.contains("old_name") && effects.contains("new_name"), "{effects}");
    if door == Door::Command {
        ended.says(&["table users: ", "column old_name renamed to new_name"]);
    }
    assert_eq!(both.sqlite3(Side::Green, "SELECT new_name FROM users WHERE id = 7"), "formerly 7");
    both.is_well(Side::Green, 3);
    // What blue runs would not live with it.
    let release = both.desk.file(Side::Blue.folder()).join("release.json");
    std::fs::copy(release, both.desk.file(Side::Green.folder()).join("release.json")).unwrap();
    both.desk.migrate("green", json!({"to": "-1"}), "succeeded").says(&["it stands at 004"]);
    both.is_well(Side::Green, 1);
    assert_eq!(both.sqlite3(Side::Green, "SELECT old_name FROM users WHERE id = 7"), "formerly 7");
}

#[test]
fn a_rename_is_told_and_breaks_the_code_that_is_live_by_command() {
    a_rename_is_told_and_breaks_the_code_that_is_live(Door::Command);
}

#[test]
fn a_rename_is_told_and_breaks_the_code_that_is_live_by_message() {
    a_rename_is_told_and_breaks_the_code_that_is_live(Door::Message);
}

fn in_two_phases_nothing_is_lost(door: Door) {
    let mut both = Deployment::new(door);
    both.deploy(Side::Green, "release");
    both.deploy(Side::Green, "two-phase");
    let contract = both.desk.file(Side::Green.folder()).join("database/migrations/006_contract.sql");
    let kept = std::fs::read(&contract).unwrap();
    std::fs::remove_file(&contract).unwrap();
    both.desk.upgrade("green", "succeeded").says(&["it stands at 005"]);
    both.is_well(Side::Green, 2);
    let both_names = "SELECT count(*) FROM users WHERE old_name = new_name";
    assert_eq!(both.sqlite3(Side::Green, both_names), "40");
    // The second phase is for a person to allow: nobody can see whether old code still writes to the old name.
    std::fs::write(&contract, &kept).unwrap();
    let before = both.dump(Side::Green);
    let refused = both.desk.upgrade("green", "refused");
    refused.says(&["006 would delete data: column users.old_name (40 values)", "--may-drop users:old_name"]);
    assert_eq!(both.dump(Side::Green), before);
    let contract = json!({"may_drop": ["users:old_name"]});
    both.desk.migrate("green", contract, "succeeded").says(&["it stands at 006"]);
    assert_eq!(both.sqlite3(Side::Green, "SELECT count(new_name) FROM users"), "40");
}

#[test]
fn in_two_phases_nothing_is_lost_by_command() {
    in_two_phases_nothing_is_lost(Door::Command);
}

#[test]
fn in_two_phases_nothing_is_lost_by_message() {
    in_two_phases_nothing_is_lost(Door::Message);
}
