//! Plans that wait for a person's approval: nobody's while they wait, carried out only by somebody else's word.

use super::*;
use shared::model::Class;
use shared::task_log::Approval;

exams! {
    a_plan_that_waits_is_nobodys_until_somebody_else_approves_it,
    only_what_waits_with_that_plan_is_approved_and_not_by_who_asked,
    another_plan_waits_anew_and_the_old_approval_counts_no_more,
    a_wait_told_twice_is_one_and_a_lost_lease_writes_none,
    what_waits_is_cancelled_at_once_also_by_a_wish_that_came_before,
    what_was_not_approved_or_not_begun_in_its_time_expires,
    of_several_who_approve_at_once_one_does,
    a_worker_lost_before_the_wait_or_after_the_approval_is_recovered,
    only_migrations_wait_and_none_that_was_stuck,
    another_of_its_key_is_not_taken_in_while_one_waits,
    waiting_and_approval_are_told_in_order,
    an_approval_changed_in_the_tables_is_found,
}

/// Digests of two plans.
const PLAN: &str = "5d3f0a9c1b2e5d3f0a9c1b2e5d3f0a9c1b2e5d3f0a9c1b2e5d3f0a9c1b2e5d3f";
const OTHER: &str = "99990a9c1b2e5d3f0a9c1b2e5d3f0a9c1b2e5d3f0a9c1b2e5d3f0a9c1b2e5d3f";

fn migration(name: &str) -> NewTask {
    NewTask { kind: TaskKind::Migrate, max_attempts: 1, requested_by: "anna".into(), ..backup(name) }
}

fn report(why: Option<&str>) -> TaskReport {
    TaskReport {
        backup_id: Some("shop/1".into()),
        result: Some(serde_json::json!({"report": ["table old: dropped, 3 rows lost"]})),
        error_message: why.map(str::to_owned),
        ..TaskReport::default()
    }
}

fn by(person: &str, plan: &str) -> Approval {
    Approval { plan: plan.into(), by: person.into(), comment: None }
}

/// A migration of `name` that waits with `PLAN`, and the lease it had.
async fn waiting(log: &dyn TaskLog, name: &str) -> Claimed {
    let held = log.submit_claimed(&migration(name), &worker(), LONG).await.unwrap();
    assert_eq!(log.wait_for_approval(&held.lease, PLAN, &report(None)).await.unwrap(), TaskState::Waiting);
    held
}

#[track_caller]
fn assert_lost<T: std::fmt::Debug>(answer: Result<T, TaskLogError>) {
    assert!(matches!(answer, Err(TaskLogError::LeaseLost { .. })), "{answer:?}");
}

