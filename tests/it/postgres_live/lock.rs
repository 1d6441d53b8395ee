//! At most one owner for a database.

use super::{Target, step};
use shared::engine::postgres::LockHolder;
use shared::model::Class;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tests::postgres::on_server;

/// A process that holds the lock; killed when dropped.
struct Owner {
    child: Child,
    holder: LockHolder,
}

impl Owner {
    #[track_caller]
    fn begin(target: &Target) -> Self {
        let mut child = step(&target.url(), "lock", "").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Owner { child, holder: serde_json::from_str(&line).unwrap() }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_owner_is_refused_and_told_who_the_first_is() {
    let (target, other) = (Target::new(), Target::new());
    let mut lock = target.live.lock(Duration::ZERO).await.unwrap();
    let began = Instant::now();
    let error = target.live.lock(Duration::from_millis(500)).await.unwrap_err();
    assert!(began.elapsed() >= Duration::from_millis(500), "it did not wait");
    assert_eq!(error.class(), Class::Refused);
    let holder = lock.holder().clone();
    for part in [format!("session {} (holdfast", holder.pid), holder.backend_start.unwrap(), "127.0.0.1".into()] {
        assert!(error.to_string().contains(&part), "{part} is not in {error}");
    }
    other.live.lock(Duration::ZERO).await.unwrap().release().await;
    lock.check().await.unwrap();
    lock.release().await;
    target.live.lock(Duration::ZERO).await.unwrap().release().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_outlives_a_fence_and_ends_with_its_process() {
    let target = Target::new();
    let owner = Owner::begin(&target);
    let plan = target.live.plan_fence(1).await.unwrap();
    target.live.fence(&plan).await.unwrap();
    assert_eq!(target.live.lock(Duration::ZERO).await.unwrap_err().class(), Class::Refused);
    target.live.unfence(&plan).await.unwrap();
    assert_eq!(target.live.lock(Duration::ZERO).await.unwrap_err().class(), Class::Refused);
    drop(owner);
    target.live.lock(Duration::from_secs(10)).await.unwrap().release().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_the_holder_that_is_named_is_ended() {
    let target = Target::new();
    let mut lock = target.live.lock(Duration::ZERO).await.unwrap();
    let holder = lock.holder().clone();
    let another = LockHolder { backend_start: Some("2001-01-01 00:00:00+00".into()), ..holder.clone() };
    let unknown = LockHolder { backend_start: None, ..holder.clone() };
    let by_pid = format!("SELECT pid FROM pg_stat_activity WHERE pid <> {} AND datid IS NOT NULL LIMIT 1", holder.pid);
    let stranger = LockHolder { pid: on_server(&by_pid).trim().parse().unwrap(), ..holder.clone() };
    for wrong in [another, unknown, stranger] {
        assert!(!target.live.end_holder(&wrong).await.unwrap(), "{wrong}");
        lock.check().await.unwrap();
    }
    assert!(target.live.end_holder(&holder).await.unwrap());
    let next = target.live.lock(Duration::ZERO).await.unwrap();
    assert!(lock.check().await.is_err(), "the first owner does not notice");
    assert!(!target.live.end_holder(&holder).await.unwrap(), "it is ended already");
    next.release().await;
}
