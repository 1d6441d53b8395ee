//! What forget, unforget, hold, prune and a writer owe each other.

use super::*;
use async_trait::async_trait;
use backup_agent::hold::{hold, release};
use backup_agent::repository::BackupWriter;
use bytes::Bytes;
use shared::model::Identity;
use shared::store::{ObjectMeta, StoreError};
use std::ops::Range;

#[tokio::test]
async fn what_was_forgotten_comes_back_with_its_marks_in_the_first_half_of_the_grace_time() {
    let world = World::new().await;
    let (old, new) = (world.backup().await, world.backup().await);
    world.repository.mark(&world.shop(), &old, MarkKind::Proven, "drill").await.unwrap();
    world.repository.mark(&world.shop(), &new, MarkKind::Proven, "drill").await.unwrap();
    world.forget(&old).await;
    assert!(world.repository.backup(&world.shop(), &old).await.unwrap().is_none());
    world.clock.advance(GRACE / 2 - HOUR);
    assert_eq!(world.prune().await.unwrap().packs, 0);
    world.unforget(&old).await.unwrap();
    let back = world.repository.backup(&world.shop(), &old).await.unwrap().unwrap();
    assert!(back.proven_at().is_some());
    assert!(world.repository.trash(None).await.unwrap().is_empty(), "it is back, so it is not forgotten");
    assert_eq!(world.unforget(&old).await.unwrap_err().exit_code(), 3);

    world.forget(&old).await;
    world.clock.advance(GRACE / 2);
    let late = world.unforget(&old).await.unwrap_err();
    assert!(late.exit_code() == 3 && late.to_string().contains("could be brought back until"), "{late}");
}

#[tokio::test]
async fn a_backup_that_lacks_a_pack_is_not_brought_back() {
    let world = World::new().await;
    let (old, _) = (world.backup().await, world.backup().await);
    let pack = world.repository.manifest(&world.shop(), &old).await.unwrap().packs.remove(0);
    world.forget(&old).await;
    world.repository.store().delete(&layout::pack(&pack.uuid)).await.unwrap();
    let error = world.unforget(&old).await.unwrap_err();
    assert!(error.exit_code() == 6 && error.to_string().contains("stays forgotten"), "{error}");
    assert!(world.repository.backup(&world.shop(), &old).await.unwrap().is_none());
}