async fn a_plan_that_waits_is_nobodys_until_somebody_else_approves_it(world: &World) {
    let log = world.open().await;
    let held = waiting(&*log, "shop").await;
    let job = held.task.job_id;
    assert_lost(log.renew(&held.lease, LONG, &progress()).await);
    assert_lost(log.finish(&held.lease, &done()).await);
    let found = one(&*log, job).await;
    assert_eq!((found.state, found.is_lapsed, found.attempt), (TaskState::Waiting, false, 0));
    assert_eq!((found.finished_at, &found.step), (None, &None));
    assert_eq!(found.report, report(None));
    let plan = found.plan.unwrap();
    assert_eq!((plan.digest.as_str(), plan.approved_by, plan.comment), (PLAN, None, None));
    assert_eq!(world.sql("SELECT status FROM tasklog"), "waiting");
    // Neither is it handed out, lost or not, nor does it keep its database from others.
    let only_lost = Wanted { only_lost: true, ..Wanted::kinds(TaskKind::ALL) };
    world.pass(Duration::from_secs(7 * 86_400));
    assert_eq!(claim(&*log, LONG).await, None);
    assert_eq!(log.claim(&worker(), &only_lost, LONG).await.unwrap(), None);
    let beside = log.submit_claimed(&migration("shop"), &worker(), LONG).await.unwrap();
    log.finish(&beside.lease, &done()).await.unwrap();

    let approval = Approval { comment: Some("seen: 3 rows".into()), ..by("ben", PLAN) };
    log.approve(&job, &approval).await.unwrap();
    let found = one(&*log, job).await;
    assert_eq!(found.state, TaskState::Queued);
    let again = claim(&*log, LONG).await.unwrap();
    assert_eq!((again.task.job_id, again.is_recovery, again.task.attempt, again.lease.epoch), (job, false, 1, 2));
    let plan = again.task.plan.unwrap();
    let words = (plan.digest.as_str(), plan.approved_by.as_deref(), plan.comment.as_deref());
    assert_eq!(words, (PLAN, Some("ben"), Some("seen: 3 rows")));
    log.finish(&again.lease, &done()).await.unwrap();
    assert_eq!(whats(&*log, job).await, ["queued", "running", "waiting", "approved", "running", "succeeded"]);
    let events = log.events(&job).await.unwrap();
    assert_eq!(events[2].detail, format!("plan {PLAN}"));
    assert_eq!(events[3].detail, format!("plan {PLAN} by ben: seen: 3 rows"));
    let tries =
        world.sql(&format!("SELECT epoch, attempt, ended_as FROM task_attempt WHERE job_id = '{job}' ORDER BY 1"));
    assert_eq!(tries, "1|1|waiting\n2|1|succeeded");
}

async fn only_what_waits_with_that_plan_is_approved_and_not_by_who_asked(world: &World) {
    let log = world.open().await;
    let unknown = JobId::random();
    let nobody = log.approve(&unknown, &by("ben", PLAN)).await;
    assert!(matches!(nobody, Err(TaskLogError::Unknown(job)) if job == unknown), "{nobody:?}");
    let mut others = Vec::new();
    let queued = migration("queued");
    submit(&*log, &queued).await;
    others.push((queued.job_id, TaskState::Queued));
    let running = log.submit_claimed(&migration("running"), &worker(), LONG).await.unwrap();
    others.push((running.task.job_id, TaskState::Running));
    for state in [TaskState::Stuck, TaskState::Succeeded] {
        let held = log.submit_claimed(&migration(state.as_str()), &worker(), LONG).await.unwrap();
        log.finish(&held.lease, &Ending { state, ..done() }).await.unwrap();
        others.push((held.task.job_id, state));
    }
    let cancelled = waiting(&*log, "cancelled").await.task.job_id;
    log.cancel(&cancelled, "me").await.unwrap();
    others.push((cancelled, TaskState::Cancelled));
    let approved = waiting(&*log, "approved").await.task.job_id;
    log.approve(&approved, &by("ben", PLAN)).await.unwrap();
    others.push((approved, TaskState::Queued));
    let job = waiting(&*log, "shop").await.task.job_id;
    let before = world.contents();
    for (other, state) in others {
        let error = log.approve(&other, &by("ben", PLAN)).await.unwrap_err();
        assert!(matches!(error, TaskLogError::NotWaiting { state: found, .. } if found == state), "{error}");
        assert_eq!((error.class(), error.to_string().contains(state.as_str())), (Class::Refused, true), "{error}");
    }
    // The beginning of a digest is not enough here: what it means is the caller's affair.
    for plan in [OTHER, &PLAN[..12], "", &PLAN.to_uppercase()] {
        let error = log.approve(&job, &by("ben", plan)).await.unwrap_err();
        assert!(matches!(&error, TaskLogError::OtherPlan { waits, .. } if waits == PLAN), "{error}");
        assert_eq!(error.class(), Class::Refused);
    }
    for person in ["anna", "Anna", " anna "] {
        let error = log.approve(&job, &by(person, PLAN)).await.unwrap_err();
        assert!(matches!(error, TaskLogError::OwnWish { .. }) && error.class() == Class::Refused, "{error}");
        assert!(error.to_string().contains("asked for by anna, so") && error.to_string().contains(person), "{error}");
    }
    assert_eq!(world.contents(), before);
    log.approve(&job, &by("ben", PLAN)).await.unwrap();
}

