//! The lessons of a music school on Django, of which a rename lost all: seed 003.

use super::desk::{Desk, Door, Ended};
use serde_json::json;
use std::path::PathBuf;
use tests::django::{manage, python};
use tests::fixtures::{copy_folder, fixture};
use tests::postgres::{dump_differences, pg_dump_text};
use tests::private_postgres::PrivatePostgres;
use tests::sqlite::{sqlite_differences, sqlite_dump_text, sqlite3};

const LESSONS: u32 = 4812;

/// The team's own command, as the guide has it run after every migration.
const OWN_CHECK: &str = r#"
[[database.school.migrations.then]]
name = "lessons are there"
command = ["{python}", "manage.py", "check_lessons_data"]
"#;

/// Of the right order: there are at least as many sessions as there were lessons.
const CONSERVATION: &str = r#"
[[database.school.checks]]
name = "every lesson is a session"
sql = "SELECT count(*) FROM lessons_session"
expect = "conservation"
of = "SELECT count(*) FROM lessons_lesson"
"#;

/// Where the school keeps its data.
enum Data {
    Sqlite(PathBuf),
    Postgres(PrivatePostgres),
}

/// Which product.
#[derive(Debug, Clone, Copy)]
enum Product {
    Sqlite,
    Postgres,
}

/// The school with its lessons, and a worker that is asked by a door.
struct School {
    desk: Desk,
    data: Data,
}

impl School {
    fn new(product: Product, door: Door) -> Self {
        let desk = Desk::new(door);
        copy_folder("seeds/003/project", &desk.file("school"));
        let data = match product {
            Product::Sqlite => Data::Sqlite(desk.file("school/db.sqlite3")),
            Product::Postgres => {
                let server = PrivatePostgres::start();
                server.create("school");
                Data::Postgres(server)
            }
        };
        let mut school = School { desk, data };
        school.manage(&["migrate", "--verbosity", "0"]);
        school.manage(&["load_lessons", &LESSONS.to_string()]);
        school.desk.set_env("SECRET_KEY", "of the tests");
        school.configure(&[]);
        school
    }

    /// Writes the configuration, with further sections.
    fn configure(&mut self, more: &[&str]) {
        let text = std::fs::read_to_string(fixture("seeds/003/holdfast.toml")).unwrap() + &more.concat();
        let python = python();
        self.desk.configure(&text.replace("{url}", &self.url()).replace("{python}", python.to_str().unwrap()));
    }

    fn url(&self) -> String {
        match &self.data {
            Data::Sqlite(file) => format!("sqlite:{}", file.display()),
            Data::Postgres(server) => server.url("school"),
        }
    }

    fn project(&self) -> PathBuf {
        self.desk.file("school")
    }

    /// Runs `manage.py` on the database itself, as a person would.
    #[track_caller]
    fn manage(&self, arguments: &[&str]) -> String {
        let url = match &self.data {
            Data::Sqlite(file) => format!("sqlite://{}", file.display()),
            Data::Postgres(server) => server.url("school"),
        };
        manage(&self.project(), &url, arguments)
    }

    /// Takes a branch into the project.
    fn merge(&self, branch: &str) {
        copy_folder(&format!("seeds/003/{branch}"), &self.project());
    }

    /// Takes it out again.
    fn revert(&self) {
        let migrations = self.project().join("lessons/migrations");
        std::fs::remove_dir_all(migrations).unwrap();
        copy_folder("seeds/003/project", &self.project());
    }

    #[track_caller]
    fn sql(&self, sql: &str) -> String {
        match &self.data {
            Data::Sqlite(file) => sqlite3(file, sql).unwrap().trim_end().to_owned(),
            Data::Postgres(server) => server.psql("school", sql),
        }
    }

    #[track_caller]
    fn dump(&self) -> String {
        match &self.data {
            Data::Sqlite(file) => sqlite_dump_text(file),
            Data::Postgres(_) => pg_dump_text(&self.url()),
        }
    }

    /// The lines in which the database differs from what it was.
    #[track_caller]
    fn differences(&self, before: &str) -> Vec<String> {
        match &self.data {
            Data::Sqlite(_) => sqlite_differences(before, &self.dump()),
            Data::Postgres(_) => dump_differences(before, &self.dump()),
        }
    }

    #[track_caller]
    fn upgrade(&mut self, state: &str) -> Ended {
        self.desk.upgrade("school", state)
    }
}

/// The branch in which the copy of the rows was forgotten: with a table of its own, or under the old one's name.
fn a_rename_that_forgets_the_rows_is_stopped_with_their_number(product: Product, door: Door, branch: &str) {
    let mut school = School::new(product, door);
    let before = school.dump();
    assert!(school.manage(&["check_lessons_data"]).contains("lessons_lesson: 4812 rows; 0 invoice items without one"));
    school.merge(branch);
    let refused = school.upgrade("refused");
    refused.says(&["would delete data: ", "table lessons_lesson (4,812 rows)", "--may-drop lessons_lesson"]);
    // What pointed at them is lost, too.
    refused.says(&["column lessons_invoiceitem.lesson_id (3,208 values)"]);
    assert_eq!(school.differences(&before), Vec::<String>::new());
}

#[test]
fn a_rename_that_forgets_the_rows_is_stopped_with_their_number_on_sqlite_by_command() {
    a_rename_that_forgets_the_rows_is_stopped_with_their_number(Product::Sqlite, Door::Command, "forgotten");
}

