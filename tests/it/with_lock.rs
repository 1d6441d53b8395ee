//! `migrate-worker with-lock`: somebody's own command under the locks of a migration, by the real program, with the real
//! Alembic, real signals and real kills.

use crate::json_shapes::matches_golden;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tests::agent::{Agent, Run, Running};
use tests::alembic::{AlembicProject, alembic};
use tests::postgres;
use tests::private_postgres::PrivatePostgres;
use tests::sqlite::TestFile;

const LOST: &str = "its process was lost; what it did is not known; gate tells where the database stands";

/// A worker that knows the database `songs` and, where there is a project, how it is migrated.
fn songs(url: &str, project: Option<&AlembicProject>) -> Agent {
    let migrations = project.map_or_else(String::new, |project| {
        let directory = project.directory();
        let program = alembic();
        format!(
            "\n[database.songs.migrations]\nrunner = \"alembic\"\ndirectory = {directory:?}\nprogram = [{program:?}]\n"
        )
    });
    Agent::worker().with_config(&format!("[state]\nlease = \"3s\"\n\n[database.songs]\nurl = {url:?}\n{migrations}"))
}

/// A project of two revisions on the database at `url`, in SQLAlchemy's form.
fn project(url: &str) -> AlembicProject {
    let project = AlembicProject::new(url);
    project.add_sql("r1", &[], "CREATE TABLE song (id INTEGER PRIMARY KEY)", "DROP TABLE song");
    project.add_sql("r2", &["r1"], "CREATE TABLE sketch (id INTEGER PRIMARY KEY)", "DROP TABLE sketch");
    project
}

/// A shell script as the arguments of `with-lock songs`, with options before it.
fn script(options: &[&str], text: &str) -> Vec<String> {
    let before = ["with-lock", "songs"].into_iter().chain(options.iter().copied());
    before.chain(["--", "sh", "-c", text]).map(str::to_owned).collect()
}

/// The real Alembic, once the file `go` is there; `began` tells that it waits for that.
fn upgrade(project: &AlembicProject) -> String {
    let (alembic, ini) = (alembic(), project.ini());
    format!(
        "touch began; until [ -e go ]; do sleep 0.02; done; exec {} -c {} upgrade head",
        alembic.display(),
        ini.display()
    )
}

/// Polls for at most 60 s.
#[track_caller]
fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the command has made a file in the working folder.
#[track_caller]
fn made(worker: &Agent, name: &str, running: &Running) -> PathBuf {
    let file = worker.home().join(name);
    until(&format!("{name}: {}", running.stderr_so_far()), || file.exists());
    file
}

fn make(worker: &Agent, name: &str) {
    std::fs::write(worker.home().join(name), "").unwrap();
}

/// Whether the process whose id is in this file is there.
fn is_alive(file: &Path) -> bool {
    let pid = std::fs::read_to_string(file).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

/// The record's tasks, newest first.
fn tasks(worker: &Agent) -> Vec<Value> {
    worker.json(&["history", "songs"]).as_array().unwrap().clone()
}

#[track_caller]
fn says(run: &Run, words: &[&str]) {
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is missing: {}{}", run.stdout, run.stderr);
    }
}

/// Two replicas start at once: one migrates, the other one waits and finds nothing to do.
fn two_replicas(url: &str, project: &AlembicProject) {
    let worker = songs(url, Some(project));
    let first = worker.start(&script(&[], &upgrade(project)));
    made(&worker, "began", &first);
    let gate = worker.run(&["gate", "songs"]).expect_code(14);
    assert!(gate.stdout.starts_with("songs: in progress: migrate job "), "{}", gate.stdout);
    let second = worker.start(&script(&["--wait", "5m"], "touch second"));
    until("the second one waits", || {
        second.stderr_so_far().contains("waiting, for 5m at most: songs is being worked on by job ")
    });
    assert!(worker.run(&["apply", "songs"]).expect_code(3).stderr.contains("is being worked on by job "));
    make(&worker, "go");
    let first = first.wait().expect_code(0);
    says(&first, &["songs: behind by 2: r1 revision r1, r2 revision r2", "succeeded: sh ended with exit code 0"]);
    let second = second.wait().expect_code(0);
    says(&second, &["nothing to do, the command was not started: songs: as expected: it stands at r2"]);
    assert!(!worker.home().join("second").exists(), "the second command was started");
    // What it left is known from now on.
    let gate = worker.run(&["gate", "songs"]).expect_code(0);
    assert!(gate.stdout.contains("its schema is the one job "), "{}", gate.stdout);
    let found = tasks(&worker);
    assert_eq!(found.len(), 2, "the refused apply is no task");
    for task in &found {
        assert_eq!((task["state"].as_str(), task["kind"].as_str()), (Some("succeeded"), Some("migrate")), "{task:#}");
        assert_eq!((task["spec"]["mode"].as_str(), task["spec"]["program"].as_str()), (Some("wrap"), Some("sh")));
        assert_eq!((task["spec"]["arguments"].as_u64(), task["spec"].as_object().unwrap().len()), (Some(2), 4));
    }
    assert!(worker.ok(&["history", "songs"]).stdout.contains("with-lock sh"));
}

