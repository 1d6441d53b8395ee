//! The agent when it is asked to end, when its record or store is not there, and when it has much to do.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tests::agent::{Agent, Running};
use tests::postgres::{self, TestDatabase};
use tests::sqlite::{TestFile, sqlite_differences};
use tests::store_files::StoreFiles;

/// Once a year, so that no slot comes while a test runs: a database without any backup gets its first one at once.
const RARELY: &str = "schedule = { cron = \"0 3 1 1 *\" }";

fn agent_with(config: &str) -> Agent {
    Agent::new().with_config(&format!("[agent]\nlisten = \"off\"\n{config}"))
}

fn small() -> TestFile {
    let file = TestFile::named("shop.db");
    file.sqlite3("CREATE TABLE t (id INTEGER PRIMARY KEY, t TEXT); INSERT INTO t VALUES (1, 'one'), (2, 'two');");
    file
}

/// Waits for what another process does. Panics when it ends or takes longer than a minute.
fn wait_for(running: &mut Running, what: &str, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(running.is_running(), "the agent ended before this: {what}");
        assert!(began.elapsed() < Duration::from_secs(60), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder whose `pg_dump` never ends, says so in a file, and looks newer than all others of the server's version.
struct HungTools {
    folder: tempfile::TempDir,
}

impl HungTools {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let number: u32 = postgres::on_server("SHOW server_version_num").trim().parse().unwrap();
        let tools = HungTools { folder };
        let script = format!(
            "#!/bin/sh\ncase $1 in\n--version) echo 'pg_dump (PostgreSQL) {}.99' ;;\n\
             *) echo $$ > '{}'; exec sleep 1000 ;;\nesac\n",
            number / 10_000,
            tools.pid_file().display()
        );
        let file = tools.folder.path().join("pg_dump");
        std::fs::write(&file, script).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        let usual = std::env::var_os("PATH").unwrap();
        let mut real = std::env::split_paths(&usual).map(|dir| dir.join("pg_restore"));
        let real = real.find(|file| file.exists()).expect("pg_restore is on PATH: install postgresql-client");
        symlink(real, tools.folder.path().join("pg_restore")).unwrap();
        tools
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path().join("pid")
    }

    fn path(&self) -> std::ffi::OsString {
        let usual = std::env::var_os("PATH").unwrap();
        let all = std::iter::once(self.folder.path().to_owned()).chain(std::env::split_paths(&usual));
        std::env::join_paths(all).unwrap()
    }

    fn runs(&self) -> bool {
        let pid = std::fs::read_to_string(self.pid_file()).unwrap_or_default();
        !pid.trim().is_empty() && Path::new("/proc").join(pid.trim()).join("fd").exists()
    }
}

/// An agent whose only backup hangs in `pg_dump`.
fn hung_backup(tools: &HungTools, source: &TestDatabase) -> (Agent, Running) {
    source.psql("CREATE TABLE t (id int); INSERT INTO t VALUES (1)");
    let agent = agent_with(&format!("[database.shop]\nurl = \"{}\"\n{RARELY}\n", source.url()));
    let agent = agent.with_env("PATH", tools.path());
    let mut running = agent.start(&["run"]);
    wait_for(&mut running, "pg_dump hangs", || tools.runs());
    (agent, running)
}

#[test]
fn a_hung_backup_is_abandoned_cleanly_within_half_a_minute_of_sigterm() {
    let (tools, source) = (HungTools::new(), TestDatabase::new());
    let (mut agent, running) = hung_backup(&tools, &source);
    let store = StoreFiles::at(&agent.store_dir());
    assert_eq!(store.public("leases/").len(), 1);
    let began = Instant::now();
    running.signal("TERM");
    let run = running.wait();
    assert!(began.elapsed() < Duration::from_secs(30), "it took {:?}: {}", began.elapsed(), run.stderr);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(!tools.runs(), "pg_dump was left behind");
    assert_eq!(store.public("leases/"), Vec::<String>::new());
    assert_eq!(store.ids(), Vec::<String>::new());
    let history = agent.json(&["history", "shop"]);
    assert_eq!((&history[0]["kind"], &history[0]["state"]), (&"backup".into(), &"queued".into()), "{history}");
    // The next start, without the trouble, does it.
    agent.set_env("PATH", std::env::var_os("PATH").unwrap());
    agent.ok(&["run", "--until-idle"]);
    assert!(agent.json(&["list"])[0]["proven_at"].is_string());
}

#[test]
fn a_second_sigterm_ends_at_once_and_the_next_start_does_it_again() {
    let (tools, source) = (HungTools::new(), TestDatabase::new());
    let (mut agent, mut running) = hung_backup(&tools, &source);
    running.signal("TERM");
    assert!(running.is_running());
    let began = Instant::now();
    // Two signals of one kind that meet before the first is seen are one; so the second is another one.
    running.signal("INT");
    let run = running.wait();
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}: {}", began.elapsed(), run.stderr);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    agent.set_env("PATH", std::env::var_os("PATH").unwrap());
    agent.ok(&["run", "--until-idle"]);
    let list = agent.json(&["list"]);
    assert!(list[0]["proven_at"].is_string(), "{list}");
}

