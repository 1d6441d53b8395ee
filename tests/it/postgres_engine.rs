//! The PostgreSQL engine alone: dumped into memory, loaded from memory, judged by `pg_dump`.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use shared::engine::postgres::PostgresEngine;
use shared::engine::{
    Aside, DataEntry, Dump, DumpOptions, DumpSink, DumpSource, Engine, EngineError, Entry, LoadOptions, RowEnd,
    Segment, SegmentSink,
};
use shared::model::{Class, DatabaseUrl, DifferenceKind, Fingerprint};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tests::postgres::{TestDatabase, dump_differences, on_server, pg_dump_text, pg_dump_with_settings, url_as};
use tests::{fixtures, postgres};

/// Rows of a run, so that even small tables have several.
const RUN_ROWS: usize = 50;

/// Keeps a dump in memory: one list of rows (or pieces) a segment.
#[derive(Default)]
struct Memory {
    segments: Mutex<BTreeMap<(usize, usize), Vec<Bytes>>>,
    opened: Mutex<Vec<Segment>>,
}

struct MemorySegment {
    memory: Arc<Memory>,
    at: (usize, usize),
    pieces: Vec<Bytes>,
}

/// The sink a dump sees; shares its [`Memory`].
struct MemorySink(Arc<Memory>);

impl DumpSink for MemorySink {
    fn open(&self, segment: Segment) -> Box<dyn SegmentSink> {
        let at = (segment.entry, segment.ordinal);
        self.0.opened.lock().unwrap().push(segment);
        Box::new(MemorySegment { memory: self.0.clone(), at, pieces: Vec::new() })
    }
}

impl SegmentSink for MemorySegment {
    fn write(&mut self, bytes: &[u8], ends: &[RowEnd]) -> Result<(), EngineError> {
        let mut begin = 0;
        for row in ends {
            assert_eq!(bytes[row.end - 1], b'\n', "a row ends with a newline");
            self.pieces.push(Bytes::copy_from_slice(&bytes[begin..row.end]));
            begin = row.end;
        }
        if ends.is_empty() {
            self.pieces.push(Bytes::copy_from_slice(bytes));
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _rows: u64) -> Result<(), EngineError> {
        let before = self.memory.segments.lock().unwrap().insert(self.at, self.pieces);
        assert!(before.is_none(), "segment {:?} was finished twice", self.at);
        Ok(())
    }
}

/// A dump kept in memory, as a load sees it.
struct Kept {
    dump: Dump,
    data: Vec<DataEntry>,
    /// Pieces of each entry, in the order of its segments.
    pieces: Vec<Vec<Bytes>>,
}

impl Kept {
    async fn dump(url: &str, workers: usize) -> Result<Arc<Kept>, EngineError> {
        let memory = Arc::new(Memory::default());
        let options = DumpOptions { workers, ..DumpOptions::default() };
        let dump = engine(url).dump(Arc::new(MemorySink(memory.clone())), &options).await?;
        let data: Vec<DataEntry> = dump
            .entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Data(data) => Some(data.clone()),
                Entry::Text { .. } => None,
            })
            .collect();
        let mut pieces = vec![Vec::new(); data.len()];
        for ((entry, _), rows) in std::mem::take(&mut *memory.segments.lock().unwrap()) {
            pieces[entry].extend(rows);
        }
        for (entry, pieces) in data.iter().zip(&pieces) {
            let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
            assert_eq!(entry.bytes, bytes, "{}", entry.path);
        }
        Ok(Arc::new(Kept { dump, data, pieces }))
    }

    fn text_of(&self, path: &str) -> Option<Vec<u8>> {
        self.dump.entries.iter().find_map(|entry| match entry {
            Entry::Text { path: found, body } if found == path => Some(body.clone()),
            _ => None,
        })
    }

    /// Writes the tar's folder, as it lies there after unpacking.
    fn unpack(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut data = self.data.iter().zip(&self.pieces);
        for entry in &self.dump.entries {
            let (path, body) = match entry {
                Entry::Text { path, body } => (path, body.clone()),
                Entry::Data(_) => {
                    let (entry, pieces) = data.next().unwrap();
                    (&entry.path, pieces.concat())
                }
            };
            let file = folder.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, body).unwrap();
        }
        std::fs::write(folder.path().join("COMPLETE"), "").unwrap();
        folder
    }
}

