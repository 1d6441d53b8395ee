//! The commands of `migrate-worker` that only look at the record, or write a wish into it.

use crate::json_shapes::matches_golden;
use shared::clock;
use shared::config::Config;
use shared::connect;
use shared::model::{NewTask, Phase, StepNote, Task, TaskKind, TaskReport, TaskState};
use shared::task_log::{Claimed, Ending, TaskFilter, TaskLog, TaskProgress, Wanted, Worker};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::agent::Agent;

const LEASE: Duration = Duration::from_secs(3600);

const CONFIG: &str = r#"
[database.lite]
url = "sqlite:lite.db"

[database.shop]
url = "sqlite:shop.db"
migrations = { runner = "sql", directory = "migrations" }
"#;

/// The program with a record of its own.
async fn world() -> (Agent, Arc<dyn TaskLog>) {
    let agent = Agent::worker().with_config(CONFIG);
    std::fs::create_dir(agent.home().join("migrations")).unwrap();
    let config = Config::load(Some(&agent.home().join("holdfast.toml"))).unwrap();
    let log = connect::task_log(&config, clock::system()).await.unwrap();
    (agent, log)
}

fn migration() -> NewTask {
    let spec = serde_json::json!({"to": "head", "expected_from": null, "mode": null, "may_drop": ["a"], "yes": false});
    let name = "shop".parse().ok();
    NewTask { spec, requested_by: "the exam".into(), ..NewTask::new(TaskKind::Migrate, name) }
}

fn ending(state: TaskState, message: &str) -> Ending {
    let report = TaskReport {
        backup_id: Some("shop/1".into()),
        error_message: (state != TaskState::Succeeded).then(|| message.to_owned()),
        result: Some(serde_json::json!({"message": message, "tables": [{"name": "a", "rows": 3}]})),
        ..TaskReport::default()
    };
    Ending { state, again_at: None, report }
}

/// A migration that began, noted a step, and kept an output.
async fn begun(log: &dyn TaskLog) -> Claimed {
    let held = log.submit_claimed(&migration(), &Worker::here("exam 1"), LEASE).await.unwrap();
    let note = StepNote {
        seq: 1,
        epoch: 1,
        at: jiff::Timestamp::now(),
        step: "apply".into(),
        phase: Phase::Intent,
        data: serde_json::json!({"oid": 16_388}),
    };
    log.note_step(&held.lease, &note).await.unwrap();
    log.put_output(&held.lease, "apply", "Running upgrade a -> b\nred \u{1b}[31m").await.unwrap();
    held
}

