//! The dump: one leader with the snapshot, several readers, `pg_dump` beside them for the schema.

mod reader;
mod work;

use super::archive::Archive;
use super::catalog::{self, Sequence, Unit};
use super::facts::{self, Facts, LargeObjectFact, TableFact};
use super::load::checks::SetAside;
use super::session::{self, Doing, rows};
use super::snapshot::{Leader, Server};
use super::tools::{Leave, Tools};
use super::{large_objects, preflight, texts};
use crate::engine::{DataEntry, Dump, DumpOptions, DumpSink, EngineError, Entry, Probe};
use crate::model::{
    Fingerprint, Identity, LargeObject, PostgresUrl, RowSum, SequenceState, Structure, TableFingerprint,
};
use reader::{Read, Readers, Task};
use serde::Deserialize;
use sqlx::PgConnection;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use work::{Kind, Queue};

/// Sequences asked for in one query.
const SEQUENCE_BATCH: usize = 200;

/// What of a database's schema plays a part in its fingerprint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// Owners and grants that were left to whoever restored.
    pub(crate) leave: Leave,
    /// Whether the database itself (owner, settings, …) and large objects are part of it.
    pub(crate) whole: bool,
}

impl View {
    /// Everything.
    pub(crate) const ALL: View = View { leave: Leave { owner: false, acl: false }, whole: true };
}

/// Reads the whole database into `sink`. `folders` replaces the usual places of the client tools.
pub(crate) async fn dump(
    url: &PostgresUrl,
    folders: Option<&[PathBuf]>,
    sink: Arc<dyn DumpSink>,
    options: &DumpOptions,
    view: View,
) -> Result<Dump, EngineError> {
    let Begun { mut leader, tools, sequences, objects } = begin(url, folders, options).await?;
    let units = catalog::units(&leader.tables, leader.server.standby);
    sink.expect(units.iter().map(Unit::bytes).sum());
    let wants_texts = sink.wants_texts();

    let encoding = leader.server.encoding.clone();
    let task = Task {
        url: url.clone(),
        snapshot: leader.snapshot.clone(),
        lock_timeout_s: options.lock_timeout_s,
        queue: Arc::new(Queue::new(work::plan(&units, &objects, leader.server.number, &encoding))),
        sink,
    };
    let readers = Readers::start(&task, options.workers);
    let folder = Archive::folder()?;
    let path = Archive::path_in(&folder);
    let schema = async {
        tools.dump_schema(url, &task.snapshot, options.lock_timeout_s, &encoding, &path).await?;
        Archive::open(&tools, folder).await
    };
    let looked = look(&mut leader, &tools, &units, &sequences, objects);
    let (reads, archive, looked) = tokio::try_join!(readers.join(), schema, looked)?;

    let parts = EntryReads::new(reads, units.len() + looked.facts.large_objects.len());
    let fingerprint = Fingerprint {
        tables: parts.tables(&units),
        sequences: looked.sequences,
        large_objects: parts.large_objects(&looked.facts.large_objects, units.len()),
        schema: archive.statements(&looked.facts, view.leave, None, view.whole).await?,
    };
    let rows = parts.data(&units, &looked.facts.large_objects);
    let entries = if wants_texts {
        let texts = texts::make(&archive, &looked.facts, &fingerprint, &looked.roles_sql, &looked.set_aside);
        texts.await?.around(rows)
    } else {
        rows
    };
    session::close(leader.conn).await;
    Ok(Dump {
        probe: probe(&leader.server, Some(tools.version)),
        snapshot_at: leader.at,
        entries,
        fingerprint,
        defects: looked.defects,
        facts: serde_json::to_value(&looked.facts).map_err(|error| EngineError::failed(format!("facts: {error}")))?,
    })
}

/// The schema alone, as it stands now; `facts` as a dump has just found them.
pub(crate) async fn schema(
    url: &PostgresUrl,
    folders: Option<&[PathBuf]>,
    facts: &Facts,
    view: View,
) -> Result<Vec<String>, EngineError> {
    let (leader, archive) = schema_archive(url, folders).await?;
    session::close(leader.conn).await;
    archive.statements(facts, view.leave, None, view.whole).await
}

