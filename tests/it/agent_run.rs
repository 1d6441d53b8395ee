//! `backup-agent run` as it is left alone on a server: the real program, its record, its signals, what it tells.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::agent::{Agent, Run, Running};
use tests::fixtures;
use tests::sqlite::TestFile;

/// Once a year: what happens is the first backup, which a database without any gets at once.
const RARELY: &str = "schedule = { cron = \"0 0 1 1 *\" }";
/// Every minute, so that a start finds a slot behind it and the next one soon.
const OFTEN: &str = "schedule = { cron = \"* * * * *\" }";

/// A program whose configuration is this text.
fn agent_with(config: &str) -> Agent {
    Agent::new().with_config(config)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn until_idle(agent: &Agent) -> Run {
    agent.run(&["run", "--until-idle"])
}

/// Waits until `look` gives something; fails after half a minute.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{what} did not happen within 30 s");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn term(running: &Running) {
    tests::server::signal(running.pid(), "TERM");
}

fn http_get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let code = text.split(' ').nth(1)?.parse().ok()?;
    Some((code, text.split_once("\r\n\r\n")?.1.to_owned()))
}

#[test]
fn a_database_without_a_backup_gets_one_that_is_proven_and_recorded() {
    let shop = fixtures::sqlite("chinook.sqlite");
    let agent =
        agent_with(&format!("[agent]\nlisten = \"off\"\n[database.shop]\nurl = \"{}\"\n{RARELY}\n", shop.url()));
    until_idle(&agent).expect_code(0);
    let backups = agent.json(&["list"]);
    assert_eq!(backups.as_array().unwrap().len(), 1, "{backups}");
    assert!(backups[0]["proven_at"].is_string(), "{backups}");
    let history = agent.json(&["history", "shop"]);
    let line = |kind: &str| history.as_array().unwrap().iter().find(|task| task["kind"] == kind).unwrap().clone();
    for kind in ["backup", "drill"] {
        let task = line(kind);
        assert_eq!(task["state"], "succeeded", "{task}");
        assert_eq!(task["backup_id"], backups[0]["id"], "{task}");
        assert_eq!(task["rows"], backups[0]["rows"], "{task}");
        assert!(task["started_at"].is_string() && task["finished_at"].is_string(), "{task}");
    }
    assert!(line("backup")["bytes_out"].as_u64().unwrap() > 100_000);
    let status = agent.json(&["status", "shop"]);
    assert_eq!(status[0]["stale"], serde_json::json!([]), "{status}");
    assert!(status[0]["newest_proven"]["id"].is_string() && status[0]["next_backup"].is_string(), "{status}");
    // The same view for whoever looks with SQL.
    let record = agent.home().join("holdfast-state.db");
    let rows =
        tests::sqlite::sqlite3(&record, "SELECT task_name, status, duration_s >= 0, error FROM tasklog ORDER BY 1");
    assert_eq!(rows.unwrap(), "backup:shop|succeeded|1|\ndrill:shop|succeeded|1|\n");
}

#[test]
fn a_restore_by_timestamp_needs_only_the_store() {
    let shop = fixtures::sqlite("chinook.sqlite");
    let agent =
        agent_with(&format!("[agent]\nlisten = \"off\"\n[database.shop]\nurl = \"{}\"\n{RARELY}\n", shop.url()));
    until_idle(&agent).expect_code(0);
    for file in ["holdfast-state.db", "holdfast-state.db-wal", "holdfast-state.db-shm", "holdfast.toml"] {
        let _ = std::fs::remove_file(agent.home().join(file));
    }
    let _ = std::fs::remove_dir_all(agent.home().join("holdfast-spool"));
    let target = agent.home().join("back.db");
    let into = format!("sqlite:{}", target.display());
    let restored = agent.json(&["restore", "shop", "--at", "0 seconds ago", "--into", &into]);
    assert_eq!(restored["proven"], true, "{restored}");
    assert_eq!(tests::sqlite::sqlite_dump_text(&target), shop.dump_text());
}

