//! A store that counts what is asked of it.

use async_trait::async_trait;
use bytes::Bytes;
use shared::store::{ObjectMeta, PutMode, Store, StoreError};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// What happened to one key, or under one prefix for lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Whole objects written.
    pub puts: u64,
    /// Reads, whole or ranged.
    pub gets: u64,
    /// Questions for length and age.
    pub heads: u64,
    /// Listings.
    pub lists: u64,
    /// Deletions.
    pub deletes: u64,
    /// Bytes that writes handed over.
    pub bytes_written: u64,
    /// Bytes that reads returned.
    pub bytes_read: u64,
}

impl Count {
    fn add(&mut self, other: &Count) {
        self.puts += other.puts;
        self.gets += other.gets;
        self.heads += other.heads;
        self.lists += other.lists;
        self.deletes += other.deletes;
        self.bytes_written += other.bytes_written;
        self.bytes_read += other.bytes_read;
    }
}

/// Counts calls and bytes per key; clones count together.
#[derive(Debug, Clone)]
pub struct Counting<S> {
    inner: S,
    counts: Arc<Mutex<BTreeMap<String, Count>>>,
}

impl<S> Counting<S> {
    /// Wraps `inner` with all counts at zero.
    pub fn new(inner: S) -> Counting<S> {
        Counting { inner, counts: Arc::default() }
    }

    /// The counts of every key that begins with `prefix`, summed.
    pub fn total(&self, prefix: &str) -> Count {
        let mut total = Count::default();
        for (_, count) in self.counts.lock().unwrap().iter().filter(|(key, _)| key.starts_with(prefix)) {
            total.add(count);
        }
        total
    }

    /// The counts key by key.
    pub fn by_key(&self) -> BTreeMap<String, Count> {
        self.counts.lock().unwrap().clone()
    }

    /// Sets all counts to zero.
    pub fn reset(&self) {
        self.counts.lock().unwrap().clear();
    }

    fn count(&self, key: &str, change: impl FnOnce(&mut Count)) {
        change(self.counts.lock().unwrap().entry(key.to_owned()).or_default());
    }
}

#[async_trait]
impl<S: Store> Store for Counting<S> {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        self.count(key, |count| {
            count.puts += 1;
            count.bytes_written += body.len() as u64;
        });
        self.inner.put(key, body, mode).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.count(key, |count| count.gets += 1);
        let bytes = self.inner.get(key).await?;
        self.count(key, |count| count.bytes_read += bytes.len() as u64);
        Ok(bytes)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.count(key, |count| count.gets += 1);
        let bytes = self.inner.get_range(key, range).await?;
        self.count(key, |count| count.bytes_read += bytes.len() as u64);
        Ok(bytes)
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.count(key, |count| count.heads += 1);
        self.inner.head(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.count(prefix, |count| count.lists += 1);
        self.inner.list(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.count(key, |count| count.deletes += 1);
        self.inner.delete(key).await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn use_conditional_put(&self, yes: bool) {
        self.inner.use_conditional_put(yes);
    }
}