#[test]
fn a_rename_that_forgets_the_rows_is_stopped_with_their_number_on_postgresql_by_message() {
    a_rename_that_forgets_the_rows_is_stopped_with_their_number(Product::Postgres, Door::Message, "forgotten");
}

#[test]
fn a_table_made_anew_under_the_old_name_is_noticed_on_sqlite_by_message() {
    a_rename_that_forgets_the_rows_is_stopped_with_their_number(Product::Sqlite, Door::Message, "bad");
}

#[test]
fn a_table_made_anew_under_the_old_name_is_noticed_on_postgresql_by_command() {
    a_rename_that_forgets_the_rows_is_stopped_with_their_number(Product::Postgres, Door::Command, "bad");
}

fn the_check_of_the_team_s_own_stops_it_too(door: Door) {
    let mut school = School::new(Product::Sqlite, door);
    let before = school.dump();
    school.merge("bad");
    school.configure(&[OWN_CHECK]);
    let refused = school.upgrade("refused");
    refused.says(&[
        "lessons are there",
        "lessons_lesson: 0 rows; 3208 invoice items without one",
        "CommandError: lessons are missing",
    ]);
    assert_eq!(school.differences(&before), Vec::<String>::new());
}

#[test]
fn the_check_of_the_team_s_own_stops_it_too_by_command() {
    the_check_of_the_team_s_own_stops_it_too(Door::Command);
}

#[test]
fn the_check_of_the_team_s_own_stops_it_too_by_message() {
    the_check_of_the_team_s_own_stops_it_too(Door::Message);
}

/// Create, copy, re-point, drop.
fn the_right_order_keeps_every_lesson(product: Product, door: Door) {
    let mut school = School::new(product, door);
    let rows = "SELECT id, contract_id, date, start_time, duration_minutes, notes FROM";
    let lessons = school.sql(&format!("{rows} lessons_lesson ORDER BY id"));
    let invoiced = school.sql("SELECT id, lesson_id, amount FROM lessons_invoiceitem ORDER BY id");
    school.merge("good");
    school.configure(&[OWN_CHECK, CONSERVATION]);
    let ended = school.upgrade("succeeded");
    ended.says(&["it stands at lessons.0006_delete_lesson", "lessons_session: 4812 rows; 0 invoice items without one"]);
    let conserved = ended.check("every lesson is a session").to_string();
    assert!(conserved.contains("4812"), "{conserved}");
    assert_eq!(school.sql(&format!("{rows} lessons_session ORDER BY id")), lessons);
    assert_eq!(school.sql("SELECT id, session_id, amount FROM lessons_invoiceitem ORDER BY id"), invoiced);
    assert!(school.manage(&["check_lessons_data"]).starts_with("lessons_session: 4812 rows"));
    assert_eq!(school.manage(&["makemigrations", "--check", "--dry-run"]).trim(), "No changes detected");
    school.upgrade("succeeded").says(&["nothing to do: it stands at lessons.0006_delete_lesson"]);
}

#[test]
fn the_right_order_keeps_every_lesson_on_sqlite_by_command() {
    the_right_order_keeps_every_lesson(Product::Sqlite, Door::Command);
}

#[test]
fn the_right_order_keeps_every_lesson_on_postgresql_by_message() {
    the_right_order_keeps_every_lesson(Product::Postgres, Door::Message);
}

/// What the guide was written after: the migration ran by hand, and all lessons were gone.
fn after_the_incident_the_newest_good_backup_comes_back(product: Product, door: Door) {
    let mut school = School::new(product, door);
    school.desk.backup_agent(&["backup", "school"]).expect_code(0);
    let (good, at) = (school.dump(), jiff::Timestamp::now().to_string());
    school.merge("bad");
    school.manage(&["migrate", "--verbosity", "0"]);
    assert_eq!(school.sql("SELECT count(*) FROM lessons_lesson"), "0");
    // The night after it: the newest backup is none of the good ones.
    school.desk.backup_agent(&["backup", "school"]).expect_code(0);

    school.desk.backup_agent(&["restore", "school", "--at", &at, "--in-place", "--yes"]).expect_code(0);
    assert_eq!(school.differences(&good), Vec::<String>::new());
    school.revert();
    assert!(school.manage(&["check_lessons_data"]).contains("lessons_lesson: 4812 rows"));
    school.merge("good");
    school.configure(&[OWN_CHECK, CONSERVATION]);
    school.desk.migrate("school", json!({"expected_from": "lessons.0001_initial"}), "succeeded");
    assert!(school.manage(&["check_lessons_data"]).contains("lessons_session: 4812 rows; 0 invoice items without one"));
    // And back once more, without a loss: the way back copies, too.
    school.desk.migrate("school", json!({"to": "lessons.0001_initial"}), "succeeded");
    assert_eq!(school.sql("SELECT count(*) FROM lessons_lesson"), "4812");
}

#[test]
fn after_the_incident_the_newest_good_backup_comes_back_on_sqlite_by_command() {
    after_the_incident_the_newest_good_backup_comes_back(Product::Sqlite, Door::Command);
}

#[test]
fn after_the_incident_the_newest_good_backup_comes_back_on_postgresql_by_message() {
    after_the_incident_the_newest_good_backup_comes_back(Product::Postgres, Door::Message);
}
