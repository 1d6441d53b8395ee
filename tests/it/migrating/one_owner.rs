//! Two workers with two records of tasks on one database: the second is kept out.

use super::{Shop, orders, says};
use tests::private_postgres::PrivatePostgres;

#[test]
fn on_sqlite_the_second_worker_is_refused_naming_the_first() {
    let file = orders(5);
    let files = [("1_more.sql", "CREATE TABLE more (x);")];
    let (first, second) = (Shop::sql(&file.url(), &files), Shop::sql(&file.url(), &files));
    let stopped = first.agent.start_and_stop_at("promote: before the commit", &["apply", "shop"]);
    let run = second.apply(&[], "refused");
    says(&run, &["is being changed by job ", &format!("(process {})", stopped.pid()), "two records of tasks"]);
    stopped.signal("CONT");
    first.ended(stopped.wait(), "succeeded");
    // Now it comes to its turn, and sees that all is done.
    says(&second.apply(&[], "succeeded"), &["nothing to do: it stands at 1 already"]);
}

#[test]
fn on_postgresql_the_second_worker_is_refused_naming_the_first() {
    let server = PrivatePostgres::start();
    server.create("shop");
    server.psql("shop", "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1)");
    let files = [("1_more.sql", "CREATE TABLE more (x int);")];
    let (first, second) = (Shop::sql(&server.url("shop"), &files), Shop::sql(&server.url("shop"), &files));
    let stopped = first.agent.start_and_stop_at("in place: ready to apply", &["apply", "shop"]);
    let run = second.apply(&[], "refused");
    says(&run, &["the database shop is locked by session ", "holdfast", "another Holdfast works on it"]);
    stopped.signal("CONT");
    first.ended(stopped.wait(), "succeeded");
    says(&second.apply(&[], "succeeded"), &["nothing to do: it stands at 1 already"]);
    assert_eq!(server.databases("shop"), ["shop"]);
}
