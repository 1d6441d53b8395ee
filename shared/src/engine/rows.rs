//! Splits COPY text into rows and hashes each once; the digest serves the fingerprint and the chunk boundaries.

use super::{EngineError, RowEnd, SegmentSink};
use crate::model::RowSum;

/// Turns a stream of COPY text into row batches for a [`SegmentSink`], counting and summing the rows on the way.
///
/// COPY text escapes a newline inside a value as `\n`, so a newline byte always ends a row. (PostgreSQL's server
/// encodings are all ASCII-safe, so no multi-byte character contains one.)
pub struct RowSplitter {
    sink: Box<dyn SegmentSink>,
    pending: Vec<u8>,
    scanned: usize,
    ends: Vec<RowEnd>,
    sum: RowSum,
    rows: u64,
    bytes: u64,
}

/// Whole rows are handed on once this many bytes have gathered.
const BATCH_BYTES: usize = 256 * 1024;

impl RowSplitter {
    /// Begins a segment.
    pub fn new(sink: Box<dyn SegmentSink>) -> Self {
        RowSplitter {
            sink,
            pending: Vec::new(),
            scanned: 0,
            ends: Vec::new(),
            sum: RowSum::default(),
            rows: 0,
            bytes: 0,
        }
    }

    /// Takes the next bytes of the stream; they may begin and end anywhere.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        self.pending.extend_from_slice(bytes);
        let mut start = self.ends.last().map_or(0, |row| row.end);
        for at in memchr::memchr_iter(b'\n', &self.pending[self.scanned..]) {
            let newline = self.scanned + at;
            let digest = self.sum.add_row(&self.pending[start..newline]);
            let hash = u64::from_le_bytes([
                digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
            ]);
            start = newline + 1;
            self.ends.push(RowEnd { end: start, hash });
        }
        self.scanned = self.pending.len();
        if start >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Ends the segment and returns its rows, raw bytes and sum. Fails when the stream ended inside a row.
    pub fn finish(mut self) -> Result<(u64, u64, RowSum), EngineError> {
        self.flush()?;
        if !self.pending.is_empty() {
            return Err(EngineError::failed("the server's COPY stream ended in the middle of a row"));
        }
        self.sink.finish(self.rows)?;
        Ok((self.rows, self.bytes, self.sum))
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        let Some(&RowEnd { end, .. }) = self.ends.last() else { return Ok(()) };
        self.sink.write(&self.pending[..end], &self.ends)?;
        self.rows += self.ends.len() as u64;
        self.bytes += end as u64;
        self.pending.drain(..end);
        // A single huge row must not leave its buffer behind for the rest of the segment.
        self.pending.shrink_to(4 * BATCH_BYTES);
        self.scanned = self.pending.len();
        self.ends.clear();
        Ok(())
    }
}
