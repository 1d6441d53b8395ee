//! The agent left alone: a year on SQLite and sixty nights on PostgreSQL, with a clock that the test turns.

use jiff::{SignedDuration, Timestamp};
use shared::clock::Clock;
use shared::model::{TaskKind, TaskState};
use std::collections::BTreeMap;
use tests::agent_world::AgentWorld;
use tests::mutations::Draws;
use tests::postgres::{TestDatabase, client, dump_differences, pg_dump_text};
use tests::sqlite::TestFile;

/// The text `sqlite3` or `pg_dump` gave for a database on the night of each backup.
type Nights = BTreeMap<String, String>;

const POLICY: &str = "schedule = { cron = \"30 2 * * *\", timezone = \"Europe/Berlin\", jitter = \"20m\" }\n\
                      retention = { daily = 7, weekly = 4, monthly = 12 }\n";

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

/// One day in the life of a small application: mostly appends, some changes, now and then something removed.
fn drift(file: &TestFile, day: usize, draws: &mut Draws) {
    let some = draws.below(900);
    file.sqlite3(&format!(
        "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer INTEGER, note TEXT);
         CREATE TABLE IF NOT EXISTS customers (id INTEGER PRIMARY KEY, name TEXT, seen INTEGER DEFAULT 0);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
         INSERT INTO orders (customer, note) SELECT abs(random() % 500), hex(randomblob(40)) FROM n;
         INSERT INTO customers (name) VALUES ('customer of day {day}');
         UPDATE customers SET seen = {day} WHERE id % 900 = {some};
         DELETE FROM orders WHERE id % 900 = {some};"
    ));
    if day % 45 == 44 {
        file.sqlite3(&format!("ALTER TABLE customers ADD COLUMN c{day} TEXT DEFAULT 'new'"));
    }
}

