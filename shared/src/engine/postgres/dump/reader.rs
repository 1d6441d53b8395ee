//! The readers: each has a connection in the shared snapshot and a thread that splits, hashes and stores.

use super::work::{Kind, Queue, Work};
use crate::engine::postgres::session::{self, Doing, exec, sqlstate};
use crate::engine::postgres::snapshot::{import, lock_now};
use crate::engine::{DumpSink, EngineError, Nowhere, RowSplitter, SegmentSink};
use crate::model::{PostgresUrl, RowSum};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, Row};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

/// A transaction that read this many relations is ended and the snapshot imported anew: reading by query keeps a lock
/// on every index to the end of the transaction. The leader's locks make that safe.
const RELATIONS_A_TRANSACTION: usize = 100;

/// Rows arrive one by one from the driver; they travel to the thread in batches of about this size.
const BATCH_BYTES: usize = 256 * 1024;

/// Bytes under way to one thread. A larger row travels alone.
const UNDER_WAY_BYTES: u32 = 1 << 20;

/// Large objects are asked for in pieces of this size.
const LARGE_OBJECT_PIECE_BYTES: i32 = 1 << 20;

/// What one piece of work yielded.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) kind: Kind,
    pub(super) entry: usize,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) sum: RowSum,
    /// Of a large object's content.
    pub(super) sha256: String,
}

/// All readers of a dump. Dropping the value stops them.
pub(super) struct Readers(JoinSet<Result<Vec<Read>, EngineError>>);

/// What every reader needs.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) url: PostgresUrl,
    pub(super) snapshot: String,
    pub(super) lock_timeout_s: u32,
    pub(super) queue: Arc<Queue>,
    pub(super) sink: Arc<dyn DumpSink>,
}

impl Readers {
    /// Starts up to `workers` readers.
    pub(super) fn start(task: &Task, workers: usize) -> Self {
        let mut set = JoinSet::new();
        for _ in 0..workers.min(task.queue.len()).max(1) {
            set.spawn(read_all(task.clone()));
        }
        Readers(set)
    }

    /// Waits for all of them; the first error stops the others.
    pub(super) async fn join(mut self) -> Result<Vec<Read>, EngineError> {
        let mut all = Vec::new();
        while let Some(ended) = self.0.join_next().await {
            all.append(&mut ended.map_err(|error| EngineError::failed(format!("a reader stopped: {error}")))??);
        }
        Ok(all)
    }
}

async fn read_all(task: Task) -> Result<Vec<Read>, EngineError> {
    let mut conn = session::connect(&task.url).await?;
    // Only range scans are planned, and they must be planned as such whatever the statistics say.
    let set = format!(
        "SET lock_timeout = '{}s'; SET enable_seqscan = off; SET enable_indexscan = off; SET enable_bitmapscan = off",
        task.lock_timeout_s.max(1)
    );
    exec(&mut conn, &set).await.doing("a reader's settings could not be made")?;
    let mut pump = Pump::start();
    let (mut reads, mut locked) = (Vec::new(), RELATIONS_A_TRANSACTION);
    loop {
        let batch = task.queue.take();
        if batch.is_empty() {
            break;
        }
        if locked >= RELATIONS_A_TRANSACTION {
            // The COMMIT before the first transaction does nothing.
            let sql = format!("COMMIT; {}", import(&task.snapshot));
            exec(&mut conn, &sql).await.doing("a reader could not enter the snapshot")?;
            locked = 0;
        }
        let relations: Vec<String> = batch.iter().map(|w| w.relation.clone()).filter(|name| !name.is_empty()).collect();
        if !relations.is_empty() {
            let what = format!("{} could not be locked for reading", relations.join(", "));
            exec(&mut conn, &lock_now(&relations)).await.doing(what)?;
        }
        locked += relations.len();
        for work in batch {
            if task.sink.cancelled() {
                return Err(EngineError::failed("the dump was cancelled"));
            }
            reads.push(read(&mut conn, &mut pump, &task.sink, work).await?);
        }
    }
    pump.stop().await?;
    session::close(conn).await;
    Ok(reads)
}

