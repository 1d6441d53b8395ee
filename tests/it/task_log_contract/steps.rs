//! The journal of steps, and what tools printed.

use super::*;
use shared::model::{Phase, StepNote};

exams! {
    notes_are_kept_once_in_order_across_epochs,
    what_tools_printed_is_kept_in_order_and_bounded,
    steps_and_outputs_are_neither_changed_nor_removed_by_the_database,
    the_holder_is_known_after_its_lease_was_cleared,
    a_task_is_found_by_the_beginning_of_its_id,
}

async fn held(log: &dyn TaskLog, name: &str, lease: Duration) -> Claimed {
    let task = NewTask { kind: TaskKind::Migrate, ..backup(name) };
    log.submit_claimed(&task, &worker(), lease).await.unwrap()
}

fn note(seq: u64, epoch: u64, phase: Phase) -> StepNote {
    let data = serde_json::json!({"z": [1, "two"], "a": {"oid": 16_388}});
    StepNote { seq, epoch, at: "2025-06-01T12:00:00.123456Z".parse().unwrap(), step: "fence".into(), phase, data }
}

async fn notes_are_kept_once_in_order_across_epochs(world: &World) {
    let log = world.open().await;
    let first = held(&*log, "shop", world.short()).await;
    let job = first.task.job_id;
    assert_eq!(log.steps(&job).await.unwrap(), []);
    let (intent, done) = (note(1, 1, Phase::Intent), note(2, 1, Phase::Done));
    for _ in 0..2 {
        log.note_step(&first.lease, &intent).await.unwrap();
    }
    // The journal is written to the microsecond here, whatever the file has.
    let finer = StepNote { at: "2025-06-01T12:00:00.123456789Z".parse().unwrap(), ..intent.clone() };
    log.note_step(&first.lease, &finer).await.unwrap();
    for other in [
        StepNote { step: "apply".into(), ..intent.clone() },
        StepNote { phase: Phase::Done, ..intent.clone() },
        StepNote { data: serde_json::json!({}), ..intent.clone() },
        StepNote { at: world.now(), ..intent.clone() },
    ] {
        let error = log.note_step(&first.lease, &other).await.unwrap_err();
        assert!(matches!(error, TaskLogError::Damaged { .. }), "{error}");
    }
    log.note_step(&first.lease, &note(9, 2, Phase::Done)).await.unwrap_err();
    // The same note by several at once is one too.
    let mut writers = Vec::new();
    for _ in 0..4 {
        let (log, lease, done) = (world.open().await, first.lease.clone(), done.clone());
        writers.push(tokio::spawn(async move { log.note_step(&lease, &done).await }));
    }
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    assert_eq!(log.steps(&job).await.unwrap(), [intent.clone(), done.clone()]);

    world.let_lapse(&*log, job).await;
    let second = claim(&*log, LONG).await.unwrap();
    let late = log.note_step(&first.lease, &note(4, 1, Phase::Done)).await.unwrap_err();
    assert!(matches!(late, TaskLogError::LeaseLost { .. }), "{late}");
    // The journal of the lost one had a line that had not come here; and then a line of its own.
    let (missing, own) = (note(3, 1, Phase::Intent), note(4, 2, Phase::Intent));
    for note in [&own, &missing] {
        log.note_step(&second.lease, note).await.unwrap();
    }
    assert_eq!(log.steps(&job).await.unwrap(), [intent, done, missing, own]);
    log.finish(&second.lease, &super::done()).await.unwrap();
    assert_eq!(log.steps(&job).await.unwrap().len(), 4);
    let unknown = log.steps(&JobId::random()).await.unwrap_err();
    assert!(matches!(unknown, TaskLogError::Unknown(_)), "{unknown}");
}

async fn what_tools_printed_is_kept_in_order_and_bounded(world: &World) {
    let log = world.open().await;
    let held = held(&*log, "shop", world.short()).await;
    let job = held.task.job_id;
    let long = "line of a tool\n".repeat(300_000);
    for (step, text) in [("rehearse", "one\ntwo\0"), ("apply", long.as_str()), ("apply", "")] {
        log.put_output(&held.lease, step, text).await.unwrap();
    }
    let kept = log.outputs(&job).await.unwrap();
    let steps: Vec<&str> = kept.iter().map(|output| output.step.as_str()).collect();
    assert_eq!(steps, ["rehearse", "apply", "apply"]);
    assert_eq!((kept[0].text.as_str(), kept[2].text.as_str()), ("one\ntwo\u{fffd}", ""));
    assert!(kept[1].text.len() < (2 << 20) + 100 && kept[1].text.contains("bytes left out"));
    world.let_lapse(&*log, job).await;
    claim(&*log, LONG).await.unwrap();
    let late = log.put_output(&held.lease, "apply", "late").await.unwrap_err();
    assert!(matches!(late, TaskLogError::LeaseLost { .. }), "{late}");
    assert_eq!(log.outputs(&job).await.unwrap(), kept);
}