#[test]
fn a_night_without_the_record_makes_its_backup_and_says_so() {
    let shop = fixtures::sqlite("chinook.sqlite");
    let agent =
        agent_with(&format!("[agent]\nlisten = \"off\"\n[database.shop]\nurl = \"{}\"\n{RARELY}\n", shop.url()));
    // A directory where the record should be.
    std::fs::create_dir(agent.home().join("holdfast-state.db")).unwrap();
    let run = until_idle(&agent).expect_code(0);
    assert!(run.stderr.contains("the record is not there"), "{}", run.stderr);
    assert!(run.stderr.contains("done without the record"), "{}", run.stderr);
    let backups = agent.json(&["list"]);
    assert!(backups[0]["proven_at"].is_string(), "{backups}");
    let by_hand = agent.run(&["backup", "shop"]).expect_code(0);
    assert!(by_hand.stderr.contains("warning: this is not recorded"), "{}", by_hand.stderr);
    agent.run(&["history"]).expect_code(3);
}

#[test]
fn the_agent_tells_systemd_and_whoever_asks_and_ends_at_a_signal() {
    let shop = fixtures::sqlite("chinook.sqlite");
    let port = free_port();
    let agent = agent_with(&format!(
        "[agent]\nlisten = \"127.0.0.1:{port}\"\n[database.shop]\nurl = \"{}\"\n{RARELY}\n",
        shop.url()
    ));
    let socket_path = agent.home().join("notify.sock");
    let socket = UnixDatagram::bind(&socket_path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let agent = agent.with_env("NOTIFY_SOCKET", &socket_path).with_env("WATCHDOG_USEC", "20000000");
    let running = agent.start(&["run"]);
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    while !(heard.contains("READY=1") && heard.contains("WATCHDOG=1")) {
        let length = socket.recv(&mut buffer).expect("the agent speaks to systemd");
        heard.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        heard.push('\n');
    }
    wait_for("a proven backup in the metrics", || {
        let (code, metrics) = http_get(port, "/metrics")?;
        (code == 200 && metrics.contains("holdfast_newest_proven_backup_age_seconds{target=\"shop\"}")).then_some(())
    });
    assert_eq!(http_get(port, "/healthz").unwrap().0, 200);
    assert_eq!(http_get(port, "/readyz").unwrap().0, 200);
    let began = Instant::now();
    term(&running);
    let run = running.wait().expect_code(0);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(run.stderr.contains("ending"), "{}", run.stderr);
    let mut last = String::new();
    while let Ok(length) = socket.recv(&mut buffer) {
        last = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if last.contains("STOPPING=1") {
            break;
        }
    }
    assert!(last.contains("STOPPING=1"), "{last}");
}

#[test]
fn a_slot_of_a_schedule_is_met_and_not_twice() {
    let shop = fixtures::sqlite("chinook.sqlite");
    let agent = agent_with(&format!(
        "[agent]\nlisten = \"off\"\n[database.shop]\nurl = \"{}\"\n{OFTEN}\ndrill = \"never\"\n",
        shop.url()
    ));
    let running = agent.start(&["run"]);
    let count = || agent.json(&["list"]).as_array().map_or(0, Vec::len);
    wait_for("the first backup", || agent.store_dir().join("holdfast.json").exists().then(&count).filter(|n| *n > 0));
    // The next full minute.
    let began = Instant::now();
    while count() < 2 {
        assert!(began.elapsed() < Duration::from_secs(75), "no backup at the next minute");
        std::thread::sleep(Duration::from_millis(500));
    }
    term(&running);
    running.wait().expect_code(0);
    let made = count();
    let again = until_idle(&agent).expect_code(0);
    let now = jiff::Timestamp::now().as_second();
    assert!(count() == made || now % 60 < 10, "a slot was met twice: {}", again.stderr);
}

#[test]
fn one_hung_database_does_not_starve_the_others() {
    // Accepts connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let holder = std::thread::spawn(move || silent.incoming().take(8).collect::<Vec<_>>());
    let shop = fixtures::sqlite("chinook.sqlite");
    let agent = agent_with(&format!(
        "[agent]\nlisten = \"off\"\nparallel = 1\ndeadline = \"3s\"\n\
         [database.a-hung]\nurl = \"postgres://x@127.0.0.1:{port}/x\"\n{RARELY}\n\
         [database.shop]\nurl = \"{}\"\n{RARELY}\n",
        shop.url()
    ));
    let running = agent.start(&["run"]);
    wait_for("the other database's proof", || {
        let history = agent.run(&["history", "shop", "--json"]);
        (history.code == Some(0) && history.stdout.contains("\"drill\"") && !history.stdout.contains("\"running\""))
            .then_some(())
    });
    let failed = wait_for("the hung one's end", || {
        let history = agent.json(&["history", "a-hung"]);
        history.as_array().unwrap().iter().find(|task| !task["error_class"].is_null()).cloned()
    });
    assert!(["deadline", "transient"].contains(&failed["error_class"].as_str().unwrap()), "{failed}");
    term(&running);
    running.wait();
    drop(holder);
}

#[test]
fn a_stale_database_is_told_by_exit_code_8() {
    let shop = fixtures::sqlite("chinook.sqlite");
    let config = format!("[database.shop]\nurl = \"{}\"\nschedule = {{ cron = \"0 2 * * *\" }}\n", shop.url());
    let agent = agent_with(&config);
    agent.run(&["status"]).expect_code(3);
    agent.ok(&["init"]);
    let status = agent.run(&["status"]).expect_code(8);
    assert!(status.stdout.contains("there is no complete backup"), "{}", status.stdout);
    agent.ok(&["backup", "shop"]);
    let status = agent.run(&["status"]).expect_code(8);
    assert!(status.stdout.contains("there is no proven backup"), "{}", status.stdout);
    agent.ok(&["drill", "shop"]);
    agent.run(&["status"]).expect_code(0);
    std::fs::write(agent.home().join("holdfast.toml"), config.replace("shop.url", "x") + "drill = \"never\"\n")
        .unwrap();
    agent.run(&["status"]).expect_code(0);
}

#[test]
fn two_names_of_one_database_are_named_and_never_worked_on_at_once() {
    let shop = fixtures::sqlite("chinook.sqlite");
    let link = shop.folder().join("green.db");
    std::os::unix::fs::symlink(shop.path(), &link).unwrap();
    let agent = agent_with(&format!(
        "[agent]\nlisten = \"off\"\nparallel = 2\n[database.blue]\nurl = \"{}\"\n{RARELY}\n[database.green]\nurl = \"sqlite:{}\"\n{RARELY}\n",
        shop.url(),
        link.display()
    ));
    let run = until_idle(&agent).expect_code(0);
    assert!(run.stderr.contains("blue and green are one database"), "{}", run.stderr);
    assert_eq!(agent.json(&["list"]).as_array().unwrap().len(), 2);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_touched() {
    let shop = TestFile::named("shop.db");
    shop.sqlite3("CREATE TABLE t (a)");
    for (config, expected) in [
        (format!("[database.shop]\nurl = \"{}\"\nschedule = {{ cron = \"0 25 * * *\" }}\n", shop.url()), "shop"),
        (format!("[database.shop]\nurl = \"{}\"\nretention = {{ last = 0 }}\n", shop.url()), "shop"),
        (format!("[prune]\ngrace = \"1h\"\n[database.shop]\nurl = \"{}\"\n", shop.url()), "at least 1d"),
        (format!("[state]\nurl = \"{0}\"\n[database.shop]\nurl = \"{0}\"\n", shop.url()), "[state]"),
        (
            format!("[database.shop]\nurl = \"{}\"\n[database.shop.notify]\nping_url = \"ftp://x\"\n", shop.url()),
            "notify",
        ),
    ] {
        let agent = agent_with(&config);
        let run = until_idle(&agent).expect_code(3);
        assert!(run.stderr.contains(expected), "{config}\n{}", run.stderr);
        assert!(!agent.store_dir().exists() && !Path::new("holdfast-state.db").exists());
    }
    let without = Agent::new();
    until_idle(&without).expect_code(3);
}