#[test]
fn a_store_that_never_answers_does_not_keep_the_agent_from_ending_in_time() {
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = hole.local_addr().unwrap();
    let source = small();
    let agent = agent_with(&format!(
        "[store]\nurl = \"s3://holdfast/x\"\nendpoint = \"http://{address}\"\nregion = \"us-east-1\"\npath_style = true\n\
         access_key_id = \"x\"\nsecret_access_key = \"y\"\n[database.shop]\nurl = \"{}\"\n{RARELY}\n",
        source.url()
    ));
    let agent = agent.with_store(None).with_deadline(Duration::from_secs(90));
    let running = agent.start(&["run"]);
    // It asks, and no answer ever comes.
    let connection = hole.accept().unwrap();
    let began = Instant::now();
    running.signal("TERM");
    let run = running.wait();
    assert!(began.elapsed() < Duration::from_secs(30), "it took {:?}: {}", began.elapsed(), run.stderr);
    drop(connection);
}

#[test]
fn a_locked_record_does_not_keep_the_nightly_backup_from_being_made() {
    let source = small();
    let agent = agent_with(&format!("[database.shop]\nurl = \"{}\"\n{RARELY}\n", source.url()));
    let record = rusqlite::Connection::open(agent.home().join("holdfast-state.db")).unwrap();
    record.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE someone (a); BEGIN EXCLUSIVE;").unwrap();
    let run = agent.run(&["run", "--until-idle"]).expect_code(0);
    assert!(run.stderr.contains("without the record") || run.stderr.contains("without it"), "{}", run.stderr);
    let list = agent.json(&["list"]);
    assert!(list[0]["proven_at"].is_string(), "{list}\n{}", run.stderr);
    let id = list[0]["id"].as_str().unwrap();
    let found = StoreFiles::at(&agent.store_dir()).sqlite_dump(id);
    assert_eq!(sqlite_differences(&source.dump_text(), &found), Vec::<String>::new());
}

#[test]
fn a_record_that_cannot_be_written_does_not_keep_the_nightly_backup_from_being_made() {
    for state in ["sqlite:/proc/holdfast/state.db", "postgres://nobody@127.0.0.1:1/none"] {
        let source = small();
        let agent =
            agent_with(&format!("[state]\nurl = \"{state}\"\n[database.shop]\nurl = \"{}\"\n{RARELY}\n", source.url()));
        let run = agent.run(&["run", "--until-idle"]).expect_code(0);
        assert!(run.stderr.contains("without the record") || run.stderr.contains("without it"), "{}", run.stderr);
        assert!(agent.json(&["list"])[0]["proven_at"].is_string(), "{state}\n{}", run.stderr);
    }
}

#[test]
fn many_databases_of_one_schedule_are_all_done_within_memory_and_limit() {
    let count = if tests::is_long() { 300 } else { 60 };
    let folder = tempfile::tempdir().unwrap();
    let mut config = String::from("parallel = 4\n");
    for number in 0..count {
        let file = folder.path().join(format!("d{number}.db"));
        let sql = format!("CREATE TABLE t (a); INSERT INTO t VALUES ({number}), (hex(randomblob(2000)));");
        tests::sqlite::sqlite3(&file, &sql).unwrap();
        config += &format!("[database.d{number}]\nurl = \"sqlite:{}\"\n{RARELY}\n", file.display());
    }
    let agent = agent_with(&config);
    let run = agent.ok(&["run", "--until-idle"]);
    println!("{count} databases: {:?}, {} MiB", run.elapsed, run.peak_rss_bytes >> 20);
    assert!(run.peak_rss_bytes < 256 << 20, "{} MiB", run.peak_rss_bytes >> 20);

    let list = agent.json(&["list"]);
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), count);
    assert!(list.iter().all(|backup| backup["proven_at"].is_string()), "{}", run.stderr);
    let history = agent.json(&["history", "--limit", "0"]);
    let mut edges: Vec<(jiff::Timestamp, i32)> = Vec::new();
    for task in history.as_array().unwrap() {
        assert_eq!(task["state"], "succeeded", "{task}");
        let at = |key: &str| task[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        edges.extend([(at("started_at"), 1), (at("finished_at"), -1)]);
    }
    assert_eq!(edges.len(), 2 * 2 * count, "a backup and a drill each");
    // Of two at one instant the end counts first.
    edges.sort();
    let mut at_once = 0;
    let most = edges
        .iter()
        .map(|(_, step)| {
            at_once += step;
            at_once
        })
        .max()
        .unwrap();
    assert!((2..=4).contains(&most), "{most} tasks ran at once");
}
