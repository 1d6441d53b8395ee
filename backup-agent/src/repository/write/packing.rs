//! Finds a place for every chunk: in a pack of the parent backup, or in a new pack that is uploaded when full.

use super::lock;
use crate::error::Error;
use crate::repository::chunk::ChunkId;
use crate::repository::manifest::{Chunk, Manifest, Pack};
use crate::repository::pack::{MemberPlace, PackBuilder};
use crate::repository::{Codec, Repository, layout};
use shared::crash_point::reached;
use shared::engine::EngineError;
use shared::store::{PutMode, Store, StoreError};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Hears how far a backup is.
pub trait WriteProgress: Send + Sync {
    /// So many raw bytes are to be expected in all; an estimate.
    fn expect(&self, _bytes: u64) {}
    /// So many more raw bytes and rows were read.
    fn advance(&self, _bytes: u64, _rows: u64) {}
}

impl WriteProgress for () {}

/// Where a chunk lies. Packs are numbered in the order they became known; [`Packer::used_packs`] renumbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub id: ChunkId,
    pub pack: u32,
    pub place: MemberPlace,
    pub continues: bool,
}

/// Uploads under way at once. With the packs being filled this bounds the memory: (workers + this) times 16 MiB.
const UPLOADS: usize = 2;

pub(super) struct Packer {
    store: Arc<dyn Store>,
    pub(super) codec: Codec,
    runtime: Handle,
    known: Mutex<HashMap<ChunkId, (u32, MemberPlace)>>,
    packs: Mutex<Vec<PackRow>>,
    idle: Mutex<Vec<PackBuilder>>,
    uploads: Mutex<JoinSet<Result<(), StoreError>>>,
    permits: Arc<Semaphore>,
    failed: Mutex<Option<StoreError>>,
    new_bytes: AtomicU64,
    progress: Arc<dyn super::WriteProgress>,
}

/// A pack that may be named by the manifest. `None` until a new pack is sealed.
type PackRow = Option<Pack>;

impl Packer {
    pub fn new(
        repository: &Repository,
        parent: Option<&Manifest>,
        damaged: &HashSet<String>,
        progress: Arc<dyn super::WriteProgress>,
    ) -> Self {
        let (packs, known) = parent.map(|parent| adoptable(parent, damaged)).unwrap_or_default();
        Packer {
            store: repository.store().clone(),
            codec: repository.config().codec,
            runtime: Handle::current(),
            known: Mutex::new(known),
            packs: Mutex::new(packs),
            idle: Mutex::default(),
            uploads: Mutex::default(),
            permits: Arc::new(Semaphore::new(UPLOADS)),
            failed: Mutex::default(),
            new_bytes: AtomicU64::new(0),
            progress,
        }
    }

    pub fn expect(&self, bytes: u64) {
        self.progress.expect(bytes);
    }

    pub fn advance(&self, bytes: u64, rows: u64) {
        self.progress.advance(bytes, rows);
    }

    /// Compressed bytes of all new packs.
    pub fn new_bytes(&self) -> u64 {
        self.new_bytes.load(Ordering::Relaxed)
    }

    /// Places one chunk. Called off the async threads: it compresses, and waits while uploads lag behind.
    pub fn place(&self, builder: &mut Option<PackBuilder>, raw: &[u8], continues: bool) -> Result<Placed, EngineError> {
        let id = ChunkId::of(raw);
        if let Some(&(pack, place)) = lock(&self.known).get(&id) {
            return Ok(Placed { id, pack, place, continues });
        }
        let filling = builder.get_or_insert_with(|| self.take_builder());
        let place =
            filling.add(id, raw).map_err(|error| EngineError::failed(format!("compressing failed: {error}")))?;
        let pack = filling.ordinal;
        lock(&self.known).insert(id, (pack, place));
        if filling.is_full()
            && let Some(full) = builder.take()
        {
            self.upload(full)?;
        }
        Ok(Placed { id, pack, place, continues })
    }

    /// Keeps a half-full pack for the next segment, so that thousands of small tables share packs.
    pub fn put_back(&self, builder: Option<PackBuilder>) {
        lock(&self.idle).extend(builder);
    }

    fn take_builder(&self) -> PackBuilder {
        if let Some(builder) = lock(&self.idle).pop() {
            return builder;
        }
        let mut packs = lock(&self.packs);
        packs.push(None);
        PackBuilder::new(packs.len() as u32 - 1, self.codec)
    }

