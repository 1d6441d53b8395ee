//! What was approved is what is carried out: another plan waits again, and what only went on meanwhile does not matter.

use super::Shop;

/// The job waits again, and says why.
#[track_caller]
fn waits_again(shop: &Shop, job: &str, words: &str) {
    let shown = shop.is(job, "waiting");
    let why = shown["error_message"].as_str().unwrap();
    assert!(why.starts_with("the plan is not the approved one: ") && why.contains(words), "{why}");
    let detail = shown["events"].as_array().unwrap().last().unwrap()["detail"].as_str().unwrap();
    assert!(detail.contains(why), "the events tell of it, too: {detail}");
    assert_eq!(shown["approved_by"], serde_json::Value::Null);
}

#[test]
fn a_row_more_in_a_table_that_is_dropped_makes_it_wait_again_however_often() {
    let mut shop = Shop::on_sqlite();
    let (_, job) = shop.waits();
    // More often than a job is begun whose worker is lost each time.
    for rows in 4..10 {
        shop.approve(&job);
        shop.sqlite3("INSERT INTO old (t) VALUES ('more')");
        shop.work();
        let (before, now) =
            (format!("no longer loss: table old ({} rows)", rows - 1), format!("table old ({rows} rows)"));
        waits_again(&shop, &job, &format!("{before}; new loss: {now}"));
        assert!(shop.tables().contains("old"), "nothing is changed without an approval");
    }
    shop.approve(&job);
    shop.work();
    shop.is(&job, "succeeded");
    assert!(!shop.tables().contains("old"));
}

#[test]
fn another_file_and_an_edited_one_make_it_wait_again() {
    let mut shop = Shop::on_sqlite();
    let (_, job) = shop.waits();
    shop.approve(&job);
    shop.migration("2_more.sql", "ALTER TABLE item ADD COLUMN more TEXT;");
    shop.work();
    waits_again(&shop, &job, "base -> 2 (2 revisions): 1, 2 instead of base -> 1 (1 revision): 1");
    let shown = shop.agent.ok(&["show", &job]).stdout;
    assert!(shown.contains("  route     base -> 2\n") && shown.contains("the plan is not the approved one"), "{shown}");
    shop.approve(&job);
    // The same effects and the same schema, and yet not what was looked at.
    shop.migration("2_more.sql", "ALTER TABLE item ADD COLUMN more TEXT; -- edited");
    shop.work();
    waits_again(&shop, &job, "the files of its revisions say something else");
    shop.approve(&job);
    shop.work();
    shop.is(&job, "succeeded");
    assert!(shop.sqlite3("SELECT sql FROM sqlite_schema WHERE name = 'item'").contains("more"));
}

#[test]
fn rows_that_come_and_go_where_nothing_is_lost_change_no_plan() {
    let mut shop = Shop::on_sqlite();
    shop.migration("2_more.sql", "ALTER TABLE item ADD COLUMN more TEXT DEFAULT 'x';");
    let (_, job) = shop.waits();
    shop.approve(&job);
    shop.sqlite3("INSERT INTO item (name) VALUES ('three'), ('four'); DELETE FROM item WHERE id = 1");
    shop.work();
    shop.is(&job, "succeeded");
    assert_eq!(shop.sqlite3("SELECT group_concat(name || more) FROM item"), "twox,threex,fourx\n");
}

#[test]
fn a_schema_that_moved_is_told_and_a_plan_that_has_become_impossible_is_refused() {
    let mut shop = Shop::on_sqlite();
    let (_, job) = shop.waits();
    shop.approve(&job);
    shop.sqlite3("CREATE INDEX item_name ON item (name)");
    shop.work();
    waits_again(&shop, &job, "it leads to another schema");
    shop.approve(&job);
    shop.sqlite3("CREATE TABLE note (id INTEGER PRIMARY KEY)");
    shop.work();
    let shown = shop.is(&job, "refused");
    assert!(shown["error_message"].as_str().unwrap().contains("note"), "{shown:#}");
    assert!(shop.tables().contains("old"));
}

#[test]
fn an_approval_that_somebody_wrote_into_the_record_is_not_taken_for_one() {
    let shop = Shop::on_sqlite();
    let (_, job) = shop.waits();
    let record = shop.agent.home().join("holdfast-state.db");
    let forged = "UPDATE task_log SET state = 'queued', approved_by = 'ben' WHERE state = 'waiting'";
    tests::sqlite::sqlite3(&record, forged).unwrap();
    shop.work();
    assert!(shop.tables().contains("old"), "a forged approval was carried out");
    let listed = shop.newest();
    assert_eq!((listed["job_id"].as_str(), listed["state"].as_str()), (Some(job.as_str()), Some("refused")));
    let why = listed["error_message"].as_str().unwrap();
    assert!(why.contains("its plan or its approval is not what was recorded"), "{why}");
    // Damage has a number of its own.
    let shown = shop.agent.run(&["show", &job]).expect_code(6);
    assert!(shown.stderr.contains("its plan or its approval is not what was recorded"), "{}", shown.stderr);
}
