//! `make restore file=backup_20250109_120000.sql`, but into a database of its own, proven, with an honest exit code.

use super::{SHOP, shop};
use crate::seeds::desk::Door;
use crate::seeds::team::Team;
use jiff::Timestamp;
use serde_json::json;
use tests::postgres::pg_dump_text;

/// Two backups, and between them the loss of the night: the time of the first as its file would be called, and the
/// database as it was then.
fn two_backups(team: &mut Team) -> (String, String) {
    let good = team.dump();
    let first = team.backup_agent(&["backup", SHOP.database]).expect_code(0).stdout;
    // etsy_sevdesk/20261130T120000Z-1a2b3c
    let (date, time) = first.trim().split_once('/').unwrap().1.split_once('T').unwrap();
    let at = format!("{date}_{}", &time[..6]);
    team.psql("UPDATE orders SET status = 'refunded'; DELETE FROM invoices");
    // A backup of the same second would be as good an answer.
    team.desk.until("the second is over", |_| Timestamp::now().strftime("%Y%m%d_%H%M%S").to_string() > at);
    team.backup_agent(&["backup", SHOP.database]).expect_code(0);
    (at, good)
}

#[test]
fn the_shop_comes_back_as_it_was_at_a_time_by_command() {
    let mut team = shop(Door::Command);
    let (at, good) = two_backups(&mut team);
    let bad = team.dump();
    let into = team.url_of("as_it_was");
    let restored = team.backup_agent(&["restore", SHOP.database, "--at", &at, "--into", &into]).expect_code(0);
    assert!(restored.stderr.contains("proven"), "{}", restored.stderr);
    assert_eq!(pg_dump_text(&into), good);
    assert_eq!(team.dump(), bad, "the shop itself was touched");
    // A database that holds something already is not mixed with the backup, as psql would.
    let again = team.backup_agent(&["restore", SHOP.database, "--at", &at, "--into", &into]).expect_code(3);
    assert!(again.stderr.contains("as_it_was"), "{}", again.stderr);
    assert_eq!(pg_dump_text(&into), good);
    // Where that is what is wanted: in the shop's own place, and what was there is kept.
    team.backup_agent(&["restore", SHOP.database, "--at", &at, "--in-place", "--yes"]).expect_code(0);
    assert_eq!(team.dump(), good);
    let databases = team.server.databases(SHOP.database);
    assert!(databases.len() == 2 && databases[1].contains("__replaced_"), "{databases:?}");
}

#[test]
fn the_shop_comes_back_as_it_was_at_a_time_by_message() {
    let mut team = shop(Door::Message);
    let into = team.url_of("as_it_was");
    team.configure(&format!("[database.as-it-was]\nurl = \"{into}\""));
    let (at, good) = two_backups(&mut team);
    let bad = team.dump();
    let at = jiff::civil::DateTime::strptime("%Y%m%d_%H%M%S", &at).unwrap();
    let wish = json!({"at": format!("{at}Z"), "into": "as-it-was"});
    team.by_message("restore", wish.clone(), "succeeded");
    assert_eq!(pg_dump_text(&into), good);
    assert_eq!(team.dump(), bad, "the shop itself was touched");
    team.by_message("restore", wish, "refused");
    assert_eq!(pg_dump_text(&into), good);
}