/// The structure alone, as it stands now. Reads no row, and refuses nothing that only rows need.
pub(crate) async fn structure(url: &PostgresUrl, folders: Option<&[PathBuf]>) -> Result<Structure, EngineError> {
    let (mut leader, archive) = schema_archive(url, folders).await?;
    let missing = facts::missing(&mut leader.conn).await.doing("the catalogue could not be read")?;
    session::close(leader.conn).await;
    let mut schema = archive.own_statements(View::ALL.leave, None).await?;
    schema.extend(missing.statements());
    Ok(Structure::of(schema))
}

/// The schema's archive, and the session whose snapshot it shows.
async fn schema_archive(url: &PostgresUrl, folders: Option<&[PathBuf]>) -> Result<(Leader, Archive), EngineError> {
    let lock_timeout_s = DumpOptions::default().lock_timeout_s;
    let leader = Leader::begin(url, lock_timeout_s, |_| Ok(())).await?;
    let tools = Tools::find(folders, leader.server.major()).await?;
    let folder = Archive::folder()?;
    let path = Archive::path_in(&folder);
    tools.dump_schema(url, &leader.snapshot, lock_timeout_s, &leader.server.encoding, &path).await?;
    let archive = Archive::open(&tools, folder).await?;
    Ok((leader, archive))
}

/// A dump that has its snapshot and its locks, and found nothing that must not be left out.
struct Begun {
    leader: Leader,
    tools: Tools,
    sequences: Vec<Sequence>,
    objects: Vec<LargeObjectFact>,
}

async fn begin(url: &PostgresUrl, folders: Option<&[PathBuf]>, options: &DumpOptions) -> Result<Begun, EngineError> {
    let mut leader = Leader::begin(url, options.lock_timeout_s, preflight::refuse).await?;
    let tools = Tools::find(folders, leader.server.major()).await?;
    let sequences = catalog::sequences(&mut leader.conn).await.doing("the sequences could not be listed")?;
    preflight::refuse_sequences(&sequences)?;
    preflight::refuse_system_tables(&mut leader.conn).await?;
    let objects = large_objects::list(&mut leader.conn).await?;
    Ok(Begun { leader, tools, sequences, objects })
}

/// Begins a dump and gives it up again: whether everything may be read.
pub(crate) async fn check(
    url: &PostgresUrl,
    folders: Option<&[PathBuf]>,
    options: &DumpOptions,
) -> Result<(), EngineError> {
    let begun = begin(url, folders, options).await?;
    session::close(begun.leader.conn).await;
    Ok(())
}

/// What the server is, for a caller of the engine.
pub(crate) fn probe(server: &Server, client_version: Option<String>) -> Probe {
    Probe {
        identity: Identity::Postgres { system: server.system.clone(), database: server.database.clone() },
        server_version: server.version.clone(),
        client_version,
        size_bytes: server.size_bytes,
    }
}

/// What the leader finds while the readers read.
struct Looked {
    facts: Facts,
    sequences: BTreeMap<String, SequenceState>,
    defects: Vec<String>,
    roles_sql: String,
    set_aside: SetAside,
}

async fn look(
    leader: &mut Leader,
    tools: &Tools,
    units: &[Unit],
    sequences: &[Sequence],
    large_objects: Vec<LargeObjectFact>,
) -> Result<Looked, EngineError> {
    let reading = "the catalogue could not be read";
    let (conn, number) = (&mut leader.conn, leader.server.number);
    let states = sequence_states(conn, sequences).await?;
    let row_types = facts::row_types(conn).await.doing(reading)?;
    let filled = preflight::views(conn).await?;
    let defects = preflight::defects(conn, &leader.tables, &row_types, &filled, leader.server.standby).await?;
    let roles = facts::roles(conn).await.doing(reading)?;
    let roles_sql = texts::roles(conn, &roles).await?;
    let set_aside = SetAside::list(conn).await?;
    let facts = Facts {
        server: number,
        pg_dump: tools.version.clone(),
        lsn: leader.lsn.clone(),
        database: facts::database(conn, number).await.doing(reading)?.without_marker(),
        tables: table_facts(units, &leader.tables),
        sequences: sequences.iter().map(|s| (s.schema.clone(), s.name.clone())).collect(),
        large_objects,
        roles,
        nullable: facts::nullable(&leader.tables),
        row_types,
        search_path: facts::search_path(conn).await.doing(reading)?,
        missing: facts::missing(conn).await.doing(reading)?,
        filled,
    };
    Ok(Looked { facts, sequences: states, defects, roles_sql, set_aside })
}

