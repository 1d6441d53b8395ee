//! Tasks are handed out: the right one, once, and again when its holder was lost.

use super::*;
use std::process::Command;

exams! {
    the_most_urgent_due_task_of_the_wanted_kinds_comes_first,
    what_waits_for_its_time_is_not_handed_out_before,
    what_is_over_its_time_expires_and_is_told,
    of_one_database_one_task_works_and_others_wait,
    a_scheduled_backup_makes_way_for_a_migration,
    a_command_that_does_the_work_itself_is_busy_or_first,
    a_lapsed_task_is_taken_over_and_the_old_holder_writes_nothing,
    a_task_whose_holder_was_lost_on_the_last_try_has_failed,
    a_killed_process_loses_its_tasks_at_once,
}

async fn the_most_urgent_due_task_of_the_wanted_kinds_comes_first(world: &World) {
    let log = world.open().await;
    assert_eq!(claim(&*log, LONG).await, None);
    let mut tasks = Vec::new();
    for (name, kind, priority) in [
        ("a", TaskKind::Backup, 4),
        ("b", TaskKind::Backup, 9),
        ("c", TaskKind::Drill, 9),
        ("d", TaskKind::Backup, 4),
        ("e", TaskKind::Backup, 0),
    ] {
        let task = NewTask { kind, priority, ..backup(name) };
        submit(&*log, &task).await;
        world.pass(Duration::from_secs(1));
        tasks.push(task.job_id);
    }
    assert_eq!(log.claim(&worker(), &Wanted::kinds(&[]), LONG).await.unwrap(), None);
    assert_eq!(log.claim(&worker(), &Wanted::kinds(&[TaskKind::Prune]), LONG).await.unwrap(), None);
    let me = worker();
    for at in [1, 0, 3, 4] {
        let claimed =
            log.claim(&me, &Wanted::kinds(&[TaskKind::Backup, TaskKind::Verify]), LONG).await.unwrap().unwrap();
        assert_eq!(claimed.task.job_id, tasks[at]);
        assert_eq!((claimed.task.state, claimed.task.attempt, claimed.is_recovery), (TaskState::Running, 1, false));
        assert_eq!((claimed.lease.epoch, claimed.lease.worker.as_str()), (1, me.id.as_str()));
        let seen = one(&*log, tasks[at]).await;
        assert_eq!(seen, claimed.task);
        assert!(seen.worker == Some(me.id.clone()) && seen.started_at.is_some() && !seen.is_lapsed);
    }
    assert_eq!(log.claim(&me, &Wanted::kinds(&[TaskKind::Backup]), LONG).await.unwrap(), None);
    // Somebody who knows other databases leaves it to others.
    let other = Wanted { targets: database("other").map(|name| vec![name]), ..Wanted::kinds(TaskKind::ALL) };
    assert_eq!(log.claim(&me, &other, LONG).await.unwrap(), None);
    assert_eq!(claim(&*log, LONG).await.unwrap().task.job_id, tasks[2]);
}

async fn what_waits_for_its_time_is_not_handed_out_before(world: &World) {
    let log = world.open().await;
    let later = NewTask { run_at: Some(world.now() + hours(1)), ..backup("later") };
    submit(&*log, &later).await;
    let soon = NewTask { run_at: Some(world.now() + SignedDuration::from_secs(1)), ..backup("soon") };
    submit(&*log, &soon).await;
    assert_eq!(one(&*log, later.job_id).await.state, TaskState::Scheduled);
    if matches!(world, World::Sqlite { .. }) {
        assert_eq!(claim(&*log, LONG).await, None);
        world.pass(Duration::from_secs(1));
    }
    until(async || one(&*log, soon.job_id).await.state == TaskState::Queued).await;
    assert_eq!(claim(&*log, LONG).await.unwrap().task.job_id, soon.job_id);
    assert_eq!(claim(&*log, LONG).await, None);
    assert_eq!(one(&*log, later.job_id).await.state, TaskState::Scheduled);
}