#[tokio::test]
async fn prune_removes_what_nobody_needs_when_it_is_old_and_nothing_else() {
    let world = World::new().await;
    let (old, new) = (world.backup().await, world.backup().await);
    let gone = world.repository.manifest(&world.shop(), &old).await.unwrap().packs.remove(0);
    world.forget(&old).await;
    let orphan = layout::pack(&"a".repeat(32));
    world.put(&orphan, "left by a writer that died").await;
    world.put(&layout::probe(&"b".repeat(32)), "{}").await;
    world.put(&layout::lease(&"c".repeat(32)), r#"{"database":"shop","parents":[]}"#).await;
    world.put(&layout::damaged(&gone.uuid), "{}").await;
    world.put(&layout::damaged(&"d".repeat(32)), "{}").await;
    world.put("packs/0/README", "an alien").await;
    let young = world.plan().await.unwrap();
    assert_eq!((young.packs, young.young_packs, young.trash), (0, 1, 0), "{young:?}");
    world.clock.advance(GRACE);
    let before = world.memory.objects();
    let plan = world.plan().await.unwrap();
    assert_eq!(world.memory.objects(), before, "a plan changes nothing");
    let done = prune::apply(&world.repository, &plan, &world.options()).await.unwrap();
    assert_eq!((done.packs, done.trash), (2, 1), "{done:?}");
    assert_eq!(done.bytes, gone.bytes + 26);
    assert!(world.keys("trash/").is_empty() && world.keys("leases/").is_empty() && world.keys("damaged/").is_empty());
    assert!(world.keys("packs/0/README").len() == 1, "what is none of ours stays");
    assert_eq!(world.keys("marks/").iter().filter(|key| key.contains(old.as_str())).count(), 0);
    assert!(world.is_complete(&new).await);
    let manifest = world.repository.manifest(&world.shop(), &new).await.unwrap();
    world.repository.check_packs(&manifest).await.unwrap();
    assert_eq!(world.prune().await.unwrap(), prune::Pruned::default(), "the second time there is nothing left");
}

#[tokio::test]
async fn a_pack_that_is_needed_again_after_the_plan_is_spared() {
    let world = World::new().await;
    let (old, _) = (world.backup().await, world.backup().await);
    world.forget(&old).await;
    let copy = world.keys("trash/").remove(0);
    let manifest = world.memory.objects()[&copy].clone();
    world.clock.advance(GRACE);
    let plan = world.plan().await.unwrap();
    assert_eq!(plan.packs, 1);
    world.repository.store().put(&layout::manifest(&world.shop(), &old), manifest, PutMode::Create).await.unwrap();
    let done = prune::apply(&world.repository, &plan, &world.options()).await.unwrap();
    assert_eq!((done.packs, done.spared), (0, 1));
}

#[tokio::test]
async fn a_writer_s_lease_keeps_the_packs_of_a_parent_that_is_long_forgotten() {
    let world = World::new().await;
    let (old, _) = (world.backup().await, world.backup().await);
    world.forget(&old).await;
    world.clock.advance(GRACE + HOUR);
    let lease = layout::lease(&"e".repeat(32));
    world.put(&lease, &format!(r#"{{"database":"shop","parents":["{old}"]}}"#)).await;
    let plan = world.plan().await.unwrap();
    assert_eq!((plan.packs, plan.trash, plan.needed_packs), (0, 0, 2), "{plan:?}");
    world.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(world.plan().await.unwrap().packs, 1, "the lease is void");
}

#[tokio::test]
async fn a_backup_in_use_says_so_and_may_be_forgotten_meanwhile() {
    let world = World::new().await;
    let (old, _) = (world.backup().await, world.backup().await);
    world.put(&layout::lease(&"e".repeat(32)), &format!(r#"{{"database":"shop","parents":["{old}"]}}"#)).await;
    let plan = world.forget_plan(&[&old]).await;
    assert!(plan.backups[0].forget && plan.backups[0].reasons.iter().any(|why| why.starts_with("in use")), "{plan:?}");
}

#[tokio::test]
async fn a_hold_keeps_a_backup_and_its_release_lets_it_go() {
    let world = World::new().await;
    let (old, _) = (world.backup().await, world.backup().await);
    let (bob, eve) = ("bob".parse().unwrap(), "eve".parse().unwrap());
    hold(&world.repository, &world.shop(), &old, &bob, "audit").await.unwrap();
    hold(&world.repository, &world.shop(), &old, &eve, "").await.unwrap();
    let plan = world.forget_plan(&[&old]).await;
    assert!(plan.refusals[0].contains("on hold by bob (audit), on hold by eve"), "{:?}", plan.refusals);
    assert_eq!(release(&world.repository, &world.shop(), &old, &bob).await.unwrap(), 1);
    assert_eq!(release(&world.repository, &world.shop(), &old, &bob).await.unwrap(), 0);
    assert!(!world.forget_plan(&[&old]).await.refusals.is_empty());
    release(&world.repository, &world.shop(), &old, &eve).await.unwrap();
    world.forget(&old).await;
    assert_eq!(hold(&world.repository, &world.shop(), &old, &bob, "").await.unwrap_err().exit_code(), 3);
}

#[tokio::test]
async fn a_hold_put_between_plan_and_deed_counts() {
    let world = World::new().await;
    let (old, _) = (world.backup().await, world.backup().await);
    let plan = world.forget_plan(&[&old]).await;
    hold(&world.repository, &world.shop(), &old, &"bob".parse().unwrap(), "").await.unwrap();
    let done = forget::apply(&world.repository, &plan, GRACE).await.unwrap();
    assert_eq!(done.kept.len(), 1);
    assert!(world.is_complete(&old).await && world.keys("trash/").is_empty());
}

#[tokio::test]
async fn a_trashed_backup_is_no_parent() {
    let world = World::new().await;
    let (old, new) = (world.backup().await, world.backup().await);
    // As an interrupted forget leaves it.
    let mark = world.keys(&layout::marks_of_backup(&world.shop(), &new)).remove(0);
    world.repository.store().delete(&mark).await.unwrap();
    let next = world.backup().await;
    assert_eq!(world.repository.manifest(&world.shop(), &next).await.unwrap().header.parents, [old]);
}

/// Suspends the machine while an object under `prefix` is being written.
struct SuspendAt {
    inner: ClockedStore<MemoryStore>,
    clock: FakeClock,
    prefix: &'static str,
    time: std::sync::Mutex<Duration>,
    before: bool,
}

#[async_trait]
impl Store for SuspendAt {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let time =
            if key.starts_with(self.prefix) { std::mem::take(&mut *self.time.lock().unwrap()) } else { Duration::ZERO };
        if self.before {
            self.clock.suspend(time);
        }
        self.inner.put(key, body, mode).await?;
        if !self.before {
            self.clock.suspend(time);
        }
        Ok(())
    }
    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.inner.get(key).await
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.inner.get_range(key, range).await
    }
    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.inner.head(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.inner.list(prefix).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
    fn describe(&self) -> String {
        "memory".into()
    }
}

#[tokio::test]
async fn a_writer_that_was_suspended_for_half_the_shortest_grace_time_gives_up() {
    for (prefix, hours, before, good) in [
        ("packs/", 11, false, false),
        ("packs/", 13, false, false),
        ("backups/", 13, true, false),
        ("backups/", 13, false, false),
        ("backups/", 0, false, true),
    ] {
        let clock = FakeClock::at("2025-03-01T03:00:00Z".parse().unwrap());
        let memory = MemoryStore::default();
        let inner = ClockedStore::new(memory.clone(), clock.clone());
        let time = std::sync::Mutex::new(HOUR * hours);
        let store = Arc::new(SuspendAt { inner, clock: clock.clone(), prefix, time, before });
        let world = World::over(clock, memory, store).await;
        let made = world.try_backup().await;
        assert_eq!(made.is_ok(), good, "{prefix} {hours} h: {made:?}");
        if let Err(error) = made {
            let expected = if hours > 12 { "it took 13 hours" } else { "lease could not be renewed" };
            assert!(error.to_string().contains(expected), "{error}");
            assert!(world.keys("backups/").is_empty() && world.keys("marks/").is_empty(), "{prefix} {hours} h");
        }
    }
}

#[tokio::test]
async fn a_writer_whose_wall_clock_is_set_back_is_measured_by_the_other_one() {
    let world = World::new().await;
    let identity = Identity::Sqlite { machine: "m".into(), path: "/x".into() };
    let writer = BackupWriter::begin(&world.repository, &world.shop(), &identity, false, Arc::new(())).await.unwrap();
    world.clock.advance(HOUR * 12);
    world.clock.set_wall("2025-03-01T03:00:01Z".parse().unwrap());
    tokio::task::yield_now().await;
    let dump = crate::prune_model::empty_dump(identity, world.clock.now());
    let error = writer.commit(dump).await.unwrap_err();
    assert!(error.to_string().contains("it took 12 hours"), "{error}");
}

#[tokio::test]
async fn a_backup_that_was_written_too_late_stays_where_somebody_holds_it() {
    let clock = FakeClock::at("2025-03-01T03:00:00Z".parse().unwrap());
    let memory = MemoryStore::default();
    let inner = ClockedStore::new(memory.clone(), clock.clone());
    let time = std::sync::Mutex::new(HOUR * 13);
    let store = SuspendAt { inner, clock: clock.clone(), prefix: "backups/", time, before: false };
    let world = World::over(clock, memory, Arc::new(store)).await;
    let identity = Identity::Sqlite { machine: "m".into(), path: "/x".into() };
    let writer = BackupWriter::begin(&world.repository, &world.shop(), &identity, false, Arc::new(())).await.unwrap();
    let id = writer.id().clone();
    let (kind, at) = ("hold-bob", world.clock.now());
    let key = layout::mark(&world.shop(), &id, kind, &layout::random_name());
    let mark = serde_json::json!({"kind": kind, "at": at, "detail": ""}).to_string();
    world.repository.store().put(&key, mark.into(), PutMode::Create).await.unwrap();
    let dump = crate::prune_model::empty_dump(identity, world.clock.now());
    let error = writer.commit(dump).await.unwrap_err().to_string();
    assert!(error.contains("it took 13 hours") && error.contains("it stays, because it is on hold by bob"), "{error}");
    assert_eq!(world.keys("backups/").len(), 1);
    assert!(!world.is_complete(&id).await);
}

#[tokio::test]
async fn a_backup_that_is_not_complete_is_not_said_to_be_on_hold() {
    let world = World::new().await;
    let id = world.backup().await;
    let mark = world.keys(&layout::marks_of_backup(&world.shop(), &id)).remove(0);
    world.repository.store().delete(&mark).await.unwrap();
    let bob = "bob".parse().unwrap();
    let error = hold(&world.repository, &world.shop(), &id, &bob, "").await.unwrap_err().to_string();
    assert!(error.contains("is not complete") && error.contains("its hold is noted"), "{error}");
    let listed = world.repository.backups(&world.shop()).await.unwrap();
    assert_eq!(listed[0].marks.holds().len(), 1);
    world.repository.verify(&listed, &|_| ()).await.unwrap();
    hold(&world.repository, &world.shop(), &id, &bob, "").await.unwrap();
}

#[tokio::test]
async fn nobody_completes_a_backup_that_was_written_too_late() {
    let world = World::new().await;
    let id = world.backup().await;
    let key = layout::manifest(&world.shop(), &id);
    let manifest = world.memory.objects()[&key].clone();
    let mark = world.keys(&layout::marks_of_backup(&world.shop(), &id)).remove(0);
    world.repository.store().delete(&mark).await.unwrap();
    let verify = async || {
        let listed = world.repository.backups(&world.shop()).await.unwrap();
        world.repository.verify(&listed, &|_| ()).await.unwrap().backups.remove(0)
    };
    world.clock.advance(HOUR * 13);
    world.repository.store().put(&key, manifest.clone(), PutMode::Replace).await.unwrap();
    let late = verify().await;
    assert!(late.damage.is_empty() && late.note.is_some_and(|note| note.contains("stays incomplete")));
    assert!(!world.is_complete(&id).await);
}

#[tokio::test]
async fn an_interrupted_forget_is_finished_by_the_next_one_and_an_interrupted_unforget_too() {
    let world = World::new().await;
    let (old, _) = (world.backup().await, world.backup().await);
    world.clock.advance(HOUR);
    world.forget(&old).await;
    let copy = world.keys("trash/").remove(0);
    let manifest = world.memory.objects()[&copy].clone();
    // Brought back, but not marked any more.
    world.repository.store().put(&layout::manifest(&world.shop(), &old), manifest, PutMode::Create).await.unwrap();
    assert!(!world.is_complete(&old).await);
    world.unforget(&old).await.unwrap();
    assert!(world.is_complete(&old).await);
    world.forget(&old).await;
    assert_eq!(world.repository.trash(None).await.unwrap().len(), 1);
    assert_eq!(world.keys("trash/").len(), 2, "the older copy stays");
}

#[tokio::test]
async fn forget_and_unforget_work_on_s3() {
    let server = tests::s3::S3Server::start();
    server.make_bucket("backups");
    let connect = || shared::store::s3::S3Store::connect(server.settings("backups", "p"));
    let memory = MemoryStore::default();
    let clock = FakeClock::at(Timestamp::now());
    let world = World::over(clock, memory, Arc::new(connect().await.unwrap())).await;
    let (old, _) = (world.backup().await, world.backup().await);
    world.forget(&old).await;
    assert_eq!(world.repository.trash(Some(&world.shop())).await.unwrap()[0].id, old);
    let plan = world.plan().await.unwrap();
    assert_eq!((plan.packs, plan.needed_packs, plan.refusals.len()), (0, 2, 0), "{plan:?}");
    prune::apply(&world.repository, &plan, &world.options()).await.unwrap();
    world.unforget(&old).await.unwrap();
    assert!(world.is_complete(&old).await);
}
