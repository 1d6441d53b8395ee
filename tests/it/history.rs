//! `backup-agent history`, and where the record must not be.

use backup_agent::state::state_is_apart;
use shared::clock;
use shared::config::Config;
use shared::connect;
use shared::model::{NewTask, TaskKind, TaskReport, TaskState};
use shared::task_log::{Ending, TaskLog, Worker};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tests::agent::Agent;
use tests::postgres::TestDatabase;

const LEASE: Duration = Duration::from_secs(3600);

fn configured(folder: &Path, text: &str) -> Config {
    let path = folder.join("holdfast.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(Some(&path)).unwrap()
}

/// A record with one task of each kind of end, and one that nobody holds any more.
pub async fn filled(folder: &Path, text: &str) -> Arc<dyn TaskLog> {
    let log = connect::task_log(&configured(folder, text), clock::system()).await.unwrap();
    let me = Worker::here("exam 1");
    let task = |kind, name: &str| NewTask { requested_by: "the exam".into(), ..NewTask::new(kind, name.parse().ok()) };
    let good = log.submit_claimed(&task(TaskKind::Backup, "shop"), &me, LEASE).await.unwrap();
    let report = TaskReport {
        backup_id: Some("shop/1".into()),
        rows: Some(4812),
        bytes_in: Some(2048),
        bytes_out: Some(1024),
        ..TaskReport::default()
    };
    log.finish(&good.lease, &Ending { state: TaskState::Succeeded, again_at: None, report }).await.unwrap();
    let bad = log.submit_claimed(&task(TaskKind::Drill, "lite"), &me, LEASE).await.unwrap();
    let report = TaskReport {
        error_class: Some("transient".into()),
        error_message: Some("no answer\u{1b}[31m".into()),
        ..TaskReport::default()
    };
    log.finish(&bad.lease, &Ending { state: TaskState::Failed, again_at: None, report }).await.unwrap();
    log.submit_claimed(&task(TaskKind::Verify, "shop"), &me, Duration::ZERO).await.unwrap();
    log.submit(&NewTask::new(TaskKind::Prune, None)).await.unwrap();
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_lists_tasks_newest_first_and_the_events_of_one() {
    let agent = Agent::new();
    let log = filled(agent.home(), "").await;
    let ids: Vec<String> =
        log.tasks(&Default::default()).await.unwrap().iter().map(|task| task.job_id.to_string()).collect();
    let all = agent.ok(&["history"]).stdout;
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 4, "{all}");
    for (line, (id, words)) in lines.iter().zip(ids.iter().zip([
        "prune - queued",
        "verify shop unknown",
        "drill lite failed",
        "backup shop succeeded",
    ])) {
        let found = line.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
        assert_eq!(found, format!("{} {words}", &id[..18]));
    }
    assert!(lines[3].contains("4,812 rows") && lines[3].contains("2.00 KiB in"), "{all}");
    assert!(lines[2].ends_with("transient: no answer\\u{1b}[31m"), "{all}");
    assert_eq!(agent.ok(&["history", "shop"]).stdout.lines().count(), 2);
    assert_eq!(agent.ok(&["history", "--limit", "1"]).stdout.lines().count(), 1);
    let shown = agent.ok(&["history", "--job", &ids[2][..18]]).stdout;
    let events: Vec<&str> = shown.lines().skip(1).filter_map(|line| line.split_whitespace().nth(4)).collect();
    assert_eq!(events, ["queued", "running", "failed"], "{shown}");
    assert_eq!(agent.json(&["history", "--job", &ids[3]])["events"].as_array().unwrap().len(), 3);
    let none = agent.run(&["history", "--job", "ffffffff"]).expect_code(3);
    assert!(none.stderr.contains("there is no job ffffffff"), "{}", none.stderr);
}

#[test]
fn history_without_a_record_refuses_and_makes_none() {
    let agent = Agent::new();
    let run = agent.run(&["history"]).expect_code(3);
    let path = agent.home().join("holdfast-state.db");
    assert!(run.stderr.contains(&path.display().to_string()), "{}", run.stderr);
    assert!(!path.exists());
    assert_eq!(agent.run(&["history", "--json"]).expect_code(3).stdout, "");
}

#[tokio::test]
async fn a_record_inside_a_protected_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    std::fs::write(home.join("real.db"), "x").unwrap();
    std::os::unix::fs::symlink(home.join("real.db"), home.join("link.db")).unwrap();
    std::fs::hard_link(home.join("real.db"), home.join("second.db")).unwrap();
    let apart = async |state: &str, database: &str| {
        let text = format!("[state]\nurl = \"{state}\"\n[database.shop]\nurl = \"{database}\"\n");
        state_is_apart(&configured(home, &text)).await
    };
    for (state, database) in [
        ("sqlite:real.db", "sqlite:link.db"),
        ("sqlite:second.db", "sqlite:real.db"),
        ("sqlite:./not-there.db", "sqlite:not-there.db"),
        ("postgres://me:s3cret@127.0.0.1:1/shop", "postgres://other@localhost:1/shop"),
    ] {
        let error = apart(state, database).await.expect_err(state);
        assert_eq!(error.exit_code(), 3, "{error}");
        assert!(error.to_string().contains("shop") && !error.to_string().contains("s3cret"), "{error}");
    }
    let server = TestDatabase::new();
    let other = TestDatabase::new();
    // Another name of the same server, so that only asking it tells.
    let alias = server.url().replace("127.0.0.1", "127.0.0.2");
    assert!(apart(&server.url(), &alias).await.is_err());
    for (state, database) in [
        ("sqlite:state.db", "sqlite:real.db"),
        ("sqlite:real.db", "postgres://me@127.0.0.1:1/real"),
        (server.url().as_str(), other.url().as_str()),
        ("postgres://me@127.0.0.1:1/state", server.url().as_str()),
    ] {
        apart(state, database).await.unwrap();
    }
}
