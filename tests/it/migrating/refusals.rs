//! What is refused before anything is begun, naming the thing and the remedy.

use super::{Shop, orders, project, says};
use tests::sqlite::sqlite3;

const ADD: &str = "ALTER TABLE orders ADD COLUMN colour TEXT;";

#[test]
fn an_edited_migration_that_was_applied_is_named() {
    let file = orders(2);
    let shop = Shop::sql(&file.url(), &[("1_colour.sql", ADD)]);
    shop.apply(&[], "succeeded");
    shop.add("1_colour.sql", "ALTER TABLE orders ADD COLUMN color TEXT;");
    shop.add("2_more.sql", "CREATE TABLE more (x);");
    let before = file.dump_text();
    says(&shop.apply(&[], "refused"), &["migration 1 was edited after it was applied"]);
    assert_eq!(file.dump_text(), before);
    shop.add("1_colour.sql", ADD);
    shop.apply(&[], "succeeded");
}

#[test]
fn a_required_variable_that_is_not_set_is_named() {
    let file = orders(2);
    let mut shop = Shop::sql_with(&file.url(), "required_env = [\"SECRET_KEY\"]", &[("1_colour.sql", ADD)]);
    let run = shop.agent.run(&["apply", "shop"]).expect_code(3);
    let said = format!("{}{}", run.stdout, run.stderr);
    assert!(said.contains("variables that are not set: SECRET_KEY"), "{said}");
    shop.agent.set_env("SECRET_KEY", "a long secret key");
    let run = shop.apply(&[], "succeeded");
    run.never_says("a long secret key");
    assert!(!shop.record().contains("a long secret key"), "the record tells a secret");
}

#[test]
fn another_revision_than_the_expected_one_is_refused() {
    let file = orders(2);
    let shop = Shop::sql(&file.url(), &[("1_colour.sql", ADD)]);
    shop.apply(&[], "succeeded");
    shop.add("2_more.sql", "CREATE TABLE more (x);");
    says(&shop.apply(&["--expected-from", "2"], "refused"), &["shop stands at 1, not at 2 as was expected"]);
    shop.apply(&["--expected-from", "1"], "succeeded");
    // And then there is nothing to do.
    says(&shop.apply(&[], "succeeded"), &["nothing to do: it stands at 2 already"]);
    says(&shop.apply(&["--to", "7"], "refused"), &["7"]);
}

#[test]
fn several_heads_and_unknown_revisions_of_alembic_are_refused_with_the_remedy() {
    let file = orders(2);
    let project = project();
    project.add_sql("r1", &[], "CREATE TABLE a (x integer)", "DROP TABLE a");
    let shop = Shop::alembic(&file.url(), project);
    shop.apply(&[], "succeeded");
    let project = shop.alembic.as_ref().unwrap();
    project.add_sql("r2a", &["r1"], "CREATE TABLE b (x integer)", "DROP TABLE b");
    project.add_sql("r2b", &["r1"], "CREATE TABLE c (x integer)", "DROP TABLE c");
    let before = file.dump_text();
    says(&shop.apply(&[], "refused"), &["multiple heads", "alembic merge heads"]);
    project.add("m", &["r2a", "r2b"], "", "");
    file.sqlite3("UPDATE alembic_version SET version_num = 'deadbeef'");
    says(&shop.apply(&[], "refused"), &["deadbeef", "hint: "]);
    file.sqlite3("UPDATE alembic_version SET version_num = 'r1'");
    assert_eq!(file.dump_text(), before);
    says(&shop.apply(&[], "succeeded"), &["r1 -> m (3 revisions)"]);
    assert_eq!(file.sqlite3("SELECT version_num FROM alembic_version"), "m\n");
}

#[test]
fn a_hard_linked_file_is_refused_and_a_symbolic_link_stays_one() {
    let file = orders(2);
    let link = file.folder().join("link.db");
    let inode = |path: &std::path::Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    std::fs::hard_link(file.path(), &link).unwrap();
    let shop = Shop::sql(&file.url(), &[("1_colour.sql", ADD)]);
    says(&shop.apply(&[], "refused"), &["2 names (hard links)", "keep one name"]);
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(file.path(), &link).unwrap();
    let before = inode(&file.path());
    let shop = Shop::sql(&format!("sqlite:{}", link.display()), &[("1_colour.sql", ADD)]);
    shop.apply(&[], "succeeded");
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink(), "the link is a file now");
    assert_eq!(inode(&file.path()), before, "another file took the database's place");
    assert_eq!(sqlite3(&link, "SELECT count(colour), count(*) FROM orders").unwrap(), "0|2\n");
    assert_eq!(file.sqlite3("SELECT count(colour), count(*) FROM orders"), "0|2\n");
}