async fn what_is_over_its_time_expires_and_is_told(world: &World) {
    let log = world.open().await;
    let late = NewTask { expires_at: Some(world.now() - hours(1)), unique_key: Some("k".into()), ..backup("shop") };
    submit(&*log, &late).await;
    // It does not keep another one from waiting.
    submit(&*log, &NewTask { unique_key: Some("k".into()), ..backup("lite") }).await;
    assert_eq!(claim(&*log, LONG).await.unwrap().task.target, database("lite"));
    let found = one(&*log, late.job_id).await;
    assert_eq!((found.state, found.started_at), (TaskState::Expired, None));
    assert!(found.finished_at.is_some());
    assert_eq!(whats(&*log, late.job_id).await, ["queued", "expired"]);
    let told = log.take_deliveries(10, LONG).await.unwrap();
    assert_eq!(told.iter().filter(|told| told.event.what == "expired").count(), 1);
}

async fn of_one_database_one_task_works_and_others_wait(world: &World) {
    let log = world.open().await;
    for kind in [TaskKind::Backup, TaskKind::Migrate, TaskKind::Rehearse] {
        submit(&*log, &NewTask { kind, ..backup("shop") }).await;
        world.pass(Duration::from_secs(1));
    }
    submit(&*log, &NewTask { kind: TaskKind::Verify, ..backup("shop") }).await;
    submit(&*log, &NewTask { kind: TaskKind::Drill, ..backup("shop") }).await;
    let mut order = Vec::new();
    let mut held = Vec::new();
    while let Some(claimed) = claim(&*log, LONG).await {
        held.push(claimed);
    }
    let kinds: Vec<TaskKind> = held.iter().map(|held| held.task.kind).collect();
    assert_eq!(kinds.len(), 3, "{kinds:?}");
    assert!(kinds.contains(&TaskKind::Verify) && kinds.contains(&TaskKind::Drill));
    let mut exclusive = held.into_iter().find(|held| !matches!(held.task.kind, TaskKind::Verify | TaskKind::Drill));
    while let Some(claimed) = exclusive {
        order.push(claimed.task.kind);
        assert_eq!(claim(&*log, LONG).await, None);
        log.finish(&claimed.lease, &done()).await.unwrap();
        exclusive = claim(&*log, LONG).await;
    }
    assert_eq!(order.len(), 3, "{order:?}");
    // The database itself refuses a second one too.
    let (a, b) = (backup("shop"), backup("shop"));
    submit(&*log, &a).await;
    submit(&*log, &b).await;
    let refused = world.try_sql("UPDATE task_log SET state = 'running' WHERE target = 'shop' AND state = 'queued'");
    assert!(refused.unwrap_err().to_lowercase().contains("unique"));
}

async fn a_scheduled_backup_makes_way_for_a_migration(world: &World) {
    let log = world.open().await;
    let migration = |name: &str| NewTask { kind: TaskKind::Migrate, ..backup(name) };
    let nightly = |name: &str| NewTask { door: TaskDoor::Schedule, ..backup(name) };
    let wanted = Wanted { targets: None, ..Wanted::kinds(&[TaskKind::Migrate]) };
    // One that somebody asked for is waited for; so is one whose migration is not due, and one of another worker's.
    let asked = backup("asked");
    let (early, foreign, due) = (nightly("early"), nightly("foreign"), nightly("due"));
    for task in [&asked, &early, &foreign, &due] {
        submit(&*log, task).await;
    }
    let mut held = Vec::new();
    while let Some(claimed) = claim(&*log, LONG).await {
        held.push(claimed);
    }
    assert_eq!(held.len(), 4);
    let later = NewTask { run_at: Some(world.now() + hours(1)), ..migration("early") };
    for task in [&migration("asked"), &later, &migration("foreign"), &migration("due")] {
        submit(&*log, task).await;
    }
    let agents = Wanted { scheduled: true, ..Wanted::kinds(&[TaskKind::Backup, TaskKind::Drill]) };
    assert_eq!(log.claim(&worker(), &agents, LONG).await.unwrap(), None);
    let asked_to_end = async |log: &dyn TaskLog| {
        let mut names = Vec::new();
        for claimed in &held {
            let target = claimed.task.target.as_ref().unwrap().to_string();
            if log.renew(&claimed.lease, LONG, &progress()).await.unwrap().cancel_requested {
                names.push(target);
            }
        }
        names
    };
    assert_eq!(asked_to_end(&*log).await, Vec::<String>::new(), "who cannot migrate has nobody make way");
    let known = ["asked", "early", "due"].map(|name| database(name).unwrap()).to_vec();
    let own = Wanted { targets: Some(known), ..wanted };
    assert_eq!(log.claim(&worker(), &own, LONG).await.unwrap(), None);
    assert_eq!(asked_to_end(&*log).await, ["due"]);
    let backup = held.iter().find(|claimed| claimed.task.job_id == due.job_id).unwrap();
    assert!(whats(&*log, due.job_id).await.contains(&"cancel-requested".to_owned()));
    let ending = Ending { state: TaskState::Cancelled, again_at: None, report: TaskReport::default() };
    log.finish(&backup.lease, &ending).await.unwrap();
    let claimed = log.claim(&worker(), &own, LONG).await.unwrap().unwrap();
    assert_eq!(claimed.task.target, database("due"));
}

