//! A store in memory, quick enough to damage it thousands of times.

use async_trait::async_trait;
use bytes::Bytes;
use shared::store::{ObjectMeta, PutMode, Store, StoreError};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Objects by key.
pub type Objects = BTreeMap<String, Bytes>;

/// A map as a store; clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    objects: Arc<Mutex<Objects>>,
}

impl MemoryStore {
    /// A store that holds these objects.
    pub fn holding(objects: Objects) -> Self {
        Self { objects: Arc::new(Mutex::new(objects)) }
    }

    /// Everything in it.
    pub fn objects(&self) -> Objects {
        self.objects.lock().unwrap().clone()
    }

    /// Puts these objects in the place of all there were.
    pub fn reset(&self, objects: Objects) {
        *self.objects.lock().unwrap() = objects;
    }

    fn found(&self, key: &str) -> Result<Bytes, StoreError> {
        let found = self.objects.lock().unwrap().get(key).cloned();
        found.ok_or_else(|| StoreError::NotFound { place: self.describe(), key: key.to_owned() })
    }

    fn meta(key: &str, body: &Bytes) -> ObjectMeta {
        ObjectMeta { key: key.to_owned(), size_bytes: body.len() as u64, modified: jiff::Timestamp::UNIX_EPOCH }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let mut objects = self.objects.lock().unwrap();
        if mode == PutMode::Create && objects.contains_key(key) {
            return Err(StoreError::Exists { place: self.describe(), key: key.to_owned() });
        }
        objects.insert(key.to_owned(), body);
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.found(key)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let body = self.found(key)?;
        let (wanted, found) = (range.end, body.len() as u64);
        if wanted > found {
            return Err(StoreError::Truncated { place: self.describe(), key: key.to_owned(), wanted, found });
        }
        Ok(body.slice(range.start as usize..range.end as usize))
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.found(key).map(|body| Self::meta(key, &body))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        let objects = self.objects.lock().unwrap();
        Ok(objects.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(key, body)| Self::meta(key, body)).collect())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.objects.lock().unwrap().remove(key);
        Ok(())
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}
