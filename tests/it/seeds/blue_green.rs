//! A time-tracking server on SQLite, twice, migrated by `npm run migrate:prod`: seed 002.

mod out_of_step;
mod shared;
mod two_phases;

use super::desk::{Desk, Door};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tests::fixtures::{copy_folder, fixture};
use tests::npm;
use tests::sqlite::{sqlite_dump_text, sqlite3};

/// The two environments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Blue,
    Green,
}

impl Side {
    fn folder(self) -> &'static str {
        match self {
            Side::Blue => "TimeTracking-BLUE/server",
            Side::Green => "TimeTracking-GREEN/server",
        }
    }
}

/// A server of Node that runs, restarted as often as anybody likes.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    #[track_caller]
    fn start(folder: PathBuf) -> Self {
        let mut node = Command::new("node");
        node.arg("server.mjs").current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = node.spawn().expect("node is missing: run the tests by ops/test");
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Server { process, port: line.trim().parse().expect("the server prints its port") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Both environments in the working folder of a worker, at the first release, with their servers.
struct Deployment {
    desk: Desk,
    blue: Server,
    green: Server,
}

impl Deployment {
    /// With a database each.
    fn new(door: Door) -> Self {
        let desk = Desk::new(door);
        for side in [Side::Blue, Side::Green] {
            install(&desk, side);
            let database = desk.file(side.folder()).join("database.db");
            sqlite3(&database, "PRAGMA journal_mode = WAL").unwrap();
            let project = desk.file(side.folder());
            npm::run(&project, "migrate:prod", &format!("sqlite://{}", database.display()));
            let rows = std::fs::read_to_string(fixture("seeds/002/fill.sql")).unwrap();
            sqlite3(&database, &rows).unwrap();
        }
        Self::started(desk)
    }

    /// Starts the servers and writes the configuration.
    fn started(mut desk: Desk) -> Self {
        let [blue, green] = [Side::Blue, Side::Green].map(|side| Server::start(desk.file(side.folder())));
        desk.configure(&configuration(&blue, &green));
        Deployment { desk, blue, green }
    }

    /// Takes another release's files into an environment's folder.
    fn deploy(&self, side: Side, release: &str) {
        copy_folder(&format!("seeds/002/{release}"), &self.desk.file(side.folder()));
    }

    fn file(&self, side: Side) -> PathBuf {
        self.desk.file(side.folder()).join("database.db")
    }

    #[track_caller]
    fn sqlite3(&self, side: Side, sql: &str) -> String {
        sqlite3(&self.file(side), sql).unwrap().trim_end().to_owned()
    }

    #[track_caller]
    fn dump(&self, side: Side) -> String {
        sqlite_dump_text(&self.file(side))
    }

    #[track_caller]
    fn migrations(&self, side: Side) -> String {
        self.sqlite3(side, "SELECT group_concat(version) FROM (SELECT version FROM migrations ORDER BY version)")
    }

    /// What `GET /api/health` answers: the line with the code, and the body.
    #[track_caller]
    fn health(&self, side: Side) -> (String, String) {
        let server = if side == Side::Blue { &self.blue } else { &self.green };
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("the server listens");
        write!(stream, "GET /api/health HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// Asserts that an environment is well, by the release it runs; returns how often it was restarted.
    #[track_caller]
    fn is_well(&self, side: Side, version: u32) -> u64 {
        let (code, body) = self.health(side);
        assert!(code.ends_with("200 OK"), "{side:?}: {code}: {body}");
        let health: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&health["status"], &health["version"]), (&json!("ok"), &json!(version)), "{side:?}");
        health["restarts"].as_u64().unwrap()
    }

    /// How the definitions of the two databases differ.
    #[track_caller]
    fn schema_differences(&self) -> Vec<String> {
        let [blue, green] = [Side::Blue, Side::Green].map(|side| self.schema(side));
        let gone = blue.iter().filter(|line| !green.contains(line)).map(|line| format!("-{line}"));
        let new = green.iter().filter(|line| !blue.contains(line)).map(|line| format!("+{line}"));
        let found: Vec<String> = gone.chain(new).collect();
        // Our own word for it must be the same.
        let code = if found.is_empty() { 0 } else { 7 };
        self.desk.agent.run(&["schema", "diff", "blue", "green"]).expect_code(code);
        found
    }

    /// Tables, columns and indexes as the database itself tells them, whatever the statements looked like.
    fn schema(&self, side: Side) -> Vec<String> {
        let sql = "SELECT 'column', m.name, c.name, c.type, c.\"notnull\", c.dflt_value, c.pk
                   FROM sqlite_schema m, pragma_table_xinfo(m.name) c WHERE m.type = 'table'
                   UNION ALL SELECT 'index', m.name, i.name, i.\"unique\", i.partial, group_concat(x.name), 0
                   FROM sqlite_schema m, pragma_index_list(m.name) i, pragma_index_info(i.name) x
                   WHERE m.type = 'table' GROUP BY 2, 3
                   UNION ALL SELECT 'reference', m.name, f.\"from\", f.\"table\", f.\"to\", f.on_delete, f.on_update
                   FROM sqlite_schema m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'";
        self.sqlite3(side, sql).lines().map(str::to_owned).collect()
    }
}

/// An environment's folder at the first release, without a database.
fn install(desk: &Desk, side: Side) {
    npm::project("seeds/002/server", &desk.file(side.folder()));
}

fn configuration(blue: &Server, green: &Server) -> String {
    let text = std::fs::read_to_string(fixture("seeds/002/holdfast.toml")).unwrap();
    text.replace("{blue}", &blue.port.to_string()).replace("{green}", &green.port.to_string())
}

fn green_goes_first_and_blue_follows_when_green_is_well(door: Door) {
    let mut both = Deployment::new(door);
    let before = both.dump(Side::Blue);
    assert_eq!((both.is_well(Side::Blue, 1), both.is_well(Side::Green, 1)), (0, 0));

    both.deploy(Side::Green, "release");
    let ended = both.desk.upgrade("green", "succeeded");
    ended.says(&["Applied: 003_new_field.sql", "Applied: 004_feature_flag.sql", "it stands at 004"]);
    assert!(ended.backup().starts_with("green/20"), "a backup bears its time: {}", ended.backup());
    assert_eq!(both.is_well(Side::Green, 2), 1, "green runs its new code");
    assert_eq!(both.migrations(Side::Green), "001,002,003,004");
    // Blue is live all the time.
    assert_eq!(both.is_well(Side::Blue, 1), 0);
    assert_eq!(both.dump(Side::Blue), before);
    let behind = both.schema_differences();
    assert_eq!(behind.len(), 3, "two columns and an index: {behind:#?}");

    both.deploy(Side::Blue, "release");
    both.desk.upgrade("blue", "succeeded").says(&["it stands at 004"]);
    assert_eq!(both.is_well(Side::Blue, 2), 1, "blue runs its new code");
    assert_eq!(both.schema_differences(), Vec::<String>::new());
    assert_eq!(both.sqlite3(Side::Blue, "SELECT count(*), sum(feature_flag), count(new_field) FROM users"), "40|0|0");
    // Each has the backup of its own from before its first change.
    for side in ["blue", "green"] {
        let list: Value = both.desk.backup_agent(&["list", side, "--json"]).expect_code(0).json();
        assert!(!list.as_array().unwrap().is_empty(), "{side} has no backup");
    }
}

#[test]
fn green_goes_first_and_blue_follows_when_green_is_well_by_command() {
    green_goes_first_and_blue_follows_when_green_is_well(Door::Command);
}

#[test]
fn green_goes_first_and_blue_follows_when_green_is_well_by_message() {
    green_goes_first_and_blue_follows_when_green_is_well(Door::Message);
}

fn blue_stays_untouched_where_green_s_migration_fails(door: Door) {
    let mut both = Deployment::new(door);
    // Of green alone: what was entered there for a test.
    both.sqlite3(Side::Green, "INSERT INTO users (name, old_name) VALUES ('again', 'formerly 7')");
    let before = [both.dump(Side::Blue), both.dump(Side::Green)];
    both.deploy(Side::Green, "release");
    both.deploy(Side::Green, "failing");
    // dbmate says of the file that failed that it was applied.
    let refused = both.desk.upgrade("green", "refused");
    refused.says(&[
        "Applied: 005_unique_names.sql",
        "UNIQUE constraint failed: users.old_name",
        "the rehearsal failed",
    ]);
    assert_eq!([both.dump(Side::Blue), both.dump(Side::Green)], before);
    assert_eq!((both.is_well(Side::Blue, 1), both.is_well(Side::Green, 1)), (0, 0));
    let blue = both.desk.agent.json(&["history", "blue"]);
    assert_eq!(blue, json!([]), "nobody asked for blue");

    both.sqlite3(Side::Green, "UPDATE users SET old_name = NULL WHERE name = 'again'");
    both.desk.upgrade("green", "succeeded").says(&["it stands at 005"]);
    both.is_well(Side::Green, 2);
    both.deploy(Side::Blue, "release");
    both.deploy(Side::Blue, "failing");
    both.desk.upgrade("blue", "succeeded");
    assert_eq!(both.schema_differences(), Vec::<String>::new());
}

#[test]
fn blue_stays_untouched_where_green_s_migration_fails_by_command() {
    blue_stays_untouched_where_green_s_migration_fails(Door::Command);
}

#[test]
fn blue_stays_untouched_where_green_s_migration_fails_by_message() {
    blue_stays_untouched_where_green_s_migration_fails(Door::Message);
}

fn a_green_that_is_ill_afterwards_is_told_and_goes_back_step_by_step(door: Door) {
    let mut both = Deployment::new(door);
    both.deploy(Side::Green, "release");
    // Code that asks for more than the migrations bring.
    let release = r#"{ "version": 9, "users": ["id", "shoe_size"] }"#;
    std::fs::write(both.desk.file(Side::Green.folder()).join("release.json"), release).unwrap();
    // The migration itself is good: what the application says changes nothing about it, but nobody overlooks it.
    let ended = both.desk.upgrade("green", "succeeded");
    ended.says(&["hint: look after the application, it is not well (health: not well within 10 s: the answer was 500"]);
    let (code, body) = both.health(Side::Green);
    assert!(code.contains(" 500 ") && body.contains("no such column: shoe_size"), "{code}: {body}");
    both.is_well(Side::Blue, 1);
    assert_eq!(both.migrations(Side::Blue), "001,002");

    let release = both.desk.file(Side::Blue.folder()).join("release.json");
    std::fs::copy(release, both.desk.file(Side::Green.folder()).join("release.json")).unwrap();
    // Every user has the default there, which is data like any other.
    let back = both.desk.migrate("green", json!({"to": "-1"}), "refused");
    back.says(&["would delete data: column users.feature_flag (40 values)", "--may-drop users:feature_flag"]);
    let back = json!({"to": "-1", "may_drop": ["users:feature_flag"]});
    both.desk.migrate("green", back, "succeeded").says(&["Rolled back: 004", "it stands at 003"]);
    both.desk.migrate("green", json!({"to": "-1"}), "succeeded").says(&["Rolled back: 003", "it stands at 002"]);
    assert!(both.is_well(Side::Green, 1) > 0);
    assert_eq!(both.schema_differences(), Vec::<String>::new());
}

#[test]
fn a_green_that_is_ill_afterwards_is_told_and_goes_back_step_by_step_by_command() {
    a_green_that_is_ill_afterwards_is_told_and_goes_back_step_by_step(Door::Command);
}

#[test]
fn a_green_that_is_ill_afterwards_is_told_and_goes_back_step_by_step_by_message() {
    a_green_that_is_ill_afterwards_is_told_and_goes_back_step_by_step(Door::Message);
}
