//! Migrations and restores: recovered when their holder was lost, stuck when that does not succeed.

use super::*;

exams! {
    a_lost_migration_keeps_its_database_and_is_recovered_before_all_else,
    several_takers_of_a_lost_migration_are_one,
    a_stuck_migration_waits_for_a_person_and_a_lost_resolver_leaves_it_stuck,
    on_a_stuck_database_only_helpers_act_and_one_at_a_time,
    what_was_to_help_expires_when_the_stuck_one_has_ended,
    a_restore_in_place_keeps_others_away_and_another_restore_does_not,
    a_lost_rehearsal_waits_in_the_queue_again,
}

fn migration(name: &str) -> NewTask {
    NewTask { kind: TaskKind::Migrate, max_attempts: 1, ..backup(name) }
}

fn ending(state: TaskState) -> Ending {
    let report = TaskReport { error_message: Some("the tool failed".into()), ..TaskReport::default() };
    Ending { state, again_at: None, report }
}

fn only_lost() -> Wanted {
    Wanted { only_lost: true, ..Wanted::kinds(TaskKind::ALL) }
}

/// A migration of `name` that is stuck.
async fn stuck(log: &dyn TaskLog, name: &str) -> Task {
    let held = log.submit_claimed(&migration(name), &worker(), LONG).await.unwrap();
    log.finish(&held.lease, &ending(TaskState::Stuck)).await.unwrap();
    one(log, held.task.job_id).await
}

