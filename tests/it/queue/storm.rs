//! The storm: many submissions and many workers while everything that can fail does, again and again.
//!
//! 3,000 submissions; `HOLDFAST_TEST_LONG=1` sends 100,000, `HOLDFAST_TEST_STORM=N` so many. `HOLDFAST_TEST_SEED=N` draws
//! the same troubles.

use super::id;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tests::agent::{Agent, program};
use tests::amqp::{self, Message};
use tests::mutations::Draws;
use tests::rabbitmq::PrivateRabbit;
use tests::sqlite::sqlite3;

const DATABASES: u32 = 20;
const WORKERS: usize = 3;
const PUBLISHERS: usize = 3;
/// Ids of migrations begin here.
const MIGRATIONS: u32 = 1_000_000;

struct Storm {
    broker: PrivateRabbit,
    agent: Agent,
    workers: Vec<Child>,
    flags: &'static [&'static str],
    draws: Draws,
    killed: usize,
}

/// What an outsider reads in the record, the table of effects and the databases.
#[derive(Default)]
struct Found {
    /// State by job.
    states: BTreeMap<String, String>,
    /// How often each job was done.
    effects: BTreeMap<String, usize>,
}

impl Storm {
    fn begin(flags: &'static [&'static str]) -> Self {
        let broker = PrivateRabbit::start();
        let mut config = format!(
            "[store]\nurl = \"file:store\"\n\n[state]\nlease = \"15s\"\n\n[queue]\nurl = \"{}\"\nheartbeat = \"2s\"\nprefetch = 16\n",
            broker.url()
        );
        for n in 0..DATABASES {
            config.push_str(&format!(
                "\n[database.d{n}]\nurl = \"sqlite:d{n}.db\"\nmigrations = {{ runner = \"sql\", directory = \"m\" }}\n"
            ));
        }
        let agent = Agent::worker().with_store(None).with_config(&config);
        std::fs::create_dir(agent.home().join("m")).unwrap();
        for n in 1..=10 {
            let sql = format!("CREATE TABLE t{n} (id INTEGER PRIMARY KEY); INSERT INTO item (name) VALUES ('of {n}');");
            std::fs::write(agent.home().join(format!("m/{n:02}_more.sql")), sql).unwrap();
        }
        for n in 0..DATABASES {
            let sql = "PRAGMA journal_mode = WAL; CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT);
                       INSERT INTO item (name) VALUES ('first');";
            sqlite3(&agent.home().join(format!("d{n}.db")), sql).unwrap();
        }
        let effects = "PRAGMA journal_mode = WAL; CREATE TABLE effect (job TEXT NOT NULL, epoch INTEGER NOT NULL);
                       CREATE INDEX effect_job ON effect (job);";
        sqlite3(&agent.home().join("effects.db"), effects).unwrap();
        let draws = Draws::from_environment();
        let mut storm = Storm { broker, agent, workers: Vec::new(), flags, draws, killed: 0 };
        (0..WORKERS).for_each(|_| storm.workers.push(storm.worker()));
        storm.wait_for_the_queue();
        storm.broker.write_down_queues();
        storm
    }

    fn worker(&self) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(program("storm-worker"));
        command.arg("effects.db").args(self.flags).current_dir(self.agent.home()).env("HOME", self.agent.home());
        command.env("RUST_LOG", "info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().unwrap()
    }

    fn log(&self) -> PathBuf {
        self.agent.home().join("workers.log")
    }

    fn wait_for_the_queue(&self) {
        let begun = Instant::now();
        while self.waiting("holdfast.jobs.default").is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "no queue: {}", self.last_words());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn waiting(&self, queue: &str) -> Option<usize> {
        amqp::depth(&self.broker.url(), queue)
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Kills a worker, as the machine would, and starts another one in its place.
    fn kill_a_worker(&mut self) {
        let at = self.draws.below(self.workers.len());
        self.workers[at].kill().unwrap();
        self.workers[at].wait().unwrap();
        self.workers[at] = self.worker();
        self.killed += 1;
    }

    /// Does to the broker what the turn says.
    fn trouble(&mut self, turn: usize) {
        let pause = |milliseconds: usize| std::thread::sleep(Duration::from_millis(milliseconds as u64));
        match turn % 3 {
            0 => {
                self.broker.kill();
                pause(self.draws.below(2000));
                self.broker.start_again();
            }
            1 => drop(self.broker.ctl(&["close_all_connections", "by the storm"])),
            _ => {
                self.broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1"]);
                pause(2000 + self.draws.below(3000));
                self.broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]);
            }
        }
    }

    /// Runs until all messages are confirmed, with a trouble of the broker every `every` and a worker killed in between.
    fn rage(&mut self, messages: &[Message], pause: &str, every: Duration, least: usize) {
        let mut publishers: Vec<Child> = (0..PUBLISHERS)
            .map(|n| {
                let own: Vec<Message> = messages.iter().skip(n).step_by(PUBLISHERS).cloned().collect();
                amqp::start_publishing(&self.broker.url(), &own, pause)
            })
            .collect();
        let (mut turn, mut next) = (0, Instant::now() + every / 2);
        loop {
            std::thread::sleep(Duration::from_millis(500 + self.draws.below(3000) as u64));
            self.kill_a_worker();
            if Instant::now() >= next {
                self.trouble(turn);
                (turn, next) = (turn + 1, Instant::now() + every);
            }
            let is_over = publishers.iter_mut().all(|publisher| publisher.try_wait().unwrap().is_some());
            if is_over && turn >= least {
                break;
            }
        }
        for mut publisher in publishers {
            assert!(publisher.wait().unwrap().success(), "a publisher gave up");
        }
        println!("{turn} troubles of the broker, {} workers killed", self.killed);
    }

    /// Waits until the record has an end for every task it knows, and the queue is empty.
    fn calm(&mut self) -> Found {
        let begun = Instant::now();
        let state = self.agent.home().join("holdfast-state.db");
        let open = "SELECT count(*) FROM task_log WHERE finished_at IS NULL";
        let mut quiet = 0;
        while quiet < 3 {
            assert!(begun.elapsed() < Duration::from_secs(600), "no end in sight: {}", self.last_words());
            std::thread::sleep(Duration::from_secs(1));
            let waiting = self.waiting("holdfast.jobs.default");
            let is_quiet = waiting == Some(0) && sqlite3(&state, open).unwrap().trim() == "0";
            quiet = if is_quiet { quiet + 1 } else { 0 };
        }
        for worker in &mut self.workers {
            Command::new("kill").arg(worker.id().to_string()).status().unwrap();
            worker.wait().unwrap();
        }
        println!("calm after {:.1} s", begun.elapsed().as_secs_f64());
        let mut found = Found::default();
        for line in sqlite3(&state, "SELECT job_id || ' ' || state FROM task_log").unwrap().lines() {
            let (job, state) = line.split_once(' ').unwrap();
            found.states.insert(job.to_owned(), state.to_owned());
        }
        let effects = self.agent.home().join("effects.db");
        for job in sqlite3(&effects, "SELECT job FROM effect").unwrap().lines() {
            *found.effects.entry(job.to_owned()).or_default() += 1;
        }
        found
    }

    /// What is not as it should be with the tasks of the kind that only notes.
    fn complaints(&self, found: &Found, wished: &[u32]) -> Vec<String> {
        let mut wrong = Vec::new();
        for n in wished {
            let job = id(*n);
            let (state, times) = (found.states.get(&job), found.effects.get(&job).copied().unwrap_or(0));
            match (state.map(String::as_str), times) {
                (Some("succeeded"), 1) => {}
                (None, _) => wrong.push(format!("{job} was confirmed and is lost")),
                (Some(state), times) => wrong.push(format!("{job} is {state}, and was done {times} times")),
            }
        }
        let known: BTreeSet<String> = wished.iter().map(|n| id(*n)).collect();
        wrong
            .extend(found.effects.keys().filter(|job| !known.contains(*job)).map(|job| format!("{job}: nobody asked")));
        wrong
    }

    /// What is not as it should be with the migrations: as many steps stand in a database as succeeded, each whole.
    fn migration_complaints(&self, found: &Found, wished: &[u32]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut steps: BTreeMap<u32, usize> = BTreeMap::new();
        for n in wished {
            match found.states.get(&id(*n)).map(String::as_str) {
                Some("succeeded") => *steps.entry(n % DATABASES).or_default() += 1,
                Some("restored" | "failed" | "refused") => {}
                other => wrong.push(format!("migration {} is {other:?}", id(*n))),
            }
        }
        for n in 0..DATABASES {
            let file = self.agent.home().join(format!("d{n}.db"));
            let ask = |sql: &str| sqlite3(&file, sql).unwrap().trim().to_owned();
            let tables = ask("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name GLOB 't[0-9]*'");
            let rows = ask("SELECT count(*) FROM item WHERE name GLOB 'of *'");
            let expected = steps.get(&n).copied().unwrap_or(0).to_string();
            if (&tables, &rows) != (&expected, &expected) || ask("PRAGMA integrity_check") != "ok" {
                wrong.push(format!("d{n}: {expected} migrations succeeded, {tables} tables and {rows} rows are there"));
            }
        }
        wrong
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

fn notes(wished: &[u32]) -> Vec<Message> {
    let note = |n: &u32| {
        Message::json("verify", &json!({"id": id(*n), "kind": "verify", "target": format!("d{}", n % DATABASES)}))
    };
    wished.iter().map(note).collect()
}

fn migrations(wished: &[u32]) -> Vec<Message> {
    let migration = |n: &u32| {
        let target = format!("d{}", n % DATABASES);
        Message::json("migrate", &json!({"id": id(*n), "kind": "migrate", "target": target, "spec": {"to": "+1"}}))
    };
    wished.iter().map(migration).collect()
}

#[test]
fn in_a_storm_no_confirmed_job_is_lost_and_none_is_done_twice() {
    let is_long = tests::is_long();
    let given = std::env::var("HOLDFAST_TEST_STORM").ok().map(|number| number.parse().expect("a number"));
    let number: u32 = given.unwrap_or(if is_long { 100_000 } else { 3_000 });
    let wished: Vec<u32> = (0..number).collect();
    let changes: Vec<u32> = (MIGRATIONS..MIGRATIONS + if is_long { 200 } else { 40 }).collect();
    let mut storm = Storm::begin(&[]);
    // Migrations are strewn among the rest.
    let mut messages = notes(&wished);
    let between = messages.len() / changes.len();
    for (at, migration) in migrations(&changes).into_iter().enumerate() {
        messages.insert(at * (between + 1), migration);
    }
    storm.rage(&messages, "0.02", Duration::from_secs(if is_long { 20 } else { 8 }), 3);
    let found = storm.calm();
    assert_eq!(storm.complaints(&found, &wished), Vec::<String>::new(), "{}", storm.last_words());
    assert_eq!(storm.migration_complaints(&found, &changes), Vec::<String>::new(), "{}", storm.last_words());
    let succeeded = changes.iter().filter(|n| found.states[&id(**n)] == "succeeded").count();
    println!("{} of {} migrations succeeded", succeeded, changes.len());
    assert!(succeeded * 2 > changes.len(), "{succeeded} of {} migrations succeeded", changes.len());
    assert_eq!(storm.waiting("holdfast.dead"), Some(0));
    assert!(storm.killed > 5);
}

#[test]
fn the_storm_sees_a_door_that_acknowledges_before_it_has_recorded() {
    let wished: Vec<u32> = (0..400).collect();
    let mut storm = Storm::begin(&["--acknowledge-first"]);
    storm.rage(&notes(&wished), "0.01", Duration::from_secs(600), 0);
    let found = storm.calm();
    let wrong = storm.complaints(&found, &wished);
    assert!(wrong.iter().any(|complaint| complaint.ends_with("is lost")), "nothing was lost: {wrong:?}");
}

#[test]
fn what_was_in_a_queue_that_is_deleted_is_sent_again_until_the_record_has_it() {
    let wished: Vec<u32> = (0..300).collect();
    let mut storm = Storm::begin(&[]);
    for worker in &mut storm.workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    let url = storm.broker.url();
    amqp::publish(&url, &notes(&wished));
    assert!(storm.waiting("holdfast.jobs.default").is_some_and(|waiting| waiting >= 300));
    amqp::run(&url, &["delete", "holdfast.jobs.default"]);
    for at in 0..WORKERS {
        storm.workers[at] = storm.worker();
    }
    storm.wait_for_the_queue();
    assert!(storm.calm().states.is_empty(), "the broker lost them all");
    for at in 0..WORKERS {
        storm.workers[at] = storm.worker();
    }
    storm.wait_for_the_queue();
    // A sender that hears nothing sends all of it again, some more than once.
    amqp::publish(&url, &notes(&wished));
    amqp::publish(&url, &notes(&wished[..100]));
    let found = storm.calm();
    assert_eq!(storm.complaints(&found, &wished), Vec::<String>::new(), "{}", storm.last_words());
}
