//! A store that fails the k-th call in a chosen way.

use async_trait::async_trait;
use bytes::Bytes;
use shared::store::{ObjectMeta, PutMode, Store, StoreError};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Unavailable, and nothing happened.
    BeforeEffect,
    /// Unavailable, although the call had its effect.
    AfterEffect,
    /// Refused for good, and nothing happened.
    Denied,
    /// A read says that the object is shorter than it is; other calls fail as [`Fault::BeforeEffect`].
    Truncated,
    /// A whole or ranged read loses its last byte and says nothing; other calls are not disturbed.
    ShortBytes,
    /// A read flips one bit in the middle and says nothing; other calls are not disturbed.
    WrongBytes,
    /// The call never returns.
    Silence,
}

/// Counts all calls, and disturbs those with a number in `from..from + times`; clones count together.
#[derive(Debug, Clone)]
pub struct Faulty<S> {
    inner: S,
    fault: Fault,
    disturbed: Range<u64>,
    calls: Arc<AtomicU64>,
}

impl<S: Store> Faulty<S> {
    /// Disturbs `times` calls, beginning with number `from` (the first call is number 1).
    pub fn new(inner: S, fault: Fault, from: u64, times: u64) -> Faulty<S> {
        Faulty { inner, fault, disturbed: from..from.saturating_add(times), calls: Arc::default() }
    }

    /// Calls so far, disturbed or not; a run without faults tells how many there are to disturb.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// The fault of the call that begins now.
    fn next(&self) -> Option<Fault> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        self.disturbed.contains(&number).then_some(self.fault)
    }

    fn unavailable(&self) -> StoreError {
        StoreError::Unavailable { place: self.inner.describe(), message: "a fault put there by the test".to_owned() }
    }

    async fn change<T>(&self, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        self.disturb(self.next(), call).await
    }

    async fn disturb<T>(
        &self,
        fault: Option<Fault>,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match fault {
            Some(Fault::BeforeEffect | Fault::Truncated) => Err(self.unavailable()),
            Some(Fault::AfterEffect) => {
                call.await?;
                Err(self.unavailable())
            }
            Some(Fault::Denied) => Err(StoreError::Denied {
                place: self.inner.describe(),
                message: "a refusal put there by the test".to_owned(),
                hint: None,
            }),
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::ShortBytes | Fault::WrongBytes) | None => call.await,
        }
    }

    async fn read(
        &self,
        key: &str,
        call: impl Future<Output = Result<Bytes, StoreError>> + Send,
    ) -> Result<Bytes, StoreError> {
        match self.next() {
            Some(Fault::Truncated) => {
                let wanted = call.await?.len() as u64;
                let found = wanted.saturating_sub(1);
                Err(StoreError::Truncated { place: self.inner.describe(), key: key.to_owned(), wanted, found })
            }
            Some(Fault::ShortBytes) => {
                let bytes = call.await?;
                Ok(bytes.slice(..bytes.len().saturating_sub(1)))
            }
            Some(Fault::WrongBytes) => {
                let mut bytes = call.await?.to_vec();
                let middle = bytes.len() / 2;
                bytes.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 1);
                Ok(bytes.into())
            }
            fault => self.disturb(fault, call).await,
        }
    }
}

#[async_trait]
impl<S: Store> Store for Faulty<S> {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        self.change(self.inner.put(key, body, mode)).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.read(key, self.inner.get(key)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.read(key, self.inner.get_range(key, range)).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.change(self.inner.head(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.change(self.inner.list(prefix)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.change(self.inner.delete(key)).await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn use_conditional_put(&self, yes: bool) {
        self.inner.use_conditional_put(yes);
    }
}
