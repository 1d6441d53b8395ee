//! Dumping: a private copy, its pages into the sink, its rows into the fingerprint.

use super::copy::{PrivateCopy, cancelled, copy};
use super::fingerprint::{self, Reading};
use super::open::{Source, beside, identity, length, open_private, open_source, sql_error};
use super::texts;
use crate::engine::{Cut, DataEntry, Dump, DumpOptions, DumpSink, EngineError, Entry, Probe, Segment};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Pages of one chunk: page positions do not move between backups, so runs of pages carry the deduplication.
const PAGES_PER_CHUNK: u32 = 64;

/// What can be said without reading the rows.
pub(super) fn probe(source: &Source) -> Probe {
    Probe {
        identity: identity(&source.path),
        server_version: rusqlite::version().to_owned(),
        client_version: None,
        size_bytes: source.bytes,
    }
}

/// Dumps the database at `path`. Leaves nothing in the spool directory, however it ends.
///
/// `rolled_back` tells whether a hot journal was undone before, when the file was only looked at.
pub(super) fn dump(
    path: &Path,
    sink: Arc<dyn DumpSink>,
    options: &DumpOptions,
    rolled_back: bool,
) -> Result<Dump, EngineError> {
    let source = open_source(path, Duration::from_secs(options.lock_timeout_s.into()))?;
    let probe = probe(&source);
    sink.expect(probe.size_bytes);
    let had_wal = length(&beside(&source.path, "-wal")) > 0;
    let (wal, rolled_back, path) = (source.wal, source.rolled_back || rolled_back, source.path.clone());
    let copied = copy(&source, options, &*sink)?;
    // From here on the application has its database for itself.
    drop(source);
    let (reading, pages) = read_copy(&copied, &path, &*sink)?;

    let mut facts = reading.facts.clone();
    facts["journal_mode"] = json!(if wal { "wal" } else { "rollback" });
    facts["had_wal"] = json!(had_wal);
    facts["hot_journal_rolled_back"] = json!(rolled_back);
    let mut defects = reading.defects.clone();
    if rolled_back {
        defects.push(
            "a transaction that a crash had left unfinished (hot journal) was undone in the database itself before it \
             was read, as any program that opens it would have done"
                .into(),
        );
    }
    let data = DataEntry { path: DATABASE.into(), table: None, bytes: pages.bytes, rows: 0 };
    let entries = vec![
        texts::schema_sql(&reading),
        Entry::Data(data),
        texts::verify_sql(&reading, pages.bytes, &pages.sha256),
        texts::restore_sh(),
    ];
    Ok(Dump { probe, snapshot_at: copied.snapshot_at, entries, fingerprint: reading.fingerprint, defects, facts })
}

/// The path of the database file in the tar.
pub(super) const DATABASE: &str = "database.sqlite";

/// Reads rows and pages of the copy at the same time; returns what the sink got.
fn read_copy(copied: &PrivateCopy, path: &Path, sink: &dyn DumpSink) -> Result<(Reading, Pages), EngineError> {
    let connection = open_private(copied.file.path())?;
    let page_size: u32 =
        connection.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(|error| sql_error(path, error))?;
    std::thread::scope(|scope| {
        let pages = scope.spawn(|| send_pages(copied, page_size, sink));
        // The copy is exact: what it says of damage is true of the database, whose path means something to a person.
        let reading = fingerprint::read(&connection).map_err(|error| sql_error(path, error));
        let pages = pages.join().unwrap_or_else(|_| Err(EngineError::failed("reading the pages ended by a defect")));
        // A sink that failed is the cause; the other error, if any, would only hide it.
        let pages = pages?;
        Ok((reading?, pages))
    })
}

/// The bytes that went into the sink.
struct Pages {
    bytes: u64,
    sha256: String,
}

fn send_pages(copied: &PrivateCopy, page_size: u32, sink: &dyn DumpSink) -> Result<Pages, EngineError> {
    let chunk = page_size * PAGES_PER_CHUNK;
    let no_read = |error: std::io::Error| {
        EngineError::failed(format!("reading the copy {} failed: {error}", copied.file.path().display()))
    };
    let mut segment = sink.open(Segment {
        entry: 0,
        ordinal: 0,
        relation: String::new(),
        blocks: None,
        cut: Cut::Fixed { bytes: chunk },
    });
    let file = &**copied.file.file();
    let mut buffer = Vec::with_capacity(chunk as usize);
    let (mut bytes, mut hash) = (0, Sha256::new());
    loop {
        if sink.cancelled() {
            return Err(cancelled());
        }
        buffer.clear();
        file.take(chunk.into()).read_to_end(&mut buffer).map_err(no_read)?;
        if buffer.is_empty() {
            break;
        }
        hash.update(&buffer);
        segment.write(&buffer, &[])?;
        bytes += buffer.len() as u64;
    }
    segment.finish(0)?;
    Ok(Pages { bytes, sha256: hex::encode(hash.finalize()) })
}
