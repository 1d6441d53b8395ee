//! Makes the manifest from what the engine found and where the chunks went.

use super::packing::{Packer, Placed};
use super::{Chunks, WrittenSegment};
use crate::error::Error;
use crate::repository::chunk::Chunker;
use crate::repository::manifest::{Chunk, File, Header, Manifest, Member, Range, Table};
use crate::repository::tarball::Archive;
use jiff::Timestamp;
use shared::clock::Clock;
use shared::engine::{Cut, Dump, Entry, RowEnd};
use shared::model::{BackupId, DatabaseName, Fingerprint};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the writer knows that the engine does not.
pub(super) struct Facts {
    pub database: DatabaseName,
    pub id: BackupId,
    pub parents: Vec<BackupId>,
    pub clock_defect: Option<String>,
    pub clock: Arc<dyn Clock>,
}

/// A manifest whose chunks still bear the packer's numbers.
pub(super) struct Draft(Manifest);

/// Path of the part of the fingerprint that does not stand in the manifest's lines.
pub const FINGERPRINT: &str = "fingerprint.json";

/// Texts up to this length stay in the manifest.
const INLINE_BYTES: usize = 4096;

/// Longer texts are cut at line ends chosen by content, so that a small change of the schema stores little.
const TEXT_CUT: u32 = 64 * 1024;

/// Stores the texts and lays out the archive. Called off the async threads.
pub(super) fn assemble(
    packer: &Arc<Packer>,
    facts: Facts,
    dump: Dump,
    segments: Vec<WrittenSegment>,
) -> Result<Draft, Error> {
    let tables = table_lines(&dump);
    let mut layout = Layout {
        packer: packer.clone(),
        archive: Archive::new(
            format!("{}-{}", facts.database, facts.id),
            u64::try_from(dump.snapshot_at.as_second()).unwrap_or(0),
            packer.codec,
        ),
        ranges: Vec::new(),
    };
    layout.text("README", readme(&facts, &dump).as_bytes())?;
    layout.text("manifest.json", for_people(&facts, &dump).as_bytes())?;
    let mut by_entry: BTreeMap<usize, Vec<WrittenSegment>> = BTreeMap::new();
    for segment in segments {
        by_entry.entry(segment.segment.entry).or_default().push(segment);
    }
    let mut data_entry = 0;
    for entry in &dump.entries {
        match entry {
            Entry::Text { path, body } => layout.text(path, body)?,
            Entry::Data(entry) => {
                let segments = by_entry.remove(&data_entry).unwrap_or_default();
                let table = entry.table.as_ref().and_then(|name| tables.iter().position(|table| table.name == *name));
                let file = File {
                    path: entry.path.clone(),
                    bytes: entry.bytes,
                    table: table.map(|n| n as u32),
                    is_data: true,
                };
                layout.data(file, segments)?;
                data_entry += 1;
            }
        }
    }
    layout.text(FINGERPRINT, &fingerprint_text(&dump.fingerprint)?)?;
    layout.text("COMPLETE", format!("{}\n", facts.id).as_bytes())?;
    packer.seal_rest()?;
    let (files, stream, raw_bytes) = layout.archive.finish().map_err(archive_error)?;
    let ranges = layout.ranges;
    let mut defects = dump.defects;
    defects.extend(facts.clock_defect);
    let header = Header {
        id: facts.id,
        database: facts.database,
        engine: dump.probe.identity.engine(),
        identity: dump.probe.identity,
        server_version: dump.probe.server_version,
        client_version: dump.probe.client_version,
        writer: env!("CARGO_PKG_VERSION").to_owned(),
        codec: packer.codec,
        created_at: to_milliseconds(dump.snapshot_at),
        finished_at: facts.clock.now(),
        parents: facts.parents,
        schema_digest: dump.fingerprint.schema_digest(),
        defects,
        facts: dump.facts,
        raw_bytes,
        stored_bytes: 0,
        new_bytes: 0,
    };
    let sequences = dump.fingerprint.sequences.into_iter().collect();
    Ok(Draft(Manifest { header, tables, sequences, packs: Vec::new(), ranges, files, stream }))
}

impl Draft {
    /// The finished manifest, once every pack is uploaded and so has its checksum.
    pub fn with_packs(mut self, packer: &Packer) -> Result<Manifest, Error> {
        let mut chunks: Vec<&mut Chunk> = self
            .0
            .stream
            .iter_mut()
            .filter_map(|member| match member {
                Member::Chunk(chunk) => Some(chunk),
                _ => None,
            })
            .collect();
        self.0.header.stored_bytes = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
        self.0.header.new_bytes = packer.new_bytes();
        self.0.packs = packer.used_packs(&mut chunks)?;
        Ok(self.0)
    }
}

struct Layout {
    packer: Arc<Packer>,
    archive: Archive,
    ranges: Vec<Range>,
}

