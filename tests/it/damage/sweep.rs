//! A backup of 64 KiB, byte by byte: each flipped, everything behind each cut off, its members and objects swapped.
//!
//! What `verify`, a listing and a choice say is asked of every byte in every run. Restores take a sample in the
//! everyday run, every n-th byte from a place the seed chooses; `HOLDFAST_TEST_LONG=1` restores after every damage.

use super::{Expected, Layout, Outcome, all, repository, store_laid_out};
use backup_agent::choose;
use backup_agent::repository::{Codec, Listed, Manifest, Repository};
use bytes::Bytes;
use shared::model::{At, BackupId, Class, DatabaseName};
use std::collections::BTreeMap;
use std::sync::Arc;
use tests::is_long;
use tests::memory_store::{MemoryStore, Objects};
use tests::mutations::Draws;
use tests::sqlite::TestFile;

/// Seed of content and samples where `HOLDFAST_TEST_SEED` gives none.
const SEED: u64 = 64;
/// A restore for every so many bytes of an object; a prime, so that all places in a page and all bits come along.
const RESTORE_STEP: usize = 251;
/// The same for objects too short for that.
const SHORT_STEP: usize = 13;
/// Texts of the archive that lie in packs, in a [`Tally`].
const TEXTS: &str = "texts in packs";
/// Bytes of the one long value, which fills pages of its own.
const NOISE_BYTES: usize = 58_900;
/// One page a chunk: then pages full of random bytes are members of equal length.
const LAYOUT: Layout = Layout { chunk_bytes: 4096, packs: 4 };

/// A store with one backup.
struct Whole {
    objects: Objects,
    expected: Expected,
    /// The backup as it was listed while everything was whole.
    listed: Vec<Listed>,
}

/// A database of which nothing can be compressed, and its backup.
async fn whole(codec: Codec, draws: &mut Draws) -> Whole {
    let file = TestFile::named("noise.db");
    let noise: String = (0..NOISE_BYTES).map(|_| format!("{:02x}", draws.below(256))).collect();
    file.sqlite3(&format!(
        "PRAGMA page_size = 4096; CREATE TABLE t (id INTEGER PRIMARY KEY, t TEXT); CREATE TABLE noise (b BLOB);
         INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, NULL); INSERT INTO noise VALUES (x'{noise}');"
    ));
    let store = MemoryStore::default();
    let repository = repository(&store, codec).await;
    let id = store_laid_out(&repository, "noise", &file.url(), file.folder(), LAYOUT).await;
    let expected = Expected { id, bytes: std::fs::read(file.path()).unwrap(), dump: file.dump_text() };
    let listed = all(&repository).await;
    let mut objects = store.objects();
    // No restore by Holdfast reads the two texts for people; damage.rs shows that.
    objects.retain(|key, _| !matches!(key.as_str(), "RESTORE.md" | "restore.sh"));
    let bytes: usize = objects.values().map(Bytes::len).sum();
    assert!((60 << 10..=72 << 10).contains(&bytes), "the backup has {bytes} bytes");
    Whole { objects, expected, listed }
}

/// What is done to one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    /// One bit of this byte; the bit is the place modulo 8.
    Flip(usize),
    /// Everything from this byte on is gone.
    Cut(usize),
}

impl Damage {
    /// Both damages at every n-th byte.
    fn every(step: usize, from: usize, length: usize) -> impl Iterator<Item = Damage> {
        (from..length).step_by(step).flat_map(|at| [Damage::Flip(at), Damage::Cut(at)])
    }

    fn name(self) -> &'static str {
        match self {
            Damage::Flip(_) => "flipped",
            Damage::Cut(_) => "cut",
        }
    }

    fn done_to(self, body: &Bytes) -> Bytes {
        let mut bytes = body.to_vec();
        match self {
            Damage::Flip(at) => bytes[at] ^= 1 << (at % 8),
            Damage::Cut(keep) => bytes.truncate(keep),
        }
        bytes.into()
    }
}

/// How many damages there were, and how many of them were reported, by folder and kind of damage.
#[derive(Default)]
struct Tally(BTreeMap<(String, &'static str), (usize, usize)>);

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for ((folder, damage), (tried, reported)) in &self.0 {
            write!(f, "\n    {folder} {damage}: {reported} of {tried} reported")?;
        }
        Ok(())
    }
}

impl Tally {
    fn add(&mut self, folder: &str, damage: Damage, outcome: Outcome) {
        let (tried, reported) = self.0.entry((folder.to_owned(), damage.name())).or_default();
        *tried += 1;
        *reported += usize::from(outcome == Outcome::Reported);
    }