async fn only(log: &dyn TaskLog) -> Task {
    let mut tasks = log.tasks(&TaskFilter::default()).await.unwrap();
    assert_eq!(tasks.len(), 1);
    tasks.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_is_written_down_once_and_its_id_printed() {
    let (agent, log) = world().await;
    let asked = agent.ok(&["submit", "shop", "--to", "-1", "--may-drop", "orders:note", "--may-drop", "old"]);
    let task = only(&*log).await;
    assert_eq!(asked.stdout.trim(), task.job_id.to_string());
    assert_eq!((task.kind, task.state), (TaskKind::Migrate, TaskState::Queued));
    let spec = serde_json::json!({
        "to": "-1", "expected_from": null, "mode": null, "may_drop": ["orders:note", "old"], "yes": false,
    });
    assert_eq!(task.spec, spec);
    let id = task.job_id.to_string();
    let again = ["submit", "shop", "--to", "-1", "--may-drop", "orders:note", "--may-drop", "old", "--id", &id];
    assert!(agent.ok(&again).stderr.contains("asked for before"));
    let other = agent.run(&["submit", "shop", "--id", &id]).expect_code(1);
    assert!(other.stderr.contains("asks for something else"), "{}", other.stderr);
    // What cannot be meant is not written down.
    assert!(agent.run(&["submit", "lite"]).expect_code(3).stderr.contains("migrations"));
    agent.run(&["submit", "nobody"]).expect_code(3);
    agent.run(&["submit", "shop", "--to", "a b; c"]).expect_code(2);
    only(&*log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_hears_the_outcome_and_the_exit_code_says_it() {
    let (agent, log) = world().await;
    let me = Worker::here("exam 1");
    for (state, code) in [
        (TaskState::Succeeded, 0),
        (TaskState::Refused, 3),
        (TaskState::Restored, 4),
        (TaskState::Failed, 1),
        (TaskState::Stuck, 5),
    ] {
        let waiting = agent.start(&["submit", "shop", "--wait"]);
        let began = Instant::now();
        let held = loop {
            if let Some(held) = log.claim(&me, &Wanted::kinds(TaskKind::ALL), LEASE).await.unwrap() {
                break held;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "nothing was submitted");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let step = TaskProgress { step: Some("rehearse".into()), ..TaskProgress::default() };
        log.renew(&held.lease, LEASE, &step).await.unwrap();
        log.finish(&held.lease, &ending(state, "words of the worker")).await.unwrap();
        let run = waiting.wait().expect_code(code);
        let lines: Vec<&str> = run.stdout.lines().collect();
        assert_eq!(lines[..2], [held.task.job_id.to_string(), format!("{state}: words of the worker")]);
        assert_eq!(run.stdout.contains("hint: migrate-worker resolve"), state == TaskState::Stuck, "{}", run.stdout);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_how_each_database_stands_and_what_a_person_must_do() {
    let (agent, log) = world().await;
    let status = || agent.run(&["status"]);
    assert!(status().expect_code(0).stdout.lines().all(|line| line.ends_with("no migration is recorded")));
    let mut samples = vec![agent.json(&["status"])];
    let held = begun(&*log).await;
    let step = TaskProgress { step: Some("apply".into()), ..TaskProgress::default() };
    log.renew(&held.lease, LEASE, &step).await.unwrap();
    log.submit(&NewTask { requested_by: "another".into(), ..migration() }).await.unwrap();
    let running = agent.ok(&["status", "shop"]).stdout;
    assert!(running.starts_with("shop         running") && running.contains("at apply"), "{running}");
    assert!(running.trim_end().ends_with("1 waiting") && running.lines().count() == 1, "{running}");
    samples.push(agent.json(&["status"]));
    log.renew(&held.lease, Duration::ZERO, &step).await.unwrap();
    assert!(status().stdout.contains("shop         unknown"));
    log.renew(&held.lease, LEASE, &step).await.unwrap();
    log.finish(&held.lease, &ending(TaskState::Stuck, "no way back")).await.unwrap();
    let stuck = agent.run(&["status"]).expect_code(5).stdout;
    let remedy = format!("hint: migrate-worker resolve {}", held.task.job_id);
    assert!(stuck.contains("shop         stuck") && stuck.contains(&remedy), "{stuck}");
    agent.run(&["status", "lite"]).expect_code(0);
    samples.push(agent.run(&["status", "--json"]).expect_code(5).json());
    matches_golden("worker-status", &samples);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_show_and_output_tell_what_became_of_a_job() {
    let (agent, log) = world().await;
    let held = begun(&*log).await;
    let id = held.task.job_id.to_string();
    let running = agent.json(&["show", &id]);
    assert_eq!(running["holder"]["is_gone"], false);
    log.finish(&held.lease, &ending(TaskState::Restored, "the tool failed")).await.unwrap();
    log.submit(&migration()).await.unwrap();
    log.submit(&NewTask::new(TaskKind::Backup, "shop".parse().ok())).await.unwrap();
    let listed = agent.ok(&["history", "shop"]).stdout;
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(
        lines[0].contains("queued") && lines[1].starts_with(&id[..18]) && lines[1].contains("restored"),
        "{listed}"
    );
    assert_eq!(agent.ok(&["history", "lite"]).stdout, "");
    assert_eq!(agent.ok(&["history", "--limit", "1"]).stdout.lines().count(), 1);

    let shown = agent.ok(&["show", &id[..18]]).stdout;
    for words in ["may_drop: a", "queued", "running", "restored", "apply", "begins", "16388", "tables.1.rows: 3"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let printed = agent.ok(&["output", &id]).stdout;
    assert!(printed.starts_with("== apply, ") && printed.contains("\nRunning upgrade a -> b\n"), "{printed}");
    assert!(!printed.contains('\u{1b}') && printed.contains("\\u{1b}[31m"), "{printed}");
    let waiting = agent.json(&["history"])[0]["job_id"].as_str().unwrap().to_owned();
    assert!(agent.ok(&["output", &waiting]).stderr.contains("no tool has printed"));
    for command in ["show", "output", "cancel"] {
        agent.run(&[command, "ffff"]).expect_code(3);
        agent.run(&[command, "0"]).expect_code(2);
    }
    // What a result holds is the migration's affair, not this listing's.
    let plain = |mut task: serde_json::Value| {
        assert!(task["result"].is_object(), "{task}");
        task["result"] = serde_json::json!({});
        task
    };
    let listed = agent.json(&["history"]).as_array().unwrap().iter().cloned().map(plain).collect();
    matches_golden("worker-history", &[serde_json::Value::Array(listed)]);
    matches_golden("worker-show", &[running, agent.json(&["show", &id])].map(plain));
    matches_golden("worker-output", &[agent.json(&["output", &id])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_job_is_cancelled_a_running_one_asked_and_an_ended_one_left() {
    let (agent, log) = world().await;
    let waiting = agent.ok(&["submit", "shop"]).stdout;
    assert!(agent.ok(&["cancel", waiting.trim()]).stdout.ends_with("is cancelled\n"));
    // Once more is no harm.
    agent.ok(&["cancel", waiting.trim()]);
    let held = begun(&*log).await;
    let id = held.task.job_id.to_string();
    assert!(agent.ok(&["cancel", &id]).stdout.contains("takes back what it has begun"));
    assert!(log.renew(&held.lease, LEASE, &TaskProgress::default()).await.unwrap().cancel_requested);
    log.finish(&held.lease, &ending(TaskState::Stuck, "no way back")).await.unwrap();
    assert!(agent.run(&["cancel", &id]).expect_code(3).stderr.contains("migrate-worker resolve"));
}

#[test]
fn without_a_record_there_is_nothing_to_see_and_none_is_made() {
    let agent = Agent::worker().with_config(CONFIG);
    for command in [&["status"][..], &["history"], &["show", "0"], &["output", "0"], &["cancel", "0"]] {
        let run = agent.run(command).expect_code(3);
        assert!(run.stderr.contains("no record of tasks"), "{}", run.stderr);
    }
    assert_eq!(std::fs::read_dir(agent.home()).unwrap().count(), 1, "only the configuration is there");
}