#[test]
fn of_two_replicas_one_migrates_and_the_other_waits_and_finds_nothing_to_do() {
    // The database is only made by the first migration.
    let file = TestFile::named("songs.db");
    two_replicas(&file.url(), &project(&format!("sqlite:///{}", file.path().display())));
    assert_eq!(file.sqlite3("SELECT version_num FROM alembic_version").trim(), "r2");

    let server = PrivatePostgres::start();
    server.create("songs");
    let address = server.url("songs").replacen("postgres://", "postgresql+psycopg2://", 1);
    two_replicas(&server.url("songs"), &project(&address));
    assert_eq!(server.psql("songs", "SELECT version_num FROM alembic_version"), "r2");
}

#[test]
fn the_command_has_our_environment_and_outputs_and_its_exit_code_is_ours() {
    let file = TestFile::named("songs.db");
    file.sqlite3("PRAGMA user_version = 0");
    let worker = songs(&file.url(), None).with_env("OWN_VARIABLE", "kept");
    let text = "echo out; echo err >&2; echo \"$HOLDFAST_JOB $OWN_VARIABLE\" > environment; exit 7";
    let run = worker.run(&script(&["--json"], text)).expect_code(7);
    assert_eq!(run.stdout, "out\n");
    says(&run, &["err\n", "failed: sh ended with exit code 7 after ", "what it did is not known"]);
    let told: Value = serde_json::from_str(run.stderr.lines().last().unwrap()).unwrap();
    let task = &tasks(&worker)[0];
    assert_eq!(told["job_id"], task["job_id"]);
    let environment = std::fs::read_to_string(worker.home().join("environment")).unwrap();
    assert_eq!(environment, format!("{} kept\n", task["job_id"].as_str().unwrap()));
    assert_eq!((task["state"].as_str(), task["result"]["exit"].as_i64()), (Some("failed"), Some(7)));
    let shown = worker.ok(&["show", task["job_id"].as_str().unwrap()]).stdout;
    assert!(!shown.contains("OWN_VARIABLE"), "the record holds the arguments: {shown}");

    // Nobody said how it is migrated: the command always runs.
    for number in 0..2 {
        worker.run(&script(&[], &format!("touch ran{number}"))).expect_code(0);
        assert!(worker.home().join(format!("ran{number}")).exists());
    }
    let missing = worker.run(&["with-lock", "songs", "--", "no-such-program", "x"]).expect_code(127);
    says(&missing, &["failed: no-such-program cannot be started"]);
    worker.run(&["with-lock", "songs", "--", "/dev/null"]).expect_code(126);
    worker.run(&["with-lock", "songs"]).expect_code(2);
    let ended = worker.run(&script(&["--json"], "exit 0")).expect_code(0);
    let well: Value = serde_json::from_str(ended.stderr.lines().last().unwrap()).unwrap();
    matches_golden("with-lock", &[told, well]);
}

#[test]
fn signals_go_to_the_commands_group_and_the_lock_is_free_then() {
    let file = TestFile::named("songs.db");
    file.sqlite3("PRAGMA user_version = 0");
    let worker = songs(&file.url(), None);
    for (signal, code) in [("TERM", 9), ("INT", 9), ("HUP", 9)] {
        // A shell that hears it only when what it waits for has ended: that is in its group.
        let text =
            format!("trap 'echo {signal} > heard; exit {code}' {signal}; touch began; while :; do sleep 60; done");
        let running = worker.start(&script(&[], &text));
        let began = made(&worker, "began", &running);
        running.signal(signal);
        running.wait().expect_code(code);
        assert_eq!(std::fs::read_to_string(worker.home().join("heard")).unwrap(), format!("{signal}\n"));
        std::fs::remove_file(began).unwrap();
        worker.run(&script(&["--wait", "0s"], "exit 0")).expect_code(0);
    }
    // One that takes its time is not hurried.
    let text = "trap 'touch asked; until [ -e go ]; do sleep 0.02; done; exit 0' TERM; touch began; sleep 60 & wait";
    let mut slow = worker.start(&script(&[], text));
    made(&worker, "began", &slow);
    slow.signal("TERM");
    made(&worker, "asked", &slow);
    assert!(slow.is_running());
    make(&worker, "go");
    slow.wait().expect_code(0);
}

