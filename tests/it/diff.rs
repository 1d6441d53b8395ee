//! `backup-agent diff`: the real program on what really differs.

use tests::agent::Agent;
use tests::postgres::TestDatabase;
use tests::sqlite::sqlite3;

/// The newest backup of `shop`.
fn backup(agent: &Agent) -> String {
    agent.ok(&["backup", "shop"]);
    let list = agent.json(&["list"]);
    list.as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned()
}

#[test]
fn what_differs_is_told_table_by_table() {
    let agent = Agent::new().with_config("[database.shop]\nurl = \"sqlite:shop.db\"\n");
    let file = agent.home().join("shop.db");
    let sql = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE note (t TEXT); CREATE TABLE old (x);
               CREATE TABLE still (x); INSERT INTO item VALUES (1, 'a'), (2, 'b'); INSERT INTO note VALUES ('n'); INSERT INTO still VALUES (1);";
    sqlite3(&file, sql).unwrap();
    let before = backup(&agent);
    let run = agent.run(&["diff", &before, "shop"]).expect_code(0);
    assert!(run.stdout.contains("no difference: 4 tables and the whole schema are the same"), "{}", run.stdout);

    let change = "INSERT INTO item VALUES (3, 'c'); UPDATE note SET t = 'other'; DROP TABLE old; CREATE TABLE new (y);";
    sqlite3(&file, change).unwrap();
    let expected = [
        "table \"item\": 2 rows before, 3 rows now (+1)",
        "table \"new\": new, 0 rows",
        "table \"note\": other values in its 1 row",
        "table \"old\": 0 rows before, no longer there",
        "- table \"old\" on \"old\": CREATE TABLE old (x)",
        "+ table \"new\" on \"new\": CREATE TABLE new (y)",
        "1 of 5 tables are the same",
    ];
    let against_database = agent.run(&["diff", &before, "shop"]).expect_code(7);
    let after = backup(&agent);
    let against_backup = agent.run(&["diff", &before, &after]).expect_code(7);
    for run in [against_database, against_backup] {
        for line in expected {
            assert!(run.stdout.contains(line), "{line:?} is not in\n{}", run.stdout);
        }
        assert!(!run.stdout.contains("still"), "what is the same is not listed: {}", run.stdout);
    }
    let all = agent.run(&["diff", &before, &after, "--all"]).expect_code(7);
    assert!(all.stdout.contains("the same 1 row"), "{}", all.stdout);
    let json: serde_json::Value =
        serde_json::from_str(&agent.run(&["diff", &before, &after, "--json"]).expect_code(7).stdout).unwrap();
    assert_eq!(json["equal"], false);
    assert_eq!(json["tables"].as_array().unwrap().iter().filter(|table| table["same"] == true).count(), 1);
    agent.run(&["diff", &before, "postgres://localhost/shop"]).expect_code(3);
    agent.run(&["diff", &before, "shop/20200101T000000Z-aaaaaa"]).expect_code(3);
}

#[test]
fn grants_sequences_and_constraints_count() {
    let shop = TestDatabase::new();
    shop.psql("CREATE TABLE item (id serial PRIMARY KEY, name text); INSERT INTO item (name) SELECT 'i' FROM generate_series(1, 3)");
    let agent = Agent::new().with_config(&format!("[database.shop]\nurl = \"{}\"\n", shop.url()));
    let before = backup(&agent);
    agent.run(&["diff", &before, "shop"]).expect_code(0);
    shop.psql("GRANT SELECT ON item TO PUBLIC; SELECT nextval('item_id_seq'); ALTER TABLE item ADD CHECK (id > 0)");
    let run = agent.run(&["diff", &before, "shop"]).expect_code(7);
    for part in [
        "sequence public.item_id_seq: stands at 4 instead of 3",
        "+ GRANT SELECT ON TABLE public.item TO PUBLIC",
        "CHECK",
    ] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
    assert!(!run.stdout.contains("table public.item"), "its rows are the same: {}", run.stdout);
}
