//! The agent's HTTP door over a real socket.

use backup_agent::health::Health;
use backup_agent::http::{open, serve};
use backup_agent::status::{DatabaseStatus, Kept, LastError};
use shared::clock::Clock;
use shared::model::{TaskKind, TaskState};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tests::fake_clock::FakeClock;
use tokio::sync::oneshot;

struct Served {
    address: SocketAddr,
    health: Arc<Health>,
    clock: FakeClock,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

async fn served() -> Served {
    let clock = FakeClock::at("2025-01-31T12:00:00Z".parse().unwrap());
    let health = Arc::new(Health::new(Arc::new(clock.clone()), Duration::from_secs(60)));
    let door = open("127.0.0.1:0").await.unwrap().expect("a door");
    let (stop, stopped) = oneshot::channel::<()>();
    let address = door.address();
    let task = tokio::spawn(door.serve(health.clone(), async move { drop(stopped.await) }));
    Served { address, health, clock, stop, task }
}

/// Sends bytes as they are and reads until the end.
fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // The server may have had enough before everything is written.
    let _ = socket.write_all(bytes);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let request = format!("{request} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes();
    tokio::task::spawn_blocking(move || raw(address, &request)).await.unwrap()
}

fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn alive_means_that_the_loop_turned_lately() {
    let served = served().await;
    assert_eq!(status_of(&ask(served.address, "GET /healthz").await), "200");
    served.clock.advance(Duration::from_secs(61));
    assert_eq!(status_of(&ask(served.address, "GET /healthz").await), "503");
    served.health.turned();
    assert_eq!(status_of(&ask(served.address, "GET /healthz").await), "200");
    // Somebody who sets the wall clock does not kill the agent.
    served.clock.suspend(Duration::from_secs(86_400));
    assert_eq!(status_of(&ask(served.address, "GET /healthz").await), "200");
}

#[tokio::test]
async fn ready_tells_why_not() {
    let served = served().await;
    let answer = ask(served.address, "GET /readyz").await;
    assert_eq!(status_of(&answer), "503");
    served.health.set_ready(vec!["the store \"x\" cannot be reached".into(), "the record is read-only".into()]);
    let answer = ask(served.address, "GET /readyz").await;
    let body: serde_json::Value = serde_json::from_str(body_of(&answer)).unwrap();
    let reasons = ["the store \"x\" cannot be reached", "the record is read-only"];
    assert_eq!((status_of(&answer), body), ("503", serde_json::json!({ "ready": false, "reasons": reasons })));
    served.health.set_ready(Vec::new());
    assert_eq!(status_of(&ask(served.address, "GET /readyz").await), "200");
}

#[tokio::test]
async fn anything_else_is_turned_down_and_hurts_nobody() {
    let served = served().await;
    let address = served.address;
    for (request, status) in [
        ("GET /", "404"),
        ("GET /metrics/", "404"),
        ("GET /../etc/passwd", "404"),
        ("POST /metrics", "405"),
        ("DELETE /healthz", "405"),
        ("HEAD /healthz", "200"),
    ] {
        assert_eq!(status_of(&ask(address, request).await), status, "{request}");
    }
    let long = format!("GET /healthz HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let many = format!("GET /healthz HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(500));
    for bytes in [long.into_bytes(), many.into_bytes(), vec![0xff; 5000], b"\r\n\r\n\r\nnonsense\r\n\r\n".to_vec()] {
        let answer = tokio::task::spawn_blocking(move || raw(address, &bytes)).await.unwrap();
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(status_of(&ask(address, "GET /healthz").await), "200");
}

#[tokio::test]
async fn clients_that_say_nothing_are_put_out_and_do_not_keep_others_away() {
    let served = served().await;
    let address = served.address;
    let mut idle: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
    // More than are served at once, so this one is answered only after some of them were put out.
    assert_eq!(status_of(&ask(address, "GET /healthz").await), "200");
    let first = idle.remove(0);
    first.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut rest = Vec::new();
    let end = tokio::task::spawn_blocking(move || (&first).read_to_end(&mut rest)).await.unwrap();
    assert!(end.is_ok(), "the idle connection is still open: {end:?}");
}

#[tokio::test]
async fn it_closes_when_told_and_the_address_is_free_again() {
    let served = served().await;
    let _open = TcpStream::connect(served.address).unwrap();
    served.stop.send(()).unwrap();
    served.task.await.unwrap();
    let again = open(&served.address.to_string()).await.unwrap();
    assert_eq!(again.map(|door| door.address()), Some(served.address));
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_named_and_off_is_none() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (listen, expected) in [
        (address.as_str(), "it is in use"),
        ("192.0.2.1:80", "this machine does not have the address"),
        ("127.0.0.1", "listen of [agent]"),
        ("", "listen of [agent]"),
        ("127.0.0.1:99999", "listen of [agent]"),
    ] {
        let error = open(listen).await.expect_err(listen);
        assert!(error.to_string().contains(expected) && error.hint().is_some(), "{listen}: {error}");
    }
    assert!(open("off").await.unwrap().is_none());
    let health = Arc::new(Health::new(shared::clock::system(), Duration::from_secs(60)));
    serve("off", health, async {}).await.unwrap();
}

fn status(clock: &FakeClock, name: &str) -> DatabaseStatus {
    let kept = |hours: i64| Kept {
        id: "20250131T020000Z-abcdef".parse().unwrap(),
        created_at: clock.now() - jiff::SignedDuration::from_hours(hours),
        proven_at: None,
    };
    DatabaseStatus {
        database: name.parse().unwrap(),
        backups: 9,
        unusable: 1,
        newest_complete: Some(kept(10)),
        newest_proven: Some(kept(34)),
        stored_bytes: 5_000_000_000,
        next_backup: Some(clock.now() + jiff::SignedDuration::from_hours(14)),
        next_drill: None,
        last_error: Some(LastError { kind: "drill".into(), at: clock.now(), message: "different".into() }),
        stale: vec!["the newest proven backup is too old".into()],
    }
}

/// Everything a page can hold, so that every metric has a value.
pub fn full_health(clock: &FakeClock) -> Health {
    let health = Health::new(Arc::new(clock.clone()), Duration::from_secs(60));
    let mut shop = status(clock, "shop");
    shop.next_drill = shop.next_backup;
    health.set_databases(vec![shop, status(clock, "stock")]);
    health.set_tasks(BTreeMap::from([((TaskKind::Backup, TaskState::Queued), 3)]), Some(clock.now()));
    health.task_ended(TaskKind::Backup, TaskState::Succeeded, 12.5);
    health.task_ended(TaskKind::Backup, TaskState::Failed, 2.0);
    health.succeeded(TaskKind::Backup, Some(&"shop".parse().unwrap()), clock.now());
    health.succeeded(TaskKind::Prune, None, clock.now());
    health.backup_stored(&"shop".parse().unwrap(), 4096);
    health.lease_lost();
    health.set_record_up(true);
    health
}

/// Metrics by name, with their lines; panics where the page is not as Prometheus reads it.
pub fn parsed(page: &str) -> BTreeMap<String, Vec<String>> {
    assert!(page.ends_with('\n'));
    let (mut helped, mut typed) = (BTreeSet::new(), BTreeMap::new());
    let mut current = String::new();
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(helped.insert(name.to_owned()), "{name} has two helps");
            assert!(help.ends_with('.') && !help.contains('\\'), "{line}");
            current = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "summary"].contains(&kind), "{line}");
            assert_eq!(name, current, "TYPE follows HELP");
            assert_eq!(name.ends_with("_total"), kind == "counter", "only counters end in _total: {line}");
            typed.insert(name.to_owned(), kind.to_owned());
        } else {
            let (head, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap_or_else(|_| panic!("not a number: {line}"));
            let name = head.split('{').next().unwrap();
            let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.starts_with("holdfast_") && name.chars().all(is_plain), "{line}");
            let family = if typed[&current] == "summary" {
                assert!(name.ends_with("_sum") || name.ends_with("_count"), "{line}");
                name.rsplit_once('_').unwrap().0
            } else {
                name
            };
            assert_eq!(family, current, "values stand behind their TYPE: {line}");
            let lines = values.entry(name.to_owned()).or_default();
            assert!(!lines.iter().any(|known| known.rsplit_once(' ').unwrap().0 == head), "twice: {line}");
            lines.push(line.to_owned());
        }
    }
    assert_eq!(helped, typed.into_keys().collect());
    values
}

