//! Finds out what a store can do by trying it.

use super::{PutMode, Store, StoreError};
use bytes::Bytes;

/// Tells whether [`PutMode::Create`] is exclusive at this store, and sets the store to act accordingly.
///
/// Writes `key` twice and deletes it again; a crash leaves that one object, which the next probe removes. `key` must
/// belong to the caller alone. A server that ignores the condition or does not know it answers no; any other failure
/// is returned, and conditional writes stay off.
pub async fn probe_conditional_put(store: &dyn Store, key: &str) -> Result<bool, StoreError> {
    store.use_conditional_put(true);
    let exclusive = try_twice(store, key).await;
    store.use_conditional_put(matches!(exclusive, Ok(true)));
    let removed = store.delete(key).await;
    let exclusive = exclusive?;
    removed?;
    Ok(exclusive)
}

async fn try_twice(store: &dyn Store, key: &str) -> Result<bool, StoreError> {
    store.delete(key).await?;
    match store.put(key, Bytes::from_static(b"first\n"), PutMode::Create).await {
        Ok(()) => {}
        Err(StoreError::Unsupported { .. }) => return Ok(false),
        Err(error) => return Err(error),
    }
    // Other bytes than before, so that a retry cannot take the first write for its own.
    match store.put(key, Bytes::from_static(b"second\n"), PutMode::Create).await {
        Ok(()) | Err(StoreError::Unsupported { .. }) => Ok(false),
        Err(StoreError::Exists { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}
