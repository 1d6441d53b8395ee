//! Several claimers at once, each with connections of its own.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

exams! {
    two_claimers_do_every_task_once,
    five_claimers_do_every_task_once,
    five_claimers_share_out_what_lost_holders_left,
}

const TASKS: usize = 210;

async fn two_claimers_do_every_task_once(world: &World) {
    claimers_do_every_task_once(world, 2).await;
}

async fn five_claimers_do_every_task_once(world: &World) {
    claimers_do_every_task_once(world, 5).await;
}

/// What the claimers did, seen from outside the record.
#[derive(Default)]
struct Seen {
    runs: Mutex<BTreeMap<JobId, u32>>,
    working_on: Mutex<BTreeSet<DatabaseName>>,
    done: AtomicUsize,
}

async fn claimers_do_every_task_once(world: &World, claimers: usize) {
    let log = world.open().await;
    for at in 0..TASKS {
        let kind = if at % 5 == 4 { TaskKind::Verify } else { TaskKind::Backup };
        submit(&*log, &NewTask { kind, ..backup(&format!("shop{}", at % 12)) }).await;
    }
    let seen = Arc::new(Seen::default());
    let mut running = Vec::new();
    for _ in 0..claimers {
        running.push(tokio::spawn(claimer(world.open().await, seen.clone())));
    }
    for claimer in running {
        claimer.await.unwrap();
    }
    assert_eq!(seen.runs.lock().unwrap().len(), TASKS);
    assert!(seen.runs.lock().unwrap().values().all(|runs| *runs == 1), "a task ran twice");
    for task in log.tasks(&TaskFilter::default()).await.unwrap() {
        assert_eq!((task.state, task.attempt), (TaskState::Succeeded, 1));
        assert_eq!(whats(&*log, task.job_id).await, ["queued", "running", "succeeded"]);
    }
    assert_eq!(world.sql("SELECT count(*) FROM event_delivery"), (TASKS * 2).to_string());
}

async fn claimer(log: Arc<dyn TaskLog>, seen: Arc<Seen>) {
    let me = worker();
    let begun = Instant::now();
    while seen.done.load(Ordering::SeqCst) < TASKS {
        assert!(begun.elapsed() < DEADLINE * 4, "{} of {TASKS} done", seen.done.load(Ordering::SeqCst));
        let Some(claimed) = log.claim(&me, &Wanted::kinds(TaskKind::ALL), LONG).await.unwrap() else {
            tokio::task::yield_now().await;
            continue;
        };
        *seen.runs.lock().unwrap().entry(claimed.task.job_id).or_default() += 1;
        let target = claimed.task.target.clone().unwrap();
        let is_exclusive = claimed.task.kind == TaskKind::Backup;
        assert!(!is_exclusive || seen.working_on.lock().unwrap().insert(target.clone()), "two work on {target}");
        log.renew(&claimed.lease, LONG, &progress()).await.unwrap();
        if is_exclusive {
            seen.working_on.lock().unwrap().remove(&target);
        }
        log.finish(&claimed.lease, &done()).await.unwrap();
        seen.done.fetch_add(1, Ordering::SeqCst);
    }
}

async fn five_claimers_share_out_what_lost_holders_left(world: &World) {
    let log = world.open().await;
    let mut lost = Vec::new();
    for at in 0..20 {
        submit(&*log, &backup(&format!("shop{at}"))).await;
        lost.push(claim(&*log, world.short()).await.unwrap());
    }
    world.let_lapse(&*log, lost[19].task.job_id).await;
    let taken: Arc<Mutex<Vec<Claimed>>> = Arc::default();
    let mut running = Vec::new();
    for _ in 0..5 {
        let (log, taken) = (world.open().await, taken.clone());
        running.push(tokio::spawn(async move {
            let begun = Instant::now();
            while taken.lock().unwrap().len() < 20 {
                assert!(begun.elapsed() < DEADLINE);
                if let Some(claimed) = claim(&*log, LONG).await {
                    taken.lock().unwrap().push(claimed);
                }
            }
        }));
    }
    for claimer in running {
        claimer.await.unwrap();
    }
    let taken = taken.lock().unwrap().clone();
    let jobs: BTreeSet<JobId> = taken.iter().map(|taken| taken.task.job_id).collect();
    assert_eq!((jobs.len(), taken.len()), (20, 20));
    for claimed in &taken {
        assert!(claimed.is_recovery && claimed.lease.epoch == 2);
        log.finish(&claimed.lease, &done()).await.unwrap();
    }
    for old in &lost {
        let stale = log.finish(&old.lease, &done()).await;
        assert!(matches!(stale, Err(TaskLogError::LeaseLost { .. })), "{stale:?}");
    }
}
