//! What the holder of a task writes, and the wish for a task's end.

use super::*;

exams! {
    a_holder_tells_how_far_it_is_and_how_it_ended,
    a_try_that_failed_comes_again_until_it_was_the_last,
    waiting_tasks_are_cancelled_at_once_and_running_ones_by_their_holder,
    old_tasks_go_and_leave_their_tombstones,
    the_plain_view_says_what_became_of_each_task,
}

async fn a_holder_tells_how_far_it_is_and_how_it_ended(world: &World) {
    let log = world.open().await;
    let task = backup("shop");
    submit(&*log, &task).await;
    let claimed = claim(&*log, LONG).await.unwrap();
    assert!(!log.renew(&claimed.lease, LONG, &progress()).await.unwrap().cancel_requested);
    assert_eq!(one(&*log, task.job_id).await.step.as_deref(), Some("reading"));
    world.pass(Duration::from_secs(90));
    for wrong in [TaskState::Running, TaskState::Scheduled, TaskState::Stuck] {
        let before = world.contents();
        log.finish(&claimed.lease, &Ending { state: wrong, ..done() }).await.unwrap_err();
        assert_eq!(world.contents(), before, "{wrong}");
    }
    let report = TaskReport {
        backup_id: Some("shop/20250601T120000Z-1a2b3c".into()),
        rows: Some(4812),
        bytes_in: Some(u64::from(u32::MAX) * 1000),
        bytes_out: Some(0),
        result: Some(serde_json::json!({"new": [1]})),
        error_class: None,
        error_message: None,
    };
    let ending = Ending { state: TaskState::Succeeded, again_at: None, report };
    log.finish(&claimed.lease, &ending).await.unwrap();
    let found = one(&*log, task.job_id).await;
    assert_eq!((found.state, &found.report, &found.step), (TaskState::Succeeded, &ending.report, &None));
    assert!(found.duration_s().unwrap() >= 0.0);
    if matches!(world, World::Sqlite { .. }) {
        assert_eq!(found.duration_s(), Some(90.0));
    }
    // The same ending again (its answer was lost) is no loss and is written once; another one is.
    let before = world.contents();
    log.finish(&claimed.lease, &ending).await.unwrap();
    let other = log.finish(&claimed.lease, &Ending { state: TaskState::Failed, ..done() }).await;
    assert!(matches!(other, Err(TaskLogError::LeaseLost { .. })), "{other:?}");
    assert!(matches!(log.renew(&claimed.lease, LONG, &progress()).await, Err(TaskLogError::LeaseLost { .. })));
    assert_eq!(world.contents(), before);
    assert_eq!(claim(&*log, LONG).await, None);
}

async fn a_try_that_failed_comes_again_until_it_was_the_last(world: &World) {
    let log = world.open().await;
    let task = backup("shop");
    submit(&*log, &task).await;
    let first = claim(&*log, LONG).await.unwrap();
    let again_at = world.now() + SignedDuration::from_secs(1);
    log.finish(&first.lease, &retry(Some(again_at))).await.unwrap();
    if matches!(world, World::Sqlite { .. }) {
        let waiting = one(&*log, task.job_id).await;
        assert_eq!((waiting.state, waiting.run_at), (TaskState::Scheduled, Some(again_at)));
        assert_eq!(waiting.report.error_message.as_deref(), Some("no answer"));
        assert_eq!(claim(&*log, LONG).await, None);
        world.pass(Duration::from_secs(1));
    }
    until(async || one(&*log, task.job_id).await.state == TaskState::Queued).await;
    for attempt in 2..=3 {
        let claimed = claim(&*log, LONG).await.unwrap();
        assert_eq!((claimed.task.attempt, claimed.lease.epoch, claimed.is_recovery), (attempt, attempt.into(), false));
        assert_eq!(claimed.task.started_at, first.task.started_at);
        log.finish(&claimed.lease, &retry(None)).await.unwrap();
    }
    assert_eq!(claim(&*log, LONG).await, None);
    assert_eq!(one(&*log, task.job_id).await.state, TaskState::Failed);
    let all = ["queued", "running", "retry", "running", "retry", "running", "failed"];
    assert_eq!(whats(&*log, task.job_id).await, all);
    // Beginnings and the end are told, trying again is not.
    let told = world.sql("SELECT e.what FROM event_delivery d JOIN task_event e USING (job_id, seq) ORDER BY d.id");
    assert_eq!(told.split_whitespace().collect::<Vec<_>>(), ["running", "running", "running", "failed"]);
}