fn table_facts(units: &[Unit], tables: &[catalog::Table]) -> Vec<TableFact> {
    let by_oid: BTreeMap<u32, &catalog::Table> = tables.iter().map(|table| (table.oid, table)).collect();
    let mut below: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for table in tables.iter().filter(|table| table.partition) {
        below.entry(catalog::root(&by_oid, table)).or_default().push(table.oid);
    }
    let fact = |unit: &Unit| TableFact {
        oid: unit.table.oid,
        schema: unit.table.schema.clone(),
        name: unit.table.name.clone(),
        columns: unit.table.stored(),
        config: unit.table.config.clone(),
        leaves: below.get(&unit.table.oid).cloned().unwrap_or_default(),
    };
    units.iter().map(fact).collect()
}

/// Reads sequences as they stand now, which is never behind the snapshot's rows.
async fn sequence_states(
    conn: &mut PgConnection,
    sequences: &[Sequence],
) -> Result<BTreeMap<String, SequenceState>, EngineError> {
    #[derive(Deserialize)]
    struct Row {
        at: usize,
        last_value: i64,
        is_called: bool,
    }
    let mut states = BTreeMap::new();
    for batch in sequences.chunks(SEQUENCE_BATCH) {
        let parts = batch.iter().enumerate();
        let query: Vec<String> =
            parts.map(|(at, s)| format!("SELECT {at} AS at, last_value, is_called FROM {}", s.sql())).collect();
        let found: Vec<Row> = rows(conn, &query.join(" UNION ALL ")).await.doing("the sequences could not be read")?;
        states.extend(found.into_iter().filter_map(|row| {
            let state = SequenceState { last_value: row.last_value, is_called: row.is_called };
            Some((batch.get(row.at)?.qualified(), state))
        }));
    }
    Ok(states)
}

/// The readers' results put together by entry.
struct EntryReads(Vec<EntryRead>);

#[derive(Default, Clone)]
struct EntryRead {
    rows: u64,
    bytes: u64,
    sum: RowSum,
    generated: RowSum,
    generated_rows: u64,
    sha256: String,
}

impl EntryReads {
    fn new(reads: Vec<Read>, entries: usize) -> Self {
        let mut list = vec![EntryRead::default(); entries];
        for read in reads {
            let entry = &mut list[read.entry];
            match read.kind {
                Kind::Generated => {
                    entry.generated.merge(&read.sum);
                    entry.generated_rows += read.rows;
                }
                Kind::Rows | Kind::LargeObject(_) => {
                    entry.rows += read.rows;
                    entry.bytes += read.bytes;
                    entry.sum.merge(&read.sum);
                    entry.sha256 = read.sha256;
                }
            }
        }
        EntryReads(list)
    }

    fn tables(&self, units: &[Unit]) -> BTreeMap<String, TableFingerprint> {
        let fingerprint = |(unit, read): (&Unit, &EntryRead)| {
            let second = unit.table.has_generated().then(|| read.generated.to_hex());
            assert!(second.is_none() || read.generated_rows == read.rows, "both passes see the same snapshot");
            let table = TableFingerprint { rows: read.rows, digest: read.sum.to_hex(), digest_with_generated: second };
            (unit.table.qualified(), table)
        };
        units.iter().zip(&self.0).map(fingerprint).collect()
    }

    fn large_objects(&self, objects: &[LargeObjectFact], first: usize) -> BTreeMap<u32, LargeObject> {
        let content = |read: &EntryRead| LargeObject { bytes: read.bytes, sha256: read.sha256.clone() };
        objects.iter().zip(&self.0[first..]).map(|(object, read)| (object.oid, content(read))).collect()
    }

    fn data(&self, units: &[Unit], objects: &[LargeObjectFact]) -> Vec<Entry> {
        let tables = units.iter().enumerate().map(|(at, unit)| (texts::data_path(at), Some(unit.table.qualified())));
        let objects = objects.iter().map(|object| (texts::large_object_path(object.oid), None));
        let entry = |((path, table), read): ((String, Option<String>), &EntryRead)| {
            Entry::Data(DataEntry { path, table, bytes: read.bytes, rows: read.rows })
        };
        tables.chain(objects).zip(&self.0).map(entry).collect()
    }
}
