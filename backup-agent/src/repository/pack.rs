//! Members back to back in one object.

use super::chunk::ChunkId;
use super::codec::Codec;
use sha2::{Digest, Sha256};
use std::io;

/// A pack is closed when it holds this many bytes; with the last member it stays below 32 MiB.
pub const PACK_BYTES: usize = 16 * 1024 * 1024;

/// Where a member lies in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberPlace {
    /// Offset of the first byte.
    pub offset: u64,
    /// Compressed length in bytes.
    pub length: u32,
    /// Raw length in bytes.
    pub raw_length: u32,
}

/// A pack being filled. Its name is random: names that tell the content would make an old orphan look like a new pack.
pub struct PackBuilder {
    /// Position of the pack in the manifest being written.
    pub ordinal: u32,
    codec: Codec,
    bytes: Vec<u8>,
    members: Vec<(ChunkId, MemberPlace)>,
}

/// A pack that is complete and was decoded again.
pub struct SealedPack {
    /// Position of the pack in the manifest being written.
    pub ordinal: u32,
    /// All members.
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes, hexadecimal.
    pub sha256: String,
}

impl PackBuilder {
    /// Begins a pack.
    pub fn new(ordinal: u32, codec: Codec) -> Self {
        // Pages that are never written cost nothing, copying 16 MiB while growing does.
        PackBuilder { ordinal, codec, bytes: Vec::with_capacity(PACK_BYTES + PACK_BYTES / 8), members: Vec::new() }
    }

    /// Compresses and appends a chunk.
    pub fn add(&mut self, id: ChunkId, raw: &[u8]) -> io::Result<MemberPlace> {
        let offset = self.bytes.len() as u64;
        let length = self.codec.compress_into(raw, &mut self.bytes)? as u32;
        let place = MemberPlace { offset, length, raw_length: raw.len() as u32 };
        self.members.push((id, place));
        Ok(place)
    }

    /// Whether it should be sealed.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= PACK_BYTES
    }

    /// Decodes and hashes every member once more, so that a fault of compressor or memory is found before the upload
    /// and not at the restore.
    pub fn seal(self) -> io::Result<SealedPack> {
        for (id, place) in &self.members {
            let from = place.offset as usize;
            let raw =
                self.codec.decompress(&self.bytes[from..from + place.length as usize], place.raw_length as usize)?;
            if ChunkId::of(&raw) != *id {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a chunk did not come back from its compression as it went in: this machine's memory may be faulty",
                ));
            }
        }
        let sha256 = hex::encode(Sha256::digest(&self.bytes));
        Ok(SealedPack { ordinal: self.ordinal, bytes: self.bytes, sha256 })
    }
}