async fn read(
    conn: &mut PgConnection,
    pump: &mut Pump,
    sink: &Arc<dyn DumpSink>,
    work: Work,
) -> Result<Read, EngineError> {
    let entry = work.segment.entry;
    match work.kind {
        Kind::Rows => pump.open(Current::rows(sink.open(work.segment))).await?,
        Kind::Generated => pump.open(Current::rows(Box::new(Nowhere))).await?,
        Kind::LargeObject(_) => pump.open(Current::raw(sink.open(work.segment))).await?,
    }
    match work.kind {
        Kind::LargeObject(oid) => read_large_object(conn, pump, oid).await?,
        Kind::Rows | Kind::Generated => {
            copy_out(conn, pump, &work.copy, sink).await.map_err(|error| error.about(&work.relation))?;
        }
    }
    let Closed { rows, bytes, sum, sha256 } = pump.close().await?;
    Ok(Read { kind: work.kind, entry, rows, bytes, sum, sha256 })
}

/// An error on the way from the server to the thread.
enum CopyError {
    Server(sqlx::Error),
    Own(EngineError),
}

impl CopyError {
    fn about(self, relation: &str) -> EngineError {
        match self {
            CopyError::Own(error) => error,
            CopyError::Server(error) => {
                let what = format!("the rows of {relation} could not be read");
                match sqlstate(&error).as_deref() {
                    Some("42501") => EngineError::refused(format!("{what}: {}", session::words(&error)))
                        .with_hint("back up with a role that may read everything (pg_read_all_data, BYPASSRLS)"),
                    _ => session::engine_error(&what, &error),
                }
            }
        }
    }
}

async fn copy_out(
    conn: &mut PgConnection,
    pump: &mut Pump,
    statement: &str,
    sink: &Arc<dyn DumpSink>,
) -> Result<(), CopyError> {
    let mut stream = conn.copy_out_raw(statement).await.map_err(CopyError::Server)?;
    let mut batch = BytesMut::with_capacity(BATCH_BYTES);
    while let Some(row) = stream.try_next().await.map_err(CopyError::Server)? {
        if batch.len() + row.len() > BATCH_BYTES && !batch.is_empty() {
            pump.send(batch.split().freeze()).await.map_err(CopyError::Own)?;
            batch.reserve(BATCH_BYTES);
            if sink.cancelled() {
                return Err(CopyError::Own(EngineError::failed("the dump was cancelled")));
            }
        }
        if row.len() >= BATCH_BYTES {
            // A large row goes as it is; copying it once more would cost its size again.
            pump.send(row).await.map_err(CopyError::Own)?;
        } else {
            batch.extend_from_slice(&row);
        }
    }
    if !batch.is_empty() {
        pump.send(batch.freeze()).await.map_err(CopyError::Own)?;
    }
    Ok(())
}

async fn read_large_object(conn: &mut PgConnection, pump: &mut Pump, oid: u32) -> Result<(), EngineError> {
    let mut offset: i64 = 0;
    loop {
        let row = sqlx::query("SELECT lo_get($1::oid, $2, $3)")
            .bind(sqlx::postgres::types::Oid(oid))
            .bind(offset)
            .bind(LARGE_OBJECT_PIECE_BYTES)
            .fetch_one(&mut *conn)
            .await
            .doing(format!("large object {oid} could not be read"))?;
        let piece: Vec<u8> = row.try_get(0).doing(format!("large object {oid} could not be read"))?;
        let length = piece.len() as i64;
        if length > 0 {
            pump.send(piece.into()).await?;
        }
        if length < i64::from(LARGE_OBJECT_PIECE_BYTES) {
            return Ok(());
        }
        offset += length;
    }
}