    fn merge(&mut self, other: Tally) {
        for (place, (tried, reported)) in other.0 {
            let sum = self.0.entry(place).or_default();
            (sum.0, sum.1) = (sum.0 + tried, sum.1 + reported);
        }
    }

    /// Tried and reported.
    #[track_caller]
    fn of(&self, folder: &str, damage: &'static str) -> (usize, usize) {
        let found = self.0.get(&(folder.to_owned(), damage));
        *found.unwrap_or_else(|| panic!("nothing in {folder} was {damage}: {self:?}"))
    }

    #[track_caller]
    fn assert_all_reported(&self, folder: &str, damage: &'static str) {
        let (tried, reported) = self.of(folder, damage);
        assert!(tried > 0 && tried == reported, "{folder} {damage}: {reported} of {tried} were reported");
    }

    /// Up to `harmless` of them carry nothing: times, systems and flags in the heads of gzip members.
    #[track_caller]
    fn assert_nearly_all_reported(&self, folder: &str, damage: &'static str, harmless: usize) {
        let (tried, reported) = self.of(folder, damage);
        assert!(reported <= tried && reported + harmless >= tried, "{folder} {damage}: {reported} of {tried}");
        assert!(reported > 0, "{folder} {damage}: none of {tried} was reported");
    }

    /// Marks count by their keys, whatever stands in them.
    #[track_caller]
    fn assert_none_reported(&self, folder: &str, damage: &'static str) {
        let (tried, reported) = self.of(folder, damage);
        assert!(tried > 0 && reported == 0, "{folder} {damage}: {reported} of {tried} were reported");
    }
}

fn folder(key: &str) -> &str {
    key.split_once('/').map_or(key, |(folder, _)| folder)
}

impl Whole {
    fn keys_in(&self, wanted: &str) -> Vec<&String> {
        self.objects.keys().filter(|key| folder(key) == wanted).collect()
    }

    /// The store with this damage in all these objects.
    fn with(&self, keys: &[&String], damage: Damage) -> MemoryStore {
        let mut objects = self.objects.clone();
        for key in keys {
            objects.insert((*key).clone(), damage.done_to(&self.objects[*key]));
        }
        MemoryStore::holding(objects)
    }

    fn name(&self) -> (&DatabaseName, &BackupId) {
        (&self.listed[0].database, &self.listed[0].id)
    }

    fn manifest(&self) -> &Manifest {
        self.listed[0].manifest.as_ref().unwrap()
    }

    /// What verify says of packs that are all damaged at the same place; each is read by itself.
    async fn verified(&self, packs: &[&String], damage: Damage) -> Vec<Outcome> {
        let repository = Repository::open(Arc::new(self.with(packs, damage))).await.unwrap();
        let found = repository.verify(&self.listed, &|_| {}).await.unwrap();
        let marked = repository.damaged_packs().await.unwrap();
        assert_eq!(found.is_clean(), marked.is_empty(), "{damage:?}: {found:?}");
        let is_marked = |key: &&String| marked.iter().any(|uuid| key.ends_with(uuid));
        let outcome = |key| if is_marked(key) { Outcome::Reported } else { Outcome::Identical };
        packs.iter().map(outcome).collect()
    }

    /// What a listing says of a manifest, and opening of the configuration; both are read before anything else.
    async fn read(&self, key: &String, damage: Damage) -> Outcome {
        let (database, id) = self.name();
        let read = async {
            let repository = Repository::open(Arc::new(self.with(&[key], damage))).await?;
            repository.manifest(database, id).await
        };
        match read.await {
            Ok(manifest) => {
                assert!(manifest == *self.manifest(), "{key} {damage:?}: another manifest was read");
                Outcome::Identical
            }
            Err(error) => {
                assert!(matches!(error.class(), Class::Corrupt | Class::Refused), "{key} {damage:?}: {error:?}");
                Outcome::Reported
            }
        }
    }

    /// What a choice by time says with a damaged mark.
    async fn chosen(&self, key: &String, damage: Damage) -> Outcome {
        let (database, id) = self.name();
        let repository = Repository::open(Arc::new(self.with(&[key], damage))).await.unwrap();
        let chosen = choose::by_time(&repository, database, &At::Latest).await;
        let chosen = chosen.unwrap_or_else(|error| panic!("{key} {damage:?}: {error}"));
        assert_eq!(chosen.manifest.header.id, *id, "{key} {damage:?}");
        if chosen.passed_over.is_empty() { Outcome::Identical } else { Outcome::Reported }
    }

    async fn restored(&self, key: &String, damage: Damage) -> Outcome {
        let store = self.with(&[key], damage);
        self.expected.outcome(&store, &format!("{key} {damage:?}")).await
    }