#[test]
fn somebody_who_waits_hears_signals_and_waits_no_longer_than_was_said() {
    let file = TestFile::named("songs.db");
    file.sqlite3("PRAGMA user_version = 0");
    let worker = songs(&file.url(), None);
    let holder = worker.start(&script(&[], "touch began; until [ -e go ]; do sleep 0.02; done"));
    made(&worker, "began", &holder);
    let job = tasks(&worker)[0]["job_id"].as_str().unwrap().to_owned();
    let tired = worker.run(&script(&["--wait", "1s"], "touch second")).expect_code(3);
    says(&tired, &[&format!("by job {job} (migrate); the command was not started"), &format!("show {job}")]);
    let waiting = worker.start(&script(&[], "touch second"));
    until("it waits", || waiting.stderr_so_far().contains("waiting, for 10m at most"));
    waiting.signal("TERM");
    says(&waiting.wait().expect_code(143), &["ended by signal 15 while waiting"]);
    // One that is part of the job would wait for itself.
    let inside = worker.command(&script(&[], "touch second")).env("HOLDFAST_JOB", &job).output().unwrap();
    let said = String::from_utf8_lossy(&inside.stderr);
    assert!(inside.status.code() == Some(3) && said.contains("would wait for itself"), "{said}");
    assert!(!worker.home().join("second").exists());
    // Another record knows nothing of it, the lock at the database does.
    let other = songs(&file.url(), None);
    let tired = other.run(&script(&["--wait", "1s"], "touch second")).expect_code(3);
    says(&tired, &["waiting: ", &format!("is being changed by job {job}"), "refused: the command was not started"]);
    make(&worker, "go");
    holder.wait().expect_code(0);
    assert_eq!(tasks(&other)[0]["state"], "refused");
}

#[test]
fn a_backup_is_waited_for() {
    let file = TestFile::named("songs.db");
    file.sqlite3("CREATE TABLE song (id INTEGER PRIMARY KEY)");
    // Both have one record, and time enough that a stopped process is not taken for lost.
    let worker = Agent::worker();
    let state = worker.home().join("holdfast-state.db");
    let config = format!("[state]\nurl = \"sqlite:{}\"\n\n[database.songs]\nurl = {:?}\n", state.display(), file.url());
    let (worker, agent) = (worker.with_config(&config), Agent::new().with_config(&config));
    let backup = agent.start_and_stop_at("backup: before the manifest", &["backup", "songs"]);
    let waiting = worker.start(&script(&[], "touch ran"));
    until("it waits", || waiting.stderr_so_far().contains("(backup)"));
    assert!(!worker.home().join("ran").exists());
    backup.signal("CONT");
    backup.wait().expect_code(0);
    waiting.wait().expect_code(0);
    assert!(worker.home().join("ran").exists());
}