async fn waiting_tasks_are_cancelled_at_once_and_running_ones_by_their_holder(world: &World) {
    let log = world.open().await;
    let unknown = JobId::random();
    assert!(matches!(log.cancel(&unknown, "me").await, Err(TaskLogError::Unknown(job)) if job == unknown));
    let waiting = backup("shop");
    submit(&*log, &waiting).await;
    for _ in 0..2 {
        assert_eq!(log.cancel(&waiting.job_id, "me").await.unwrap(), TaskState::Cancelled);
    }
    assert_eq!(whats(&*log, waiting.job_id).await, ["queued", "cancelled"]);
    assert_eq!(one(&*log, waiting.job_id).await.report.error_class.as_deref(), Some("cancelled"));
    assert_eq!(claim(&*log, LONG).await, None);

    let running = backup("shop");
    submit(&*log, &running).await;
    let claimed = claim(&*log, LONG).await.unwrap();
    for _ in 0..2 {
        assert_eq!(log.cancel(&running.job_id, "me").await.unwrap(), TaskState::Running);
    }
    assert!(one(&*log, running.job_id).await.cancel_requested);
    assert!(log.renew(&claimed.lease, LONG, &progress()).await.unwrap().cancel_requested);
    // What somebody wishes to end is not tried again.
    log.finish(&claimed.lease, &retry(None)).await.unwrap();
    assert_eq!(log.cancel(&running.job_id, "me").await.unwrap(), TaskState::Cancelled);
    assert_eq!(whats(&*log, running.job_id).await, ["queued", "running", "cancel-requested", "cancelled"]);
}

async fn old_tasks_go_and_leave_their_tombstones(world: &World) {
    let log = world.open().await;
    let mut tasks = Vec::new();
    for at in 0..60 {
        let task = NewTask { kind: TaskKind::Verify, ..backup("shop") };
        submit(&*log, &task).await;
        tasks.push(task.job_id);
        let claimed = claim(&*log, LONG).await.unwrap();
        if at != 3 {
            log.finish(&claimed.lease, &done()).await.unwrap();
        }
    }
    let lone = backup("lone");
    submit(&*log, &lone).await;
    log.cancel(&lone.job_id, "me").await.unwrap();
    assert_eq!(log.tidy().await.unwrap(), 0, "all are young");
    let days = |days: i64| days * 86_400_000_000;
    world.sql(&format!(
        "UPDATE task_log SET created_at = created_at - {0}, finished_at = finished_at - {0}", days(401)
    ));
    world.sql(&format!("UPDATE task_log SET finished_at = finished_at + {} WHERE job_id = '{}'", days(2), tasks[5]));
    // Of the ten beyond the newest fifty one still works and one ended 399 days ago.
    let before = world.sql("SELECT job_id, event_hash FROM task_log ORDER BY created_at, job_id");
    assert_eq!(log.tidy().await.unwrap(), 8);
    let left: Vec<JobId> = log.tasks(&TaskFilter::default()).await.unwrap().iter().map(|task| task.job_id).collect();
    assert_eq!(left.len(), 53);
    for at in [3, 5, 10, 59] {
        assert!(left.contains(&tasks[at]), "{at}");
    }
    assert!(left.contains(&lone.job_id));
    for row in world.sql("SELECT job_id, last_hash FROM job_tombstone").lines() {
        assert!(before.contains(row), "{row}");
    }
    assert_eq!(world.sql("SELECT count(*) FROM job_tombstone"), "8");
    assert!(matches!(log.events(&tasks[0]).await, Err(TaskLogError::Unknown(_))));
    assert_eq!(log.tidy().await.unwrap(), 0);
    let orphans = "SELECT count(*) FROM task_event WHERE job_id NOT IN (SELECT job_id FROM task_log)";
    assert_eq!(world.sql(orphans), "0");
    // A message that comes once more after all that time is still the same task.
    let again = NewTask { job_id: tasks[0], kind: TaskKind::Verify, ..backup("shop") };
    assert_eq!(log.submit(&again).await.unwrap(), Submitted::Same);
}

async fn the_plain_view_says_what_became_of_each_task(world: &World) {
    let log = world.open().await;
    submit(&*log, &backup("shop")).await;
    let claimed = claim(&*log, LONG).await.unwrap();
    log.finish(&claimed.lease, &done()).await.unwrap();
    submit(&*log, &NewTask::new(TaskKind::Prune, None)).await;
    let rows = world.sql("SELECT id, task_name, status, duration_s >= 0, error FROM tasklog ORDER BY task_name");
    assert!(rows.contains(&format!("{}|backup:shop|succeeded|", claimed.task.job_id)), "{rows}");
    assert!(rows.contains("|prune|queued||"), "{rows}");
    let begun = world.sql("SELECT started_at FROM tasklog WHERE task_name = 'backup:shop'");
    let expected = world.now().strftime("%Y-%m-%d").to_string();
    assert!(begun.starts_with(&expected), "{begun}");
    // A lease that ran out long ago is shown as unknown, never as running.
    world.sql("UPDATE task_log SET state = 'running', lease_until = 5 WHERE kind = 'prune'");
    assert_eq!(world.sql("SELECT status FROM tasklog WHERE task_name = 'prune'"), "unknown");
}