    fn upload(&self, builder: PackBuilder) -> Result<(), EngineError> {
        let sealed = builder.seal().map_err(|error| EngineError::failed(error.to_string()))?;
        if let Some(error) = lock(&self.failed).take() {
            return Err(error.into());
        }
        let permit = self
            .runtime
            .block_on(self.permits.clone().acquire_owned())
            .map_err(|_| EngineError::failed("the backup was given up"))?;
        let uuid = layout::random_name();
        let bytes = sealed.bytes.len() as u64;
        lock(&self.packs)[sealed.ordinal as usize] = Some(Pack { uuid: uuid.clone(), bytes, sha256: sealed.sha256 });
        self.new_bytes.fetch_add(bytes, Ordering::Relaxed);
        let store = self.store.clone();
        let mut uploads = lock(&self.uploads);
        while let Some(done) = uploads.try_join_next() {
            if let Err(error) = flatten(done) {
                lock(&self.failed).get_or_insert(error);
            }
        }
        uploads.spawn_on(
            async move {
                let _permit = permit;
                reached("backup: before a pack");
                store.put(&layout::pack(&uuid), sealed.bytes.into(), PutMode::Create).await?;
                reached("backup: after a pack");
                Ok(())
            },
            &self.runtime,
        );
        Ok(())
    }

    /// Uploads the packs still being filled. Called off the async threads.
    pub fn seal_rest(&self) -> Result<(), EngineError> {
        let rest = std::mem::take(&mut *lock(&self.idle));
        rest.into_iter().try_for_each(|builder| self.upload(builder))
    }

    /// Waits for all uploads.
    pub async fn finish(&self) -> Result<(), Error> {
        let mut uploads = std::mem::take(&mut *lock(&self.uploads));
        while let Some(done) = uploads.join_next().await {
            flatten(done)?;
        }
        match lock(&self.failed).take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Stops all uploads.
    pub async fn abort(&self) {
        self.permits.close();
        let mut uploads = std::mem::take(&mut *lock(&self.uploads));
        uploads.shutdown().await;
    }

    /// The packs `chunks` lie in, in the order of their first use, and the chunks with their packs numbered so.
    pub fn used_packs(&self, chunks: &mut [&mut Chunk]) -> Result<Vec<Pack>, Error> {
        let rows = lock(&self.packs);
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        let mut used = Vec::new();
        for chunk in chunks {
            let next = used.len() as u32;
            chunk.pack = match numbers.get(&chunk.pack) {
                Some(number) => *number,
                None => {
                    let row = rows.get(chunk.pack as usize).cloned().flatten();
                    used.push(row.ok_or_else(|| Error::failed("a chunk lies in a pack that was never uploaded"))?);
                    numbers.insert(chunk.pack, next);
                    next
                }
            };
        }
        Ok(used)
    }
}

fn flatten(done: Result<Result<(), StoreError>, tokio::task::JoinError>) -> Result<(), StoreError> {
    done.unwrap_or_else(|error| {
        Err(StoreError::Unavailable { place: "upload".into(), message: format!("it was interrupted: {error}") })
    })
}

/// A parent's packs and the chunks that may be adopted from them: those of packs that are not damaged and at least half
/// of whose bytes the parent still uses. Sparser packs are left behind and so dissolve; there is no repacking.
fn adoptable(parent: &Manifest, damaged: &HashSet<String>) -> (Vec<PackRow>, HashMap<ChunkId, (u32, MemberPlace)>) {
    let mut known = HashMap::new();
    let mut live = vec![0u64; parent.packs.len()];
    for chunk in parent.chunks() {
        let place = MemberPlace { offset: chunk.offset, length: chunk.length, raw_length: chunk.raw_length };
        if known.insert(chunk.id, (chunk.pack, place)).is_none() {
            live[chunk.pack as usize] += u64::from(chunk.length);
        }
    }
    let good: Vec<bool> = parent
        .packs
        .iter()
        .zip(&live)
        .map(|(pack, live)| live * 2 >= pack.bytes && !damaged.contains(&pack.uuid))
        .collect();
    known.retain(|_, (pack, _)| good[*pack as usize]);
    (parent.packs.iter().cloned().map(Some).collect(), known)
}