/// Restores a backup into a new file and compares it with the night it is of.
async fn check(world: &AgentWorld, nights: &Nights, id: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = world.restored_file("shop", id, folder.path()).await;
    let found = tests::sqlite::sqlite_dump_text(&file);
    assert!(nights.get(id) == Some(&found), "backup {id} is not what the database was that night");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_year_of_nights_on_sqlite() {
    let days = if tests::is_long() { 730 } else { 366 };
    let mut draws = Draws::from_environment();
    let live = TestFile::named("shop.db");
    drift(&live, 0, &mut draws);
    let config = format!("[database.shop]\nurl = \"{}\"\n{POLICY}", live.url());
    let mut world = AgentWorld::new(&config, "2025-01-01T12:00:00Z");
    let mut nights = Nights::new();
    for day in 1..=days {
        let now = world.clock.now();
        let tonight = now + hours(24);
        world.live_until(tonight).await;
        let backups = world.backups("shop").await;
        let newest = backups.last().expect("every night leaves a backup");
        // The database has not changed since the first backup that is not known yet.
        for backup in &backups {
            nights.entry(backup.id.to_string()).or_insert_with(|| live.dump_text());
        }
        assert!(newest.id.second() > now - hours(2), "day {day}: no backup since {now}");
        assert!(newest.proven_at().is_some(), "day {day}: the newest backup is not proven");
        assert!(backups.iter().all(|backup| backup.is_complete()), "day {day}");
        // Seven days, four weeks and twelve months overlap; the seven first nights have fewer.
        let most = 7 + 4 + 12;
        assert!(backups.len() <= most, "day {day}: {} backups are kept", backups.len());
        assert!(backups.len() >= day.min(7), "day {day}: only {} backups are kept", backups.len());
        let mut chosen: Vec<String> = backups.iter().map(|backup| backup.id.to_string()).collect();
        if day % 30 != 0 {
            chosen = (0..2).map(|_| draws.pick(&chosen).clone()).collect();
        }
        for id in &chosen {
            check(&world, &nights, id).await;
        }
        drift(&live, day, &mut draws);
        if day % 50 == 0 {
            world.restart();
        }
    }
    let tasks = world.tasks().await;
    let of = |kind| tasks.iter().filter(|task| task.kind == kind).collect::<Vec<_>>();
    assert!(tasks.iter().all(|task| task.state == TaskState::Succeeded), "{:?}", tasks.first());
    // The very first backup is made at once, the others one a night.
    assert_eq!((of(TaskKind::Backup).len(), of(TaskKind::Drill).len()), (days + 1, days + 1));
    let pruned: u64 = of(TaskKind::Prune).iter().filter_map(|task| task.report.bytes_out).sum();
    assert!(of(TaskKind::Prune).len() >= days / 7 - 1 && pruned > 0, "{} bytes were pruned", pruned);
    let backups = world.backups("shop").await;
    // The newest of this and of the last month, and of two weeks, are among the seven days.
    assert!(backups.len() >= 7 + 2 + 9, "{} backups are left after a year", backups.len());
    let raw: u64 = backups.iter().map(|backup| backup.manifest.as_ref().unwrap().header.raw_bytes).sum();
    println!("{} backups kept, {} bytes stored for {raw} bytes of databases", backups.len(), world.stored_bytes());
    assert!(world.stored_bytes() < raw, "{} bytes are stored for {raw}", world.stored_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_nights_on_postgresql_beside_pg_dump() {
    let live = TestDatabase::new();
    live.psql(
        "CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz, kind text, body text);
         CREATE TABLE users (id int PRIMARY KEY, name text, seen int);
         INSERT INTO users SELECT i, 'user ' || md5(i::text), 0 FROM generate_series(1, 2000) i;
         INSERT INTO events (at, kind, body) SELECT now(), 'old', md5(i::text) || md5((-i)::text) FROM generate_series(1, 60000) i;",
    );
    // The server dates its snapshots by its own clock, which the test does not turn; so there is no retention here, which
    // would refuse to act on such times.
    let schedule = POLICY.lines().next().unwrap();
    let config = format!("[database.shop]\nurl = \"{}\"\n{schedule}\n", live.url());
    let mut world = AgentWorld::new(&config, &Timestamp::now().to_string());
    let (mut dumps, mut texts) = (BTreeMap::new(), Nights::new());
    for night in 1..=60_u32 {
        world.live_until(world.clock.now() + hours(24)).await;
        let backups = world.backups("shop").await;
        let newest = backups.last().unwrap();
        assert!(newest.proven_at().is_some(), "night {night}: the newest backup is not proven");
        dumps.insert(newest.id.to_string(), custom_dump_bytes(&live));
        if night % 20 == 0 {
            texts.insert(newest.id.to_string(), pg_dump_text(&live.url()));
        }
        live.psql(&format!(
            "INSERT INTO events (at, kind, body) SELECT now(), 'night {night}', md5(random()::text) FROM generate_series(1, 600);
             UPDATE users SET seen = {night} WHERE id BETWEEN {night} * 10 AND {night} * 10 + 5;"
        ));
    }
    let kept: Vec<String> = world.backups("shop").await.iter().map(|backup| backup.id.to_string()).collect();
    assert_eq!(kept.len(), 61, "without retention every night stays");
    let last = kept.last().unwrap();
    let target = TestDatabase::reserved();
    assert!(world.restored("shop", last, target.url().parse().unwrap()).await.proven);
    let differences = dump_differences(&texts[last], &pg_dump_text(&target.url()));
    assert!(differences.is_empty(), "the last night did not come back: {differences:?}");
    let beside: u64 = kept.iter().filter_map(|id| dumps.get(id)).sum();
    let ratio = world.stored_bytes() as f64 / beside as f64;
    println!("{} kept nights: {} bytes stored, {beside} by pg_dump -Fc: {ratio:.3}", kept.len(), world.stored_bytes());
    assert!(ratio < 0.1, "stored bytes are {ratio:.3} of pg_dump -Fc of the same nights");
}

/// What `pg_dump -Fc` writes of a database now.
fn custom_dump_bytes(database: &TestDatabase) -> u64 {
    let answer = client("pg_dump").args(["-Fc", "-d", &database.url()]).output().unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    answer.stdout.len() as u64
}

/// The slots whose backups the record knows, oldest first.
async fn backup_times(world: &AgentWorld) -> Vec<Timestamp> {
    let tasks = world.tasks().await;
    let mut times: Vec<Timestamp> =
        tasks.iter().filter(|task| task.kind == TaskKind::Backup).filter_map(|task| task.started_at).collect();
    times.sort();
    times
}

#[tokio::test]
async fn a_night_at_half_past_two_runs_once_when_clocks_change_both_ways() {
    for (begin, slots) in [
        // 02:30 does not exist on 30 March: right after the gap, 03:00 CEST.
        ("2025-03-28T12:00:00Z", ["2025-03-29T01:30:00Z", "2025-03-30T01:00:00Z", "2025-03-31T00:30:00Z"]),
        // 02:30 exists twice on 26 October: the first counts.
        ("2025-10-24T12:00:00Z", ["2025-10-25T00:30:00Z", "2025-10-26T00:30:00Z", "2025-10-27T01:30:00Z"]),
    ] {
        let live = TestFile::named("shop.db");
        live.sqlite3("CREATE TABLE t (a); INSERT INTO t VALUES (1)");
        let schedule = "schedule = { cron = \"30 2 * * *\", timezone = \"Europe/Berlin\" }";
        let mut world = AgentWorld::new(&format!("[database.shop]\nurl = \"{}\"\n{schedule}\n", live.url()), begin);
        world.live_until(begin.parse::<Timestamp>().unwrap() + hours(72)).await;
        let slots: Vec<Timestamp> = slots.iter().map(|slot| slot.parse().unwrap()).collect();
        // The first backup of all is made at once.
        assert_eq!(backup_times(&world).await[1..], slots);
    }
}

#[tokio::test]
async fn a_clock_that_jumps_removes_nothing_and_runs_a_slot_once() {
    let live = TestFile::named("shop.db");
    live.sqlite3("CREATE TABLE t (a); INSERT INTO t VALUES (1)");
    let config = format!("[database.shop]\nurl = \"{}\"\n{POLICY}", live.url());
    let begin: Timestamp = "2025-05-01T12:00:00Z".parse().unwrap();
    for jump in ["+40d", "1970", "-40d"] {
        let mut world = AgentWorld::new(&config, "2025-05-01T12:00:00Z");
        world.live_until(begin + hours(24 * 12)).await;
        let before: Vec<String> = world.backups("shop").await.iter().map(|backup| backup.id.to_string()).collect();
        let right = world.clock.now();
        let wrong = match jump {
            "+40d" => right + hours(24 * 40),
            "-40d" => right - hours(24 * 40),
            _ => "1970-01-01T00:05:00Z".parse().unwrap(),
        };
        let count = |tasks: Vec<shared::model::Task>| tasks.iter().filter(|task| task.kind == TaskKind::Backup).count();
        let made = count(world.tasks().await);
        world.clock.set_wall(wrong);
        world.settle().await;
        // However many nights were missed: one run, not one for each.
        assert!(count(world.tasks().await) <= made + 1, "{jump}");
        let after: Vec<String> = world.backups("shop").await.iter().map(|backup| backup.id.to_string()).collect();
        let gone: Vec<&String> = before.iter().filter(|id| !after.contains(id)).collect();
        assert!(gone.is_empty(), "{jump}: {gone:?} are gone");
        world.clock.set_wall(right);
        world.live_until(right + hours(48)).await;
        let backups = world.backups("shop").await;
        let newest = backups.last().unwrap();
        assert!(newest.proven_at().is_some(), "{jump}: after the clock is right again nights are proven as before");
        assert!(
            count(world.tasks().await) >= made + 2,
            "{jump}: the nights after the clock was right again are missing"
        );
    }
}

#[tokio::test]
async fn nights_that_were_missed_are_caught_up_once() {
    let live = TestFile::named("shop.db");
    live.sqlite3("CREATE TABLE t (a); INSERT INTO t VALUES (1)");
    let config = format!("[database.shop]\nurl = \"{}\"\n{POLICY}", live.url());
    let mut world = AgentWorld::new(&config, "2025-05-01T12:00:00Z");
    world.live_until("2025-05-03T12:00:00Z".parse().unwrap()).await;
    let made = world.backups("shop").await.len();
    // The machine was off for five nights.
    world.clock.set_wall("2025-05-08T12:00:00Z".parse().unwrap());
    world.restart();
    world.settle().await;
    assert_eq!(world.backups("shop").await.len(), made + 1);
    world.settle().await;
    assert_eq!(world.backups("shop").await.len(), made + 1);
}