impl Layout {
    fn text(&mut self, path: &str, body: &[u8]) -> Result<(), Error> {
        if body.len() <= INLINE_BYTES {
            return self.archive.text(path, body).map_err(archive_error);
        }
        let mut chunks = Chunks { packer: self.packer.clone(), builder: None, placed: Vec::new() };
        let mut chunker = Chunker::new(Cut::Rows { average: TEXT_CUT });
        chunker.write(body, &line_ends(body), &mut chunks)?;
        chunker.finish(&mut chunks)?;
        self.packer.put_back(chunks.builder.take());
        let file = File { path: path.into(), bytes: body.len() as u64, table: None, is_data: false };
        self.archive.chunks(file, chunks.placed.iter().map(|placed| placed.in_range(None))).map_err(archive_error)
    }

    fn data(&mut self, file: File, mut segments: Vec<WrittenSegment>) -> Result<(), Error> {
        segments.sort_by_key(|written| written.segment.ordinal);
        let stored: u64 = segments.iter().flat_map(|s| &s.chunks).map(|chunk| u64::from(chunk.place.raw_length)).sum();
        if stored != file.bytes {
            return Err(Error::failed(format!(
                "{}: {stored} bytes were stored of {} read; nothing was committed",
                file.path, file.bytes
            )));
        }
        let file_ordinal = self.archive.next_file();
        let mut chunks = Vec::new();
        for written in segments {
            let range = Some(self.ranges.len() as u32);
            chunks.extend(written.chunks.iter().map(|placed| placed.in_range(range)));
            let segment = written.segment;
            self.ranges.push(Range {
                file: file_ordinal,
                relation: segment.relation,
                blocks: segment.blocks,
                rows: written.rows,
            });
        }
        self.archive.chunks(file, chunks).map_err(archive_error)
    }
}

impl Placed {
    fn in_range(&self, range: Option<u32>) -> Chunk {
        let Placed { id, pack, place, continues } = *self;
        Chunk { pack, offset: place.offset, length: place.length, raw_length: place.raw_length, id, range, continues }
    }
}

/// `created_at` has milliseconds, rounded down, so that "not after" never excludes the backup's own instant.
fn to_milliseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

fn archive_error(error: std::io::Error) -> Error {
    Error::failed(format!("the archive could not be laid out: {error}"))
}

/// Ends of all lines (the last may lack its newline), each with a hash of its content.
fn line_ends(text: &[u8]) -> Vec<RowEnd> {
    let mut at = 0;
    text.split_inclusive(|byte| *byte == b'\n')
        .map(|line| {
            at += line.len();
            let hash = blake3::hash(line);
            RowEnd { end: at, hash: u64::from_le_bytes(hash.as_bytes().first_chunk().copied().unwrap_or_default()) }
        })
        .collect()
}

fn table_lines(dump: &Dump) -> Vec<Table> {
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in &dump.entries {
        if let Entry::Data(data) = entry
            && let Some(table) = &data.table
        {
            *bytes.entry(table).or_default() += data.bytes;
        }
    }
    let line = |(name, table): (&String, &shared::model::TableFingerprint)| Table {
        name: name.clone(),
        rows: table.rows,
        bytes: bytes.get(name.as_str()).copied().unwrap_or(0),
        digest: table.digest.clone(),
        digest_with_generated: table.digest_with_generated.clone(),
    };
    dump.fingerprint.tables.iter().map(line).collect()
}

/// The part of the fingerprint that has no lines of its own in the manifest.
fn fingerprint_text(fingerprint: &Fingerprint) -> Result<Vec<u8>, Error> {
    let rest = Fingerprint {
        schema: fingerprint.schema.clone(),
        large_objects: fingerprint.large_objects.clone(),
        ..Default::default()
    };
    let mut text = serde_json::to_vec_pretty(&rest).map_err(|error| Error::failed(error.to_string()))?;
    text.push(b'\n');
    Ok(text)
}

fn for_people(facts: &Facts, dump: &Dump) -> String {
    let value = serde_json::json!({
        "database": facts.database,
        "id": facts.id,
        "created_at": dump.snapshot_at,
        "identity": dump.probe.identity,
        "server_version": dump.probe.server_version,
        "client_version": dump.probe.client_version,
        "tables": dump.fingerprint.tables.len(),
        "rows": dump.fingerprint.rows(),
        "defects": dump.defects,
    });
    format!("{value:#}\n")
}

fn readme(facts: &Facts, dump: &Dump) -> String {
    format!(
        "Backup {id} of {database}, taken {at} from {identity}.\n\n\
         To restore it without Holdfast:\n\n    sh restore.sh URL\n\n\
         URL is a database that does not exist yet: sqlite:PATH, or postgres://user@host/name with the password in\n\
         PGPASSWORD or ~/.pgpass. The file COMPLETE stands last in the archive; without it the archive is cut short.\n",
        id = facts.id,
        database = facts.database,
        at = dump.snapshot_at,
        identity = dump.probe.identity,
    )
}