#[tokio::test]
async fn metrics_are_as_prometheus_reads_them_and_ages_grow_by_themselves() {
    let served = served().await;
    let empty = ask(served.address, "GET /metrics").await;
    assert!(empty.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{empty}");
    assert!(parsed(body_of(&empty)).contains_key("holdfast_lease_lost_total"));

    let clock = &served.clock;
    let health = full_health(clock);
    clock.advance(Duration::from_secs(100));
    let values = parsed(&health.metrics());
    for expected in [
        "holdfast_newest_backup_age_seconds{target=\"shop\"} 36100",
        "holdfast_newest_proven_backup_age_seconds{target=\"stock\"} 122500",
        "holdfast_oldest_queued_seconds 100",
        "holdfast_stale{target=\"shop\"} 1",
        "holdfast_store_bytes{target=\"shop\"} 5000000000",
        "holdfast_unusable_backups{target=\"shop\"} 1",
        "holdfast_backup_bytes_new{target=\"shop\"} 4096",
        "holdfast_lease_lost_total 1",
        "holdfast_tasks{kind=\"backup\",state=\"queued\"} 3",
        "holdfast_tasks_ended_total{kind=\"backup\",state=\"failed\"} 1",
        "holdfast_task_duration_seconds_sum{kind=\"backup\"} 14.5",
        "holdfast_task_duration_seconds_count{kind=\"backup\"} 2",
        "holdfast_last_success_timestamp_seconds{kind=\"backup\",target=\"shop\"} 1738324800",
        "holdfast_last_success_timestamp_seconds{kind=\"prune\",target=\"\"} 1738324800",
        "holdfast_last_error_timestamp_seconds{kind=\"drill\",target=\"shop\"} 1738324800",
        "holdfast_record_up 1",
        "holdfast_store_up 0",
        "holdfast_alive 0",
    ] {
        let name = expected.split(['{', ' ']).next().unwrap();
        assert!(values[name].iter().any(|line| line == expected), "{expected}: {:?}", values[name]);
    }
    let version = &values["holdfast_build_info"][0];
    assert!(version.contains("version=\"0.") && version.ends_with(" 1"), "{version}");
}