async fn a_command_that_does_the_work_itself_is_busy_or_first(world: &World) {
    let log = world.open().await;
    let first = log.submit_claimed(&backup("shop"), &worker(), LONG).await.unwrap();
    assert_eq!((first.task.state, first.lease.epoch, first.is_recovery), (TaskState::Running, 1, false));
    let before = world.contents();
    let error = log.submit_claimed(&backup("shop"), &worker(), LONG).await.unwrap_err();
    let TaskLogError::Busy { target, job, kind, state: TaskState::Running } = &error else { panic!("{error}") };
    assert_eq!((Some(target), *job, *kind), (database("shop").as_ref(), first.task.job_id, TaskKind::Backup));
    assert_eq!(world.contents(), before);
    log.submit_claimed(&NewTask { kind: TaskKind::Verify, ..backup("shop") }, &worker(), LONG).await.unwrap();
    log.submit_claimed(&backup("lite"), &worker(), LONG).await.unwrap();
    log.finish(&first.lease, &done()).await.unwrap();
    // A lost one does not keep it out.
    let lost = log.submit_claimed(&backup("shop"), &worker(), world.short()).await.unwrap();
    world.let_lapse(&*log, lost.task.job_id).await;
    let last = log.submit_claimed(&backup("shop"), &worker(), LONG).await.unwrap();
    assert_eq!(whats(&*log, last.task.job_id).await, ["queued", "running"]);
    assert_eq!(whats(&*log, lost.task.job_id).await, ["queued", "running", "lost"]);
    assert_eq!(claim(&*log, LONG).await, None);
    log.finish(&last.lease, &done()).await.unwrap();
    let recovered = claim(&*log, LONG).await.unwrap();
    assert!(recovered.task.job_id == lost.task.job_id && recovered.is_recovery);

    // Of several at the same time one is first.
    let logs = [world.open().await, world.open().await, world.open().await];
    let raced =
        logs.map(|log| tokio::spawn(async move { log.submit_claimed(&backup("raced"), &worker(), LONG).await }));
    let mut won = 0;
    for answer in raced {
        match answer.await.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert!(matches!(error, TaskLogError::Busy { .. }), "{error}"),
        }
    }
    assert_eq!(won, 1);
}

