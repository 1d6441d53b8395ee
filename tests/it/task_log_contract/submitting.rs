//! Tasks come in: once, in order, and never by halves.

use super::*;
use shared::model::Slot;

exams! {
    the_same_task_is_one_task_and_another_under_its_id_is_refused,
    of_tasks_with_one_key_one_waits,
    the_newest_slot_is_known_whatever_became_of_it,
    what_was_asked_for_reads_back,
    a_task_with_a_nul_and_odd_names_goes_round,
    what_was_handed_in_is_done_although_the_caller_went_away,
}

async fn the_same_task_is_one_task_and_another_under_its_id_is_refused(world: &World) {
    let log = world.open().await;
    let mut task = backup("shop");
    task.spec = serde_json::json!({"b": 1, "a": [1.5, "x"]});
    submit(&*log, &task).await;
    let before = world.contents();
    let mut same = task.clone();
    same.spec = serde_json::from_str(r#"{"a": [15e-1, "x"], "b": 1.0}"#).unwrap();
    // How it came and how urgent it is are no part of what is asked for.
    (same.priority, same.requested_by) = (9, "another".into());
    assert_eq!(log.submit(&same).await.unwrap(), Submitted::Same);
    let now = world.now();
    let changes: [fn(&mut NewTask, Timestamp); 7] = [
        |task, _| task.kind = TaskKind::Verify,
        |task, _| task.target = None,
        |task, _| task.spec = serde_json::json!({}),
        |task, _| task.unique_key = Some("k".into()),
        |task, now| task.run_at = Some(now),
        |task, now| task.expires_at = Some(now),
        |task, _| task.deadline_s = Some(60),
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut other = task.clone();
        change(&mut other, now);
        let answer = log.submit(&other).await;
        assert!(matches!(answer, Err(TaskLogError::Conflict(job)) if job == task.job_id), "{at}: {answer:?}");
        assert!(matches!(log.submit_claimed(&other, &worker(), LONG).await, Err(TaskLogError::Conflict(_))));
    }
    assert_eq!(world.contents(), before);
}

async fn of_tasks_with_one_key_one_waits(world: &World) {
    let log = world.open().await;
    let keyed = || NewTask { unique_key: Some("backup:shop".into()), ..backup("shop") };
    let first = keyed();
    submit(&*log, &first).await;
    let before = world.contents();
    assert_eq!(log.submit(&keyed()).await.unwrap(), Submitted::Superseded(first.job_id));
    assert_eq!(world.contents(), before);
    let claimed = claim(&*log, LONG).await.unwrap();
    // One that is being done does not wait any more.
    let second = keyed();
    submit(&*log, &second).await;
    assert_eq!(log.submit(&keyed()).await.unwrap(), Submitted::Superseded(second.job_id));
    // One that is to be tried again waits beside it: nothing is refused to its holder.
    log.finish(&claimed.lease, &retry(None)).await.unwrap();
    assert_eq!(log.submit(&keyed()).await.unwrap(), Submitted::Superseded(first.job_id));

    let logs = [world.open().await, world.open().await, world.open().await, world.open().await];
    let raced = logs.map(|log| tokio::spawn(async move {
        log.submit(&NewTask { unique_key: Some("raced".into()), ..backup("other") }).await.unwrap()
    }));
    let mut new = 0;
    for answer in raced {
        new += usize::from(answer.await.unwrap() == Submitted::New);
    }
    assert_eq!(new, 1, "of four at the same time one waits");
}

async fn the_newest_slot_is_known_whatever_became_of_it(world: &World) {
    let log = world.open().await;
    assert_eq!(log.last_slot("backup:shop").await.unwrap(), None);
    let slot = |day: u32| {
        let at: Timestamp = format!("2025-01-{day:02}T02:30:00Z").parse().unwrap();
        let slot = Slot { schedule: "backup:shop".into(), at };
        NewTask {
            job_id: JobId::of_slot("backup:shop", at),
            slot: Some(slot),
            unique_key: Some("k".into()),
            ..backup("shop")
        }
    };
    submit(&*log, &slot(3)).await;
    assert_eq!(log.submit(&slot(3)).await.unwrap(), Submitted::Same);
    assert!(matches!(log.submit(&slot(2)).await.unwrap(), Submitted::Superseded(_)));
    assert_eq!(log.last_slot("backup:shop").await.unwrap(), slot(3).slot.map(|slot| slot.at));
    assert!(matches!(log.submit(&slot(4)).await.unwrap(), Submitted::Superseded(_)));
    assert_eq!(log.last_slot("backup:shop").await.unwrap(), slot(4).slot.map(|slot| slot.at));
    // A refused one is not noted.
    let other = NewTask { kind: TaskKind::Drill, slot: slot(9).slot, ..slot(3) };
    log.submit(&other).await.unwrap_err();
    assert_eq!(log.last_slot("backup:shop").await.unwrap(), slot(4).slot.map(|slot| slot.at));
    assert_eq!(log.last_slot("drill:shop").await.unwrap(), None);
}

async fn what_was_asked_for_reads_back(world: &World) {
    let log = world.open().await;
    let now = world.now();
    let task = NewTask {
        spec: serde_json::json!({"at": "latest"}),
        deadline_s: Some(14_400),
        priority: 200,
        run_at: Some(now + hours(1)),
        expires_at: Some(now + hours(2)),
        max_attempts: 0,
        ..backup("shop")
    };
    submit(&*log, &task).await;
    let found = one(&*log, task.job_id).await;
    assert_eq!((found.kind, found.state, found.priority), (TaskKind::Backup, TaskState::Scheduled, 9));
    assert_eq!((found.spec, found.deadline_s, found.attempt, found.max_attempts), (task.spec, Some(14_400), 0, 1));
    assert_eq!(found.run_at.unwrap().as_microsecond(), task.run_at.unwrap().as_microsecond());
    assert_eq!((found.requested_by.as_str(), found.target), ("the exam", database("shop")));
    assert!((found.created_at.duration_since(now)).as_secs().abs() < 60);
    assert_eq!(whats(&*log, task.job_id).await, ["scheduled"]);

    let others = [backup("shop"), NewTask::new(TaskKind::Prune, None), backup("lite")];
    for other in &others {
        world.pass(Duration::from_secs(1));
        submit(&*log, other).await;
    }
    let ids = async |filter: TaskFilter| -> Vec<JobId> {
        log.tasks(&filter).await.unwrap().into_iter().map(|task| task.job_id).collect()
    };
    let all = || TaskFilter::default();
    let [shop, prune, lite] = [0, 1, 2].map(|at: usize| others[at].job_id);
    assert_eq!(ids(all()).await, [lite, prune, shop, task.job_id]);
    assert_eq!(ids(TaskFilter { limit: 2, ..all() }).await, [lite, prune]);
    assert_eq!(ids(TaskFilter { target: database("shop"), ..all() }).await, [shop, task.job_id]);
    assert_eq!(ids(TaskFilter { kinds: vec![TaskKind::Prune, TaskKind::Drill], ..all() }).await, [prune]);
    assert_eq!(ids(TaskFilter { states: vec![TaskState::Scheduled], ..all() }).await, [task.job_id]);
    assert_eq!(ids(TaskFilter { job_id: Some(JobId::random()), ..all() }).await, []);
}

async fn a_task_with_a_nul_and_odd_names_goes_round(world: &World) {
    let log = world.open().await;
    let odd = "it's \"odd\" \\ \u{1f600} $1 a\0b";
    let task = NewTask {
        spec: serde_json::json!({odd: odd}),
        requested_by: odd.into(),
        channels: vec![odd.into()],
        ..backup("shop")
    };
    submit(&*log, &task).await;
    let found = one(&*log, task.job_id).await;
    assert_eq!((found.spec, found.requested_by), (task.spec.clone(), odd.replace('\0', "\u{fffd}")));
    let claimed = claim(&*log, LONG).await.unwrap();
    let mut ending = done();
    ending.report.error_message = Some(odd.into());
    ending.report.result = Some(serde_json::json!({odd: [odd]}));
    log.finish(&claimed.lease, &ending).await.unwrap();
    assert_eq!(one(&*log, task.job_id).await.report.result, ending.report.result);
    assert_eq!(whats(&*log, task.job_id).await, ["queued", "running", "succeeded"]);
    assert_eq!(log.submit(&task).await.unwrap(), Submitted::Same);
}

async fn what_was_handed_in_is_done_although_the_caller_went_away(world: &World) {
    let log = world.open().await;
    let tasks: Vec<NewTask> = (0..20).map(|at| backup(&format!("shop{at}"))).collect();
    for task in &tasks {
        let mut call = Box::pin(log.submit(task));
        // Polled once, then dropped.
        std::future::poll_fn(|context| {
            let _ = call.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
    }
    until(async || log.tasks(&TaskFilter::default()).await.unwrap().len() == tasks.len()).await;
    while let Some(claimed) = claim(&*log, LONG).await {
        log.finish(&claimed.lease, &done()).await.unwrap();
    }
    for task in &tasks {
        assert_eq!(whats(&*log, task.job_id).await, ["queued", "running", "succeeded"]);
    }
}