    async fn everything_without_restores(&self) -> Tally {
        let mut tally = Tally::default();
        self.verify_everything(&mut tally).await;
        for (key, body) in self.objects.iter().filter(|(key, _)| folder(key) != "packs") {
            for damage in Damage::every(1, 0, body.len()) {
                let outcome = match folder(key) {
                    "marks" => self.chosen(key, damage).await,
                    _ => self.read(key, damage).await,
                };
                tally.add(folder(key), damage, outcome);
            }
        }
        tally
    }

    /// Damages all packs at one place after the other.
    async fn verify_everything(&self, tally: &mut Tally) {
        let packs = self.keys_in("packs");
        let longest = packs.iter().map(|key| self.objects[*key].len()).max().unwrap();
        for damage in Damage::every(1, 0, longest) {
            let (Damage::Flip(at) | Damage::Cut(at)) = damage;
            let reached: Vec<&String> = packs.iter().copied().filter(|key| at < self.objects[*key].len()).collect();
            for outcome in self.verified(&reached, damage).await {
                tally.add("packs", damage, outcome);
            }
        }
    }

    async fn restores(&self, cases: &[(String, Damage)]) -> Tally {
        let mut tally = Tally::default();
        for (key, damage) in cases {
            let place = if self.is_of_a_text(key, *damage) { TEXTS } else { folder(key) };
            tally.add(place, *damage, self.restored(key, *damage).await);
        }
        tally
    }

    /// Whether only a text of the archive is damaged, which no restore by Holdfast reads: one too long for the manifest
    /// lies in a pack, behind the database's members.
    fn is_of_a_text(&self, key: &str, damage: Damage) -> bool {
        let (Damage::Flip(at) | Damage::Cut(at)) = damage;
        folder(key) == "packs" && !self.members().iter().any(|member| member.pack == key && at < member.bytes.end)
    }

    /// Everything, or the sample of the everyday run.
    fn cases(&self, draws: &mut Draws) -> Vec<(String, Damage)> {
        let mut cases = Vec::new();
        for (key, body) in &self.objects {
            let step = match body.len() {
                _ if is_long() => 1,
                0..1024 => SHORT_STEP,
                _ => RESTORE_STEP,
            };
            let damages = Damage::every(step, draws.below(step), body.len());
            cases.extend(damages.map(|damage| (key.clone(), damage)));
        }
        cases
    }
}

