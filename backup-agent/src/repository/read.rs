//! Reads one backup back: the engine's source, and the archive as a stream.

use super::chunk::ChunkId;
use super::codec::Codec;
use super::manifest::{Chunk, Manifest, Member};
use super::tarball::padding;
use super::{Repository, layout};
use crate::error::Error;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use shared::engine::{DataEntry, DumpSource, EngineError};
use shared::model::{Class, Fingerprint};
use shared::store::StoreError;
use std::ops::Range;
use std::sync::Arc;

/// Adjacent members are fetched together up to about this many raw bytes; also the size of a restore's unit of work.
const RUN_BYTES: u64 = 8 << 20;
/// Inline members hold a tar header, padding and a small text.
const INLINE_LIMIT: u64 = 1 << 20;

/// A backup in the store, opened for reading.
pub struct StoredBackup {
    repository: Repository,
    manifest: Arc<Manifest>,
    /// For every file the members that follow its beginning, as a range of the stream.
    members: Vec<Range<usize>>,
    data: Vec<DataEntry>,
    runs: Vec<Vec<Vec<Chunk>>>,
    fingerprint: Fingerprint,
}

impl StoredBackup {
    /// Opens a backup: reads and checks the fingerprint that was taken with it.
    pub async fn open(repository: &Repository, manifest: Manifest) -> Result<Self, Error> {
        let members = file_members(&manifest);
        let data_files: Vec<usize> = (0..manifest.files.len()).filter(|file| manifest.files[*file].is_data).collect();
        let mut backup = StoredBackup {
            repository: repository.clone(),
            data: data_files.iter().map(|file| data_entry(&manifest, *file)).collect(),
            runs: data_files.iter().map(|file| cut_runs(&manifest, &members[*file])).collect(),

            members,
            manifest: Arc::new(manifest),
            fingerprint: Fingerprint::default(),
        };
        backup.fingerprint = backup.read_fingerprint().await?;
        Ok(backup)
    }

