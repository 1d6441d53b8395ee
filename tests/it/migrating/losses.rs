//! Migrations that would lose data, or fail on it: the rehearsal shows it on a copy of all rows.

use super::{Shop, beside, orders, says};

#[test]
fn a_table_dropped_and_made_anew_under_its_name_is_refused_until_it_is_allowed() {
    let file = orders(40);
    let anew = "DROP TABLE orders;
                CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, note TEXT);
                INSERT INTO orders VALUES (1, 'another', 'row');";
    let shop = Shop::sql(&file.url(), &[("1_anew.sql", anew)]);
    let before = file.dump_text();
    let run = shop.apply(&[], "refused");
    says(&run, &["refused: 1 would delete data: table orders (40 rows)", "--may-drop orders", "shop was not touched"]);
    assert_eq!(file.dump_text(), before);
    shop.apply(&["--may-drop", "orders"], "succeeded");
    assert_eq!(file.sqlite3("SELECT * FROM orders"), "1|another|row\n");
    assert_eq!(beside(&file), Vec::<String>::new());
}

#[test]
fn a_column_dropped_or_emptied_is_refused_naming_it_until_it_is_allowed() {
    let file = orders(30);
    let shop = Shop::sql(&file.url(), &[("1_drop.sql", "ALTER TABLE orders DROP COLUMN note;")]);
    says(&shop.apply(&[], "refused"), &["column orders.note (30 values)", "--may-drop orders:note"]);
    shop.add("1_drop.sql", "UPDATE orders SET note = NULL;");
    says(&shop.apply(&[], "refused"), &["column orders.note (30 values)", "--may-drop orders:note"]);
    assert_eq!(file.sqlite3("SELECT count(note) FROM orders"), "30\n");
    says(&shop.apply(&["--may-drop", "orders:nothing"], "refused"), &["orders:nothing"]);
    shop.apply(&["--may-drop", "orders:note"], "succeeded");
    assert_eq!(file.sqlite3("SELECT count(*), count(note) FROM orders"), "30|0\n");
}

#[test]
fn one_row_in_a_hundred_thousand_that_does_not_fit_is_found_by_the_rehearsal() {
    let file = orders(100_000);
    file.sqlite3("UPDATE orders SET item = NULL WHERE id = 73456");
    let strict = "CREATE TABLE strict_orders (id INTEGER PRIMARY KEY, item TEXT NOT NULL, note TEXT);
                  INSERT INTO strict_orders SELECT * FROM orders;
                  DROP TABLE orders;
                  ALTER TABLE strict_orders RENAME TO orders;";
    let shop = Shop::sql(&file.url(), &[("1_strict.sql", strict)]);
    let run = shop.apply(&[], "refused");
    says(&run, &["the rehearsal failed", "NOT NULL constraint failed: strict_orders.item", "shop was not touched"]);
    assert_eq!(file.sqlite3("SELECT count(*), count(item) FROM orders"), "100000|99999\n");
    file.sqlite3("UPDATE orders SET item = 'mended' WHERE id = 73456");
    shop.apply(&[], "succeeded");
    assert_eq!(file.sqlite3("SELECT count(*), count(item) FROM orders"), "100000|100000\n");
}

#[test]
fn a_way_back_that_loses_data_must_be_allowed_and_one_to_base_be_meant() {
    let file = orders(3);
    let up = "ALTER TABLE orders ADD COLUMN colour TEXT; UPDATE orders SET colour = 'red';";
    let files = [
        ("1_colour.up.sql", up),
        ("1_colour.down.sql", "ALTER TABLE orders DROP COLUMN colour;"),
        ("2_empty.up.sql", "CREATE TABLE empty (x);"),
        ("2_empty.down.sql", "DROP TABLE empty;"),
    ];
    let shop = Shop::sql(&file.url(), &files);
    shop.apply(&[], "succeeded");
    // Nothing is lost by this one.
    says(&shop.apply(&["--to", "-1"], "succeeded"), &["works only with the code of revision 1", "it stands at 1"]);
    let run = shop.apply(&["--to", "base"], "refused");
    says(&run, &["going back to base takes back every migration", "--yes"]);
    let run = shop.apply(&["--to", "base", "--yes"], "refused");
    says(&run, &["column orders.colour (3 values)", "--may-drop orders:colour"]);
    assert_eq!(file.sqlite3("SELECT count(colour) FROM orders"), "3\n");
    shop.apply(&["--to", "base", "--yes", "--may-drop", "orders:colour"], "succeeded");
    assert_eq!(file.sqlite3("SELECT group_concat(name) FROM pragma_table_info('orders')"), "id,item,note\n");
}
