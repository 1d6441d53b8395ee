//! The store somebody tampers with, and what he can make: the backup of a changed database, dressed as another.

use super::super::{Expected, all, restored};
use super::lines::Lines;
use backup_agent::backup::{BackupOptions, backup};
use backup_agent::choose;
use backup_agent::hold;
use backup_agent::repository::{BackupWriter, Codec, MarkKind, Repository, StoredBackup};
use bytes::Bytes;
use jiff::Timestamp;
use shared::connect;
use shared::engine::{Cut, DataEntry, Dump, DumpOptions, Entry, Probe, Segment};
use shared::model::{Fingerprint, Identity};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tests::fake_clock::FakeClock;
use tests::memory_store::{MemoryStore, Objects};
use tests::sqlite::TestFile;
use tokio::runtime::Runtime;

/// Rows of the tables `customers` and `suppliers`.
pub const PEOPLE: usize = 12;
/// Rows of the table `orders`.
pub const ORDERS: usize = 400;
/// The backups of the database `shop`, oldest first; the one of `yard` comes behind them.
pub const OLDEST: usize = 0;
/// Proven once, but a later proof failed.
pub const MIDDLE: usize = 1;
/// What `latest` means.
pub const NEWEST: usize = 2;
/// Of another database, with the same schema.
pub const YARD: usize = 3;

/// A page is small and a chunk 64 of them, so that the database has several chunks.
const SCHEMA: &str = "
    PRAGMA page_size = 512;
    CREATE TABLE customers (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, city TEXT);
    CREATE TABLE suppliers (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, city TEXT);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customers (id), cents INTEGER,
                         note TEXT, label TEXT GENERATED ALWAYS AS ('#' || id || ' for ' || cents) STORED);
    CREATE INDEX orders_note ON orders (note);
    CREATE VIEW dear AS SELECT * FROM orders WHERE cents > 5000;
    CREATE TRIGGER no_gifts AFTER INSERT ON orders BEGIN UPDATE orders SET cents = 1 WHERE cents = 0; END;
    CREATE TABLE waste (w TEXT);
    PRAGMA user_version = 7;";

/// A store with backups of two databases.
pub struct Scene {
    pub objects: Objects,
    pub backups: Vec<Stored>,
    runtime: Runtime,
}

/// A backup, and the instant of its snapshot.
pub struct Stored {
    pub expected: Expected,
    pub at: Timestamp,
}

/// A manifest and the packs it names, not yet in any store.
pub struct Forged {
    pub lines: Lines,
    pub packs: Objects,
}

fn source(name: &str) -> TestFile {
    let file = TestFile::named(&format!("{name}.db"));
    let (from, to) =
        (format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {PEOPLE})"), ORDERS);
    // Hardly to be compressed, and the same in every run.
    let noise: String = [2_654_435_761_u32, 2_246_822_519, 3_266_489_917, 668_265_263, 374_761_393]
        .map(|prime| format!(" || printf(' %08x', i * {prime} & 4294967295)"))
        .concat();
    let noise = noise.trim_start_matches(" || ");
    file.sqlite3(&format!(
        "{SCHEMA}
         {from} INSERT INTO customers SELECT i, '{name} customer ' || i, 'city ' || (i % 5) FROM n;
         {from} INSERT INTO suppliers SELECT i, '{name} supplier ' || i, 'town ' || (i % 5) FROM n;
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {to})
         INSERT INTO orders SELECT i, i % {PEOPLE} + 1, i * 7919 % 10000, '{name} note ' || i || {noise} FROM n;
         INSERT INTO waste SELECT note FROM orders; DROP TABLE waste; ANALYZE;"
    ));
    file
}

impl Scene {
    pub fn new() -> Scene {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (objects, backups) = runtime.block_on(stored());
        let scene = Scene { objects, backups, runtime };
        for victim in 0..scene.backups.len() {
            let chunks = scene.lines(victim).chunks().len();
            assert!(chunks >= 3, "backup {victim} has {chunks} chunks");
        }
        scene
    }

    /// Runs what the product does asynchronously.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// `<database>/<id>`.
    pub fn name(&self, victim: usize) -> &str {
        &self.backups[victim].expected.id
    }

    pub fn manifest_key(&self, victim: usize) -> String {
        format!("backups/{}/manifest.tsv.gz", self.name(victim))
    }

    /// The manifest of a backup.
    pub fn lines(&self, victim: usize) -> Lines {
        Lines::of(&self.objects[&self.manifest_key(victim)])
    }

    /// Keys of the marks of a kind that a backup has.
    pub fn marks(&self, victim: usize, kind: &str) -> Vec<String> {
        let prefix = format!("marks/{}/{kind}-", self.name(victim));
        self.objects.keys().filter(|key| key.starts_with(&prefix)).cloned().collect()
    }

    /// The objects with this manifest in the place of a backup's.
    pub fn with_manifest(&self, victim: usize, lines: &Lines) -> Objects {
        let mut objects = self.objects.clone();
        objects.insert(self.manifest_key(victim), lines.object());
        objects
    }

