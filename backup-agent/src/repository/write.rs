//! Writes one backup: takes an engine's dump, stores what is new, and commits by one manifest.

mod assemble;
mod packing;

use super::chunk::{ChunkSink, Chunker};
use super::lease::Lease;
use super::manifest::{self, Manifest, Pack};
use super::marks::MarkKind;
use super::pack::PackBuilder;
use super::{Listed, MIN_GRACE, Repository, layout};
use crate::error::Error;
use jiff::SignedDuration;
use packing::{Packer, Placed};
use shared::clock::{Clock, Moment};
use shared::crash_point::reached;
use shared::engine::{Dump, DumpSink, EngineError, RowEnd, Segment, SegmentSink};
use shared::model::{BackupId, Class, DatabaseName, Identity};
use shared::store::{PutMode, StoreError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use packing::WriteProgress;

/// A backup being written. It exists only after [`BackupWriter::commit`]; until then a crash costs only space.
pub struct BackupWriter {
    repository: Repository,
    database: DatabaseName,
    id: BackupId,
    parents: Vec<BackupId>,
    clock_defect: Option<String>,
    watch: Watch,
    sink: Arc<BackupSink>,
}

/// What tells whether prune has certainly spared everything a writer builds on until now.
struct Watch {
    /// Before the parent was looked for.
    began: Moment,
    lease: Lease,
    clock: Arc<dyn Clock>,
}

/// A writer must be done within half the shortest grace time. Whatever it saw when it began is then still kept, be it
/// forgotten meanwhile, and whatever it wrote is still too young to be removed.
const LONGEST: Duration = Duration::from_secs(MIN_GRACE.as_secs() / 2);

impl Watch {
    fn check(&self) -> Result<(), Error> {
        let elapsed = self.began.elapsed(&*self.clock);
        let why = if elapsed >= LONGEST {
            format!("it took {} hours, and packs are only certain to be kept for {}", hours(elapsed), hours(LONGEST))
        } else if !self.lease.is_fresh() {
            "its lease could not be renewed in time, so packs it builds on may be gone".into()
        } else {
            return Ok(());
        };
        Err(Error::failed(format!("the backup was given up: {why}; run it again")))
    }
}

fn hours(time: Duration) -> u64 {
    time.as_secs() / 3600
}

/// A finished segment.
struct WrittenSegment {
    segment: Segment,
    chunks: Vec<Placed>,
    rows: u64,
}

/// The sink a dump is driven into.
struct BackupSink {
    packer: Arc<Packer>,
    segments: Arc<Mutex<Vec<WrittenSegment>>>,
}

/// If the newest backup's id lies further ahead of the clock than this, the writer does not wait.
const MAX_WAIT: SignedDuration = SignedDuration::from_secs(5);

impl BackupWriter {
    /// Begins a backup of `database`. Refuses when the name's newest backup is of another database, unless
    /// `new_identity` says that this is meant.
    pub async fn begin(
        repository: &Repository,
        database: &DatabaseName,
        identity: &Identity,
        new_identity: bool,
        progress: Arc<dyn WriteProgress>,
    ) -> Result<Self, Error> {
        let began = Moment::now(&**repository.clock());
        let mut existing = repository.backups(database).await?;
        fail_if_the_newest_could_not_be_read(&mut existing)?;
        check_identity(database, identity, &existing, new_identity)?;
        let (id, clock_defect) = next_id(repository.clock(), &existing).await;
        let parent =
            existing.iter().rev().find(|backup| backup.is_verified()).and_then(|backup| backup.manifest.as_ref().ok());
        // A manifest of another codec cannot occur in one repository; adopting from it would mix members.
        let parent = parent.filter(|manifest| manifest.header.codec == repository.config().codec);
        let parents: Vec<BackupId> = parent.iter().map(|manifest| manifest.header.id.clone()).collect();
        // The lease stands before anything is adopted, so that prune sees it in time.
        let lease = Lease::take(repository, database, &parents).await?;
        let damaged = repository.damaged_packs().await?;
        let packer = Arc::new(Packer::new(repository, parent, &damaged, progress));
        let sink = Arc::new(BackupSink { packer, segments: Arc::default() });
        Ok(BackupWriter {
            repository: repository.clone(),
            database: database.clone(),
            id,
            parents,
            clock_defect,
            watch: Watch { began, lease, clock: repository.clock().clone() },
            sink,
        })
    }

    /// The sink to dump into.
    pub fn sink(&self) -> Arc<dyn DumpSink> {
        self.sink.clone()
    }

    /// The id the backup will have.
    pub fn id(&self) -> &BackupId {
        &self.id
    }

    /// Gives the backup up. What was uploaded stays until prune removes it.
    pub async fn abandon(self) {
        self.sink.packer.abort().await;
        self.watch.lease.release().await;
    }

    /// Stores the dump's texts, waits for all uploads, writes the manifest, reads it back with every pack it names,
    /// and marks the backup as verified. Only then is it complete.
    pub async fn commit(self, dump: Dump) -> Result<Manifest, Error> {
        let BackupWriter { repository, database, id, parents, clock_defect, watch, sink } = self;
        let result = async {
            let packer = sink.packer.clone();
            let segments = std::mem::take(&mut *lock(&sink.segments));
            let facts = assemble::Facts {
                database: database.clone(),
                id: id.clone(),
                parents,
                clock_defect,
                clock: repository.clock().clone(),
            };
            let draft = tokio::task::spawn_blocking({
                let packer = packer.clone();
                move || assemble::assemble(&packer, facts, dump, segments)
            })
            .await
            .map_err(|error| Error::failed(format!("assembling the manifest failed: {error}")))??;
            packer.finish().await?;
            reached("backup: after the uploads");
            let manifest = draft.with_packs(&packer)?;
            watch.check()?;
            put_manifest(&repository, &manifest).await?;
            verify_commit(&repository, &database, &id, &manifest, &watch).await?;
            Ok(manifest)
        }
        .await;
        watch.lease.release().await;
        result
    }
}

async fn put_manifest(repository: &Repository, manifest: &Manifest) -> Result<(), Error> {
    let bytes = manifest::encode(manifest);
    let key = layout::manifest(&manifest.header.database, &manifest.header.id);
    // Manifest last: until it exists the backup does not, so a crash before here costs only space.
    reached("backup: before the manifest");
    repository.store().put(&key, bytes.into(), PutMode::Create).await?;
    reached("backup: after the manifest");
    Ok(())
}

/// Looks at the time again, reads the manifest back and looks at every pack; a backup that fails this is withdrawn.
async fn verify_commit(
    repository: &Repository,
    database: &DatabaseName,
    id: &BackupId,
    written: &Manifest,
    watch: &Watch,
) -> Result<(), Error> {
    // The process may have been suspended right before the manifest was put, and prune may have seen none.
    if let Err(late) = watch.check() {
        let state = withdraw(repository, database, id).await;
        return Err(Error::failed(format!("{late} (backup {database}/{id} was written too late; {state})")));
    }
    let looked = match repository.manifest(database, id).await {
        Ok(read) if read == *written => repository.check_packs(&read).await,
        Ok(_) => Err(Error::Damaged("its manifest came back from the store other than it was written".into())),
        Err(error) => Err(error),
    };
    if let Err(missing) = looked {
        if missing.class() != Class::Corrupt {
            return Err(Error::Failed {
                message: format!("backup {database}/{id} was written, but could not be read back: {missing}"),
                hint: Some(format!("backup-agent verify {database}/{id} completes it when the store answers again")),
            });
        }
        let state = withdraw(repository, database, id).await;
        return Err(Error::Damaged(format!(
            "backup {database}/{id} is not complete: {missing}; {state}, run it again"
        )));
    }
    reached("backup: before the mark");
    repository.mark(database, id, MarkKind::Verified, "read back by the writer").await?;
    reached("backup: after the mark");
    Ok(())
}

/// A store that did not give out the newest manifest says nothing about whose backups these are. One that is damaged,
/// of a version to come or gone meanwhile does not keep the next backup from being made.
fn fail_if_the_newest_could_not_be_read(existing: &mut Vec<Listed>) -> Result<(), Error> {
    let unread = |error: &Error| matches!(error.class(), Class::Transient | Class::Permanent);
    let known = existing.iter().rposition(|backup| backup.manifest.is_ok()).map_or(0, |newest| newest + 1);
    let failed = existing.iter().skip(known).position(|backup| backup.manifest.as_ref().is_err_and(unread));
    match failed.map(|at| existing.swap_remove(known + at).manifest) {
        Some(Err(error)) => Err(error),
        _ => Ok(()),
    }
}

/// Takes the manifest away again, unless the backup was put on hold meanwhile; returns what became of it.
async fn withdraw(repository: &Repository, database: &DatabaseName, id: &BackupId) -> String {
    let withdrawn = async {
        // Whoever holds a backup asks for its verified mark last: from here on nobody is told that this one is on hold.
        repository.unmark_verified(database, id).await?;
        if let Some(hold) = repository.marks(database, id).await?.holds().first() {
            return Ok(format!("it stays, because it is on hold by {}, and is not complete", hold.owner));
        }
        reached("backup: before it is withdrawn");
        repository.store().delete(&layout::manifest(database, id)).await?;
        reached("backup: after it was withdrawn");
        Ok("it was withdrawn".to_owned())
    };
    withdrawn.await.unwrap_or_else(|error: StoreError| format!("withdrawing it failed too: {error}"))
}

fn check_identity(
    database: &DatabaseName,
    identity: &Identity,
    existing: &[Listed],
    new_identity: bool,
) -> Result<(), Error> {
    let newest = existing.iter().rev().find_map(|backup| backup.manifest.as_ref().ok());
    match newest {
        Some(manifest) if manifest.header.identity != *identity && !new_identity => Err(Error::refused(
            format!(
                "the backups named {database} are of another database ({}), this one is {identity}",
                manifest.header.identity
            ),
            "choose another --name, or say --new-identity if the database has moved",
        )),
        _ => Ok(()),
    }
}

/// The next id: later than every id there is. Returns a defect when the clock stands before the newest backup.
async fn next_id(clock: &Arc<dyn Clock>, existing: &[Listed]) -> (BackupId, Option<String>) {
    let mut random = [0; 3];
    getrandom::fill(&mut random).expect("the operating system gives random bytes");
    let now = clock.now();
    let Some(newest) = existing.last().map(|backup| backup.id.second()) else {
        return (BackupId::new(now, random), None);
    };
    let next = newest + SignedDuration::from_secs(1);
    if now >= next {
        return (BackupId::new(now, random), None);
    }
    let ahead = next.duration_since(now);
    if ahead <= MAX_WAIT {
        clock.sleep(ahead.unsigned_abs()).await;
        return (BackupId::new(next, random), None);
    }
    let defect =
        format!("clock: the newest backup is dated {newest}, which this machine's clock ({now}) has not reached");
    (BackupId::new(next, random), Some(defect))
}

impl DumpSink for BackupSink {
    fn open(&self, segment: Segment) -> Box<dyn SegmentSink> {
        let chunker = Some(Chunker::new(segment.cut));
        let packer = self.packer.clone();
        let chunks = Chunks { packer, builder: None, placed: Vec::new() };
        Box::new(SegmentWriter { chunker, chunks, segment, finished: self.segments.clone() })
    }

    fn expect(&self, bytes: u64) {
        self.packer.expect(bytes);
    }
}

/// Cuts and stores one segment.
struct SegmentWriter {
    chunker: Option<Chunker>,
    chunks: Chunks,
    segment: Segment,
    finished: Arc<Mutex<Vec<WrittenSegment>>>,
}

/// Chunks of one segment on their way into packs.
struct Chunks {
    packer: Arc<Packer>,
    builder: Option<PackBuilder>,
    placed: Vec<Placed>,
}

impl ChunkSink for Chunks {
    type Error = EngineError;

    fn chunk(&mut self, raw: &[u8], continues: bool) -> Result<(), EngineError> {
        let placed = self.packer.place(&mut self.builder, raw, continues)?;
        self.placed.push(placed);
        Ok(())
    }
}

impl SegmentSink for SegmentWriter {
    fn write(&mut self, bytes: &[u8], ends: &[RowEnd]) -> Result<(), EngineError> {
        self.chunks.packer.advance(bytes.len() as u64, ends.len() as u64);
        match &mut self.chunker {
            Some(chunker) => chunker.write(bytes, ends, &mut self.chunks),
            None => Ok(()),
        }
    }

    fn finish(mut self: Box<Self>, rows: u64) -> Result<(), EngineError> {
        if let Some(chunker) = self.chunker.take() {
            chunker.finish(&mut self.chunks)?;
        }
        self.chunks.packer.put_back(self.chunks.builder.take());
        let chunks = std::mem::take(&mut self.chunks.placed);
        lock(&self.finished).push(WrittenSegment { segment: self.segment.clone(), chunks, rows });
        Ok(())
    }
}

/// Locks a mutex whose holders never panic halfway.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Repository {
    /// Finds every pack of a manifest present with its length; the error names the first that is not.
    pub async fn check_packs(&self, manifest: &Manifest) -> Result<(), Error> {
        use futures_util::{StreamExt, TryStreamExt, stream};
        let looks: Vec<_> = manifest.packs.iter().map(|pack| self.check_pack(pack)).collect();
        stream::iter(looks).buffer_unordered(8).try_collect::<()>().await
    }

    async fn check_pack(&self, pack: &Pack) -> Result<(), Error> {
        match self.store().head(&layout::pack(&pack.uuid)).await {
            Ok(meta) if meta.size_bytes == pack.bytes => Ok(()),
            Ok(meta) => Err(Error::Damaged(format!(
                "pack {} has {} bytes instead of {}",
                pack.uuid, meta.size_bytes, pack.bytes
            ))),
            Err(StoreError::NotFound { .. }) => Err(Error::Damaged(format!("pack {} is missing", pack.uuid))),
            Err(error) => Err(error.into()),
        }
    }
}
