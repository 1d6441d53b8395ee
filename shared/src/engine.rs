//! The door to databases.
//!
//! An [`Engine`] is one database product connected to one database. It drives its own dump into a [`DumpSink`] (the
//! repository, or nothing at all when only the fingerprint is wanted) and its own load from a [`DumpSource`].
//! Both directions are parallel: sinks and sources are shared between the engine's workers.

mod error;
pub mod postgres;
mod rows;
pub mod sqlite;

use crate::clock::Clock;
use crate::model::{EngineKind, Fingerprint, Identity, Profile, Structure};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::path::PathBuf;
use std::sync::Arc;

pub use error::EngineError;
pub use rows::RowSplitter;

/// A table as fingerprints name it. SQLite has no schemas: `schema` does not count there.
pub fn table_key(kind: EngineKind, schema: &str, table: &str) -> String {
    match kind {
        EngineKind::Postgres => postgres::table_key(schema, table),
        EngineKind::Sqlite => sqlite::table_key(table),
    }
}

/// How a segment's bytes are cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// At row ends chosen by the rows' own content; chunks of `average` bytes.
    Rows {
        /// Aimed chunk size in bytes.
        average: u32,
    },
    /// Every `bytes` bytes; the last chunk may be shorter.
    Fixed {
        /// Chunk size in bytes.
        bytes: u32,
    },
}

/// A consecutive part of one entry of a dump, read by one worker in order.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Index into [`Dump::entries`]' data entries: the n-th data entry of the dump.
    pub entry: usize,
    /// Position among the segments of its entry, from 0. Segments are laid down in this order.
    pub ordinal: usize,
    /// The relation read (a leaf of a partitioned table has its own), quoted and qualified; empty where there is none.
    pub relation: String,
    /// First and last heap block (last: inclusive; `u32::MAX` = to the end), where the segment is a block range.
    pub blocks: Option<(u32, u32)>,
    /// How the bytes are cut.
    pub cut: Cut,
}

/// End of a row inside a batch.
#[derive(Debug, Clone, Copy)]
pub struct RowEnd {
    /// Offset just behind the row in the batch.
    pub end: usize,
    /// First eight bytes of the row's SHA-256, little-endian: decides the chunk boundary.
    pub hash: u64,
}

/// Takes a dump's bytes. Shared by all workers of a dump.
pub trait DumpSink: Send + Sync {
    /// Begins a segment. Every segment is opened once and finished once.
    fn open(&self, segment: Segment) -> Box<dyn SegmentSink>;

    /// Tells how many raw bytes and rows are to be expected in all, for the progress bar; an estimate.
    fn expect(&self, _bytes: u64) {}

    /// Whether the caller wants the dump to end early; workers ask between batches.
    fn cancelled(&self) -> bool {
        false
    }

    /// Whether the texts of the tar are wanted, which cost a client tool's call each; without, a dump has only the entries
    /// of its rows.
    fn wants_texts(&self) -> bool {
        true
    }
}

/// Takes one segment's bytes in order. Called off the async threads: it may compress, hash and block.
pub trait SegmentSink: Send {
    /// Takes whole rows. `bytes` holds exactly the rows that end at `ends`; with [`Cut::Fixed`] `ends` is empty.
    fn write(&mut self, bytes: &[u8], ends: &[RowEnd]) -> Result<(), EngineError>;

    /// Ends the segment, which held `rows` rows.
    fn finish(self: Box<Self>, rows: u64) -> Result<(), EngineError>;
}

/// A sink that keeps nothing: the dump then only yields its fingerprint.
#[derive(Debug, Default)]
pub struct Nowhere;

impl DumpSink for Nowhere {
    fn open(&self, _segment: Segment) -> Box<dyn SegmentSink> {
        Box::new(Nowhere)
    }

    fn wants_texts(&self) -> bool {
        false
    }
}

impl SegmentSink for Nowhere {
    fn write(&mut self, _bytes: &[u8], _ends: &[RowEnd]) -> Result<(), EngineError> {
        Ok(())
    }

    fn finish(self: Box<Self>, _rows: u64) -> Result<(), EngineError> {
        Ok(())
    }
}

