//! `migrate-worker schema diff`: two structures beside each other, on both databases and from backups.

use tests::agent::Agent;
use tests::alembic::{AlembicProject, alembic};
use tests::postgres::TestDatabase;
use tests::sqlite::TestFile;

fn worker(urls: [&str; 2], more: &str) -> Agent {
    Agent::worker()
        .with_config(&format!("[database.blue]\nurl = {:?}\n[database.green]\nurl = {:?}\n{more}", urls[0], urls[1]))
}

#[test]
fn schemas_are_compared_by_structure_not_by_text() {
    let (blue, green) = (TestFile::new(), TestFile::new());
    blue.sqlite3("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT); CREATE INDEX by_name ON users (name)");
    // As tools rebuild tables: another text, and the same structure.
    green.sqlite3(
        "CREATE TABLE nu (id INTEGER PRIMARY KEY,  \"name\" TEXT);
        ALTER TABLE nu RENAME TO users; CREATE INDEX IF NOT EXISTS \"by_name\" ON \"users\" (name)",
    );
    let agent = worker([&blue.url(), &green.url()], "");
    assert!(agent.ok(&["schema", "diff", "blue", "green"]).stdout.ends_with("the same structure\n"));

    green.sqlite3("ALTER TABLE users ADD COLUMN age INT DEFAULT 1; CREATE TABLE more (x); DROP INDEX by_name");
    blue.sqlite3("INSERT INTO users VALUES (1, 'rows are not compared')");
    let run = agent.run(&["schema", "diff", "blue", &green.url()]).expect_code(7);
    let lines: Vec<&str> = run.stdout.lines().skip(2).collect();
    assert_eq!(
        lines,
        [
            "- index \"by_name\" on \"users\": CREATE INDEX by_name ON users (name)",
            "+ table \"more\" on \"more\": CREATE TABLE more (x)",
            "~ table \"users\"",
            "    + age INT DEFAULT 1",
        ]
    );
    let json = agent.run(&["schema", "diff", "green", "blue", "--json"]).expect_code(7).json();
    assert_eq!(json["equal"], false);
    assert_eq!(json["schema"]["changed"][0]["only_left"], serde_json::json!(["age INT DEFAULT 1"]));
}

#[test]
fn a_backup_may_stand_on_either_side_of_a_postgresql_database() {
    let (blue, green) = (TestDatabase::new(), TestDatabase::new());
    for database in [&blue, &green] {
        database.psql("CREATE TABLE orders (id serial PRIMARY KEY, note text); CREATE INDEX ON orders (note)");
    }
    let agent = worker([&blue.url(), &green.url()], "");
    assert!(agent.ok(&["schema", "diff", "blue", "green"]).stdout.ends_with("the same structure\n"));
    let backup = agent.run_program("backup-agent", &["backup", "blue"]).expect_code(0).stdout.trim().to_owned();
    blue.psql("ALTER TABLE orders ADD COLUMN shop integer, ALTER COLUMN note SET NOT NULL");
    let run = agent.run(&["schema", "diff", &backup, "blue"]).expect_code(7);
    let lines: Vec<&str> = run.stdout.lines().skip(2).collect();
    assert_eq!(lines, ["~ table public.orders", "    - note text", "    + note text NOT NULL", "    + shop integer"]);
    let run = agent.run(&["schema", "diff", "blue", "nowhere"]).expect_code(3);
    assert!(run.stderr.contains("nowhere"), "{}", run.stderr);
    let file = TestFile::new();
    file.sqlite3("CREATE TABLE t (x)");
    let run = agent.run(&["schema", "diff", "blue", &file.url()]).expect_code(3);
    assert!(run.stderr.contains("cannot be compared"), "{}", run.stderr);
}

#[test]
fn migrations_that_are_out_of_step_are_named() {
    let project = AlembicProject::new("sqlite:////nowhere/else.db");
    project.add_sql("r1", &[], "CREATE TABLE a (x integer)", "").add_sql(
        "r2",
        &["r1"],
        "CREATE TABLE b (x integer)",
        "",
    );
    let (blue, green) = (TestFile::new(), TestFile::new());
    for file in [&blue, &green] {
        file.sqlite3("CREATE TABLE kept (x)");
    }
    let section = |name: &str| {
        format!(
            "[database.{name}.migrations]\nrunner = \"alembic\"\ndirectory = {:?}\nprogram = [{:?}]\n",
            project.directory(),
            alembic()
        )
    };
    let agent = worker([&blue.url(), &green.url()], &format!("{}{}", section("blue"), section("green")));
    agent.ok(&["apply", "green"]);
    agent.ok(&["apply", "blue", "--to", "r1"]);
    let run = agent.run(&["schema", "diff", "blue", "green"]).expect_code(7);
    assert!(run.stdout.ends_with("+ revision r2\n"), "{}", run.stdout);
    agent.ok(&["apply", "blue"]);
    assert!(agent.ok(&["schema", "diff", "blue", "green"]).stdout.ends_with("the same structure\n"));
}
