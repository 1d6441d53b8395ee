//! The door to objects: a flat space of keys with whole-object writes and ranged reads.

pub mod fs;
mod key;
mod probe;
pub mod retry;
pub mod s3;

pub use probe::probe_conditional_put;

use crate::model::Class;
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// Whether a write may replace what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Fails with [`StoreError::Exists`] where the store can tell (the repository probes that at init), replaces elsewhere.
    Create,
    /// Replaces silently.
    Replace,
}

/// What a store tells of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Full key.
    pub key: String,
    /// Length in bytes.
    pub size_bytes: u64,
    /// When it was written, by the store's own clock.
    pub modified: jiff::Timestamp,
}

/// Objects under keys of the form `a/b/c` (ASCII letters, digits, `._-/`).
///
/// An object is visible under its key only when it is complete. Every call ends within a deadline.
#[async_trait]
pub trait Store: Send + Sync {
    /// Writes a whole object durably.
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError>;

    /// Reads a whole object.
    async fn get(&self, key: &str) -> Result<Bytes, StoreError>;

    /// Reads `range` of an object; fails with [`StoreError::Truncated`] when the object is shorter.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// Asks for an object's length and age.
    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError>;

    /// Lists all objects whose key begins with `prefix` (ending in `/`, or empty), in order of key, however many.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError>;

    /// Deletes an object; deleting what is not there succeeds.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Where the store is, for a person: an absolute path or a URL without credentials.
    fn describe(&self) -> String;

    /// Tells whether [`PutMode::Create`] may rely on the server; see [`probe_conditional_put`].
    ///
    /// Without effect on stores that are exclusive by themselves.
    fn use_conditional_put(&self, _yes: bool) {}
}

#[async_trait]
impl<S: Store + ?Sized> Store for Arc<S> {
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        (**self).put(key, body, mode).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        (**self).get(key).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        (**self).get_range(key, range).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        (**self).head(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        (**self).list(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        (**self).delete(key).await
    }

    fn describe(&self) -> String {
        (**self).describe()
    }

    fn use_conditional_put(&self, yes: bool) {
        (**self).use_conditional_put(yes);
    }
}

/// What went wrong at a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such object.
    #[error("{place}: no object {key}")]
    NotFound {
        /// The store.
        place: String,
        /// The key.
        key: String,
    },
    /// [`PutMode::Create`] found the key taken.
    #[error("{place}: object {key} exists already")]
    Exists {
        /// The store.
        place: String,
        /// The key.
        key: String,
    },
    /// The object is shorter than the range asked for.
    #[error("{place}: object {key} is truncated: {wanted} bytes wanted, {found} there")]
    Truncated {
        /// The store.
        place: String,
        /// The key.
        key: String,
        /// Bytes the range reaches to.
        wanted: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The store itself is not there (no such directory or bucket).
    #[error("{place}: {message}")]
    Missing {
        /// The store.
        place: String,
        /// Facts.
        message: String,
        /// What a person can do.
        hint: Option<String>,
    },
    /// The store answered and refused: rights, credentials, write-once.
    #[error("{place}: {message}")]
    Denied {
        /// The store.
        place: String,
        /// Facts.
        message: String,
        /// What a person can do.
        hint: Option<String>,
    },
    /// The store is full.
    #[error("{place}: no space left ({message})")]
    Full {
        /// The store.
        place: String,
        /// Facts.
        message: String,
    },
    /// The store does not know what was asked of it.
    #[error("{place}: {message}")]
    Unsupported {
        /// The store.
        place: String,
        /// Facts.
        message: String,
    },
    /// The store could not be reached in time, or answered with an error of its own.
    #[error("{place}: {message}")]
    Unavailable {
        /// The store.
        place: String,
        /// Facts.
        message: String,
    },
}

impl StoreError {
    /// What a caller may conclude.
    pub fn class(&self) -> Class {
        match self {
            StoreError::Unavailable { .. } => Class::Transient,
            StoreError::Truncated { .. } => Class::Corrupt,
            _ => Class::Permanent,
        }
    }

    /// What a person can do, where something can be done.
    pub fn hint(&self) -> Option<&str> {
        match self {
            StoreError::Missing { hint, .. } | StoreError::Denied { hint, .. } => hint.as_deref(),
            StoreError::Full { .. } => Some("free space in the store, then run the same command again"),
            _ => None,
        }
    }
}
