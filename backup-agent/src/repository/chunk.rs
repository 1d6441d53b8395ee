//! Cuts a segment's bytes into chunks: at row ends the rows themselves choose, or every so many bytes.

use super::codec::MAX_CHUNK_BYTES;
use shared::engine::{Cut, RowEnd};
use std::fmt;

/// BLAKE3-256 of a chunk's raw bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId(pub [u8; 32]);

impl ChunkId {
    /// The id of these raw bytes.
    pub fn of(raw: &[u8]) -> Self {
        ChunkId(*blake3::hash(raw).as_bytes())
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Takes the chunks a [`Chunker`] cuts. `continues` says that the chunk goes on inside the row of the one before.
pub trait ChunkSink {
    /// What can go wrong.
    type Error;

    /// Takes one chunk.
    fn chunk(&mut self, raw: &[u8], continues: bool) -> Result<(), Self::Error>;
}

/// Cuts one segment. Chunk sizes lie between a quarter of and four times the average; only a single longer row makes a
/// larger one, and one above 4 MiB is cut into pieces of 4 MiB.
pub struct Chunker {
    cut: Cut,
    carry: Vec<u8>,
}

impl Chunker {
    /// Begins a segment.
    pub fn new(cut: Cut) -> Self {
        Chunker { cut, carry: Vec::new() }
    }

    /// Takes whole rows (or, with [`Cut::Fixed`], any bytes).
    pub fn write<S: ChunkSink>(&mut self, bytes: &[u8], ends: &[RowEnd], sink: &mut S) -> Result<(), S::Error> {
        match self.cut {
            Cut::Rows { average } => self.write_rows(bytes, ends, average as usize, sink),
            Cut::Fixed { bytes: size } => self.write_fixed(bytes, size as usize, sink),
        }
    }

    /// Ends the segment.
    pub fn finish<S: ChunkSink>(mut self, sink: &mut S) -> Result<(), S::Error> {
        self.emit(&[], sink)
    }

    fn write_rows<S: ChunkSink>(
        &mut self,
        bytes: &[u8],
        ends: &[RowEnd],
        average: usize,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        let (min, max) = (average / 4, average * 4);
        let (mut start, mut row_start) = (0, 0);
        for row in ends {
            let row_bytes = row.end - row_start;
            if self.carry.len() + (row_start - start) + row_bytes > max {
                self.emit(&bytes[start..row_start], sink)?;
                start = row_start;
            }
            let size = self.carry.len() + (row.end - start);
            if size > max || (size >= min && ends_chunk(row.hash, row_bytes, average - min)) {
                self.emit(&bytes[start..row.end], sink)?;
                start = row.end;
            }
            row_start = row.end;
        }
        self.carry.extend_from_slice(&bytes[start..]);
        Ok(())
    }

    fn write_fixed<S: ChunkSink>(&mut self, mut bytes: &[u8], size: usize, sink: &mut S) -> Result<(), S::Error> {
        while self.carry.len() + bytes.len() >= size {
            let (now, later) = bytes.split_at(size - self.carry.len());
            self.emit(now, sink)?;
            bytes = later;
        }
        self.carry.extend_from_slice(bytes);
        Ok(())
    }

    /// Hands on what was carried over plus `tail` as one chunk, or as several when it is one very long row.
    fn emit<S: ChunkSink>(&mut self, tail: &[u8], sink: &mut S) -> Result<(), S::Error> {
        let joined;
        let raw = if self.carry.is_empty() {
            tail
        } else {
            self.carry.extend_from_slice(tail);
            joined = std::mem::take(&mut self.carry);
            &joined
        };
        for (ordinal, piece) in raw.chunks(MAX_CHUNK_BYTES).enumerate() {
            sink.chunk(piece, ordinal > 0)?;
        }
        Ok(())
    }
}

/// Whether a row ends its chunk: with a probability in proportion to its length, so that boundaries fall every
/// `distance` bytes on average whatever the size of the rows, and depend on nothing but the row.
fn ends_chunk(hash: u64, row_bytes: usize, distance: usize) -> bool {
    (u128::from(hash) * distance as u128) >> 64 < row_bytes as u128
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::engine::{RowSplitter, SegmentSink};
    use std::collections::HashSet;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    #[derive(Default)]
    struct Chunks(Vec<(Vec<u8>, bool)>);

    impl ChunkSink for Chunks {
        type Error = Infallible;

        fn chunk(&mut self, raw: &[u8], continues: bool) -> Result<(), Infallible> {
            self.0.push((raw.to_vec(), continues));
            Ok(())
        }
    }

    struct Cutting(Option<Chunker>, Arc<Mutex<Chunks>>);

    impl SegmentSink for Cutting {
        fn write(&mut self, bytes: &[u8], ends: &[RowEnd]) -> Result<(), shared::engine::EngineError> {
            let Ok(()) = self.0.as_mut().expect("open").write(bytes, ends, &mut *self.1.lock().expect("not poisoned"));
            Ok(())
        }

        fn finish(mut self: Box<Self>, _rows: u64) -> Result<(), shared::engine::EngineError> {
            let Ok(()) = self.0.take().expect("open").finish(&mut *self.1.lock().expect("not poisoned"));
            Ok(())
        }
    }

    fn cut(text: &[u8], average: u32, step: usize) -> Vec<(Vec<u8>, bool)> {
        let chunks = Arc::new(Mutex::new(Chunks::default()));
        let chunker = Chunker::new(Cut::Rows { average });
        let mut rows = RowSplitter::new(Box::new(Cutting(Some(chunker), chunks.clone())));
        for part in text.chunks(step) {
            rows.push(part).expect("splits");
        }
        rows.finish().expect("finishes");
        let mut chunks = chunks.lock().expect("not poisoned");
        std::mem::take(&mut chunks.0)
    }

    fn table(rows: std::ops::Range<u32>) -> Vec<u8> {
        rows.flat_map(|i| format!("{i}\trow number {i} with some text {}\n", i * 7919).into_bytes()).collect()
    }

    #[test]
    fn chunks_are_whole_rows_within_the_limits_and_do_not_depend_on_how_bytes_arrive() {
        let text = table(0..40_000);
        let chunks = cut(&text, 16_384, 100_000);
        assert_eq!(chunks.iter().flat_map(|(raw, _)| raw.clone()).collect::<Vec<_>>(), text);
        assert_eq!(chunks, cut(&text, 16_384, 777));
        for (raw, _) in &chunks[..chunks.len() - 1] {
            assert!(raw.ends_with(b"\n") && raw.len() >= 4096 && raw.len() <= 65_536, "{}", raw.len());
        }
        let average = text.len() / chunks.len();
        assert!((8_192..32_768).contains(&average), "average {average}");
    }

    #[test]
    fn an_inserted_row_changes_only_the_chunks_around_it() {
        let (before, mut after) = (table(0..40_000), table(0..20_000));
        after.extend_from_slice(b"a new row\n");
        after.extend(table(20_000..40_000));
        let known: HashSet<_> = cut(&before, 16_384, 65_536).into_iter().map(|(raw, _)| raw).collect();
        let new = cut(&after, 16_384, 65_536).into_iter().filter(|(raw, _)| !known.contains(raw)).count();
        assert!((1..=3).contains(&new), "{new} new chunks");
    }

    #[test]
    fn a_row_of_ten_mebibytes_becomes_continued_chunks() {
        let mut text = table(0..10);
        text.extend(std::iter::repeat_n(b'x', 10 << 20));
        text.push(b'\n');
        text.extend(table(10..20));
        let chunks = cut(&text, 131_072, 8192);
        let shape: Vec<(usize, bool)> = chunks.iter().map(|(raw, continues)| (raw.len(), *continues)).collect();
        assert_eq!(shape.len(), 5, "{shape:?}");
        assert_eq!(shape[1], (MAX_CHUNK_BYTES, false));
        assert_eq!(shape[2], (MAX_CHUNK_BYTES, true));
        assert_eq!(shape[3], ((10 << 20) + 1 - 2 * MAX_CHUNK_BYTES, true));
    }

    #[test]
    fn fixed_chunks_have_their_size_and_a_shorter_last_one() {
        let mut chunks = Chunks::default();
        let mut chunker = Chunker::new(Cut::Fixed { bytes: 100 });
        for part in [vec![1; 250], vec![2; 30], vec![3; 45]] {
            let Ok(()) = chunker.write(&part, &[], &mut chunks);
        }
        let Ok(()) = chunker.finish(&mut chunks);
        assert_eq!(chunks.0.iter().map(|(raw, _)| raw.len()).collect::<Vec<_>>(), [100, 100, 100, 25]);
    }
}