/// The process of with-lock is killed; its command goes on, until whoever comes next ends it.
fn killed(url: &str) {
    let worker = songs(url, None);
    let forever = "echo $$ > pid; touch began; while :; do sleep 0.05; done";
    let begin = || {
        let running = worker.start(&script(&[], forever));
        let began = made(&worker, "began", &running);
        std::fs::remove_file(began).unwrap();
        running.kill();
        assert!(is_alive(&worker.home().join("pid")), "the command ended with its with-lock");
    };
    begin();
    let next = worker.run(&script(&[], "touch next")).expect_code(0);
    says(&next, &[&format!("failed: {LOST} (")]);
    assert!(!is_alive(&worker.home().join("pid")), "the lost command still runs");
    let found = tasks(&worker);
    assert_eq!((found[0]["state"].as_str(), found[1]["state"].as_str()), (Some("succeeded"), Some("failed")));
    assert!(found[1]["error_message"].as_str().unwrap().starts_with(LOST), "{:#}", found[1]);
    assert_eq!(found[1]["result"]["hint"], "migrate-worker gate songs");

    // A worker recovers it, too, and does not take it for a migration.
    begin();
    worker.run(&["run", "--until-idle"]).expect_code(3);
    let with_migrations =
        format!("{}\n[database.songs.migrations]\nrunner = \"sql\"\ndirectory = \"m\"\n", config(&worker));
    std::fs::create_dir(worker.home().join("m")).unwrap();
    std::fs::write(worker.home().join("m/1_song.sql"), "CREATE TABLE song (id int);").unwrap();
    std::fs::write(worker.home().join("holdfast.toml"), with_migrations).unwrap();
    worker.ok(&["run", "--until-idle"]);
    assert!(!is_alive(&worker.home().join("pid")), "the lost command still runs");
    let newest = &tasks(&worker)[0];
    assert_eq!(newest["state"], "failed");
    assert!(newest["error_message"].as_str().unwrap().starts_with(LOST), "{newest:#}");
    worker.run(&["gate", "songs"]).expect_code(10);
    worker.ok(&["apply", "songs"]);
}

fn config(worker: &Agent) -> String {
    std::fs::read_to_string(worker.home().join("holdfast.toml")).unwrap()
}

#[test]
fn after_a_kill_the_lost_command_is_ended_and_nothing_is_claimed_of_it() {
    let file = TestFile::named("songs.db");
    file.sqlite3("PRAGMA user_version = 0");
    killed(&file.url());
    let server = PrivatePostgres::start();
    server.create("songs");
    killed(&server.url("songs"));
}

#[test]
fn a_command_whose_lease_is_lost_is_ended() {
    let file = TestFile::named("songs.db");
    file.sqlite3("PRAGMA user_version = 0");
    let worker = songs(&file.url(), None);
    let running = worker.start(&script(&[], "echo $$ > pid; touch began; while :; do sleep 0.05; done"));
    made(&worker, "began", &running);
    let state = worker.home().join("holdfast-state.db");
    tests::sqlite::sqlite3(&state, "UPDATE task_log SET lease_epoch = lease_epoch + 1").unwrap();
    says(&running.wait().expect_code(1), &["somebody else has the task now"]);
    assert!(!is_alive(&worker.home().join("pid")), "the command still runs");
}

#[test]
fn a_command_whose_lock_somebody_else_has_is_ended() {
    let server = PrivatePostgres::start();
    server.create("songs");
    let worker = songs(&server.url("songs"), None);
    let running = worker.start(&script(&[], "echo $$ > pid; touch began; while :; do sleep 0.05; done"));
    made(&worker, "began", &running);
    let other = Blocking::on_the_lock(&server, "songs");
    server.psql(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1",
    );
    says(&running.wait().expect_code(1), &["somebody else has the task now"]);
    assert!(!is_alive(&worker.home().join("pid")), "the command still runs");
    drop(other);
}

/// A session that waits for the lock of a database, and gets it the moment it is free.
struct Blocking(Child);

impl Blocking {
    fn on_the_lock(server: &PrivatePostgres, database: &str) -> Self {
        let digest = Sha256::digest(format!("holdfast:{database}"));
        let key = i64::from_be_bytes(digest[..8].try_into().unwrap());
        let mut psql: Command = postgres::client("psql");
        psql.args(["-X", "-c", &format!("SELECT pg_advisory_lock({key}), pg_sleep(600)"), &server.url("postgres")]);
        let child = psql.stdout(std::process::Stdio::null()).spawn().unwrap();
        let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        until("the other session waits", || server.psql("postgres", waits) == "1");
        Blocking(child)
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_cancelled_command_is_ended_and_that_is_no_success() {
    let file = TestFile::named("songs.db");
    file.sqlite3("PRAGMA user_version = 0");
    let worker = songs(&file.url(), None);
    let running = worker.start(&script(&[], "trap 'exit 0' TERM; touch began; while :; do sleep 0.05; done"));
    made(&worker, "began", &running);
    let job = tasks(&worker)[0]["job_id"].as_str().unwrap().to_owned();
    worker.ok(&["cancel", &job]);
    says(
        &running.wait().expect_code(1),
        &["cancelled: stopped: somebody asked for its end", "what it did is not known"],
    );
    assert_eq!(tasks(&worker)[0]["state"], "cancelled");
}
