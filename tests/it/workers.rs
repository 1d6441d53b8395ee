//! Several workers share one record on PostgreSQL: many databases, one migration each.
//!
//! 100 databases; `HOLDFAST_TEST_LONG=1` takes 1,000.

use shared::model::{DatabaseUrl, JobId, NewTask, TaskKind};
use shared::task_log::TaskLog;
use shared::task_log::postgres::PostgresTaskLog;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tests::agent::{Agent, Running};
use tests::postgres::TestDatabase;
use tests::sqlite::sqlite3;

const WORKERS: usize = 3;
const LEASE: Duration = Duration::from_secs(3);
/// The one that cannot be migrated.
const BROKEN: usize = 13;

struct Yard {
    record: TestDatabase,
    agent: Agent,
    databases: usize,
}

impl Yard {
    fn new(databases: usize) -> Self {
        let record = TestDatabase::new();
        let mut config = format!("[state]\nurl = \"{}\"\nlease = \"{}s\"\n", record.url(), LEASE.as_secs());
        for n in 0..databases {
            config.push_str(&format!(
                "\n[database.d{n}]\nurl = \"sqlite:d{n}.db\"\nmigrations = {{ runner = \"sql\", directory = \"m\" }}\n"
            ));
        }
        let agent = Agent::worker().with_config(&config);
        std::fs::create_dir(agent.home().join("m")).unwrap();
        let sql = "CREATE TABLE note (id INTEGER PRIMARY KEY); UPDATE item SET name = 'new' WHERE id = 1;";
        std::fs::write(agent.home().join("m/1_note.sql"), sql).unwrap();
        // About 100 KB each.
        let sql = "PRAGMA journal_mode = WAL; CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT);
                   WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 1000)
                   INSERT INTO item SELECT i, hex(randomblob(45)) FROM c;";
        let file = |n: usize| agent.home().join(format!("d{n}.db"));
        sqlite3(&file(0), sql).unwrap();
        for n in 1..databases {
            std::fs::copy(file(0), file(n)).unwrap();
        }
        std::fs::write(file(BROKEN), "no database at all, and long enough to look like one".repeat(100)).unwrap();
        Yard { record, agent, databases }
    }

    /// Submits a migration of every database; the ids by number.
    fn submit(&self) -> Vec<JobId> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let DatabaseUrl::Postgres(url) = self.record.url().parse().unwrap() else { panic!("no PostgreSQL") };
            let log = PostgresTaskLog::open(url).await.unwrap();
            let mut jobs = Vec::new();
            for n in 0..self.databases {
                let task = NewTask {
                    spec: serde_json::json!({"to": "head"}),
                    max_attempts: 1,
                    ..NewTask::new(TaskKind::Migrate, Some(format!("d{n}").parse().unwrap()))
                };
                log.submit(&task).await.unwrap();
                jobs.push(task.job_id);
            }
            jobs
        })
    }

    fn workers(&self) -> Vec<Running> {
        (0..WORKERS).map(|_| self.agent.start(&["run", "--parallel", "2"])).collect()
    }

    fn number(&self, sql: &str) -> usize {
        self.record.query_value(sql).parse().unwrap()
    }

    fn ended(&self) -> usize {
        self.number("SELECT count(*) FROM holdfast.task_log WHERE finished_at IS NOT NULL")
    }
}

