//! Health records on SQLite, whose migration is a script of the team's own: seed 000.

mod going_back;
mod trouble;

use super::desk::{Desk, Door};
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::fixtures::{copy_folder, fixture};
use tests::sqlite::{sqlite_differences, sqlite_dump_text, sqlite3};

const SECRET: &str = "the key of production, 32 letters";

/// The script called as the guide says first, as `upgrade` in the configuration.
const BY_SCRIPT: &str = r#"upgrade = ["python3", "migrate_production_db.py"]"#;
/// And as it says second.
const BY_SHELL: &str = r#"upgrade = ["sh", "migrate_db_with_env.sh"]"#;

/// The application in the working folder of a worker that is asked by `door`.
struct Practice {
    desk: Desk,
}

impl Practice {
    fn new(door: Door) -> Self {
        Self::of(door, 10_000)
    }

    /// The same with so many health records, and the configuration of the fixtures.
    fn of(door: Door, records: u32) -> Self {
        let mut desk = Desk::new(door);
        copy_folder("seeds/000", &desk.file("app"));
        std::fs::create_dir(desk.file("app/instance")).unwrap();
        fill(&desk.file("app/instance/health_records.db"), records);
        desk.set_env("SECRET_KEY", SECRET);
        let mut practice = Practice { desk };
        practice.configure(|text| text);
        practice
    }

    /// Writes the configuration anew, as `change` makes it of the fixtures'.
    fn configure(&mut self, change: impl Fn(String) -> String) {
        let text = std::fs::read_to_string(fixture("seeds/000/holdfast.toml")).unwrap();
        self.desk.configure(&change(text));
    }

    fn database(&self) -> PathBuf {
        self.desk.file("app/instance/health_records.db")
    }

    #[track_caller]
    fn sqlite3(&self, sql: &str) -> String {
        sqlite3(&self.database(), sql).unwrap().trim_end().to_owned()
    }

    #[track_caller]
    fn dump(&self) -> String {
        sqlite_dump_text(&self.database())
    }

    /// Changes a text of the script that must be in it.
    #[track_caller]
    fn edit_script(&self, text: &str, into: &str) {
        let script = self.desk.file("app/migrate_production_db.py");
        let old = std::fs::read_to_string(&script).unwrap();
        assert!(old.contains(text), "the script has no {text:?}");
        std::fs::write(script, old.replace(text, into)).unwrap();
    }

    /// What the database becomes when the script is run by hand on a copy of it.
    #[track_caller]
    fn migrated_by_hand(&self) -> String {
        let copy = self.desk.file("by-hand.db");
        sqlite3(&self.database(), &format!("VACUUM INTO '{}'", copy.display())).unwrap();
        let mut script = Command::new("python3");
        script.arg(fixture("seeds/000/migrate_production_db.py"));
        script.env("SECRET_KEY", SECRET).env("HEALTH_RECORDS_DB", &copy);
        let done = script.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        sqlite_dump_text(&copy)
    }
}

/// Makes the database as the old models have it.
#[track_caller]
fn fill(file: &Path, records: u32) {
    let read = |name: &str| std::fs::read_to_string(fixture(name)).unwrap();
    let rows = read("seeds/000/fill.sql").replace("{records}", &records.to_string());
    sqlite3(file, &format!("{}\n{rows}", read("seeds/000/models_old.sql"))).unwrap();
}