async fn a_lapsed_task_is_taken_over_and_the_old_holder_writes_nothing(world: &World) {
    let (log, other) = (world.open().await, world.open().await);
    let task = backup("shop");
    submit(&*log, &task).await;
    let old = claim(&*log, world.short()).await.unwrap();
    if matches!(world, World::Sqlite { .. }) {
        assert_eq!(claim(&*other, LONG).await, None);
        world.pass(world.short() - Duration::from_secs(1));
        assert!(!one(&*log, task.job_id).await.is_lapsed);
        // A renewal counts from now.
        log.renew(&old.lease, world.short(), &TaskProgress::default()).await.unwrap();
        world.pass(world.short() - Duration::from_secs(1));
        assert_eq!(claim(&*other, LONG).await, None);
    }
    world.let_lapse(&*log, task.job_id).await;
    assert_eq!(one(&*log, task.job_id).await.state, TaskState::Running);
    let new = claim(&*other, LONG).await.unwrap();
    assert_eq!((new.task.job_id, new.lease.epoch, new.task.attempt), (task.job_id, 2, 2));
    assert!(new.is_recovery && new.task.state == TaskState::Recovering);
    let before = world.contents();
    for stale in [
        log.renew(&old.lease, LONG, &progress()).await.map(drop),
        log.finish(&old.lease, &done()).await,
        log.finish(&old.lease, &retry(None)).await,
        log.finish(&shared::task_log::TaskLease { epoch: 2, ..old.lease.clone() }, &done()).await,
    ] {
        assert!(matches!(stale, Err(TaskLogError::LeaseLost { job, .. }) if job == task.job_id), "{stale:?}");
    }
    assert_eq!(world.contents(), before, "a stale epoch wrote");
    other.renew(&new.lease, LONG, &progress()).await.unwrap();
    other.finish(&new.lease, &done()).await.unwrap();
    assert_eq!(whats(&*log, task.job_id).await, ["queued", "running", "lost", "recovering", "succeeded"]);
    let tries = world.sql("SELECT attempt, epoch, ended_as FROM task_attempt ORDER BY epoch").replace('\n', " ");
    assert_eq!(tries, "1|1|lost 2|2|succeeded");
}

async fn a_task_whose_holder_was_lost_on_the_last_try_has_failed(world: &World) {
    let log = world.open().await;
    let task = NewTask { max_attempts: 1, ..backup("shop") };
    submit(&*log, &task).await;
    let old = claim(&*log, world.short()).await.unwrap();
    world.let_lapse(&*log, task.job_id).await;
    // Whoever does other work leaves it alone.
    assert_eq!(log.claim(&worker(), &Wanted::kinds(&[TaskKind::Verify]), LONG).await.unwrap(), None);
    assert_eq!(one(&*log, task.job_id).await.state, TaskState::Running);
    assert_eq!(claim(&*log, LONG).await, None);
    let found = one(&*log, task.job_id).await;
    assert_eq!((found.state, found.report.error_class.as_deref()), (TaskState::Failed, Some("lost")));
    assert!(found.finished_at.is_some() && !found.is_lapsed);
    assert_eq!(whats(&*log, task.job_id).await, ["queued", "running", "lost", "failed"]);
    let late = log.finish(&old.lease, &done()).await;
    assert!(matches!(late, Err(TaskLogError::LeaseLost { .. })), "{late:?}");
    // Not even the ending the record gave it is the old holder's.
    let failed = Ending { state: TaskState::Failed, ..done() };
    assert!(matches!(log.finish(&old.lease, &failed).await, Err(TaskLogError::LeaseLost { .. })));
}

async fn a_killed_process_loses_its_tasks_at_once(world: &World) {
    let log = world.open().await;
    submit(&*log, &backup("shop")).await;
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let ticks = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
    let doomed = Worker { pid: child.id(), start_ticks: ticks, ..worker() };
    let held = log.claim(&doomed, &Wanted::kinds(TaskKind::ALL), LONG).await.unwrap().unwrap();
    assert_eq!(claim(&*log, LONG).await, None);
    assert!(!one(&*log, held.task.job_id).await.is_lapsed);
    child.kill().unwrap();
    // Dead but not yet waited for is dead too.
    until(async || one(&*log, held.task.job_id).await.is_lapsed).await;
    let taken = claim(&*log, LONG).await.unwrap();
    assert!(taken.is_recovery && taken.task.job_id == held.task.job_id);
    child.wait().unwrap();
    log.finish(&taken.lease, &retry(None)).await.unwrap();

    // A process of another machine or boot cannot be judged from here.
    for far in [Worker { host: "far".into(), ..doomed.clone() }, Worker { boot_id: "other".into(), ..doomed.clone() }] {
        let far = Worker { id: worker().id, ..far };
        submit(&*log, &backup(&format!("far{}", far.boot_id.len()))).await;
        let held = log.claim(&far, &Wanted::kinds(TaskKind::ALL), LONG).await.unwrap().unwrap();
        assert!(!one(&*log, held.task.job_id).await.is_lapsed);
    }
}
