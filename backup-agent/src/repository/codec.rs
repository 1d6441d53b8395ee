//! Compression of one chunk into one member. Both formats allow members to be concatenated (RFC 1952, RFC 8878).
//!
//! Chunks lie in memory as a whole, which is what libdeflate is made for: it compresses and unpacks them in less time than
//! a stream takes. What is not one plain member of the stated length is left to flate2, which reads any gzip there is.

use flate2::bufread::MultiGzDecoder;
use libdeflater::{CompressionLvl, Compressor, Decompressor};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::io::{self, Read};
use zstd::zstd_safe::{self, CParameter};

/// How members are compressed. One codec per repository, never mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// gzip (libdeflate's level 3, mtime 0): every system can read it.
    Gzip,
    /// Zstandard level 3 with checksum: smaller and faster, needs the zstd tool to restore without Holdfast.
    Zstd,
}

const GZIP_LEVEL: i32 = 3;
const ZSTD_LEVEL: i32 = 3;

/// How every gzip member begins: the format's number, and its only method.
const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 0x08];

/// Bytes of a gzip member behind its compressed data: CRC-32 and length of the raw bytes, little-endian.
const GZIP_TRAILER: usize = 8;

thread_local! {
    // A compressor has tables of up to a megabyte: made once a thread, not once a chunk.
    static GZIP: RefCell<Option<Compressor>> = const { RefCell::new(None) };
    static GUNZIP: RefCell<Option<Decompressor>> = const { RefCell::new(None) };
    static ZSTD: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

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
        let length = match self {
            Codec::Gzip => GZIP.with_borrow_mut(|compressor| {
                let compressor = compressor.get_or_insert_with(|| Compressor::new(level()));
                out.resize(before + compressor.gzip_compress_bound(raw.len()), 0);
                compressor.gzip_compress(raw, &mut out[before..]).map_err(io::Error::other)
            }),
            Codec::Zstd => ZSTD.with_borrow_mut(|compressor| {
                let compressor = match compressor {
                    Some(compressor) => compressor,
                    None => compressor.insert(zstd_compressor()?),
                };
                out.resize(before + zstd_safe::compress_bound(raw.len()), 0);
                compressor.compress_to_buffer(raw, &mut out[before..])
            }),
        };
        out.truncate(before + *length.as_ref().unwrap_or(&0));
        length
    }

    /// Decompresses a member of exactly `raw_length` bytes; anything else is an error, and no more is ever unpacked.
    pub fn decompress(self, member: &[u8], raw_length: usize) -> io::Result<Vec<u8>> {
        if self == Codec::Gzip
            && let Some(raw) = gunzip(member, raw_length)
        {
            return Ok(raw);
        }
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

fn level() -> CompressionLvl {
    CompressionLvl::new(GZIP_LEVEL).unwrap_or_default()
}

fn zstd_compressor() -> io::Result<zstd::bulk::Compressor<'static>> {
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
    Ok(compressor)
}

/// The raw bytes, where `member` is one gzip member of this length and nothing behind it.
///
/// libdeflate does not say where the member ended. So nothing that may be the beginning of another one is in it (one
/// member in two hundred has these bytes by chance), and it ends with its own trailer.
fn gunzip(member: &[u8], raw_length: usize) -> Option<Vec<u8>> {
    let body = member.get(GZIP_MAGIC.len()..)?;
    if raw_length > MAX_CHUNK_BYTES || memchr::memmem::find(body, &GZIP_MAGIC).is_some() {
        return None;
    }
    let mut raw = vec![0; raw_length];
    let unpacked = GUNZIP.with_borrow_mut(|decompressor| {
        decompressor.get_or_insert_with(Decompressor::new).gzip_decompress(member, &mut raw)
    });
    let mut trailer = [0; GZIP_TRAILER];
    trailer[..4].copy_from_slice(&libdeflater::crc32(&raw).to_le_bytes());
    trailer[4..].copy_from_slice(&(raw_length as u32).to_le_bytes());
    (unpacked == Ok(raw_length) && member.ends_with(&trailer)).then_some(raw)
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
    fn what_stands_behind_a_member_is_an_error() {
        let mut member = Vec::new();
        Codec::Gzip.compress_into(b"hello", &mut member).expect("compresses");
        let longer = [member.as_slice(), b"garbage"].concat();
        assert!(Codec::Gzip.decompress(&longer, 5).is_err());
        let twice = [member.as_slice(), member.as_slice()].concat();
        assert!(Codec::Gzip.decompress(&twice, 5).is_err());
        for at in 0..member.len() {
            let mut flipped = member.clone();
            flipped[at] ^= 1;
            // Of the ten bytes in front, time and system mean nothing; the chunk's id is compared all the same.
            let same = Codec::Gzip.decompress(&flipped, 5).is_ok_and(|raw| raw == b"hello");
            assert!(same == (4..10).contains(&at) || at == 3, "{at}");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_stated_length() {
        let mut out = Vec::new();
        Codec::Gzip.compress_into(&vec![0; 10_000_000], &mut out).expect("compresses");
        assert!(Codec::Gzip.decompress(&out, 1000).is_err());
    }
}