#[async_trait]
impl DumpSource for Kept {
    fn facts(&self) -> &serde_json::Value {
        &self.dump.facts
    }

    fn fingerprint(&self) -> &Fingerprint {
        &self.dump.fingerprint
    }

    fn data(&self) -> &[DataEntry] {
        &self.data
    }

    async fn text(&self, path: &str) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.text_of(path))
    }

    fn runs(&self, entry: usize) -> usize {
        self.pieces[entry].len().div_ceil(RUN_ROWS)
    }

    fn read(&self, entry: usize, run: usize) -> BoxStream<'_, Result<Bytes, EngineError>> {
        let pieces = self.pieces[entry].iter().skip(run * RUN_ROWS).take(RUN_ROWS).cloned().map(Ok);
        futures_util::stream::iter(pieces).boxed()
    }
}

fn engine(url: &str) -> PostgresEngine {
    let Ok(DatabaseUrl::Postgres(url)) = url.parse() else { panic!("{url} is no PostgreSQL URL") };
    PostgresEngine::new(url)
}

/// Loads into `target`, proves, promotes; returns the lines of the load.
async fn restore(kept: &Arc<Kept>, target: &str, options: &LoadOptions) -> Result<Vec<String>, EngineError> {
    let aside = engine(target).aside(&**kept).await?;
    let lines = aside.load(kept.clone(), options, Arc::new(|_| {})).await;
    let lines = match lines {
        Ok(loaded) => [loaded.failed, loaded.left_out].concat(),
        Err(error) => {
            aside.discard().await.unwrap();
            return Err(error);
        }
    };
    let differences = prove(&*aside, kept).await;
    if lines.is_empty() {
        assert_eq!(differences, Vec::<String>::new());
    }
    aside.promote().await?;
    Ok(lines)
}

async fn prove(aside: &dyn Aside, kept: &Arc<Kept>) -> Vec<String> {
    let found = aside.fingerprint(&**kept, 2).await.unwrap();
    let expected = aside.expected(&**kept).await.unwrap();
    let differences = expected.differences(&found);
    differences
        .into_iter()
        .filter(|d| d.kind != DifferenceKind::Recomputed)
        .map(|d| format!("{} {}", d.object, d.what))
        .collect()
}