    /// Where it is read from.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The backup's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// `<database>/<id>`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.manifest.header.database, self.manifest.header.id)
    }

    /// Compressed bytes a restore of the tables `chosen` reads; a database file is read whole.
    pub fn bytes_to_read(&self, chosen: &dyn Fn(&str) -> bool) -> u64 {
        let wanted = |entry: &DataEntry| entry.table.as_deref().is_none_or(chosen);
        let runs = self.data.iter().zip(&self.runs).filter(|(entry, _)| wanted(entry)).flat_map(|(_, runs)| runs);
        runs.flatten().map(|chunk| u64::from(chunk.length)).sum()
    }

    async fn read_fingerprint(&self) -> Result<Fingerprint, Error> {
        let name = self.name();
        let damaged = |what: &str| Error::Damaged(format!("backup {name}: its fingerprint {what}"));
        let text = self.text("fingerprint.json").await?.ok_or_else(|| damaged("is missing"))?;
        let mut fingerprint: Fingerprint = serde_json::from_slice(&text).map_err(|_| damaged("cannot be read"))?;
        if fingerprint.schema_digest() != self.manifest.header.schema_digest {
            return Err(damaged("does not match the manifest"));
        }
        fingerprint.tables = self
            .manifest
            .tables
            .iter()
            .map(|table| {
                let found = shared::model::TableFingerprint {
                    rows: table.rows,
                    digest: table.digest.clone(),
                    digest_with_generated: table.digest_with_generated.clone(),
                };
                (table.name.clone(), found)
            })
            .collect();
        fingerprint.sequences = self.manifest.sequences.iter().cloned().collect();
        Ok(fingerprint)
    }

    /// Reads consecutive members of packs: one ranged read for each stretch of adjacent ones, each member checked.
    ///
    /// Yields raw bytes, or with [`Form::Members`] the members as stored (checked all the same).
    fn fetch(&self, chunks: Vec<Chunk>, form: Form) -> BoxStream<'_, Result<Bytes, Error>> {
        stream::iter(adjacent(&chunks))
            .then(move |group| self.fetch_group(group, form))
            .map_ok(|pieces| stream::iter(pieces.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    async fn fetch_group(&self, group: Vec<Chunk>, form: Form) -> Result<Vec<Bytes>, Error> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(Vec::new()) };
        let pack = self.manifest.packs[first.pack as usize].clone();
        let range = first.offset..last.offset + u64::from(last.length);
        let base = first.offset;
        let codec = self.manifest.header.codec;
        let result = match self.repository.store().get_range(&layout::pack(&pack.uuid), range).await {
            Ok(bytes) => tokio::task::spawn_blocking(move || unpack_group(&bytes, base, &group, codec, form))
                .await
                .map_err(|error| Error::failed(format!("reading was interrupted: {error}")))?,
            Err(StoreError::NotFound { .. }) => Err("it is missing".to_owned()),
            Err(error @ StoreError::Truncated { .. }) => Err(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        match result {
            Ok(pieces) => Ok(pieces),
            Err(what) => Err(self.damaged(&pack.uuid, &what).await),
        }
    }

    /// Marks a pack as damaged and returns the error that says so.
    async fn damaged(&self, uuid: &str, what: &str) -> Error {
        let text = format!("pack {uuid}, which backup {} needs, is damaged: {what}", self.name());
        match self.repository.mark_damaged(uuid, what).await {
            Ok(()) => Error::Damaged(text),
            Err(error) => Error::Damaged(format!("{text} (and could not be marked so: {error})")),
        }
    }

    /// The whole archive, member by member, each checked: the bytes of a `.tar.gz` (or `.tar.zst`).
    pub fn archive(&self) -> BoxStream<'_, Result<Bytes, Error>> {
        let mut parts: Vec<Part> = Vec::new();
        for member in &self.manifest.stream {
            match (member, parts.last_mut()) {
                (Member::File(_), _) => {}
                (Member::Inline(bytes), _) => parts.push(Part::Inline(Bytes::from(bytes.clone()))),
                (Member::Chunk(chunk), Some(Part::Chunks(chunks))) => chunks.push(*chunk),
                (Member::Chunk(chunk), _) => parts.push(Part::Chunks(vec![*chunk])),
            }
        }
        stream::iter(parts)
            .flat_map(move |part| match part {
                Part::Inline(bytes) => stream::once(async { Ok(bytes) }).boxed(),
                Part::Chunks(chunks) => self.fetch(chunks, Form::Members),
            })
            .boxed()
    }
}

enum Part {
    Inline(Bytes),
    Chunks(Vec<Chunk>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Raw,
    Members,
}

#[async_trait]
impl DumpSource for StoredBackup {
    fn facts(&self) -> &serde_json::Value {
        &self.manifest.header.facts
    }

    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    fn data(&self) -> &[DataEntry] {
        &self.data
    }

    async fn text(&self, path: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let Some(file) = self.manifest.files.iter().position(|file| file.path == path && !file.is_data) else {
            return Ok(None);
        };
        let members = &self.manifest.stream[self.members[file].clone()];
        let chunks: Vec<Chunk> = chunks_of(members).copied().collect();
        if !chunks.is_empty() {
            let pieces: Vec<Bytes> = self.fetch(chunks, Form::Raw).try_collect().await.map_err(into_engine_error)?;
            return Ok(Some(pieces.concat()));
        }
        let length = self.manifest.files[file].bytes;
        let body = members.iter().find_map(|member| match member {
            Member::Inline(bytes) => inline_body(bytes, self.manifest.header.codec, length),
            _ => None,
        });
        let wrong = || EngineError::Damaged(format!("backup {}: {path} cannot be read", self.name()));
        body.map(Some).ok_or_else(wrong)
    }

    fn runs(&self, entry: usize) -> usize {
        self.runs.get(entry).map_or(0, Vec::len)
    }

    fn read(&self, entry: usize, run: usize) -> BoxStream<'_, Result<Bytes, EngineError>> {
        let chunks = self.runs.get(entry).and_then(|runs| runs.get(run)).cloned().unwrap_or_default();
        self.fetch(chunks, Form::Raw).map_err(into_engine_error).boxed()
    }
}