async fn another_plan_waits_anew_and_the_old_approval_counts_no_more(world: &World) {
    let log = world.open().await;
    let job = waiting(&*log, "shop").await.task.job_id;
    log.approve(&job, &by("ben", PLAN)).await.unwrap();
    let again = claim(&*log, LONG).await.unwrap();
    let why = "the plan is not the approved one: it leads to another schema";
    log.wait_for_approval(&again.lease, OTHER, &report(Some(why))).await.unwrap();
    let found = one(&*log, job).await;
    let plan = found.plan.unwrap();
    assert_eq!((plan.digest.as_str(), plan.approved_by, found.state), (OTHER, None, TaskState::Waiting));
    assert_eq!(found.report.error_message.as_deref(), Some(why));
    assert_eq!(claim(&*log, LONG).await, None);
    let old = log.approve(&job, &by("ben", PLAN)).await.unwrap_err();
    assert!(matches!(old, TaskLogError::OtherPlan { .. }), "{old}");
    log.approve(&job, &by("cleo", OTHER)).await.unwrap();
    assert_eq!(one(&*log, job).await.report.error_message, None);
    let last = claim(&*log, LONG).await.unwrap();
    assert_eq!((last.lease.epoch, last.task.attempt), (3, 1));
    assert_eq!(last.task.plan.unwrap().approved_by.as_deref(), Some("cleo"));
    let events = log.events(&job).await.unwrap();
    assert_eq!(events[5].detail, format!("plan {OTHER}: {why}"));
}

async fn a_wait_told_twice_is_one_and_a_lost_lease_writes_none(world: &World) {
    let log = world.open().await;
    let held = waiting(&*log, "shop").await;
    let before = world.contents();
    let again = log.wait_for_approval(&held.lease, PLAN, &report(None)).await.unwrap();
    assert_eq!((again, world.contents()), (TaskState::Waiting, before.clone()));
    assert_lost(log.wait_for_approval(&held.lease, OTHER, &report(None)).await);
    log.approve(&held.task.job_id, &by("ben", PLAN)).await.unwrap();
    let before = world.contents();
    assert_lost(log.wait_for_approval(&held.lease, PLAN, &report(None)).await);
    assert_eq!(world.contents(), before);
    claim(&*log, LONG).await.unwrap();
    let before = world.contents();
    assert_lost(log.wait_for_approval(&held.lease, PLAN, &report(None)).await);
    assert_eq!(world.contents(), before);
}

async fn what_waits_is_cancelled_at_once_also_by_a_wish_that_came_before(world: &World) {
    let log = world.open().await;
    let job = waiting(&*log, "shop").await.task.job_id;
    assert_eq!(log.cancel(&job, "cleo").await.unwrap(), TaskState::Cancelled);
    assert_eq!(whats(&*log, job).await, ["queued", "running", "waiting", "cancelled"]);
    assert_eq!(claim(&*log, LONG).await, None);

    let held = log.submit_claimed(&migration("shop"), &worker(), LONG).await.unwrap();
    assert_eq!(log.cancel(&held.task.job_id, "cleo").await.unwrap(), TaskState::Running);
    for _ in 0..2 {
        let state = log.wait_for_approval(&held.lease, PLAN, &report(None)).await.unwrap();
        assert_eq!(state, TaskState::Cancelled);
    }
    let found = one(&*log, held.task.job_id).await;
    assert_eq!((found.state, found.finished_at.is_some()), (TaskState::Cancelled, true));
    assert_eq!(found.report.error_message.as_deref(), Some("at the wish of cleo"));
    let all = ["queued", "running", "cancel-requested", "waiting", "cancelled"];
    assert_eq!(whats(&*log, held.task.job_id).await, all);
    // An approved one waits in the queue like others.
    let job = waiting(&*log, "shop").await.task.job_id;
    log.approve(&job, &by("ben", PLAN)).await.unwrap();
    assert_eq!(log.cancel(&job, "cleo").await.unwrap(), TaskState::Cancelled);
}

