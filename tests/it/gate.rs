//! `migrate-worker gate`: each verdict by the real program, with real tools on real databases; it changes nothing.

use crate::json_shapes::matches_golden;
use serde_json::Value;
use tests::agent::{Agent, Run};
use tests::alembic::{AlembicProject, alembic};
use tests::postgres::TestDatabase;
use tests::private_postgres::PrivatePostgres;
use tests::sqlite::TestFile;

const FIRST: &str = "1f2e3d4c5b6a";
const SECOND: &str = "234ea0f4b6c3";
const THIRD: &str = "d4641a241b98";

/// Three revisions, of which the newest two came after the deployed code.
fn project(url: &str) -> AlembicProject {
    let project = AlembicProject::new(url);
    project.add_sql(FIRST, &[], "CREATE TABLE song (id INTEGER PRIMARY KEY, body TEXT)", "DROP TABLE song");
    project.add_sql(SECOND, &[FIRST], "UPDATE song SET body = body || '='", "SELECT 1");
    project.add_sql(THIRD, &[SECOND], "CREATE TABLE song_sketch (id INTEGER PRIMARY KEY)", "DROP TABLE song_sketch");
    project.says(FIRST, "songs").says(SECOND, "base64_encode").says(THIRD, "add_song_sketches_table");
    project
}

/// A worker that knows the database `songs`.
fn worker(url: &str, project: &AlembicProject) -> Agent {
    Agent::worker().with_config(&format!(
        "[database.songs]\nurl = {url:?}\n\n[database.songs.migrations]\nrunner = \"alembic\"\ndirectory = {:?}\nprogram = [{:?}]\n",
        project.directory(),
        alembic()
    ))
}

/// Runs the gate and asserts its exit code and how its first line goes on behind the database's name.
#[track_caller]
fn gate(worker: &Agent, more: &[&str], code: i32, says: &str) -> Run {
    let mut arguments = vec!["gate", "songs"];
    arguments.extend(more);
    let run = worker.run(&arguments).expect_code(code);
    assert!(run.stdout.starts_with(&format!("songs: {says}")), "{says:?}: {}{}", run.stdout, run.stderr);
    run
}

/// The same as JSON.
#[track_caller]
fn json(worker: &Agent, code: i32) -> Value {
    worker.run(&["gate", "songs", "--json"]).expect_code(code).json()
}

/// Behind, as expected and ahead, on a database that Alembic itself brings to each revision.
fn by_revisions(url: &str, project: &AlembicProject) -> Vec<Value> {
    let worker = worker(url, project);
    let both = format!("behind by 2: {SECOND} base64_encode, {THIRD} add_song_sketches_table\n");
    gate(&worker, &[], 10, "behind by 3: ");
    project.alembic(&["upgrade", FIRST]);
    let run = gate(&worker, &[], 10, &both);
    assert!(run.stdout.contains(&format!("it stands at {FIRST}; expected is {THIRD}")), "{}", run.stdout);
    assert!(run.stdout.ends_with("\nhint: migrate before the code is deployed: migrate-worker apply songs\n"));
    let mut samples = vec![json(&worker, 10)];
    // A release pins what it was made for.
    gate(&worker, &["--expect", FIRST], 0, &format!("as expected: it stands at {FIRST}\n"));
    let run = gate(&worker, &["--expect", SECOND], 10, &format!("behind by 1: {SECOND} base64_encode\n"));
    assert!(run.stdout.contains(&format!("apply songs --to {SECOND}\n")), "{}", run.stdout);
    project.alembic(&["upgrade", "head"]);
    let run = gate(&worker, &[], 0, &format!("as expected: it stands at {THIRD}\n"));
    assert!(run.stdout.contains("drift is not judged: there is no record of tasks"), "{}", run.stdout);
    samples.push(json(&worker, 0));
    let ahead = format!("ahead by 2: {SECOND} base64_encode, {THIRD} add_song_sketches_table\n");
    gate(&worker, &["--expect", FIRST], 11, &ahead);
    worker.run(&["gate", "songs", "--expect", "no revision"]).expect_code(2);
    let unknown = worker.run(&["gate", "songs", "--expect", "d4641a241b99"]).expect_code(3);
    assert!(unknown.stderr.contains(&format!("did you mean {THIRD}?")), "{}", unknown.stderr);
    // The code of an older release: it does not know where the database stands.
    std::fs::remove_file(project.file(THIRD)).unwrap();
    gate(&worker, &[], 11, &format!("ahead by 1: {THIRD}\n"));
    worker.run(&["gate", "songs", "--expect", THIRD]).expect_code(3);
    assert_eq!(std::fs::read_dir(worker.home()).unwrap().count(), 1, "only the configuration is there");
    samples.push(json(&worker, 11));
    samples
}

#[test]
fn behind_ahead_and_as_expected_are_told_by_revisions() {
    let file = TestFile::named("songs.db");
    file.sqlite3("PRAGMA user_version = 0");
    let sqlite = format!("sqlite:///{}", file.path().display());
    let mut samples = by_revisions(&file.url(), &project(&sqlite));

    let server = TestDatabase::new();
    let address = server.url().replacen("postgres://", "postgresql+psycopg2://", 1);
    samples.extend(by_revisions(&server.url(), &project(&address)));
    matches_golden("gate", &samples);
}