    /// The objects with a forged manifest in the place of a backup's, and its packs.
    pub fn with_forged(&self, victim: usize, forged: &Forged) -> Objects {
        let mut objects = self.with_manifest(victim, &forged.lines);
        objects.extend(forged.packs.clone());
        objects
    }

    /// What Holdfast itself makes of a backup's database after `sql`, dressed as that backup: everything that can be
    /// computed is right.
    pub fn forge(&self, victim: usize, sql: &str) -> Forged {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("changed.db");
        std::fs::write(&file, &self.backups[victim].expected.bytes).unwrap();
        let connection = rusqlite::Connection::open(&file).unwrap();
        connection.execute_batch(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
        connection.close().unwrap();
        assert_ne!(std::fs::read(&file).unwrap(), self.backups[victim].expected.bytes, "nothing was changed: {sql}");
        let (database, _) = self.name(victim).split_once('/').unwrap();
        let (store, clock) = (MemoryStore::default(), FakeClock::at(self.backups[victim].at));
        let id = self.block_on(async {
            let repository = open_or_init(&store, &clock).await;
            store_at(&repository, database, &format!("sqlite:{}", file.display()), folder.path(), &clock).await
        });
        let forged = taken(&store, &id);
        Forged { lines: dressed(forged.lines, &self.lines(victim)), packs: forged.packs }
    }

    /// A backup's manifest with these bytes for its database, with all that is computed from the bytes of chunks and
    /// packs, and nothing else.
    pub fn forge_bytes(&self, victim: usize, raw: Vec<u8>) -> Forged {
        assert_eq!(raw.len(), self.backups[victim].expected.bytes.len());
        assert_ne!(raw, self.backups[victim].expected.bytes, "nothing was changed");
        let (store, clock) = (MemoryStore::default(), FakeClock::at(self.backups[victim].at));
        let id = self.block_on(async {
            let repository = open_or_init(&store, &clock).await;
            store_bytes(&repository, raw, &clock).await
        });
        let forged = taken(&store, &id);
        let mut lines = self.lines(victim);
        let (packs, places) = (lines.of_kind("P"), lines.chunks());
        let mut made = forged.lines.of_kind("C");
        assert_eq!(made.len(), places.len());
        for (at, fields) in places.into_iter().zip(&mut made) {
            // Its pack stands behind those there are, of which one may still be needed for a text.
            fields[1] = (packs.len() + fields[1].parse::<usize>().unwrap()).to_string();
            lines.0[at] = fields.clone();
        }
        lines.replace("P", [packs, forged.lines.of_kind("P")].concat());
        lines.settle();
        Forged { lines, packs: forged.packs }
    }
}

impl Scene {
    /// What a proof of a backup would read from its restored database.
    pub fn fingerprint(&self, objects: &Objects, victim: usize) -> Fingerprint {
        let place = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", place.path().join("read.db").display());
        self.block_on(async {
            let repository = Repository::open(Arc::new(MemoryStore::holding(objects.clone()))).await.unwrap();
            let manifest = choose::by_name(&repository, self.name(victim)).await.unwrap().manifest;
            let stored = StoredBackup::open(&repository, manifest.clone()).await.unwrap();
            restored(&repository, manifest, &url).await.unwrap();
            connect::engine(url.parse().unwrap()).fingerprint(&stored, 1).await.unwrap()
        })
    }
}

/// The repository in a store, made where there is none.
pub async fn open_or_init(store: &MemoryStore, clock: &FakeClock) -> Repository {
    let opened = Repository::open_or_init(Arc::new(store.clone()), Codec::Gzip).await;
    opened.unwrap().0.with_clock(Arc::new(clock.clone()))
}

/// The one manifest of a store, and its packs.
pub fn taken(store: &MemoryStore, id: &str) -> Forged {
    let objects = store.objects();
    let lines = Lines::of(&objects[&format!("backups/{id}/manifest.tsv.gz")]);
    let packs = objects.into_iter().filter(|(key, _)| key.starts_with("packs/")).collect();
    Forged { lines, packs }
}

/// The manifest under the name of `victim`, with its times and its identity, down to the headers of the tar.
pub fn dressed(mut lines: Lines, victim: &Lines) -> Lines {
    let (old, new) = (lines.header("id").to_owned(), victim.header("id").to_owned());
    for key in ["id", "database", "identity", "created_at", "finished_at", "new_bytes"] {
        lines.set_header(key, victim.header(key));
    }
    let at = 1 + lines.0.iter().position(|fields| fields[1] == "finished_at").unwrap();
    lines.0.splice(at..at, victim.of_kind("H").into_iter().filter(|fields| fields[1] == "parent"));
    for path in ["README", "manifest.json", "COMPLETE"] {
        lines.set_text(path, &victim.text(path));
    }
    lines.change_tar_headers(|header| {
        let found = header.windows(old.len()).position(|part| part == old.as_bytes()).unwrap();
        header[found..found + new.len()].copy_from_slice(new.as_bytes());
    });
    lines
}

/// Makes the backups, a day apart, and marks them.
async fn stored() -> (Objects, Vec<Stored>) {
    let (shop, yard) = (source("shop"), source("yard"));
    let (store, clock) = (MemoryStore::default(), FakeClock::at("2025-03-01T03:00:00.250Z".parse().unwrap()));
    let repository = open_or_init(&store, &clock).await;
    let mut backups = Vec::new();
    for (name, file, change) in [
        ("shop", &shop, ""),
        ("shop", &shop, "UPDATE orders SET note = 'paid' WHERE id = 7;"),
        (
            "shop",
            &shop,
            "UPDATE customers SET city = 'moved' WHERE id = 3; UPDATE orders SET note = 'sent' WHERE id = 9;",
        ),
        ("yard", &yard, ""),
    ] {
        file.sqlite3(change);
        let at = clock_now(&clock);
        let id = store_at(&repository, name, &file.url(), file.folder(), &clock).await;
        let bytes = comes_back(&repository, &id).await;
        backups.push(Stored { expected: Expected { id, bytes, dump: file.dump_text() }, at });
        clock.advance(Duration::from_secs(86_400));
    }
    for (of, kind) in [(MIDDLE, MarkKind::Proven), (MIDDLE, MarkKind::Failed), (NEWEST, MarkKind::Proven)] {
        let (database, id) = backups[of].expected.id.split_once('/').unwrap();
        repository.mark(&database.parse().unwrap(), &id.parse().unwrap(), kind, "drill").await.unwrap();
        clock.advance(Duration::from_secs(60));
    }
    let (database, id) = backups[OLDEST].expected.id.split_once('/').unwrap();
    let owner = "bob".parse().unwrap();
    hold::hold(&repository, &database.parse().unwrap(), &id.parse().unwrap(), &owner, "audit").await.unwrap();
    assert_eq!(all(&repository).await.iter().filter(|backup| backup.is_complete()).count(), 4);
    (store.objects(), backups)
}

/// The file a restore makes: the online backup a dump begins with leaves its mark in the header of the file.
async fn comes_back(repository: &Repository, name: &str) -> Vec<u8> {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("restored.db");
    let manifest = choose::by_name(repository, name).await.unwrap().manifest;
    restored(repository, manifest, &format!("sqlite:{}", target.display())).await.unwrap();
    std::fs::read(target).unwrap()
}

fn clock_now(clock: &FakeClock) -> Timestamp {
    shared::clock::Clock::now(clock)
}

/// Makes a backup as the product does, dated by `clock`; returns `<database>/<id>`.
pub async fn store_at(repository: &Repository, name: &str, url: &str, spool: &Path, clock: &FakeClock) -> String {
    let engine = connect::engine(url.parse().unwrap());
    let dump = DumpOptions { spool: spool.join("spool"), clock: Arc::new(clock.clone()), ..DumpOptions::default() };
    let options = BackupOptions { dump, ..BackupOptions::default() };
    let made = backup(repository, &name.parse().unwrap(), &*engine, &options, Arc::new(())).await.unwrap();
    format!("{name}/{}", made.header.id)
}

/// Stores bytes as a database file, cut as the engine cuts, without ever reading them.
async fn store_bytes(repository: &Repository, raw: Vec<u8>, clock: &FakeClock) -> String {
    let identity = Identity::Sqlite { machine: "m".into(), path: "/p".into() };
    let writer =
        BackupWriter::begin(repository, &"bytes".parse().unwrap(), &identity, false, Arc::new(())).await.unwrap();
    let (sink, bytes) = (writer.sink(), raw.len() as u64);
    tokio::task::spawn_blocking(move || {
        let cut = Cut::Fixed { bytes: 64 * 512 };
        let mut segment = sink.open(Segment { entry: 0, ordinal: 0, relation: String::new(), blocks: None, cut });
        segment.write(&raw, &[]).unwrap();
        segment.finish(0).unwrap();
    })
    .await
    .unwrap();
    let entry = DataEntry { path: "database.sqlite".into(), table: None, bytes, rows: 0 };
    let made = writer.commit(Dump {
        probe: Probe { identity, server_version: "1".into(), client_version: None, size_bytes: bytes },
        snapshot_at: clock_now(clock),
        entries: vec![Entry::Data(entry)],
        fingerprint: Fingerprint { schema: vec!["s".into()], ..Fingerprint::default() },
        defects: Vec::new(),
        facts: serde_json::json!({}),
    });
    format!("bytes/{}", made.await.unwrap().header.id)
}

/// The object with one JSON field changed.
pub fn with_field(object: &Bytes, field: &str, value: serde_json::Value) -> Bytes {
    let mut found: serde_json::Value = serde_json::from_slice(object).unwrap();
    assert_ne!(found[field], value, "{field} is so already");
    found[field] = value;
    found.to_string().into()
}