/// The way to a reader's thread: hashing, compressing and storing block, so they happen off the async threads.
struct Pump {
    feed: mpsc::Sender<Feed>,
    room: Arc<Semaphore>,
    failed: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

enum Feed {
    Open(Current),
    Bytes(Bytes, #[allow(dead_code, reason = "held until the bytes are worked off")] OwnedSemaphorePermit),
    Close(oneshot::Sender<Result<Closed, EngineError>>),
}

/// The segment the thread is at.
enum Current {
    Rows(Box<RowSplitter>),
    Raw { sink: Box<dyn SegmentSink>, hasher: Sha256, bytes: u64 },
}

struct Closed {
    rows: u64,
    bytes: u64,
    sum: RowSum,
    sha256: String,
}

impl Current {
    fn rows(sink: Box<dyn SegmentSink>) -> Self {
        Current::Rows(Box::new(RowSplitter::new(sink)))
    }

    fn raw(sink: Box<dyn SegmentSink>) -> Self {
        Current::Raw { sink, hasher: Sha256::new(), bytes: 0 }
    }

    fn push(&mut self, piece: &[u8]) -> Result<(), EngineError> {
        match self {
            Current::Rows(splitter) => splitter.push(piece),
            Current::Raw { sink, hasher, bytes } => {
                hasher.update(piece);
                *bytes += piece.len() as u64;
                sink.write(piece, &[])
            }
        }
    }

    fn close(self) -> Result<Closed, EngineError> {
        match self {
            Current::Rows(splitter) => {
                let (rows, bytes, sum) = splitter.finish()?;
                Ok(Closed { rows, bytes, sum, sha256: String::new() })
            }
            Current::Raw { sink, hasher, bytes } => {
                sink.finish(0)?;
                Ok(Closed { rows: 0, bytes, sum: RowSum::default(), sha256: hex::encode(hasher.finalize()) })
            }
        }
    }
}

impl Pump {
    fn start() -> Self {
        let (feed, inlet) = mpsc::channel(64);
        let failed = Arc::new(AtomicBool::new(false));
        let flag = failed.clone();
        let thread = tokio::task::spawn_blocking(move || work_off(inlet, &flag));
        Pump { feed, room: Arc::new(Semaphore::new(UNDER_WAY_BYTES as usize)), failed, thread }
    }

    async fn open(&mut self, current: Current) -> Result<(), EngineError> {
        self.feed.send(Feed::Open(current)).await.map_err(|_| gone())
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), EngineError> {
        if self.failed.load(Ordering::Relaxed) {
            // The reason is told by the thread.
            return Err(self.close().await.err().unwrap_or_else(gone));
        }
        let share = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(UNDER_WAY_BYTES);
        let permit = self.room.clone().acquire_many_owned(share).await.map_err(|_| gone())?;
        self.feed.send(Feed::Bytes(bytes, permit)).await.map_err(|_| gone())
    }

    async fn close(&mut self) -> Result<Closed, EngineError> {
        let (answer, inbox) = oneshot::channel();
        self.feed.send(Feed::Close(answer)).await.map_err(|_| gone())?;
        inbox.await.map_err(|_| gone())?
    }

    async fn stop(self) -> Result<(), EngineError> {
        drop(self.feed);
        self.thread.await.map_err(|_| gone())
    }
}

fn gone() -> EngineError {
    EngineError::failed("a reader's thread stopped without saying why")
}

/// The thread: after an error it takes and drops what still comes, until it can tell the error at the segment's end.
fn work_off(mut inlet: mpsc::Receiver<Feed>, failed: &AtomicBool) {
    let mut current: Result<Option<Current>, EngineError> = Ok(None);
    while let Some(feed) = inlet.blocking_recv() {
        match feed {
            Feed::Open(next) => current = Ok(Some(next)),
            Feed::Bytes(bytes, _permit) => {
                if let Ok(Some(segment)) = &mut current
                    && let Err(error) = segment.push(&bytes)
                {
                    failed.store(true, Ordering::Relaxed);
                    current = Err(error);
                }
            }
            Feed::Close(answer) => {
                let closed = match std::mem::replace(&mut current, Ok(None)) {
                    Ok(Some(segment)) => segment.close(),
                    Ok(None) => Err(gone()),
                    Err(error) => Err(error),
                };
                // Nobody listens any more only when the whole dump was given up.
                drop(answer.send(closed));
            }
        }
    }
}
