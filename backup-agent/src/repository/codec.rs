//! Compression of one chunk into one member. Both formats allow members to be concatenated (RFC 1952, RFC 8878).

use flate2::bufread::MultiGzDecoder;
use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// How members are compressed. One codec per repository, never mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// gzip level 3, mtime 0: every system can read it.
    Gzip,
    /// Zstandard level 3 with checksum: smaller and faster, needs the zstd tool to restore without Holdfast.
    Zstd,
}

const GZIP_LEVEL: u32 = 3;
const ZSTD_LEVEL: i32 = 3;

impl Codec {
    /// Name as in holdfast.json.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Gzip => "gzip",
            Codec::Zstd => "zstd",
        }
    }

    /// Ending of an exported archive.
    pub fn extension(self) -> &'static str {
        match self {
            Codec::Gzip => "tar.gz",
            Codec::Zstd => "tar.zst",
        }
    }

    /// Appends `raw` to `out` as one member and returns its length.
    ///
    /// The bytes differ between library versions; only raw bytes are ever compared.
    pub fn compress_into(self, raw: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let before = out.len();
        match self {
            Codec::Gzip => {
                let mut encoder = GzBuilder::new().mtime(0).write(&mut *out, Compression::new(GZIP_LEVEL));
                encoder.write_all(raw)?;
                encoder.finish()?;
            }
            Codec::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(&mut *out, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                encoder.set_pledged_src_size(Some(raw.len() as u64))?;
                encoder.include_contentsize(true)?;
                encoder.write_all(raw)?;
                encoder.finish()?;
            }
        }
        Ok(out.len() - before)
    }

    /// Decompresses a member of exactly `raw_length` bytes; anything else is an error, and no more is ever unpacked.
    pub fn decompress(self, member: &[u8], raw_length: usize) -> io::Result<Vec<u8>> {
        let mut raw = Vec::with_capacity(raw_length.min(MAX_CHUNK_BYTES));
        self.reader(member)?.take(raw_length as u64 + 1).read_to_end(&mut raw)?;
        if raw.len() != raw_length {
            let text = format!("a member holds {} bytes or more instead of {raw_length}", raw.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(raw)
    }

    /// Decompresses a member whose length is not known; one of more than `limit` bytes is an error.
    pub fn decompress_up_to(self, member: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        let mut raw = Vec::new();
        self.reader(member)?.take(limit + 1).read_to_end(&mut raw)?;
        if raw.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {limit} bytes unpacked")));
        }
        Ok(raw)
    }

    fn reader(self, member: &[u8]) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Codec::Gzip => Box::new(MultiGzDecoder::new(member)),
            Codec::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(member)?),
        })
    }
}

/// No chunk is larger: longer rows are cut.
pub const MAX_CHUNK_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_can_be_concatenated_and_a_wrong_length_is_an_error() {
        for codec in [Codec::Gzip, Codec::Zstd] {
            let mut out = Vec::new();
            let first = codec.compress_into(b"hello ", &mut out).expect("compresses");
            codec.compress_into(b"world", &mut out).expect("compresses");
            assert_eq!(codec.decompress(&out, 11).expect("both members"), b"hello world");
            assert_eq!(codec.decompress(&out[..first], 6).expect("one member"), b"hello ");
            assert!(codec.decompress(&out, 10).is_err());
            assert!(codec.decompress(&out, 12).is_err());
            assert!(codec.decompress(&out[..first - 1], 6).is_err(), "{codec:?}: truncated");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_stated_length() {
        let mut out = Vec::new();
        Codec::Gzip.compress_into(&vec![0; 10_000_000], &mut out).expect("compresses");
        assert!(Codec::Gzip.decompress(&out, 1000).is_err());
    }
}