/// One file of the backup's tar, in order.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A text made by the engine (schema, roles, …).
    Text {
        /// Path inside the backup's folder.
        path: String,
        /// Content.
        body: Vec<u8>,
    },
    /// Bytes that went through the sink: the n-th of these is `Segment::entry` n.
    Data(DataEntry),
}

/// A file of the tar whose bytes went through the sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataEntry {
    /// Path inside the backup's folder.
    pub path: String,
    /// The table (quoted, qualified) whose rows these are; `None` for a database file or a large object.
    pub table: Option<String>,
    /// Raw length in bytes.
    pub bytes: u64,
    /// Number of rows; 0 where the entry holds none.
    pub rows: u64,
}

/// What a dump found, besides the bytes that went into the sink.
#[derive(Debug, Clone)]
pub struct Dump {
    /// The database, from the same connection as the dump.
    pub probe: Probe,
    /// The instant of the snapshot.
    pub snapshot_at: jiff::Timestamp,
    /// Files of the tar, in order. Data entries stand in the order of their segments' `entry`.
    pub entries: Vec<Entry>,
    /// State of the database in the snapshot.
    pub fingerprint: Fingerprint,
    /// What a restore cannot give back as it was, each a line for a person. Never a missing row: that is refused.
    pub defects: Vec<String>,
    /// Engine-specific facts the restore needs (kept in the manifest): for PostgreSQL encoding, locale, settings,
    /// catalogue facts to compare; for SQLite page size and the results of the checks.
    pub facts: serde_json::Value,
}

/// What is at the other end of the connection.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Which database this is, whatever it is called.
    pub identity: Identity,
    /// Server (or library) version, for instance `15.18`.
    pub server_version: String,
    /// Version of the client tools used, where there are any.
    pub client_version: Option<String>,
    /// Size on disk in bytes.
    pub size_bytes: u64,
}

/// How a dump works.
#[derive(Debug, Clone)]
pub struct DumpOptions {
    /// Number of parallel readers (PostgreSQL); at least 1.
    pub workers: usize,
    /// Directory for private copies, made with mode 0700 on first use (SQLite).
    pub spool: PathBuf,
    /// How long to wait for a lock before giving way, in seconds.
    pub lock_timeout_s: u32,
    /// Dates a snapshot where the database has no clock of its own (SQLite).
    pub clock: Arc<dyn Clock>,
}

impl Default for DumpOptions {
    fn default() -> Self {
        DumpOptions {
            workers: 2,
            spool: PathBuf::from("holdfast-spool"),
            lock_timeout_s: 5,
            clock: crate::clock::system(),
        }
    }
}

/// A stored backup as the engine reads it.
#[async_trait]
pub trait DumpSource: Send + Sync {
    /// Facts as [`Dump::facts`] had them.
    fn facts(&self) -> &serde_json::Value;

    /// The fingerprint taken with the backup.
    fn fingerprint(&self) -> &Fingerprint;

    /// All data entries, in order.
    fn data(&self) -> &[DataEntry];

    /// A text of the tar, whole. `None` where the backup has no such path.
    async fn text(&self, path: &str) -> Result<Option<Vec<u8>>, EngineError>;

    /// Number of independently readable runs of a data entry; each is about 8 MiB raw and begins at a row.
    fn runs(&self, entry: usize) -> usize;

    /// Reads one run in order; every item was checked against its chunk id before it is given out.
    fn read(&self, entry: usize, run: usize) -> BoxStream<'_, Result<Bytes, EngineError>>;
}

/// How a load works.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Number of parallel loaders and index builders; at least 1.
    pub workers: usize,
    /// Only these tables (as typed: `table`, `schema.table` or quoted); empty = everything.
    pub tables: Vec<String>,
    /// Leave ownership to whoever restores.
    pub no_owner: bool,
    /// Leave out grants.
    pub no_acl: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions { workers: 2, tables: Vec::new(), no_owner: false, no_acl: false }
    }
}

/// Called with raw bytes loaded since the last call, and the step's name when it changes.
pub type Progress = Arc<dyn Fn(LoadProgress<'_>) + Send + Sync>;

/// News of a running load.
#[derive(Debug, Clone, Copy)]
pub enum LoadProgress<'a> {
    /// A new step begins.
    Step(&'a str),
    /// So many more raw bytes are in the database.
    Bytes(u64),
}

/// What a load left to say; all rows are in. Each is a line for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// What could not be created.
    pub failed: Vec<String>,
    /// What was left out because the options did: foreign keys to tables not chosen.
    pub left_out: Vec<String>,
}

