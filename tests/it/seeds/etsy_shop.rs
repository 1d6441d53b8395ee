//! A shop between Etsy and sevDesk on PostgreSQL goes from 1.0 to 1.1 and back, by the procedures of its own guide.

mod nights;
mod restores;
mod upgrade;

use super::desk::Door;
use super::team::{Story, Team};
use serde_json::json;

const SHOP: Story =
    Story { folder: "seeds/001", database: "etsy_sevdesk", role: "etsy_sync", revision: "3f1c9a7d2e60" };

/// The release with several shops.
const SHOPS: &str = "b84d06f5c17e";

/// The shop at 1.0.
fn shop(door: Door) -> Team {
    Team::new(SHOP, door, "")
}

/// The shop at 1.1, every order with its shop.
fn with_shops(door: Door) -> Team {
    let team = shop(door);
    team.alembic(&["upgrade", SHOPS]);
    team.runs("python", &["scripts/create_default_shop.py"]);
    team.psql("UPDATE orders SET shop_id = 1 WHERE shop_id IS NULL");
    team
}

fn a_way_back_that_loses_shops_is_refused_until_it_is_allowed(door: Door) {
    let mut team = with_shops(door);
    let before = team.dump();
    team.migrate(json!({"to": "-1"}), "refused").says(&[
        "b84d06f5c17e would delete data: ",
        "table shops (1 row)",
        "column orders.shop_id (4,812 values)",
        "--may-drop orders:shop_id --may-drop shops",
    ]);
    let half = json!({"to": SHOP.revision, "may_drop": ["shops"]});
    team.migrate(half, "refused").says(&["column orders.shop_id (4,812 values)"]);
    // Everything: that it loses data is not the question yet.
    team.migrate(json!({"to": "base"}), "refused").says(&["going back to base takes back every migration", "--yes"]);
    let everything = team.migrate(json!({"to": "base", "yes": true}), "refused");
    everything.says(&["table orders (4,812 rows)", "table customers (1,204 rows)", "table invoices (3,617 rows)"]);
    assert_eq!(team.dump(), before, "what was refused changed something");

    let back = json!({"to": "-1", "may_drop": ["shops", "orders:shop_id"]});
    let back = team.migrate(back, "succeeded");
    back.says(&["it stands at 3f1c9a7d2e60"]);
    if door == Door::Command {
        back.says(&["works only with the code of revision 3f1c9a7d2e60"]);
    }
    assert_eq!(team.current(), "3f1c9a7d2e60");
    assert_eq!(team.psql("SELECT count(*) FROM orders"), "4812");
    assert_eq!(team.psql("SELECT to_regclass('shops') IS NULL, to_regclass('idx_orders_shop_created') IS NULL"), "t|t");
    // What was lost by permission is in the backup made for it.
    let restored = ["restore", &back.backup(), "--into", &team.url_of("as_it_was")];
    team.backup_agent(&restored).expect_code(0);
    assert_eq!(team.server.psql("as_it_was", "SELECT count(shop_id), min(shop_id) FROM orders"), "4812|1");
}

#[test]
fn a_way_back_that_loses_shops_is_refused_until_it_is_allowed_by_command() {
    a_way_back_that_loses_shops_is_refused_until_it_is_allowed(Door::Command);
}

#[test]
fn a_way_back_that_loses_shops_is_refused_until_it_is_allowed_by_message() {
    a_way_back_that_loses_shops_is_refused_until_it_is_allowed(Door::Message);
}

