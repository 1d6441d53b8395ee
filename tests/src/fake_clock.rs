//! A clock that a test turns.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use shared::clock::{Clock, Uptime};
use shared::store::{ObjectMeta, PutMode, Store, StoreError};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// Stands still until the test moves it; sleepers wake when it has passed their time. Clones are one clock.
#[derive(Debug, Clone)]
pub struct FakeClock(Arc<State>);

#[derive(Debug)]
struct State {
    hands: Mutex<Hands>,
    moved: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Hands {
    wall: Timestamp,
    monotonic: Duration,
    asleep: Duration,
    boots: u64,
}

impl FakeClock {
    /// A clock that shows `wall`.
    pub fn at(wall: Timestamp) -> Self {
        let hands = Mutex::new(Hands { wall, monotonic: Duration::from_secs(1000), asleep: Duration::ZERO, boots: 1 });
        FakeClock(Arc::new(State { hands, moved: Notify::new() }))
    }

    /// Time passes, on both hands.
    pub fn advance(&self, time: Duration) {
        let mut hands = self.0.hands.lock().unwrap();
        hands.wall += SignedDuration::try_from(time).unwrap();
        hands.monotonic += time;
        drop(hands);
        self.0.moved.notify_waiters();
    }

    /// Somebody sets the wall clock; the monotonic one goes on.
    pub fn set_wall(&self, wall: Timestamp) {
        self.0.hands.lock().unwrap().wall = wall;
        self.0.moved.notify_waiters();
    }

    /// The machine is suspended: only the wall clock goes on.
    pub fn suspend(&self, time: Duration) {
        let mut hands = self.0.hands.lock().unwrap();
        hands.wall += SignedDuration::try_from(time).unwrap();
        hands.asleep += time;
        drop(hands);
        self.0.moved.notify_waiters();
    }

    /// The machine starts anew: its uptime bears another name and says nothing of the time before.
    pub fn reboot(&self) {
        self.0.hands.lock().unwrap().boots += 1;
    }

    /// Time passes up to `wall`; nothing happens when it is past already.
    pub fn advance_to(&self, wall: Timestamp) {
        if let Ok(time) = Duration::try_from(wall.duration_since(self.now())) {
            self.advance(time);
        }
    }
}

#[async_trait]
impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        self.0.hands.lock().unwrap().wall
    }

    fn monotonic(&self) -> Duration {
        self.0.hands.lock().unwrap().monotonic
    }

    fn uptime(&self) -> Option<Uptime> {
        let hands = self.0.hands.lock().unwrap();
        Some(Uptime { boot_id: format!("boot-{}", hands.boots), time: hands.monotonic + hands.asleep })
    }

    async fn sleep(&self, time: Duration) {
        let until = self.monotonic() + time;
        loop {
            let moved = self.0.moved.notified();
            tokio::pin!(moved);
            // Listening begins before looking, so that no move in between is missed.
            moved.as_mut().enable();
            if self.monotonic() >= until {
                return;
            }
            moved.await;
        }
    }
}

/// A store whose own clock is a test's: every object is as old as the clock says.
#[derive(Debug, Clone)]
pub struct ClockedStore<S> {
    inner: S,
    clock: FakeClock,
    written: Arc<Mutex<BTreeMap<String, Timestamp>>>,
}

impl<S: Store> ClockedStore<S> {
    /// Puts `clock` into `inner`; objects that are there already keep the age `inner` gives them.
    pub fn new(inner: S, clock: FakeClock) -> Self {
        ClockedStore { inner, clock, written: Arc::default() }
    }

    fn dated(&self, mut meta: ObjectMeta) -> ObjectMeta {
        if let Some(at) = self.written.lock().unwrap().get(&meta.key) {
            meta.modified = *at;
        }
        meta
    }
}

#[async_trait]
impl<S: Store> Store for ClockedStore<S> {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        self.inner.put(key, body, mode).await?;
        self.written.lock().unwrap().insert(key.to_owned(), self.clock.now());
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        Ok(self.dated(self.inner.head(key).await?))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        Ok(self.inner.list(prefix).await?.into_iter().map(|meta| self.dated(meta)).collect())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key).await?;
        self.written.lock().unwrap().remove(key);
        Ok(())
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn use_conditional_put(&self, yes: bool) {
        self.inner.use_conditional_put(yes);
    }
}