#[test]
fn another_branch_and_several_heads_in_the_code_are_diverged() {
    let file = TestFile::named("songs.db");
    file.sqlite3("PRAGMA user_version = 0");
    let project = project(&format!("sqlite:///{}", file.path().display()));
    project.alembic(&["upgrade", THIRD]);
    let worker = worker(&file.url(), &project);
    project.add_sql("ab0000000001", &[SECOND], "CREATE TABLE other (id INTEGER)", "");
    let run = gate(&worker, &[], 12, "diverged: the migration directory has 2 heads: ");
    assert!(run.stdout.contains(THIRD) && run.stdout.contains("alembic merge heads"), "{}", run.stdout);
    let said = format!("diverged: missing are ab0000000001 revision ab0000000001; not expected are {THIRD} ");
    gate(&worker, &["--expect", "ab0000000001"], 12, &said);
    gate(&worker, &["--expect", THIRD], 0, "as expected");
}

/// A migration by Holdfast, then a change besides it.
fn drifts(worker: &Agent, sql: &dyn Fn(&str)) -> Value {
    worker.ok(&["apply", "songs"]);
    let run = gate(worker, &[], 0, &format!("as expected: it stands at {THIRD}\n  its schema is the one job "));
    assert_eq!(run.stderr, "");
    // Rows are nobody's schema.
    sql("INSERT INTO song VALUES (1, 'x')");
    gate(worker, &[], 0, "as expected");
    sql("ALTER TABLE song ADD COLUMN by_hand TEXT");
    let job = worker.json(&["history", "songs"])[0]["job_id"].as_str().unwrap().to_owned();
    let said = format!("drift: it stands at {THIRD}, but its schema is not the one job {job} left\n");
    let run = gate(worker, &[], 13, &said);
    assert!(run.stdout.contains("hint: somebody changed it besides the migrations"), "{}", run.stdout);
    let found = json(worker, 13);
    sql("ALTER TABLE song DROP COLUMN by_hand");
    gate(worker, &[], 0, "as expected");
    found
}

#[test]
fn a_schema_changed_besides_the_migrations_is_drift_and_rows_are_not() {
    let file = TestFile::named("songs.db");
    file.sqlite3("CREATE TABLE child (parent REFERENCES child (parent))");
    let project_of = |url: &str| project(url);
    let own = project_of("sqlite:////nowhere/else.db");
    let orphans = |sql: &str| {
        file.sqlite3(sql);
        // A row without a parent is a finding of SQLite's checks, and no change of the schema.
        file.sqlite3("INSERT INTO child VALUES (7); ANALYZE;");
    };
    let found = drifts(&worker(&file.url(), &own), &orphans);
    assert_eq!((found["verdict"].as_str(), found["drift"].as_str()), (Some("drift"), Some("found")));

    let server = PrivatePostgres::start();
    server.create("songs");
    let sql = |sql: &str| {
        server.psql("songs", sql);
        // Nor is what an administrator sets for the database as a whole.
        server.psql("songs", "ALTER DATABASE songs SET work_mem = '9MB'");
    };
    drifts(&worker(&server.url("songs"), &own), &sql);
}

#[test]
fn what_a_migration_left_halfway_is_drift_although_the_revision_is_right() {
    let file = TestFile::named("songs.db");
    file.sqlite3("PRAGMA user_version = 0");
    let project = project(&format!("sqlite:///{}", file.path().display()));
    project.alembic(&["upgrade", "head"]);
    file.sqlite3("CREATE TABLE _alembic_tmp_song (id INTEGER)");
    let run = gate(&worker(&file.url(), &project), &[], 13, "drift: ");
    assert!(run.stdout.contains("left the table _alembic_tmp_song"), "{}", run.stdout);
}

#[test]
fn a_database_somebody_works_on_is_in_progress_also_behind_its_fence_and_when_it_is_stuck() {
    let server = PrivatePostgres::start();
    server.create("songs");
    let project = project("sqlite:////nowhere/else.db");
    let worker = worker(&server.url("songs"), &project);
    let running = worker.start_and_stop_at("in place: ready to apply", &["apply", "songs"]);
    let run = gate(&worker, &[], 14, "in progress: migrate job ");
    assert!(
        run.stdout.contains("is running, after backup-b\nhint: wait for it: migrate-worker show "),
        "{}",
        run.stdout
    );
    let found = json(&worker, 14);
    assert_eq!(found["job"], worker.json(&["history", "songs"])[0]["job_id"]);
    running.kill();
    let run = gate(&worker, &[], 14, "in progress: ");
    assert!(run.stdout.contains("does not answer any more"), "{}", run.stdout);
    assert!(run.stdout.contains("migrate-worker apply songs brings it to its end"), "{}", run.stdout);
    worker.ok(&["apply", "songs"]);
    gate(&worker, &[], 0, "as expected");
}

#[test]
fn a_database_that_cannot_be_asked_is_not_known_with_the_reason() {
    let file = TestFile::named("songs.db");
    file.sqlite3("PRAGMA user_version = 0");
    let project = project("sqlite:////nowhere/else.db");
    let gone = worker("postgres://nobody@127.0.0.1:1/songs", &project);
    let run = gone.run(&["gate", "songs"]).expect_code(1);
    assert!(run.stdout.is_empty() && run.stderr.contains("127.0.0.1"), "{}{}", run.stdout, run.stderr);
    let missing = worker("sqlite:missing.db", &project);
    let run = missing.run(&["gate", "songs"]).expect_code(1);
    assert!(run.stderr.contains("missing.db"), "{}", run.stderr);
    let damaged = worker(&file.url(), &project);
    std::fs::write(file.path(), [0x55; 8192]).unwrap();
    damaged.run(&["gate", "songs"]).expect_code(1);
    assert!(worker(&file.url(), &project).run(&["gate", "nobody"]).expect_code(3).stderr.contains("[database."));
}
