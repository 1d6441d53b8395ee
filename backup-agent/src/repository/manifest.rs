//! The one document that makes a backup: tab-separated lines, gzip-compressed.
//!
//! Reading is strict: an unknown version, a wrong count or checksum, an ordinal out of range, lengths that do not add
//! up — each is damage, found before anything else is read.

mod check;
mod decode;
mod encode;
#[cfg(test)]
mod tests;

use super::chunk::ChunkId;
use super::codec::Codec;
use jiff::Timestamp;
use shared::model::{BackupId, DatabaseName, EngineKind, Identity, SequenceState};
use std::collections::HashSet;

pub use decode::decode;
pub use encode::encode;

/// The format version this program writes and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Everything a backup is, except the bytes of its chunks.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// General facts.
    pub header: Header,
    /// Tables, in order of name.
    pub tables: Vec<Table>,
    /// Sequences with their quoted, qualified names.
    pub sequences: Vec<(String, SequenceState)>,
    /// Packs the chunks lie in.
    pub packs: Vec<Pack>,
    /// Parts of data files, each read by one worker.
    pub ranges: Vec<Range>,
    /// Files of the tar, in order.
    pub files: Vec<File>,
    /// The members whose concatenation is the archive, in order.
    pub stream: Vec<Member>,
}

/// General facts of a backup.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Name of the backup.
    pub id: BackupId,
    /// Name of the database in the repository.
    pub database: DatabaseName,
    /// Which database it was.
    pub identity: Identity,
    /// Product.
    pub engine: EngineKind,
    /// Version of server or library.
    pub server_version: String,
    /// Version of the client tools.
    pub client_version: Option<String>,
    /// Version of the program that wrote the backup.
    pub writer: String,
    /// Compression of all members.
    pub codec: Codec,
    /// The instant of the snapshot.
    pub created_at: Timestamp,
    /// When the manifest was made.
    pub finished_at: Timestamp,
    /// Backups whose packs were adopted.
    pub parents: Vec<BackupId>,
    /// SHA-256 of the normalised schema.
    pub schema_digest: String,
    /// What a restore cannot give back as it was.
    pub defects: Vec<String>,
    /// The engine's facts, as JSON.
    pub facts: serde_json::Value,
    /// Raw length of the archive in bytes.
    pub raw_bytes: u64,
    /// Compressed length of all members that lie in packs, in bytes.
    pub stored_bytes: u64,
    /// Compressed bytes this backup added to the store (packs; the manifest is not counted).
    pub new_bytes: u64,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Quoted, qualified name.
    pub name: String,
    /// Number of rows.
    pub rows: u64,
    /// Raw bytes of the rows; 0 where they are part of a database file.
    pub bytes: u64,
    /// Row digest.
    pub digest: String,
    /// Row digest including generated columns.
    pub digest_with_generated: Option<String>,
}

/// One pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// Name: 32 hexadecimal digits.
    pub uuid: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// A part of a data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Ordinal of the file.
    pub file: u32,
    /// The relation read, quoted and qualified; empty where there is none.
    pub relation: String,
    /// First and last heap block, where the relation was read in parts.
    pub blocks: Option<(u32, u32)>,
    /// Number of rows.
    pub rows: u64,
}

/// A file of the tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Path below the backup's folder.
    pub path: String,
    /// Length in bytes.
    pub bytes: u64,
    /// Ordinal of the table whose rows it holds.
    pub table: Option<u32>,
    /// Whether the engine's data stands in it (and not a text).
    pub is_data: bool,
}

/// One member of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// A file begins: what follows, up to the next of these, belongs to it.
    File(u32),
    /// Compressed bytes kept in the manifest: tar headers, padding, small texts.
    Inline(Vec<u8>),
    /// A chunk in a pack.
    Chunk(Chunk),
}

/// A chunk's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Ordinal of the pack.
    pub pack: u32,
    /// Offset in the pack.
    pub offset: u64,
    /// Compressed length.
    pub length: u32,
    /// Raw length.
    pub raw_length: u32,
    /// BLAKE3 of the raw bytes.
    pub id: ChunkId,
    /// Ordinal of the range it belongs to, in data files.
    pub range: Option<u32>,
    /// Whether it continues the row of the chunk before.
    pub continues: bool,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Written by a later version.
    #[error("the manifest has format version {0}; this program reads up to {FORMAT_VERSION}")]
    Future(String),
    /// Damaged.
    #[error("the manifest is damaged: {0}")]
    Damaged(String),
}

impl Manifest {
    /// All chunks, in order.
    pub fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.stream.iter().filter_map(|member| match member {
            Member::Chunk(chunk) => Some(chunk),
            _ => None,
        })
    }

    /// How many of its packs are among the `damaged`.
    pub fn damaged(&self, damaged: &HashSet<String>) -> usize {
        self.packs.iter().filter(|pack| damaged.contains(&pack.uuid)).count()
    }

    /// Total number of rows.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Name of the folder in the archive: `<database>-<timestamp>-<6hex>`.
    pub fn folder(&self) -> String {
        format!("{}-{}", self.header.database, self.header.id)
    }
}