fn every_record_and_report_gets_its_columns(door: Door) {
    let mut practice = Practice::new(door);
    let by_hand = practice.migrated_by_hand();
    let ended = practice.desk.upgrade("health", "succeeded");
    ended.says(&["it stands at 2"]);

    let columns =
        |table: &str| practice.sqlite3(&format!("SELECT group_concat(name) FROM pragma_table_info('{table}')"));
    let record =
        "id,user_id,filename,content,timestamp,processing_status,processing_completed_at,processing_error_message";
    assert_eq!(columns("health_record"), record);
    let report = "id,health_record_id,template_id,title,content,created_at,unique_identifier,generation_status,\
                  generation_started_at,generation_completed_at,generation_error_message";
    assert_eq!(columns("report"), report);
    let defaults = "SELECT name, dflt_value FROM pragma_table_info('health_record') WHERE dflt_value IS NOT NULL
                    UNION ALL SELECT name, dflt_value FROM pragma_table_info('report') WHERE dflt_value IS NOT NULL";
    assert_eq!(practice.sqlite3(defaults), "processing_status|'pending'\ngeneration_status|'pending'");
    // Its own, by another way than the script's.
    let (record, report) = (
        "SELECT count(*) FROM health_record WHERE processing_status = 'completed' AND processing_completed_at = timestamp
         AND processing_error_message IS NULL",
        "SELECT count(*), count(DISTINCT unique_identifier) FROM report WHERE generation_status = 'completed'
         AND generation_completed_at = created_at AND generation_started_at IS NULL
         AND unique_identifier REGEXP '^[0-9]+-[0-9]+-[0-9]+-[0-9]{8}-[0-9]+$'
         AND unique_identifier LIKE '%-' || replace(substr(created_at, 1, 10), '-', '') || '-' || id",
    );
    assert_eq!(practice.sqlite3(record), "10000");
    assert_eq!(practice.sqlite3(report), "13333|13333");
    let one = "SELECT unique_identifier, generation_completed_at FROM report WHERE id = 6543";
    assert_eq!(practice.sqlite3(one), "328-6543-1-20230719-6543|2023-07-19 03:16:00.250000");
    assert_eq!(practice.sqlite3("SELECT count(*) FROM task_log"), "0");
    assert_eq!(practice.sqlite3("PRAGMA integrity_check; PRAGMA foreign_key_check"), "ok");
    assert_eq!(sqlite_differences(&by_hand, &practice.dump()), Vec::<String>::new());

    // The summary: what the script printed, and what the record counted.
    ended.says(&["user: 500", "health_record: 10000", "report: 13333", "unique_identifier: 13333"]);
    ended.says(&["the old application works: 1 reports of record 1"]);
    let counted = |name: &str| ended.check(name).to_string();
    for (name, word, count) in [
        ("records by status", "completed", "10000"),
        ("reports by status", "completed", "13333"),
        ("identifiers made", "unique_identifier", "13333"),
    ] {
        let found = counted(name);
        assert!(found.contains(word) && found.contains(count), "{name}: {found}");
    }
    assert!(ended.job["duration_s"].as_f64().is_some_and(|took| took > 0.0), "{:#}", ended.job);
    assert!(ended.job["result"]["blocked_ms"].is_u64(), "{:#}", ended.job);
    let backup = ended.backup();
    assert!(backup.starts_with("health/20"), "a backup bears its time: {backup}");
}

#[test]
fn every_record_and_report_gets_its_columns_by_command() {
    every_record_and_report_gets_its_columns(Door::Command);
}

#[test]
fn every_record_and_report_gets_its_columns_by_message() {
    every_record_and_report_gets_its_columns(Door::Message);
}

#[test]
fn script_and_shell_script_give_the_same_database_by_either_door() {
    let mut dumps = Vec::new();
    for (door, entry) in [(Door::Command, BY_SCRIPT), (Door::Command, BY_SHELL), (Door::Message, BY_SHELL)] {
        let mut practice = Practice::of(door, 1000);
        practice.configure(|text| text.replace(BY_SCRIPT, entry));
        practice.desk.upgrade("health", "succeeded");
        dumps.push(practice.dump());
    }
    for dump in &dumps[1..] {
        assert_eq!(sqlite_differences(&dumps[0], dump), Vec::<String>::new());
    }
}

fn once_more_is_nothing_to_do(door: Door) {
    let mut practice = Practice::of(door, 500);
    practice.desk.upgrade("health", "succeeded");
    practice.sqlite3("INSERT INTO task_log (task_id, task_name) VALUES ('a', 'generate_report')");
    let before = practice.dump();
    let again = practice.desk.upgrade("health", "succeeded");
    again.says(&["nothing to do: it stands at 2"]);
    assert_eq!(practice.dump(), before);
}

#[test]
fn once_more_is_nothing_to_do_by_command() {
    once_more_is_nothing_to_do(Door::Command);
}

#[test]
fn once_more_is_nothing_to_do_by_message() {
    once_more_is_nothing_to_do(Door::Message);
}

/// A million of them in the long run.
#[test]
fn more_than_ten_thousand_records_are_migrated_and_the_time_is_told() {
    let records = if tests::is_long() { 1_000_000 } else { 20_000 };
    let mut practice = Practice::of(Door::Command, records);
    let ended = practice.desk.upgrade("health", "succeeded");
    let counted = "SELECT count(*) FROM health_record WHERE processing_status = 'completed'
                   UNION ALL SELECT count(DISTINCT unique_identifier) FROM report";
    assert_eq!(practice.sqlite3(counted), format!("{records}\n{}", records + records / 3));
    let (took, blocked) = (&ended.job["duration_s"], &ended.job["result"]["blocked_ms"]);
    println!("{records} records in {took} s; nobody could write for {blocked} ms");
    assert!(took.as_f64().is_some() && blocked.as_u64().is_some(), "{:#}", ended.job);
}