async fn what_was_not_approved_or_not_begun_in_its_time_expires(world: &World) {
    let log = world.open().await;
    let until_then = world.now() + SignedDuration::from_secs(5);
    let mut jobs = Vec::new();
    for name in ["unapproved", "late", "approved"] {
        let task = NewTask { expires_at: Some(until_then), ..migration(name) };
        let held = log.submit_claimed(&task, &worker(), LONG).await.unwrap();
        log.wait_for_approval(&held.lease, PLAN, &report(None)).await.unwrap();
        jobs.push(task.job_id);
    }
    log.approve(&jobs[2], &by("ben", PLAN)).await.unwrap();
    world.pass(Duration::from_secs(6));
    until(async || world.now() > until_then).await;
    // Nobody has looked yet, and it is too late all the same.
    let late = log.approve(&jobs[1], &by("ben", PLAN)).await.unwrap_err();
    assert!(matches!(late, TaskLogError::NotWaiting { state: TaskState::Expired, .. }), "{late}");
    assert_eq!(claim(&*log, LONG).await, None);
    for job in &jobs {
        assert_eq!(one(&*log, *job).await.state, TaskState::Expired);
    }
    let why = async |job| log.events(&job).await.unwrap().last().unwrap().detail.clone();
    assert_eq!(why(jobs[0]).await, "its time was over before it was approved");
    assert_eq!(why(jobs[2]).await, "its time was over before it began");
}

async fn of_several_who_approve_at_once_one_does(world: &World) {
    let log = world.open().await;
    let job = waiting(&*log, "shop").await.task.job_id;
    let mut people = Vec::new();
    for person in 0..5 {
        let log = world.open().await;
        people.push(tokio::spawn(async move { log.approve(&job, &by(&format!("person {person}"), PLAN)).await }));
    }
    let mut approved = 0;
    for person in people {
        match person.await.unwrap() {
            Ok(()) => approved += 1,
            Err(error) => assert!(matches!(error, TaskLogError::NotWaiting { .. }), "{error}"),
        }
    }
    assert_eq!(approved, 1);
    assert_eq!(whats(&*log, job).await, ["queued", "running", "waiting", "approved"]);
    assert!(claim(&*log, LONG).await.is_some());
    assert_eq!(claim(&*log, LONG).await, None);
}

async fn a_worker_lost_before_the_wait_or_after_the_approval_is_recovered(world: &World) {
    let log = world.open().await;
    let first = log.submit_claimed(&migration("shop"), &worker(), world.short()).await.unwrap();
    let job = first.task.job_id;
    world.let_lapse(&*log, job).await;
    let second = claim(&*log, LONG).await.unwrap();
    assert_eq!((second.is_recovery, second.lease.epoch), (true, 2));
    assert_lost(log.wait_for_approval(&first.lease, PLAN, &report(None)).await);
    log.wait_for_approval(&second.lease, PLAN, &report(None)).await.unwrap();
    assert_eq!(one(&*log, job).await.attempt, 0);
    log.approve(&job, &by("ben", PLAN)).await.unwrap();
    let third = log.claim(&worker(), &Wanted::kinds(TaskKind::ALL), world.short()).await.unwrap().unwrap();
    assert_eq!((third.is_recovery, third.lease.epoch), (false, 3));
    world.let_lapse(&*log, job).await;
    let fourth = claim(&*log, LONG).await.unwrap();
    assert_eq!((fourth.is_recovery, fourth.lease.epoch, fourth.task.attempt), (true, 4, 1));
    assert_eq!(fourth.task.plan.unwrap().approved_by.as_deref(), Some("ben"), "the approval outlives its worker");
    log.finish(&fourth.lease, &done()).await.unwrap();
}

