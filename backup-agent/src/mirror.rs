//! A backup on the local disk: a small repository of its own, so that restoring needs no store.

use crate::error::Error;
use crate::repository::{Codec, Manifest, Repository, layout};
use futures_util::TryStreamExt;
use futures_util::stream;
use shared::store::fs::FsStore;
use shared::store::{PutMode, Store};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// Packs fetched at once.
const FETCHED_AT_ONCE: usize = 4;

/// Copies a backup, and every pack it names, into the folder `dir`; what lies there already is not fetched again.
///
/// The manifest is copied last, so a copy that is there is whole. Safe to repeat.
pub async fn mirror(repository: &Repository, manifest: &Manifest, dir: &Path) -> Result<Repository, Error> {
    let local: Arc<dyn Store> = Arc::new(FsStore::create(dir)?);
    let (copy, _) = Repository::open_or_init(local.clone(), Codec::Gzip).await?;
    let there: HashSet<String> = local.list(layout::PACKS).await?.into_iter().map(|meta| meta.key).collect();
    let missing: Vec<_> = manifest
        .packs
        .iter()
        .map(|pack| layout::pack(&pack.uuid))
        .filter(|key| !there.contains(key))
        .map(|key| Ok(fetch(repository.store().clone(), local.clone(), key)))
        .collect();
    stream::iter(missing).try_buffer_unordered(FETCHED_AT_ONCE).try_collect::<Vec<()>>().await?;
    let (database, id) = (&manifest.header.database, &manifest.header.id);
    fetch(repository.store().clone(), local, layout::manifest(database, id)).await?;
    Ok(copy)
}

async fn fetch(from: Arc<dyn Store>, to: Arc<dyn Store>, key: String) -> Result<(), Error> {
    let body = from.get(&key).await?;
    Ok(to.put(&key, body, PutMode::Replace).await?)
}
