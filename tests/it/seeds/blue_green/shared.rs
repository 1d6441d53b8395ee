//! One database behind two links.

use super::super::desk::{Desk, Door};
use super::{Deployment, Side, install};
use std::os::unix::fs::{MetadataExt, symlink};
use tests::fixtures::fixture;
use tests::npm;
use tests::sqlite::sqlite3;

/// As `setup-shared-db.sh` leaves it.
fn shared_database(door: Door) -> Deployment {
    let desk = Desk::new(door);
    let database = desk.file("database-shared.db");
    sqlite3(&database, "PRAGMA journal_mode = WAL").unwrap();
    for side in [Side::Blue, Side::Green] {
        install(&desk, side);
        symlink(&database, desk.file(side.folder()).join("database.db")).unwrap();
    }
    npm::run(&desk.file(Side::Blue.folder()), "migrate:prod", &format!("sqlite://{}", database.display()));
    let rows = std::fs::read_to_string(fixture("seeds/002/fill.sql")).unwrap();
    sqlite3(&database, &rows).unwrap();
    Deployment::started(desk)
}

fn one_file_behind_two_links_is_migrated_once(door: Door) {
    let mut both = shared_database(door);
    let inode = std::fs::metadata(both.desk.file("database-shared.db")).unwrap().ino();
    both.deploy(Side::Green, "release");
    both.deploy(Side::Blue, "release");
    both.desk.upgrade("green", "succeeded").says(&["Applied: 003_new_field.sql", "it stands at 004"]);
    let migrated = both.dump(Side::Blue);
    both.desk.upgrade("blue", "succeeded").says(&["nothing to do: it stands at 004"]);
    assert_eq!(both.dump(Side::Green), migrated, "the second one changed something");
    for side in [Side::Blue, Side::Green] {
        assert!(std::fs::symlink_metadata(both.file(side)).unwrap().is_symlink(), "{side:?} has a file of its own now");
        assert_eq!(std::fs::metadata(both.file(side)).unwrap().ino(), inode, "{side:?} looks at another file");
        assert_eq!(both.migrations(side), "001,002,003,004");
    }
    assert!(both.is_well(Side::Green, 2) > 0);
}

#[test]
fn one_file_behind_two_links_is_migrated_once_by_command() {
    one_file_behind_two_links_is_migrated_once(Door::Command);
}

#[test]
fn one_file_behind_two_links_is_migrated_once_by_message() {
    one_file_behind_two_links_is_migrated_once(Door::Message);
}

#[test]
fn two_at_once_by_both_names_migrate_it_once() {
    let both = shared_database(Door::Command);
    both.deploy(Side::Green, "release");
    both.deploy(Side::Blue, "release");
    // Under the lock, with everything rehearsed.
    let first = both.desk.agent.start_and_stop_at("promote: a copy is made", &["apply", "green"]);
    let second = both.desk.agent.run(&["apply", "blue"]).expect_code(3);
    let said = format!("{}{}", second.stdout, second.stderr);
    assert!(said.contains(&format!("process {}", first.pid())), "nobody is named: {said}");
    first.signal("CONT");
    first.wait().expect_code(0);
    let third = both.desk.agent.ok(&["apply", "blue"]);
    assert!(third.stdout.contains("nothing to do: it stands at 004"), "{}", third.stdout);
    assert_eq!(both.migrations(Side::Blue), "001,002,003,004");
}
