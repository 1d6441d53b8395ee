//! A dump kept in memory: a sink for an engine's dump and a source for its load, without repository or store.

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use shared::engine::{
    Cut, DataEntry, Dump, DumpSink, DumpSource, Engine, EngineError, Entry, RowEnd, Segment, SegmentSink,
};
use shared::model::Fingerprint;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a run that a [`MemorySource`] gives out; small, so that small databases have several.
const RUN_BYTES: usize = 64 * 1024;

/// Keeps everything a dump writes, and checks on the way that the dump keeps the rules of [`DumpSink`].
#[derive(Debug, Default)]
pub struct MemorySink {
    segments: Arc<Mutex<BTreeMap<(usize, usize), KeptSegment>>>,
    cancelled: AtomicBool,
}

/// A finished segment.
#[derive(Debug, Clone)]
pub struct KeptSegment {
    /// As the engine opened it.
    pub segment: Segment,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Offsets behind its rows.
    pub ends: Vec<usize>,
    /// The rows the engine counted.
    pub rows: u64,
}

impl MemorySink {
    /// An empty sink.
    pub fn new() -> Arc<MemorySink> {
        Arc::default()
    }

    /// Asks the dump to end early.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    /// All finished segments, by entry and ordinal.
    pub fn segments(&self) -> Vec<KeptSegment> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl DumpSink for MemorySink {
    fn open(&self, segment: Segment) -> Box<dyn SegmentSink> {
        let kept = KeptSegment { segment, bytes: Vec::new(), ends: Vec::new(), rows: 0 };
        Box::new(MemorySegment { kept, all: self.segments.clone() })
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

struct MemorySegment {
    kept: KeptSegment,
    all: Arc<Mutex<BTreeMap<(usize, usize), KeptSegment>>>,
}

impl SegmentSink for MemorySegment {
    fn write(&mut self, bytes: &[u8], ends: &[RowEnd]) -> Result<(), EngineError> {
        match self.kept.segment.cut {
            Cut::Rows { .. } => {
                assert_eq!(ends.last().map(|row| row.end), Some(bytes.len()), "a batch must end with a row");
            }
            Cut::Fixed { .. } => assert!(ends.is_empty(), "fixed cuts have no rows"),
        }
        let base = self.kept.bytes.len();
        self.kept.ends.extend(ends.iter().map(|row| base + row.end));
        self.kept.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(mut self: Box<Self>, rows: u64) -> Result<(), EngineError> {
        self.kept.rows = rows;
        if matches!(self.kept.segment.cut, Cut::Rows { .. }) {
            assert_eq!(self.kept.ends.len() as u64, rows, "the engine must count the rows it wrote");
        }
        let key = (self.kept.segment.entry, self.kept.segment.ordinal);
        let before = self.all.lock().unwrap_or_else(PoisonError::into_inner).insert(key, self.kept);
        assert!(before.is_none(), "segment {key:?} was finished twice");
        Ok(())
    }
}

/// A dump as an engine reads it back.
#[derive(Debug, Clone)]
pub struct MemorySource {
    /// What the dump returned.
    pub dump: Dump,
    /// The data entries' bytes, cut into runs.
    pub runs: Vec<Vec<Bytes>>,
    data: Vec<DataEntry>,
}

impl MemorySource {
    /// Lays the segments down in order and checks that they fit the dump's entries.
    pub fn new(dump: Dump, sink: &MemorySink) -> MemorySource {
        let data: Vec<DataEntry> = dump
            .entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Data(data) => Some(data.clone()),
                Entry::Text { .. } => None,
            })
            .collect();
        let mut runs = vec![Vec::new(); data.len()];
        let mut bytes = vec![0; data.len()];
        let mut rows = vec![0; data.len()];
        for kept in sink.segments() {
            let entry = kept.segment.entry;
            bytes[entry] += kept.bytes.len() as u64;
            rows[entry] += kept.rows;
            runs[entry].extend(cut_runs(&kept));
        }
        for (entry, data) in data.iter().enumerate() {
            assert_eq!((data.bytes, data.rows), (bytes[entry], rows[entry]), "{}", data.path);
        }
        MemorySource { dump, runs, data }
    }

    /// The bytes of one data entry, whole.
    pub fn bytes(&self, entry: usize) -> Vec<u8> {
        self.runs[entry].concat()
    }

    /// A text of the tar; panics where there is none.
    pub fn text_of(&self, path: &str) -> &[u8] {
        let found = self.dump.entries.iter().find_map(|entry| match entry {
            Entry::Text { path: at, body } if at == path => Some(body.as_slice()),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("the dump has no text {path}"))
    }
}

fn cut_runs(kept: &KeptSegment) -> Vec<Bytes> {
    let whole = Bytes::copy_from_slice(&kept.bytes);
    let mut runs = Vec::new();
    let mut start = 0;
    while start < whole.len() {
        let wanted = start + RUN_BYTES;
        let end = match kept.segment.cut {
            Cut::Fixed { .. } => wanted.min(whole.len()),
            Cut::Rows { .. } => {
                let row = kept.ends.partition_point(|end| *end < wanted);
                kept.ends.get(row).copied().unwrap_or(whole.len())
            }
        };
        runs.push(whole.slice(start..end));
        start = end;
    }
    runs
}

#[async_trait::async_trait]
impl DumpSource for MemorySource {
    fn facts(&self) -> &serde_json::Value {
        &self.dump.facts
    }

    fn fingerprint(&self) -> &Fingerprint {
        &self.dump.fingerprint
    }

    fn data(&self) -> &[DataEntry] {
        &self.data
    }

    async fn text(&self, path: &str) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.dump.entries.iter().find_map(|entry| match entry {
            Entry::Text { path: at, body } if at == path => Some(body.clone()),
            _ => None,
        }))
    }

    fn runs(&self, entry: usize) -> usize {
        self.runs[entry].len()
    }

    fn read(&self, entry: usize, run: usize) -> BoxStream<'_, Result<Bytes, EngineError>> {
        // In pieces that respect nothing, as they come from a store.
        let run = &self.runs[entry][run];
        let pieces: Vec<_> =
            (0..run.len()).step_by(10_007).map(|at| Ok(run.slice(at..run.len().min(at + 10_007)))).collect();
        stream::iter(pieces).boxed()
    }
}

/// Dumps a database into memory.
pub async fn dump(engine: &dyn Engine, options: &shared::engine::DumpOptions) -> Result<MemorySource, EngineError> {
    let sink = MemorySink::new();
    let dump = engine.dump(sink.clone(), options).await?;
    Ok(MemorySource::new(dump, &sink))
}
