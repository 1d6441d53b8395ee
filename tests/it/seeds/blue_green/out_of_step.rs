//! Migrations that ran on one of the two only.

use super::super::desk::Door;
use super::{Deployment, Side, configuration};
use tests::npm;

/// Blue has the fourth migration and not the third: somebody ran it there by hand, from a branch of his own.
fn out_of_step(door: Door) -> Deployment {
    let mut both = Deployment::new(door);
    for side in [Side::Blue, Side::Green] {
        both.deploy(side, "release");
    }
    both.desk.upgrade("green", "succeeded");
    let folder = both.desk.file(Side::Blue.folder());
    let third = folder.join("database/migrations/003_new_field.sql");
    let kept = std::fs::read(&third).unwrap();
    std::fs::remove_file(&third).unwrap();
    npm::run(&folder, "migrate:prod", &format!("sqlite://{}", both.file(Side::Blue).display()));
    std::fs::write(third, kept).unwrap();
    assert_eq!(both.migrations(Side::Blue), "001,002,004");
    both
}

fn what_is_missing_on_one_side_is_shown_and_made_up_for(door: Door) {
    let mut both = out_of_step(door);
    both.desk.backup_agent(&["backup", "blue"]).expect_code(0);
    let list = both.desk.backup_agent(&["list", "blue", "--json"]).expect_code(0).json();
    let blue = list.as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    let shown = both.desk.backup_agent(&["diff", &blue, "green"]).expect_code(7).stdout;
    for words in ["table \"migrations\": 3 rows before, 4 rows now (+1)", "new_field", "idx_new_field"] {
        assert!(shown.contains(words), "{words:?} is missing: {shown}");
    }

    // The newest revision is there, and still there is something to do, which no revision would tell of.
    let before = both.dump(Side::Blue);
    let refused = both.desk.upgrade("blue", "refused");
    refused.says(&["changed the database, but by current it still stands at 004"]);
    assert_eq!(both.dump(Side::Blue), before);

    // Where revisions are counted, too, both sides show how they stand.
    let counted = configuration(&both.blue, &both.green)
        .replace("SELECT max(version)", "SELECT count(*) || '.' || max(version)")
        .replace("migrate:probe", "migrate:probe:counted");
    both.desk.configure(&counted);
    let current = |side: &str| both.desk.agent.ok(&["current", side]).stdout;
    assert_eq!((current("blue"), current("green")), ("3.004\n".to_owned(), "4.004\n".to_owned()));
    both.desk.upgrade("blue", "succeeded").says(&["Applied: 003_new_field.sql", "it stands at 4.004"]);
    assert_eq!(both.migrations(Side::Blue), both.migrations(Side::Green));
    // The columns stand in another order, which is another schema to a proof and the same to an application.
    let mut schemas = [both.schema(Side::Blue), both.schema(Side::Green)];
    schemas.iter_mut().for_each(|schema| schema.sort());
    assert_eq!(schemas[0], schemas[1]);
    both.is_well(Side::Blue, 2);
}

#[test]
fn what_is_missing_on_one_side_is_shown_and_made_up_for_by_command() {
    what_is_missing_on_one_side_is_shown_and_made_up_for(Door::Command);
}

#[test]
fn what_is_missing_on_one_side_is_shown_and_made_up_for_by_message() {
    what_is_missing_on_one_side_is_shown_and_made_up_for(Door::Message);
}