#[track_caller]
fn assert_busy<T: std::fmt::Debug>(answer: Result<T, TaskLogError>, by: JobId, words: &str) {
    let error = answer.unwrap_err();
    assert!(matches!(&error, TaskLogError::Busy { job, .. } if *job == by), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

async fn a_lost_migration_keeps_its_database_and_is_recovered_before_all_else(world: &World) {
    let log = world.open().await;
    let task = migration("shop");
    let old = log.submit_claimed(&task, &worker(), world.short()).await.unwrap();
    submit(&*log, &NewTask { priority: 9, ..backup("shop") }).await;
    submit(&*log, &NewTask { priority: 9, ..backup("lite") }).await;
    world.let_lapse(&*log, task.job_id).await;
    // The agent, which only makes backups, does not touch it, lapsed or waiting.
    let backups = Wanted::kinds(&[TaskKind::Backup]);
    let state = || world.sql(&format!("SELECT * FROM task_log WHERE job_id = '{}'", task.job_id));
    let before = state();
    let lite = log.claim(&worker(), &backups, LONG).await.unwrap().unwrap();
    assert_eq!(lite.task.target, database("lite"));
    assert_eq!(log.claim(&worker(), &backups, LONG).await.unwrap(), None);
    assert_busy(log.submit_claimed(&backup("shop"), &worker(), LONG).await, task.job_id, "being worked on by");
    assert_eq!(state(), before);
    // Whoever knows other databases finds it lost, and leaves it to others.
    let other = Wanted { targets: database("other").map(|name| vec![name]), ..only_lost() };
    assert_eq!(log.claim(&worker(), &other, LONG).await.unwrap(), None);
    let waiting = one(&*log, task.job_id).await;
    assert_eq!((waiting.state, waiting.is_lapsed, &waiting.worker), (TaskState::Recovering, false, &None));
    assert_eq!(waiting.finished_at, None);
    assert_eq!(world.sql(&format!("SELECT status FROM tasklog WHERE id = '{}'", task.job_id)), "recovering");
    let before = state();
    assert_eq!(log.claim(&worker(), &backups, LONG).await.unwrap(), None);
    assert_busy(log.submit_claimed(&backup("shop"), &worker(), LONG).await, task.job_id, "being recovered");
    assert_busy(log.submit_claimed(&migration("shop"), &worker(), LONG).await, task.job_id, "being recovered");
    assert_eq!(state(), before);
    assert_eq!(log.holder(&task.job_id).await.unwrap().unwrap().0.id, old.lease.worker);

    submit(&*log, &NewTask { priority: 9, kind: TaskKind::Verify, ..backup("other") }).await;
    let new = claim(&*log, LONG).await.unwrap();
    assert_eq!((new.task.job_id, new.task.state, new.is_recovery), (task.job_id, TaskState::Recovering, true));
    assert_eq!((new.lease.epoch, new.task.attempt), (2, 1));
    for stale in [log.finish(&old.lease, &done()).await, log.finish(&old.lease, &ending(TaskState::Stuck)).await] {
        assert!(matches!(stale, Err(TaskLogError::LeaseLost { .. })), "{stale:?}");
    }
    log.finish(&new.lease, &ending(TaskState::Restored)).await.unwrap();
    assert_eq!(whats(&*log, task.job_id).await, ["queued", "running", "lost", "recovering", "restored"]);
    assert_eq!(world.sql(&format!("SELECT outcome FROM task_log WHERE job_id = '{}'", task.job_id)), "restored");
    assert_eq!(log.claim(&worker(), &only_lost(), LONG).await.unwrap(), None);
    assert_eq!(log.claim(&worker(), &backups, LONG).await.unwrap().unwrap().task.target, database("shop"));
}

async fn several_takers_of_a_lost_migration_are_one(world: &World) {
    let log = world.open().await;
    let old = log.submit_claimed(&migration("shop"), &worker(), world.short()).await.unwrap();
    let job = old.task.job_id;
    world.let_lapse(&*log, job).await;
    for round in 2..=3 {
        let mut takers = Vec::new();
        for _ in 0..5 {
            let log = world.open().await;
            takers.push(tokio::spawn(async move { log.claim(&worker(), &only_lost(), LONG).await.unwrap() }));
        }
        let mut taken = Vec::new();
        for taker in takers {
            taken.extend(taker.await.unwrap());
        }
        // A taker that was a moment too early finds nothing; nobody finds it twice.
        if taken.is_empty() {
            taken.extend(log.claim(&worker(), &only_lost(), LONG).await.unwrap());
        }
        assert_eq!(taken.len(), 1);
        assert_eq!((taken[0].task.job_id, taken[0].lease.epoch, taken[0].task.attempt), (job, round, 1));
        log.renew(&taken[0].lease, world.short(), &progress()).await.unwrap();
        world.let_lapse(&*log, job).await;
    }
}

async fn a_stuck_migration_waits_for_a_person_and_a_lost_resolver_leaves_it_stuck(world: &World) {
    let log = world.open().await;
    let task = migration("shop");
    let held = log.submit_claimed(&task, &worker(), LONG).await.unwrap();
    let early = log.take_stuck(&task.job_id, &worker(), LONG).await.unwrap_err();
    assert!(matches!(early, TaskLogError::NotStuck { state: TaskState::Running, .. }), "{early}");
    log.cancel(&task.job_id, "me").await.unwrap();
    for _ in 0..2 {
        log.finish(&held.lease, &ending(TaskState::Stuck)).await.unwrap();
    }
    let found = one(&*log, task.job_id).await;
    assert_eq!((found.state, found.finished_at, found.is_lapsed), (TaskState::Stuck, None, false));
    assert_eq!(found.report.error_message.as_deref(), Some("the tool failed"));
    assert!(world.sql("SELECT e.what FROM event_delivery d JOIN task_event e USING (job_id, seq)").contains("stuck"));
    assert_eq!(log.cancel(&task.job_id, "me").await.unwrap(), TaskState::Stuck);
    assert_eq!(claim(&*log, LONG).await, None);

    // Of several who would resolve it one does.
    let mut takers = Vec::new();
    for _ in 0..4 {
        let (log, job, lease) = (world.open().await, task.job_id, world.short());
        takers.push(tokio::spawn(async move { log.take_stuck(&job, &worker(), lease).await }));
    }
    let mut taken = Vec::new();
    for taker in takers {
        match taker.await.unwrap() {
            Ok(claimed) => taken.push(claimed),
            Err(error) => {
                assert!(matches!(error, TaskLogError::NotStuck { state: TaskState::Recovering, .. }), "{error}")
            }
        }
    }
    assert_eq!(taken.len(), 1);
    let resolver = taken.remove(0);
    assert_eq!((resolver.lease.epoch, resolver.task.attempt, resolver.is_recovery), (2, 1, true));
    assert!(!resolver.task.cancel_requested, "what was wished before it was stuck does not end its resolution");
    world.let_lapse(&*log, task.job_id).await;
    assert_eq!(claim(&*log, LONG).await, None, "a lost resolver's task was handed out");
    let found = one(&*log, task.job_id).await;
    assert_eq!((found.state, found.report.error_message.as_deref()), (TaskState::Stuck, Some("the tool failed")));
    let late = log.finish(&resolver.lease, &ending(TaskState::Stuck)).await;
    assert!(matches!(late, Err(TaskLogError::LeaseLost { .. })), "{late:?}");
    assert_eq!(log.holder(&task.job_id).await.unwrap().unwrap().0.id, resolver.lease.worker);

    let second = log.take_stuck(&task.job_id, &worker(), LONG).await.unwrap();
    assert_eq!(second.lease.epoch, 3);
    log.finish(&second.lease, &done()).await.unwrap();
    let all = ["queued", "running", "cancel-requested", "stuck", "recovering", "lost", "stuck", "recovering"];
    let whats = whats(&*log, task.job_id).await;
    assert_eq!((&whats[..8], whats[8].as_str()), (&all.map(String::from)[..], "succeeded"));
    let ended = log.take_stuck(&task.job_id, &worker(), LONG).await.unwrap_err();
    assert!(matches!(ended, TaskLogError::NotStuck { state: TaskState::Succeeded, .. }), "{ended}");
    let unknown = log.take_stuck(&JobId::random(), &worker(), LONG).await.unwrap_err();
    assert!(matches!(unknown, TaskLogError::Unknown(_)), "{unknown}");
    log.submit_claimed(&backup("shop"), &worker(), LONG).await.unwrap();
}

async fn on_a_stuck_database_only_helpers_act_and_one_at_a_time(world: &World) {
    let log = world.open().await;
    let stuck = stuck(&*log, "shop").await;
    let before = world.contents();
    for kind in [TaskKind::Migrate, TaskKind::Rehearse, TaskKind::Backup] {
        let refused = log.submit_claimed(&NewTask { kind, ..backup("shop") }, &worker(), LONG).await;
        assert_busy(refused, stuck.job_id, "shop is stuck since job");
    }
    let helper = |kind, name| NewTask { kind, stuck_job: Some(stuck.job_id), ..backup(name) };
    for wrong in [helper(TaskKind::Rehearse, "shop"), helper(TaskKind::Backup, "lite")] {
        let error = log.submit(&wrong).await.unwrap_err();
        assert!(matches!(error, TaskLogError::Unusable { .. }), "{error}");
        log.submit_claimed(&wrong, &worker(), LONG).await.unwrap_err();
    }
    assert_eq!(world.contents(), before);
    submit(&*log, &NewTask { priority: 9, ..backup("shop") }).await;
    assert_eq!(claim(&*log, LONG).await, None);

    submit(&*log, &helper(TaskKind::Backup, "shop")).await;
    let saved = claim(&*log, LONG).await.unwrap();
    assert_eq!((saved.task.kind, saved.task.stuck_job), (TaskKind::Backup, Some(stuck.job_id)));
    let second = helper(TaskKind::Restore, "shop");
    assert_busy(log.submit_claimed(&second, &worker(), LONG).await, saved.task.job_id, "being worked on");
    assert_busy(log.take_stuck(&stuck.job_id, &worker(), LONG).await, saved.task.job_id, "being worked on");
    log.finish(&saved.lease, &done()).await.unwrap();
    let restored = log.submit_claimed(&second, &worker(), LONG).await.unwrap();
    let third = helper(TaskKind::Backup, "shop");
    submit(&*log, &third).await;
    assert_eq!(claim(&*log, LONG).await, None);
    // A helper that failed leaves one stuck task, not two.
    log.finish(&restored.lease, &ending(TaskState::Stuck)).await.unwrap();
    assert_eq!(one(&*log, second.job_id).await.state, TaskState::Failed);
    let third = claim(&*log, LONG).await.unwrap();
    log.finish(&third.lease, &done()).await.unwrap();

    let resolver = log.take_stuck(&stuck.job_id, &worker(), LONG).await.unwrap();
    let late = log.submit_claimed(&helper(TaskKind::Backup, "shop"), &worker(), LONG).await.unwrap_err();
    assert!(matches!(late, TaskLogError::NotStuck { state: TaskState::Recovering, .. }), "{late}");
    log.finish(&resolver.lease, &done()).await.unwrap();
    assert_eq!(claim(&*log, LONG).await.unwrap().task.priority, 9);
}

async fn what_was_to_help_expires_when_the_stuck_one_has_ended(world: &World) {
    let log = world.open().await;
    let stuck = stuck(&*log, "shop").await;
    let helper = NewTask { stuck_job: Some(stuck.job_id), ..backup("shop") };
    submit(&*log, &helper).await;
    let resolver = log.take_stuck(&stuck.job_id, &worker(), LONG).await.unwrap();
    assert_eq!(claim(&*log, LONG).await, None);
    assert_eq!(one(&*log, helper.job_id).await.state, TaskState::Queued);
    log.finish(&resolver.lease, &done()).await.unwrap();
    world.pass(Duration::from_secs(1));
    until(async || {
        assert_eq!(claim(&*log, LONG).await, None);
        one(&*log, helper.job_id).await.state == TaskState::Expired
    })
    .await;
    assert_eq!(whats(&*log, helper.job_id).await, ["queued", "expired"]);
}

async fn a_restore_in_place_keeps_others_away_and_another_restore_does_not(world: &World) {
    let log = world.open().await;
    let restore = |spec| NewTask { kind: TaskKind::Restore, spec, ..migration("shop") };
    let aside = restore(serde_json::json!({"at": "latest", "into": "copy"}));
    let words = restore(serde_json::json!({"at": "\"in_place\":true"}));
    for beside in [&aside, &words] {
        log.submit_claimed(beside, &worker(), LONG).await.unwrap();
    }
    let in_place = restore(serde_json::json!({"at": "latest", "in_place": true}));
    let held = log.submit_claimed(&in_place, &worker(), world.short()).await.unwrap();
    assert_busy(log.submit_claimed(&backup("shop"), &worker(), LONG).await, in_place.job_id, "(restore)");
    submit(&*log, &backup("shop")).await;
    world.let_lapse(&*log, held.task.job_id).await;
    let new = claim(&*log, LONG).await.unwrap();
    assert!(new.is_recovery && new.task.job_id == in_place.job_id);
    assert_eq!(claim(&*log, LONG).await, None);
    let refused = world.try_sql("UPDATE task_log SET state = 'running' WHERE kind = 'backup'");
    assert!(refused.unwrap_err().to_lowercase().contains("unique"));
}

async fn a_lost_rehearsal_waits_in_the_queue_again(world: &World) {
    let log = world.open().await;
    let rehearsal = NewTask { kind: TaskKind::Rehearse, ..backup("shop") };
    let held = log.submit_claimed(&rehearsal, &worker(), world.short()).await.unwrap();
    world.let_lapse(&*log, held.task.job_id).await;
    assert_eq!(log.claim(&worker(), &only_lost(), LONG).await.unwrap(), None);
    assert_eq!(one(&*log, rehearsal.job_id).await.state, TaskState::Queued);
    let again = claim(&*log, LONG).await.unwrap();
    assert_eq!((again.task.attempt, again.is_recovery), (2, true));
    log.finish(&again.lease, &ending(TaskState::Stuck)).await.unwrap_err();
    log.finish(&again.lease, &done()).await.unwrap();
}