/// Restores on two threads in the long run, on one otherwise.
fn restore_all(whole: &Whole, cases: &[(String, Damage)]) -> Tally {
    let half = if is_long() { cases.len().div_ceil(2) } else { cases.len() };
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let work = |part| scope.spawn(move || runtime().block_on(whole.restores(part)));
        let running: Vec<_> = cases.chunks(half).map(work).collect();
        for thread in running {
            tally.merge(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    tally
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().max_blocking_threads(2).enable_all().build().unwrap()
}

#[test]
fn every_byte_of_64_kib_flipped_or_cut_off_is_found_without_a_restore() {
    let (whole, tally) = runtime().block_on(async {
        let whole = whole(Codec::Gzip, &mut Draws::from_environment_or(SEED)).await;
        let tally = whole.everything_without_restores().await;
        (whole, tally)
    });
    println!("without a restore:{tally:?}");
    for folder in ["packs", "backups", "holdfast.json", "marks"] {
        let bytes: usize = whole.keys_in(folder).iter().map(|key| whole.objects[*key].len()).sum();
        for damage in ["flipped", "cut"] {
            assert_eq!(tally.of(folder, damage).0, bytes, "{folder} {damage}: a place was left out");
        }
    }
    tally.assert_all_reported("packs", "flipped");
    tally.assert_nearly_all_reported("backups", "flipped", 12);
    // The digits of an id and of a time, which may be others.
    tally.assert_nearly_all_reported("holdfast.json", "flipped", 60);
    for folder in ["packs", "backups", "holdfast.json"] {
        tally.assert_all_reported(folder, "cut");
    }
    for damage in ["flipped", "cut"] {
        tally.assert_none_reported("marks", damage);
    }
}

#[test]
fn a_backup_of_64_kib_with_any_byte_flipped_or_cut_off_never_becomes_another_database() {
    let mut draws = Draws::from_environment_or(SEED);
    for codec in [Codec::Gzip, Codec::Zstd] {
        let whole = runtime().block_on(whole(codec, &mut draws));
        let cases = whole.cases(&mut draws);
        let tally = restore_all(&whole, &cases);
        println!("{codec:?}: {} restores:{tally:?}", cases.len());
        let (tried, _) = tally.of("packs", "flipped");
        tally.assert_nearly_all_reported("packs", "flipped", tried / 200 + 4);
        tally.assert_nearly_all_reported("backups", "flipped", 12);
        for folder in ["packs", "backups", "holdfast.json"] {
            tally.assert_all_reported(folder, "cut");
        }
        tally.assert_none_reported("marks", "flipped");
        let is_silent = |((place, _), (_, reported)): (&(String, _), &(_, usize))| place != TEXTS || *reported == 0;
        assert!(tally.0.iter().all(is_silent), "a restore read a text of the archive: {tally:?}");
    }
}

/// Where a member lies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    pack: String,
    bytes: std::ops::Range<usize>,
}

impl Whole {
    /// The members of the database file, each once; chunks of texts belong to no range.
    fn members(&self) -> Vec<Place> {
        let place = |pack: u32, offset: u64, length: u32| {
            let uuid = &self.manifest().packs[pack as usize].uuid;
            let (from, length) = (usize::try_from(offset).unwrap(), length as usize);
            Place { pack: format!("packs/0/{}/{uuid}", &uuid[..2]), bytes: from..from + length }
        };
        let mut found = Vec::new();
        for chunk in self.manifest().chunks().filter(|chunk| chunk.range.is_some()) {
            let place = place(chunk.pack, chunk.offset, chunk.length);
            if !found.contains(&place) {
                found.push(place);
            }
        }
        found
    }

    fn member(&self, place: &Place) -> Bytes {
        self.objects[&place.pack].slice(place.bytes.clone())
    }

    /// The store with one member in the place of the other and the other way round.
    fn with_members_swapped(&self, left: &Place, right: &Place) -> Objects {
        let mut objects = self.objects.clone();
        for (from, to) in [(left, right), (right, left)] {
            let mut bytes = objects[&to.pack].to_vec();
            bytes[to.bytes.clone()].copy_from_slice(&self.member(from));
            objects.insert(to.pack.clone(), bytes.into());
        }
        objects
    }

    fn with_objects_swapped(&self, left: &str, right: &str) -> Objects {
        let mut objects = self.objects.clone();
        objects.insert(left.to_owned(), self.objects[right].clone());
        objects.insert(right.to_owned(), self.objects[left].clone());
        objects
    }

    /// Packs that verify marks as damaged.
    async fn damaged_packs(&self, objects: &Objects) -> usize {
        let repository = Repository::open(Arc::new(MemoryStore::holding(objects.clone()))).await.unwrap();
        repository.verify(&self.listed, &|_| {}).await.unwrap();
        repository.damaged_packs().await.unwrap().len()
    }
}

/// All pairs of different elements, each once.
fn pairs<T>(of: &[T]) -> impl Iterator<Item = (&T, &T)> {
    of.iter().enumerate().flat_map(|(at, left)| of[at + 1..].iter().map(move |right| (left, right)))
}

#[tokio::test]
async fn any_two_members_of_one_length_swapped_are_found_by_verify_and_by_a_restore() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let whole = whole(codec, &mut Draws::from_environment_or(SEED)).await;
        let members = whole.members();
        let (mut within, mut across) = (0, 0);
        for (left, right) in pairs(&members).filter(|(left, right)| left.bytes.len() == right.bytes.len()) {
            let what = format!("{codec:?}: {left:?} and {right:?} swapped");
            let objects = whole.with_members_swapped(left, right);
            assert_ne!(objects, whole.objects, "{what}: nothing was changed");
            let packs = if left.pack == right.pack { 1 } else { 2 };
            assert_eq!(whole.damaged_packs(&objects).await, packs, "{what}");
            let outcome = whole.expected.outcome(&MemoryStore::holding(objects), &what).await;
            assert_eq!(outcome, Outcome::Reported, "{what}");
            if packs == 1 { within += 1 } else { across += 1 }
        }
        println!("{codec:?}: {} members; swapped: {within} pairs in one pack, {across} across packs", members.len());
        assert!(within >= 10 && across >= 40, "only {within} and {across} pairs of members have one length");
    }
}

#[tokio::test]
async fn any_two_objects_of_a_backup_of_several_packs_swapped_are_reported() {
    let whole = whole(Codec::Gzip, &mut Draws::from_environment_or(SEED)).await;
    let keys: Vec<&String> = whole.objects.keys().collect();
    let (mut of_one_length, mut tried) = (0, 0);
    for (left, right) in pairs(&keys) {
        let what = format!("{left} and {right} swapped");
        let store = MemoryStore::holding(whole.with_objects_swapped(left, right));
        assert_eq!(whole.expected.outcome(&store, &what).await, Outcome::Reported, "{what}");
        tried += 1;
        of_one_length += usize::from(whole.objects[*left].len() == whole.objects[*right].len());
    }
    println!("{tried} pairs of objects, {of_one_length} of one length");
    assert!(whole.keys_in("packs").len() == LAYOUT.packs && of_one_length > 0, "no packs of one length: {keys:?}");
}