/// A database being restored under a name of its own beside its target.
///
/// Nothing bears the target's name before [`Aside::promote`]. Dropping the value leaves the unfinished database
/// behind; the next restore into the same target removes it.
#[async_trait]
pub trait Aside: Send + Sync {
    /// Name (PostgreSQL) or path (SQLite) under which the unfinished database can be found.
    fn place(&self) -> String;

    /// Loads everything the options choose; fails when a row could not be loaded.
    async fn load(
        &self,
        source: Arc<dyn DumpSource>,
        options: &LoadOptions,
        progress: Progress,
    ) -> Result<Loaded, EngineError>;

    /// Reads the restored database anew and returns its fingerprint. `source` tells what to normalise against.
    async fn fingerprint(&self, source: &dyn DumpSource, workers: usize) -> Result<Fingerprint, EngineError>;

    /// What [`Aside::fingerprint`] must find after the last load: the source's fingerprint, less what the options of
    /// that load left out.
    async fn expected(&self, source: &dyn DumpSource) -> Result<Fingerprint, EngineError> {
        Ok(source.fingerprint().clone())
    }

    /// Gives the database the target's name; the last step. Refuses if somebody else made the target meanwhile.
    async fn promote(self: Box<Self>) -> Result<(), EngineError>;

    /// Keeps the database under its own name, marked as kept, and returns that name.
    async fn keep(self: Box<Self>) -> Result<String, EngineError>;

    /// Removes the unfinished database.
    async fn discard(self: Box<Self>) -> Result<(), EngineError>;
}

/// One database product connected to one database.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Which product.
    fn kind(&self) -> EngineKind;

    /// The database as a person may see it: never a password.
    fn describe(&self) -> String;

    /// Connects and looks. Fails when the database does not exist or may not be read.
    async fn probe(&self) -> Result<Probe, EngineError>;

    /// Whether a dump could begin: everything may be read, and what it needs is there. Reads no row.
    async fn check_dump(&self) -> Result<(), EngineError> {
        self.probe().await.map(drop)
    }

    /// Reads the whole database in one snapshot into `sink`; the fingerprint falls out of the same pass.
    async fn dump(&self, sink: Arc<dyn DumpSink>, options: &DumpOptions) -> Result<Dump, EngineError>;

    /// Reads the database into nowhere and returns its fingerprint, normalised as a restore of `source` would be.
    async fn fingerprint(&self, source: &dyn DumpSource, workers: usize) -> Result<Fingerprint, EngineError>;

    /// Reads the structure alone: no row is read, so it is much cheaper than a fingerprint.
    async fn structure(&self) -> Result<Structure, EngineError>;

    /// The tables of a backup that a person means by `typed` names, as the fingerprint calls them. Refuses a name that
    /// fits none or more than one.
    fn tables_meant(&self, source: &dyn DumpSource, typed: &[String]) -> Result<Vec<String>, EngineError>;

    /// Sums up every column of every table in one snapshot, with `workers` parallel readers where the product allows it.
    /// Foreign tables, generated columns and what a full-text index keeps for itself are left out.
    async fn profile(&self, workers: usize) -> Result<Profile, EngineError>;

    /// Makes sure that a table that is dropped and made again is told from one that was kept, in profiles taken from
    /// here on. Changes nothing but SQLite's own numbering of schema entries: only for a copy nobody else uses.
    async fn number_apart(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Runs one query that only reads, and returns its rows as text, NULL as none. For small answers.
    async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, EngineError>;

    /// The same for a query of the operator's, which names tables as the application does.
    async fn ask(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, EngineError> {
        self.query(sql).await
    }

    /// Begins a restore into this database, which must not exist or be empty; removes what an earlier, unfinished
    /// restore into it left behind. Refuses without touching anything where the target is not empty or is a template.
    async fn aside(&self, source: &dyn DumpSource) -> Result<Box<dyn Aside>, EngineError>;
}