fn two_heads_are_refused_and_go_through_when_they_are_merged(door: Door) {
    let mut team = shop(door);
    team.take_in("two-heads/5c20e9d8a4f3_add_webhook_events.py");
    let before = team.dump();
    let refused = team.migrate(json!({}), "refused");
    refused.says(&["multiple heads: ", "b84d06f5c17e", "5c20e9d8a4f3", "alembic merge heads", "--to REVISION"]);
    assert_eq!(team.dump(), before);
    team.alembic(&["merge", "-m", "merge multiple heads", "b84d06f5c17e", "5c20e9d8a4f3"]);
    let merged = team.migrate(json!({}), "succeeded");
    merged.says(&["it stands at "]);
    assert!(team.current().ends_with(" (head) (mergepoint)"), "{}", team.current());
    assert_eq!(team.psql("SELECT count(*), (SELECT count(*) FROM webhook_events) FROM orders"), "4812|0");
}

#[test]
fn two_heads_are_refused_and_go_through_when_they_are_merged_by_command() {
    two_heads_are_refused_and_go_through_when_they_are_merged(Door::Command);
}

#[test]
fn two_heads_are_refused_and_go_through_when_they_are_merged_by_message() {
    two_heads_are_refused_and_go_through_when_they_are_merged(Door::Message);
}

fn a_revision_nobody_has_is_refused_naming_the_nearest_and_a_stamp_mends_it(door: Door) {
    let mut team = with_shops(door);
    // As a slip of the hand leaves it.
    team.psql("UPDATE alembic_version SET version_num = 'b84d06f5c17f'");
    let before = team.dump();
    team.migrate(json!({}), "refused").says(&[
        "b84d06f5c17f",
        "bring back the file of b84d06f5c17f",
        "the nearest known one is b84d06f5c17e",
        "`stamp`",
    ]);
    assert_eq!(team.dump(), before);
    team.desk.agent.ok(&["stamp", SHOP.database, SHOPS]);
    assert_eq!(team.current(), "b84d06f5c17e (head)");
    team.migrate(json!({}), "succeeded").says(&["nothing to do: it stands at b84d06f5c17e already"]);
    assert_eq!(team.psql("SELECT count(shop_id) FROM orders"), "4812");
}

#[test]
fn a_revision_nobody_has_is_refused_naming_the_nearest_and_a_stamp_mends_it_by_command() {
    a_revision_nobody_has_is_refused_naming_the_nearest_and_a_stamp_mends_it(Door::Command);
}

#[test]
fn a_revision_nobody_has_is_refused_naming_the_nearest_and_a_stamp_mends_it_by_message() {
    a_revision_nobody_has_is_refused_naming_the_nearest_and_a_stamp_mends_it(Door::Message);
}

fn invoices_without_a_customer_are_counted_and_named_before_a_foreign_key_breaks(door: Door) {
    let mut team = with_shops(door);
    team.take_in("foreign-keys/9e71b3c0d5a8_invoices_need_a_customer.py");
    let before = team.dump();
    team.migrate(json!({}), "refused").says(&[
        "the rehearsal failed: ",
        "fk_invoices_customer_id is broken by 31 rows of invoices whose customer_id is not in customers (id): \
         9001 (5 rows), 9002 (4 rows), 9003 (4 rows), 9004 (4 rows), 9005 (2 rows) and 6 more",
        "drop the constraint, alter the tables, and make it again last",
    ]);
    assert_eq!(team.dump(), before);
    let orphans = "customer_id NOT IN (SELECT id FROM customers)";
    assert_eq!(team.psql(&format!("SELECT count(*) FROM invoices WHERE {orphans}")), "31");
    team.psql(&format!("UPDATE invoices SET customer_id = NULL WHERE {orphans}"));
    team.migrate(json!({}), "succeeded").says(&["it stands at 9e71b3c0d5a8"]);
}

#[test]
fn invoices_without_a_customer_are_counted_and_named_before_a_foreign_key_breaks_by_command() {
    invoices_without_a_customer_are_counted_and_named_before_a_foreign_key_breaks(Door::Command);
}

#[test]
fn invoices_without_a_customer_are_counted_and_named_before_a_foreign_key_breaks_by_message() {
    invoices_without_a_customer_are_counted_and_named_before_a_foreign_key_breaks(Door::Message);
}