#[test]
fn three_workers_share_the_databases_and_take_over_what_a_killed_one_had() {
    let databases = if tests::is_long() { 1000 } else { 100 };
    let yard = Yard::new(databases);
    let jobs = yard.submit();
    let begun = Instant::now();
    let mut workers = yard.workers();

    // One is killed in the middle of its work.
    while yard.ended() < databases / 3 {
        assert!(begun.elapsed() < Duration::from_secs(900), "{} of {databases} ended", yard.ended());
        std::thread::sleep(Duration::from_millis(100));
    }
    let victim = workers.remove(0);
    let pid = victim.pid();
    let held = format!(
        "SELECT t.job_id FROM holdfast.task_log AS t JOIN holdfast.worker AS w ON w.id = t.lease_worker
         WHERE w.pid = {pid} AND t.state IN ('running', 'recovering')"
    );
    victim.kill();
    let mut lost: Vec<String> = yard.record.query_rows(&held).into_iter().map(|mut row| row.remove(0)).collect();
    let killed = Instant::now();
    let list = lost.iter().map(|job| format!("'{job}'")).collect::<Vec<_>>().join(", ");
    if !lost.is_empty() {
        let open = format!("SELECT count(*) FROM holdfast.task_log WHERE job_id IN ({list}) AND finished_at IS NULL");
        while yard.number(&open) > 0 {
            assert!(killed.elapsed() < LEASE + Duration::from_secs(15), "{lost:?} not recovered in time");
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("{} tasks of the killed worker ended within {:.1} s", lost.len(), killed.elapsed().as_secs_f64());
    }

    while yard.ended() < databases {
        assert!(begun.elapsed() < Duration::from_secs(1800), "{} of {databases} ended", yard.ended());
        std::thread::sleep(Duration::from_millis(200));
    }
    let took = begun.elapsed();
    // Another one may have been quicker than the question above.
    lost.extend(
        yard.record
            .query_rows(&format!(
                "SELECT a.job_id FROM holdfast.task_attempt AS a JOIN holdfast.worker AS w ON w.id = a.worker
         GROUP BY 1 HAVING bool_or(w.pid = {pid}) AND count(*) > 1"
            ))
            .into_iter()
            .map(|mut row| row.remove(0)),
    );
    lost.sort();
    lost.dedup();
    for worker in workers {
        worker.signal("TERM");
        worker.wait().expect_code(0);
    }

    let mut states: BTreeMap<String, usize> = BTreeMap::new();
    for (n, job) in jobs.iter().enumerate() {
        let state = yard.record.query_value(&format!("SELECT state FROM holdfast.task_log WHERE job_id = '{job}'"));
        let is_new = |sql: &str| sqlite3(&yard.agent.home().join(format!("d{n}.db")), sql).unwrap();
        let count = "SELECT (SELECT count(*) FROM sqlite_schema WHERE name = 'note') || ' ' ||
                     (SELECT count(*) FROM item WHERE name = 'new')";
        match state.as_str() {
            "succeeded" => assert_eq!(is_new(count).trim(), "1 1", "d{n}"),
            // Its worker was killed before it had begun to change the database, or was taken back.
            "restored" | "failed" if lost.contains(&job.to_string()) => assert_eq!(is_new(count).trim(), "0 0", "d{n}"),
            _ => assert_eq!(n, BROKEN, "d{n} is {state}"),
        }
        *states.entry(state).or_default() += 1;
    }
    assert!(states["succeeded"] >= databases - 1 - lost.len(), "{states:?}");
    let shares = yard.record.query_rows(
        "SELECT w.pid, count(*) FROM holdfast.task_attempt AS a JOIN holdfast.worker AS w ON w.id = a.worker
         GROUP BY 1 ORDER BY 2",
    );
    println!("{states:?} in {:.1} s: {:.2} a second", took.as_secs_f64(), databases as f64 / took.as_secs_f64());
    println!("tries by process: {shares:?}");
    // The killed one had a third of a third; of the others none is left with less than half of its share.
    let least: usize =
        shares.iter().filter(|row| row[0] != pid.to_string()).map(|row| row[1].parse().unwrap()).min().unwrap();
    assert!(least > databases / WORKERS / 2, "{shares:?}");
}

#[test]
fn a_nightly_backup_makes_way_for_a_migration() {
    let shop = TestDatabase::new();
    shop.psql("CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item VALUES (1)");
    let worker = Agent::worker();
    let home = worker.home().display().to_string();
    std::fs::create_dir(worker.home().join("m")).unwrap();
    std::fs::write(worker.home().join("m/1_note.sql"), "CREATE TABLE note (id int PRIMARY KEY);").unwrap();
    // Once a year: what happens is the first backup, which a database without any gets at once.
    let config = format!(
        "[store]\nurl = \"file:{home}/store\"\n\n[state]\nurl = \"sqlite:{home}/state.db\"\nlease = \"3s\"\n\n\
         [agent]\nlisten = \"off\"\n\n[database.shop]\nurl = \"{}\"\nschedule = {{ cron = \"0 0 1 1 *\" }}\n\
         migrations = {{ runner = \"sql\", directory = \"{home}/m\" }}\n",
        shop.url()
    );
    let worker = worker.with_store(None).with_config(&config);
    let agent = Agent::new().with_store(None).with_config(&config);

    // Somebody has a table locked, so that the backup waits.
    let lock = shop.lock_table("item");
    let nightly = agent.start(&["run"]);
    let tasks = |kind: &str| {
        // There is no record before the agent has made it.
        let run = worker.run(&["history", "--all", "--json"]);
        let history = if run.code == Some(0) { run.json() } else { serde_json::json!([]) };
        let of_kind = history.as_array().unwrap().iter().filter(|task| task["kind"] == kind).cloned();
        of_kind.collect::<Vec<_>>()
    };
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {:#?}", worker.json(&["history", "--all"]));
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    until("the backup has begun", &|| tasks("backup").iter().any(|task| task["state"] == "running"));
    worker.ok(&["submit", "shop"]);
    let running = worker.start(&["run"]);
    until("the backup has made way", &|| tasks("backup").iter().any(|task| task["state"] == "cancelled"));
    drop(lock);
    until("the migration has ended", &|| tasks("migrate").iter().any(|task| task["state"] == "succeeded"));
    assert_eq!(shop.query_value("SELECT count(*) FROM note"), "0");
    let cancelled = tasks("backup").into_iter().find(|task| task["state"] == "cancelled").unwrap();
    let shown = worker.ok(&["show", cancelled["job_id"].as_str().unwrap()]).stdout;
    assert!(shown.contains("the migration"), "{shown}");
    for running in [running, nightly] {
        running.signal("TERM");
        running.wait().expect_code(0);
    }
}