async fn steps_and_outputs_are_neither_changed_nor_removed_by_the_database(world: &World) {
    let log = world.open().await;
    let held = held(&*log, "shop", LONG).await;
    let job = held.task.job_id;
    log.note_step(&held.lease, &note(1, 1, Phase::Intent)).await.unwrap();
    log.put_output(&held.lease, "apply", "text").await.unwrap();
    log.finish(&held.lease, &done()).await.unwrap();
    for table in ["task_step", "task_output"] {
        for change in ["UPDATE {} SET step = 'other'", "DELETE FROM {}"] {
            let error = world.try_sql(&change.replace("{}", table)).expect_err(change);
            assert!(error.contains(&format!("{table} is append-only")), "{error}");
        }
        if matches!(world, World::Postgres { .. }) {
            assert!(world.try_sql(&format!("TRUNCATE {table}")).unwrap_err().contains("append-only"));
        }
    }
    assert_eq!((log.steps(&job).await.unwrap().len(), log.outputs(&job).await.unwrap().len()), (1, 1));
    // With their old task they go.
    for _ in 0..50 {
        let newer = backup("shop");
        submit(&*log, &newer).await;
        log.cancel(&newer.job_id, "me").await.unwrap();
    }
    let days = 401_i64 * 86_400_000_000;
    world.sql(&format!(
        "UPDATE task_log SET created_at = created_at - {days}, finished_at = finished_at - {days} WHERE job_id = '{job}'"
    ));
    assert_eq!(log.tidy().await.unwrap(), 1);
    assert_eq!(world.sql("SELECT (SELECT count(*) FROM task_step) + (SELECT count(*) FROM task_output)"), "0");
}

async fn the_holder_is_known_after_its_lease_was_cleared(world: &World) {
    let log = world.open().await;
    let waiting = NewTask { kind: TaskKind::Migrate, ..backup("shop") };
    submit(&*log, &waiting).await;
    assert_eq!(log.holder(&waiting.job_id).await.unwrap(), None);
    let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let start_ticks = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
    let doomed = Worker { pid: child.id(), start_ticks, ..worker() };
    log.claim(&doomed, &Wanted::kinds(TaskKind::ALL), LONG).await.unwrap().unwrap();
    assert_eq!(log.holder(&waiting.job_id).await.unwrap(), Some((doomed.clone(), false)));
    child.kill().unwrap();
    child.wait().unwrap();
    let elsewhere = Wanted { targets: Some(Vec::new()), only_lost: true, ..Wanted::kinds(TaskKind::ALL) };
    assert_eq!(log.claim(&worker(), &elsewhere, LONG).await.unwrap(), None);
    assert_eq!(one(&*log, waiting.job_id).await.worker, None);
    assert_eq!(log.holder(&waiting.job_id).await.unwrap(), Some((doomed, true)));
    let me = worker();
    log.claim(&me, &Wanted::kinds(TaskKind::ALL), LONG).await.unwrap().unwrap();
    assert_eq!(log.holder(&waiting.job_id).await.unwrap(), Some((me, false)));
    assert!(matches!(log.holder(&JobId::random()).await, Err(TaskLogError::Unknown(_))));
}

async fn a_task_is_found_by_the_beginning_of_its_id(world: &World) {
    let log = world.open().await;
    let ids = ["0198c2e7-0000-7000-8000-000000000001", "0198c2e7-0000-7000-8000-000000000002"];
    for id in ids {
        submit(&*log, &NewTask { job_id: id.parse().unwrap(), ..backup("shop") }).await;
    }
    let found = async |typed: &str| log.by_beginning(typed).await.unwrap().len();
    assert_eq!(found("0198C2E7").await, 2);
    assert_eq!((found(ids[0]).await, found(&ids[1].to_uppercase()).await, found("0299").await), (1, 1, 0));
}