async fn only_migrations_wait_and_none_that_was_stuck(world: &World) {
    let log = world.open().await;
    for kind in TaskKind::ALL.iter().filter(|kind| **kind != TaskKind::Migrate) {
        let task = NewTask { kind: *kind, ..backup(kind.as_str()) };
        let held = log.submit_claimed(&task, &worker(), LONG).await.unwrap();
        let before = world.contents();
        let error = log.wait_for_approval(&held.lease, PLAN, &report(None)).await.unwrap_err();
        assert!(matches!(error, TaskLogError::Unusable { .. }), "{error}");
        assert_eq!(world.contents(), before);
    }
    let held = log.submit_claimed(&migration("shop"), &worker(), LONG).await.unwrap();
    log.finish(&held.lease, &Ending { state: TaskState::Stuck, ..done() }).await.unwrap();
    let resolver = log.take_stuck(&held.task.job_id, &worker(), LONG).await.unwrap();
    let error = log.wait_for_approval(&resolver.lease, PLAN, &report(None)).await.unwrap_err();
    assert!(matches!(error, TaskLogError::Unusable { .. }), "{error}");
    assert_eq!(one(&*log, held.task.job_id).await.state, TaskState::Recovering);
}

async fn another_of_its_key_is_not_taken_in_while_one_waits(world: &World) {
    let log = world.open().await;
    let keyed = || NewTask { unique_key: Some("migrate:shop".into()), ..migration("shop") };
    let held = log.submit_claimed(&keyed(), &worker(), LONG).await.unwrap();
    log.wait_for_approval(&held.lease, PLAN, &report(None)).await.unwrap();
    assert_eq!(log.submit(&keyed()).await.unwrap(), Submitted::Superseded(held.task.job_id));
    log.cancel(&held.task.job_id, "me").await.unwrap();
    submit(&*log, &keyed()).await;
}

async fn waiting_and_approval_are_told_in_order(world: &World) {
    let log = world.open().await;
    let job = waiting(&*log, "shop").await.task.job_id;
    log.approve(&job, &by("ben", PLAN)).await.unwrap();
    let mut told = Vec::new();
    while let Some(delivery) = log.take_deliveries(1, LONG).await.unwrap().pop() {
        log.delivered(delivery.id, &shared::task_log::Delivered::Done).await.unwrap();
        told.push(delivery.event.what);
    }
    assert_eq!(told, ["running", "waiting", "approved"]);
}

async fn an_approval_changed_in_the_tables_is_found(world: &World) {
    let log = world.open().await;
    let untouched = waiting(&*log, "untouched").await.task.job_id;
    for (at, change) in [
        "approved_by = 'cleo'",
        "approved_by = NULL",
        "approval_comment = 'all is well'",
        "approval_comment = NULL",
        &format!("plan_sha256 = '{OTHER}'"),
        "plan_sha256 = NULL",
    ]
    .iter()
    .enumerate()
    {
        let job = waiting(&*log, &format!("shop{at}")).await.task.job_id;
        let approval = Approval { comment: Some("seen".into()), ..by("ben", PLAN) };
        log.approve(&job, &approval).await.unwrap();
        log.events(&job).await.unwrap();
        world.sql(&format!("UPDATE task_log SET {change} WHERE job_id = '{job}'"));
        let error = log.events(&job).await.expect_err(change);
        assert!(matches!(error, TaskLogError::Damaged { .. }), "{change}: {error}");
        assert!(error.to_string().contains("approval is not what was recorded"), "{error}");
    }
    // Nor does a row that was only made to look approved.
    world.sql(&format!("UPDATE task_log SET state = 'queued', approved_by = 'ben' WHERE job_id = '{untouched}'"));
    let error = log.events(&untouched).await.unwrap_err();
    assert!(matches!(error, TaskLogError::Damaged { .. }), "{error}");
}