fn into_engine_error(error: Error) -> EngineError {
    match error {
        Error::Engine(error) => error,
        Error::Store(error) => EngineError::Store(error),
        error if error.class() == Class::Corrupt => EngineError::Damaged(error.to_string()),
        error => EngineError::failed(error.to_string()),
    }
}

fn data_entry(manifest: &Manifest, file: usize) -> DataEntry {
    let found = &manifest.files[file];
    let table = found.table.map(|table| &manifest.tables[table as usize]);
    DataEntry {
        path: found.path.clone(),
        table: table.map(|table| table.name.clone()),
        bytes: found.bytes,
        rows: table.map_or(0, |table| table.rows),
    }
}

/// For every file, where its members stand in the stream.
fn file_members(manifest: &Manifest) -> Vec<Range<usize>> {
    let begins = manifest.stream.iter().enumerate().filter(|(_, member)| matches!(member, Member::File(_)));
    let mut starts: Vec<usize> = begins.map(|(at, _)| at + 1).collect();
    starts.push(manifest.stream.len() + 1);
    starts.windows(2).map(|pair| pair[0]..pair[1] - 1).collect()
}

fn chunks_of(members: &[Member]) -> impl Iterator<Item = &Chunk> {
    members.iter().filter_map(|member| match member {
        Member::Chunk(chunk) => Some(chunk),
        _ => None,
    })
}

/// Cuts a file's chunks into runs that begin at a row.
fn cut_runs(manifest: &Manifest, members: &Range<usize>) -> Vec<Vec<Chunk>> {
    let mut runs: Vec<Vec<Chunk>> = Vec::new();
    let mut bytes = 0;
    for chunk in chunks_of(&manifest.stream[members.clone()]) {
        if runs.is_empty() || (bytes >= RUN_BYTES && !chunk.continues) {
            runs.push(Vec::new());
            bytes = 0;
        }
        bytes += u64::from(chunk.raw_length);
        if let Some(run) = runs.last_mut() {
            run.push(*chunk);
        }
    }
    runs
}

/// Groups chunks that lie back to back in one pack, up to [`RUN_BYTES`] raw.
fn adjacent(chunks: &[Chunk]) -> Vec<Vec<Chunk>> {
    let mut groups: Vec<Vec<Chunk>> = Vec::new();
    let mut bytes = 0;
    for chunk in chunks {
        let follows = groups.last().and_then(|group| group.last()).is_some_and(|last| {
            last.pack == chunk.pack && last.offset + u64::from(last.length) == chunk.offset && bytes < RUN_BYTES
        });
        if !follows {
            groups.push(Vec::new());
            bytes = 0;
        }
        bytes += u64::from(chunk.raw_length);
        if let Some(group) = groups.last_mut() {
            group.push(*chunk);
        }
    }
    groups
}

/// Unpacks and checks members; the error says what is wrong with the pack.
fn unpack_group(bytes: &Bytes, base: u64, group: &[Chunk], codec: Codec, form: Form) -> Result<Vec<Bytes>, String> {
    let unpack = |chunk: &Chunk| {
        let from = (chunk.offset - base) as usize;
        let member = bytes.slice(from..from + chunk.length as usize);
        let raw = codec.decompress(&member, chunk.raw_length as usize).map_err(|error| error.to_string())?;
        if ChunkId::of(&raw) != chunk.id {
            return Err(format!("the member at offset {} holds other bytes than were stored", chunk.offset));
        }
        Ok(if form == Form::Raw { Bytes::from(raw) } else { member })
    };
    group.iter().map(unpack).collect()
}

/// The body of a small text: the inline member ends with it and its padding.
fn inline_body(member: &[u8], codec: Codec, length: u64) -> Option<Vec<u8>> {
    let raw = codec.decompress_up_to(member, INLINE_LIMIT).ok()?;
    let end = raw.len().checked_sub(padding(length))?;
    let start = end.checked_sub(usize::try_from(length).ok()?)?;
    Some(raw[start..end].to_vec())
}
