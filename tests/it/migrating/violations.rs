//! A foreign key that fails the rehearsal is named with the rows that break it, whichever tool and database.

use super::{Shop, orders, project, says};
use tests::postgres::pg_dump_text;
use tests::private_postgres::PrivatePostgres;

#[test]
fn on_postgresql_rows_that_break_a_foreign_key_are_counted_and_named() {
    let server = PrivatePostgres::start();
    server.create("shop");
    server.psql(
        "shop",
        "CREATE SCHEMA stock; CREATE TABLE stock.\"Shelf\" (row int, place int, PRIMARY KEY (row, place));
         INSERT INTO stock.\"Shelf\" VALUES (1, 1), (1, 2);
         CREATE TABLE item (id int PRIMARY KEY, shelf_row int, shelf_place int, code text UNIQUE);
         INSERT INTO item SELECT i, 1, 1 + i % 3, 'c' || i FROM generate_series(1, 9) i; INSERT INTO item VALUES (10, NULL, 7);
         CREATE TABLE customer (id int PRIMARY KEY, mail text UNIQUE);
         INSERT INTO customer SELECT i, 'm' || i FROM generate_series(1, 9) i;
         CREATE TABLE sale (id int PRIMARY KEY, customer int CONSTRAINT sale_customer REFERENCES customer, mail text);
         INSERT INTO sale SELECT i, 1 + i % 3, 'm' || i FROM generate_series(1, 30) i",
    );
    let shop = Shop::sql(&server.url("shop"), &[]);
    let before = pg_dump_text(&server.url("shop"));
    for (sql, words) in [
        (
            // Two columns, another schema, a name in quotes: the detail and the catalogue know the columns.
            "ALTER TABLE item ADD CONSTRAINT item_shelf FOREIGN KEY (shelf_row, shelf_place) REFERENCES stock.\"Shelf\"",
            "item_shelf is broken by 3 rows of item whose shelf_row, shelf_place is not in stock.Shelf (row, place): \
             1, 3 (3 rows)",
        ),
        (
            "DELETE FROM customer WHERE id = 2",
            "sale_customer is broken by 10 rows of sale that still name customer (id) = 2 in customer: id 1, 4, 7, 10, 13 \
             and 5 more",
        ),
        (
            "INSERT INTO sale VALUES (99, 99)",
            "sale_customer: sale (customer) = 99 is not in customer, as the migration itself writes",
        ),
        (
            // Made by an earlier statement of its own transaction: undone with it.
            "CREATE TABLE note (sale int); INSERT INTO note VALUES (7), (77);
             ALTER TABLE note ADD CONSTRAINT note_sale FOREIGN KEY (sale) REFERENCES sale",
            "note_sale: note (sale) = 77 is not in sale",
        ),
    ] {
        shop.add("1_breaks.sql", &format!("{sql};"));
        says(&shop.apply(&[], "refused"), &["the rehearsal failed: ", words, "drop the constraint, alter the tables"]);
        assert_eq!(pg_dump_text(&server.url("shop")), before);
    }

    // Alembic prints the statement, which names the columns that are referred to.
    let by_mail = "ALTER TABLE sale ADD CONSTRAINT sale_mail FOREIGN KEY (mail) REFERENCES customer (mail)";
    let project = project();
    project.add_sql("r1", &[], by_mail, "SELECT 1");
    let shop = Shop::alembic(&server.url("shop"), project);
    let words = "sale_mail is broken by 21 rows of sale whose mail is not in customer (mail): m10 (1 row), m11 (1 row), m12 \
                 (1 row), m13 (1 row), m14 (1 row) and 16 more";
    says(&shop.apply(&[], "refused"), &[words]);
}

#[test]
fn on_sqlite_rows_that_break_a_foreign_key_are_counted_and_named() {
    let file = orders(30);
    file.sqlite3(
        "CREATE TABLE \"order\" (id INTEGER PRIMARY KEY, orders INTEGER REFERENCES orders, note TEXT);
         WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 40)
         INSERT INTO \"order\" SELECT i, i / 2 + 15, 'note' FROM c;",
    );
    let before = file.dump_text();
    // As tools do it that cannot alter a table: the rows that were wrong all the time are written anew.
    let copied = "CREATE TABLE new (id INTEGER PRIMARY KEY, orders INTEGER REFERENCES orders, note TEXT);
                  INSERT INTO new SELECT * FROM \"order\"; DROP TABLE \"order\"; ALTER TABLE new RENAME TO \"order\";";
    let shop = Shop::sql(&file.url(), &[("1_anew.sql", copied)]);
    let words = "the foreign key from order (orders) to orders (id) is broken by 9 rows of order whose orders is not in \
                 orders (id): 31 (2 rows), 32 (2 rows), 33 (2 rows), 34 (2 rows), 35 (1 row)";
    says(&shop.apply(&[], "refused"), &["FOREIGN KEY constraint failed", words, "mend or remove these rows first"]);
    assert_eq!(file.dump_text(), before);
    file.sqlite3("DELETE FROM \"order\" WHERE orders > 30");
    shop.apply(&[], "succeeded");
    shop.add("2_more.sql", "DELETE FROM orders WHERE id = 20;");
    says(
        &shop.apply(&[], "refused"),
        &["no row of the copy breaks a foreign key: what the migration itself writes or removes does"],
    );
}