async fn round_trip(source: &TestDatabase, workers: usize) -> (Arc<Kept>, TestDatabase) {
    let kept = Kept::dump(&source.url(), workers).await.unwrap();
    let target = TestDatabase::reserved();
    let lines = restore(&kept, &target.url(), &LoadOptions { workers, ..LoadOptions::default() }).await.unwrap();
    assert_eq!(lines, Vec::<String>::new());
    (kept, target)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chinook_goes_round_and_is_equal_by_pg_dump() {
    let source = fixtures::postgres("chinook-postgres.sql");
    let (kept, target) = round_trip(&source, 2).await;
    assert!(kept.dump.fingerprint.rows() > 15_000, "{}", kept.dump.fingerprint.rows());
    assert_eq!(kept.dump.defects, Vec::<String>::new());
    assert_eq!(dump_differences(&pg_dump_text(&source.url()), &pg_dump_text(&target.url())), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_awkward_database_goes_round_and_is_equal_by_pg_dump() {
    let source = fixtures::loaded("awkward.sql");
    let (_, target) = round_trip(&source, 3).await;
    let (before, after) = (pg_dump_with_settings(&source.url()), pg_dump_with_settings(&target.url()));
    assert_eq!(dump_differences(&before, &after), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_table_is_read_in_ranges_and_gives_the_same_digest() {
    let source = TestDatabase::new();
    source.psql(
        "CREATE TABLE big (id int, t text);
         INSERT INTO big SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 120000) i;
         DELETE FROM big WHERE id % 7 = 0; VACUUM big; ANALYZE big",
    );
    let kept = Kept::dump(&source.url(), 2).await.unwrap();
    let memory = Arc::new(Memory::default());
    let again =
        engine(&source.url()).dump(Arc::new(MemorySink(memory.clone())), &DumpOptions::default()).await.unwrap();
    assert_eq!(again.fingerprint, kept.dump.fingerprint);
    let opened = memory.opened.lock().unwrap();
    assert!(opened.len() >= 2 && opened.iter().all(|segment| segment.blocks.is_some()), "{opened:?}");
    let rows: u64 = source.query_value("SELECT count(*) FROM big").parse().unwrap();
    assert_eq!(kept.dump.fingerprint.rows(), rows);
}

/// How many segments are being written, and what the server was seen to do then.
type Met = (Mutex<(usize, Vec<String>)>, Condvar);

/// A sink that holds its first two segments until both are being written, and then looks at the server.
#[derive(Default)]
struct Meeting {
    writing: Arc<Met>,
    look: Option<String>,
}

struct MeetingSegment {
    writing: Arc<Met>,
    look: Option<String>,
    met: bool,
}

impl DumpSink for Meeting {
    fn open(&self, _segment: Segment) -> Box<dyn SegmentSink> {
        Box::new(MeetingSegment { writing: self.writing.clone(), look: self.look.clone(), met: false })
    }
}

impl SegmentSink for MeetingSegment {
    fn write(&mut self, _bytes: &[u8], _ends: &[RowEnd]) -> Result<(), EngineError> {
        if std::mem::replace(&mut self.met, true) {
            return Ok(());
        }
        let (state, changed) = &*self.writing;
        let mut state = state.lock().unwrap();
        state.0 += 1;
        changed.notify_all();
        let (mut state, waited) =
            changed.wait_timeout_while(state, Duration::from_secs(30), |state| state.0 < 2).unwrap();
        assert!(!waited.timed_out(), "one reader works at a time");
        if let Some(database) = self.look.as_ref().filter(|_| state.1.is_empty()) {
            let seen = on_server(&format!(
                "SELECT query FROM pg_stat_activity WHERE datname = '{database}' AND query LIKE 'COPY (SELECT%' AND state = 'active'"
            ));
            state.1.extend(seen.lines().map(str::to_owned));
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _rows: u64) -> Result<(), EngineError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_large_table_is_read_by_two_copies_at_once() {
    let source = TestDatabase::new();
    source.psql("CREATE TABLE big AS SELECT i AS id, repeat(md5(i::text), 20) AS t FROM generate_series(1, 200000) i");
    let sink = Meeting { look: Some(source.name().to_owned()), ..Meeting::default() };
    let writing = sink.writing.clone();
    engine(&source.url()).dump(Arc::new(sink), &DumpOptions::default()).await.unwrap();
    let seen = writing.0.lock().unwrap().1.clone();
    let of_big = seen.iter().filter(|query| query.contains("FROM ONLY \"public\".\"big\" WHERE ctid"));
    assert_eq!(of_big.count(), 2, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_created_is_named_and_all_rows_are_in() {
    let source = fixtures::loaded("unrestorable.sql");
    let kept = Kept::dump(&source.url(), 2).await.unwrap();
    let target = TestDatabase::reserved();
    let lines = restore(&kept, &target.url(), &LoadOptions::default()).await.unwrap();
    for said in [
        "FK CONSTRAINT odd orphan orphan_parent postgres: rows of the backup violate it",
        "CHECK once_allowed_check of odd.once_allowed: rows of the backup violate it",
        "CHECK is_short of odd.short_text: rows of the backup violate it",
        "INDEX odd duplicates_key postgres: could not create unique index",
        "REFRESH MATERIALIZED VIEW odd.not_again",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(said)), "{said}: {lines:#?}");
    }
    assert_eq!(lines.len(), 5, "{lines:#?}");
    for table in kept.dump.fingerprint.tables.keys() {
        let count = |database: &TestDatabase| database.query_value(&format!("SELECT count(*) FROM {table}"));
        assert_eq!(count(&source), count(&target), "{table}; {lines:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_table_comes_with_what_it_needs_and_is_proven() {
    let source = fixtures::postgres("chinook-postgres.sql");
    let kept = Kept::dump(&source.url(), 2).await.unwrap();
    let target = TestDatabase::reserved();
    let options = LoadOptions { tables: vec!["Album".into()], ..LoadOptions::default() };
    let aside = engine(&target.url()).aside(&*kept).await.unwrap();
    let loaded = aside.load(kept.clone(), &options, Arc::new(|_| {})).await.unwrap();
    assert_eq!(loaded.failed, Vec::<String>::new());
    let lines = loaded.left_out;
    assert_eq!(prove(&*aside, &kept).await, Vec::<String>::new());
    aside.promote().await.unwrap();
    assert!(lines.len() == 1 && lines[0].contains("FK CONSTRAINT") && lines[0].contains("artist"), "{lines:?}");
    assert_eq!(target.query_value("SELECT count(*) FROM album"), source.query_value("SELECT count(*) FROM album"));
    assert_eq!(target.query_value("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND oid >= 16384"), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proof_sees_single_changes() {
    let source = fixtures::postgres("chinook-postgres.sql");
    let kept = Kept::dump(&source.url(), 2).await.unwrap();
    for change in [
        "UPDATE artist SET name = name || ' ' WHERE artist_id = 17",
        "UPDATE customer SET fax = NULL WHERE customer_id = 1",
        "DELETE FROM playlist_track WHERE playlist_id = 17",
        "INSERT INTO genre VALUES (99, 'Noise')",
        "ALTER TABLE album ALTER title SET DEFAULT 'x'",
        "GRANT SELECT ON album TO PUBLIC",
        "CREATE SEQUENCE extra",
        "DROP INDEX album_artist_id_idx",
        "CREATE INDEX extra ON album (title)",
        "COMMENT ON TABLE album IS 'x'",
        "ALTER TABLE album SET (fillfactor = 50)",
    ] {
        let target = TestDatabase::reserved();
        let aside = engine(&target.url()).aside(&*kept).await.unwrap();
        aside.load(kept.clone(), &LoadOptions::default(), Arc::new(|_| {})).await.unwrap();
        let place = aside.place();
        TestDatabase::adopt(place.rsplit_once('/').unwrap().1).psql_and_forget(change);
        assert_ne!(prove(&*aside, &kept).await, Vec::<String>::new(), "{change}");
        aside.discard().await.unwrap();
    }
}

trait PsqlAndForget {
    /// Changes a database that is not ours to drop.
    fn psql_and_forget(self, sql: &str);
}

impl PsqlAndForget for TestDatabase {
    fn psql_and_forget(self, sql: &str) {
        self.psql(sql);
        std::mem::forget(self);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_not_empty_or_reserved_is_refused() {
    let source = fixtures::postgres("chinook-postgres.sql");
    let kept = Kept::dump(&source.url(), 1).await.unwrap();
    let filled = TestDatabase::new();
    filled.psql("CREATE TABLE precious (id int)");
    for (url, says) in [
        (filled.url(), "not empty"),
        (source.url(), "not empty"),
        (postgres::url_of("template1"), "belongs to the server"),
        (postgres::url_of("postgres"), "belongs to the server"),
    ] {
        let error = engine(&url).aside(&*kept).await.err().unwrap();
        assert_eq!(error.class(), Class::Refused, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    assert_eq!(filled.query_value("SELECT count(*) FROM precious"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_target_is_replaced_and_an_unfinished_restore_is_cleaned_up() {
    let source = fixtures::postgres("chinook-postgres.sql");
    let kept = Kept::dump(&source.url(), 2).await.unwrap();
    let target = TestDatabase::new();
    let abandoned = engine(&target.url()).aside(&*kept).await.unwrap();
    let place = abandoned.place();
    let left = place.rsplit_once('/').unwrap().1.to_owned();
    let exists =
        |name: &str| on_server(&format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'")).trim() == "1";
    // Somebody else restores into the same target while the first is alive: it stays.
    engine(&target.url()).aside(&*kept).await.unwrap().discard().await.unwrap();
    assert!(exists(&left));
    drop(abandoned);
    while on_server(&format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{left}'")).trim() != "0" {
        tokio::task::yield_now().await;
    }
    restore(&kept, &target.url(), &LoadOptions::default()).await.unwrap();
    assert!(!exists(&left), "the abandoned database was not removed");
    assert_eq!(dump_differences(&pg_dump_text(&source.url()), &pg_dump_text(&target.url())), Vec::<String>::new());
    let stray = on_server(&format!("SELECT datname FROM pg_database WHERE datname LIKE '{}\\_\\_%'", target.name()));
    assert_eq!(stray.trim(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_cannot_see_everything_is_refused_by_name() {
    let source = TestDatabase::new();
    let role = format!("r_{}", source.name());
    source.psql(&format!(
        "CREATE ROLE {role} LOGIN; CREATE TABLE open (id int); CREATE TABLE closed (id int); CREATE TABLE half (id int);
         GRANT SELECT ON open, half TO {role}; ALTER TABLE half ENABLE ROW LEVEL SECURITY;"
    ));
    let url = url_as(&source.url(), &role, None);
    let error = Kept::dump(&url, 1).await.err().unwrap();
    assert_eq!(error.class(), Class::Refused);
    assert!(error.to_string().contains("public.closed") && !error.to_string().contains("open"), "{error}");
    source.psql(&format!("GRANT SELECT ON closed TO {role}"));
    let error = Kept::dump(&url, 1).await.err().unwrap();
    assert!(error.to_string().contains("row-level security hides rows of 1 table public.half"), "{error}");
    source.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_migration_makes_the_dump_give_way() {
    let source = TestDatabase::new();
    source.psql("CREATE TABLE t (id int); INSERT INTO t VALUES (1)");
    let lock = source.lock_table("t");
    let options = DumpOptions { lock_timeout_s: 1, ..DumpOptions::default() };
    let error = engine(&source.url()).dump(Arc::new(shared::engine::Nowhere), &options).await.err().unwrap();
    assert_eq!(error.class(), Class::Transient, "{error}");
    drop(lock);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_whose_generated_column_reads_a_later_one_comes_back() {
    let source = fixtures::loaded("unrestorable-table.sql");
    let kept = Kept::dump(&source.url(), 1).await.unwrap();
    assert!(kept.dump.defects.iter().any(|line| line.contains("public.\"aaa.price\"")), "{:?}", kept.dump.defects);
    let target = TestDatabase::reserved();
    let options = LoadOptions { workers: 1, ..LoadOptions::default() };
    assert_eq!(restore(&kept, &target.url(), &options).await.unwrap(), Vec::<String>::new());
    assert_eq!(target.query_value("SELECT count(*) FROM aaa"), "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_no_restore_could_bring_back_are_refused_or_never_swapped() {
    for (fixture, says) in [("refused/pending-detach.sql", "half_gone"), ("refused/system-schema.sql", "hidden")] {
        let source = fixtures::loaded(fixture);
        let error = Kept::dump(&source.url(), 1).await.err().unwrap();
        assert_eq!(error.class(), Class::Refused, "{error}");
        assert!(error.to_string().contains(says) && error.hint().is_some(), "{error}");
    }
    let source = fixtures::loaded("refused/row-type-order.sql");
    let kept = Kept::dump(&source.url(), 1).await.unwrap();
    assert!(kept.dump.defects.iter().any(|line| line.contains("row type public.child")), "{:?}", kept.dump.defects);
    let error = restore(&kept, &TestDatabase::reserved().url(), &LoadOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("public.child"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_roles_are_refused_and_can_be_left_out() {
    let source = TestDatabase::new();
    let role = format!("r_{}", source.name());
    source.psql(&format!(
        "CREATE ROLE {role}; CREATE TABLE t (id int); INSERT INTO t VALUES (1); ALTER TABLE t OWNER TO {role};
         CREATE TABLE u (id int); GRANT SELECT ON u TO {role}; ALTER DATABASE {} OWNER TO {role}",
        source.name()
    ));
    let kept = Kept::dump(&source.url(), 1).await.unwrap();
    source.psql(&format!("REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role}"));
    let target = TestDatabase::reserved();
    let error = restore(&kept, &target.url(), &LoadOptions::default()).await.unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    assert!(error.to_string().contains(&role), "{error}");
    let options = LoadOptions { no_owner: true, no_acl: true, ..LoadOptions::default() };
    assert_eq!(restore(&kept, &target.url(), &options).await.unwrap(), Vec::<String>::new());
    assert_eq!(target.query_value("SELECT count(*) FROM t"), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_owner_backs_up_and_restores_an_application_database() {
    let source = TestDatabase::new();
    let role = format!("r_{}", source.name());
    on_server(&format!("CREATE ROLE {role} LOGIN CREATEDB; ALTER DATABASE {} OWNER TO {role}", source.name()));
    let own = url_as(&source.url(), &role, None);
    postgres::psql(
        &own,
        "CREATE TABLE orders (id serial PRIMARY KEY, total numeric CHECK (total >= 0));
         CREATE TABLE lines (id int GENERATED ALWAYS AS IDENTITY, order_id int REFERENCES orders, t text);
         INSERT INTO orders (total) SELECT i FROM generate_series(1, 500) i;
         INSERT INTO lines (order_id, t) SELECT i, 'line ' || i FROM generate_series(1, 500) i;
         ALTER TABLE lines ENABLE ROW LEVEL SECURITY; ALTER TABLE orders OWNER TO CURRENT_USER;
         CREATE MATERIALIZED VIEW sums AS SELECT sum(total) FROM orders;
         REVOKE INSERT ON orders FROM CURRENT_USER; SELECT lo_from_bytea(0, 'abc'); COMMENT ON TABLE orders IS 'o';
         ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    )
    .unwrap();
    let kept = Kept::dump(&own, 2).await.unwrap();
    let target = TestDatabase::reserved();
    let lines = restore(&kept, &url_as(&target.url(), &role, None), &LoadOptions::default()).await.unwrap();
    assert_eq!(lines, Vec::<String>::new());
    let (before, after) = (pg_dump_with_settings(&source.url()), pg_dump_with_settings(&target.url()));
    assert_eq!(dump_differences(&before, &after), Vec::<String>::new());
    drop((source, target));
    on_server(&format!("DROP ROLE {role}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_by_an_older_client_is_compared_as_todays_client_writes_it() {
    let source = fixtures::loaded("awkward.sql");
    let mut kept = Arc::into_inner(Kept::dump(&source.url(), 2).await.unwrap()).unwrap();
    kept.dump.facts["pg_dump"] = "15.1".into();
    // As if the older client had written something else.
    kept.dump.fingerprint.schema = vec!["CREATE EVERYTHING".into()];
    let target = TestDatabase::reserved();
    assert_eq!(restore(&Arc::new(kept), &target.url(), &LoadOptions::default()).await.unwrap(), Vec::<String>::new());
}

/// A source whose second run of the first table that has one is damaged.
struct Damaged(Arc<Kept>);

#[async_trait]
impl DumpSource for Damaged {
    fn facts(&self) -> &serde_json::Value {
        self.0.facts()
    }

    fn fingerprint(&self) -> &Fingerprint {
        self.0.fingerprint()
    }

    fn data(&self) -> &[DataEntry] {
        self.0.data()
    }

    async fn text(&self, path: &str) -> Result<Option<Vec<u8>>, EngineError> {
        self.0.text(path).await
    }

    fn runs(&self, entry: usize) -> usize {
        self.0.runs(entry)
    }

    fn read(&self, entry: usize, run: usize) -> BoxStream<'_, Result<Bytes, EngineError>> {
        let good = self.0.read(entry, run);
        if run != 1 {
            return good;
        }
        let broken = async { Err(EngineError::Damaged("a chunk is not what it was".into())) };
        good.take(3).chain(futures_util::stream::once(broken)).boxed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_bytes_stop_the_load_and_none_of_them_goes_in() {
    let source = fixtures::postgres("chinook-postgres.sql");
    let kept = Kept::dump(&source.url(), 1).await.unwrap();
    let target = TestDatabase::reserved();
    let aside = engine(&target.url()).aside(&*kept).await.unwrap();
    let options = LoadOptions { workers: 1, ..LoadOptions::default() };
    let error = aside.load(Arc::new(Damaged(kept)), &options, Arc::new(|_| {})).await.unwrap_err();
    assert_eq!(error.class(), Class::Corrupt, "{error}");
    let place = aside.place();
    let url = postgres::url_of(place.rsplit_once('/').unwrap().1);
    let counts = "SELECT string_agg(DISTINCT (xpath('/row/c/text()', query_to_xml('SELECT count(*) % 50 AS c FROM ' ||
                    oid::regclass, false, true, '')))[1]::text, ',') FROM pg_class WHERE relkind = 'r' AND oid >= 16384";
    assert_eq!(postgres::psql(&url, counts).unwrap().trim(), "0", "only whole runs may be in");
    aside.discard().await.unwrap();
    assert!(!target.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_said_without_the_password() {
    let there = TestDatabase::new();
    let missing = url_as(&postgres::url_of("no_such_database"), "postgres", Some("s3cret"));
    let wrong = there.scram_url(Some("s3cret"));
    let unreachable = "postgres://postgres:s3cret@127.0.0.1:1/x".to_owned();
    for (url, says, class) in [
        (missing, "does not exist", Class::Permanent),
        (wrong, "password authentication failed", Class::Permanent),
        (unreachable, "cannot connect", Class::Transient),
    ] {
        let error = engine(&url).probe().await.err().unwrap();
        let text = format!("{error} {error:?} {}", error.hint().unwrap_or_default());
        assert!(text.contains(says) && !text.contains("s3cret"), "{text}");
        assert_eq!(error.class(), class, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_client_tools_are_refused_by_package() {
    let source = TestDatabase::new();
    let Ok(DatabaseUrl::Postgres(url)) = source.url().parse() else { panic!("no URL") };
    let empty = tempfile::tempdir().unwrap();
    let engine = PostgresEngine::new(url).with_tools_in(vec![empty.path().to_owned()]);
    let error = engine.dump(Arc::new(shared::engine::Nowhere), &DumpOptions::default()).await.err().unwrap();
    assert_eq!(error.class(), Class::Refused);
    assert!(error.hint().unwrap().contains("postgresql-client-"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restore_sh_restores_with_psql_alone() {
    for fixture in ["chinook-postgres.sql", "awkward.sql"] {
        let source = fixtures::loaded(fixture);
        let kept = Kept::dump(&source.url(), 2).await.unwrap();
        let folder = kept.unpack();
        let target = TestDatabase::reserved();
        let script = folder.path().join("restore.sh");
        let run = |url: &str| Command::new("dash").arg(&script).arg(url).output().unwrap();
        let done = run(&target.url());
        assert!(done.status.success(), "{fixture}: {}", String::from_utf8_lossy(&done.stderr));
        let (before, after) = (pg_dump_with_settings(&source.url()), pg_dump_with_settings(&target.url()));
        assert_eq!(dump_differences(&before, &after), Vec::<String>::new(), "{fixture}");

        let again = run(&target.url());
        assert!(!again.status.success(), "a filled database was accepted");
        let secret = run(&url_as(&target.url(), "postgres", Some("x")));
        assert!(String::from_utf8_lossy(&secret.stderr).contains("holds a password"));
        std::fs::remove_file(folder.path().join("COMPLETE")).unwrap();
        let incomplete = run(&TestDatabase::reserved().url());
        assert!(String::from_utf8_lossy(&incomplete.stderr).contains("COMPLETE is missing"));
    }
}
