//! Consistent tampering: somebody who may write to the store changes what it holds and makes everything right that can
//! be computed without a secret.
//!
//! Each kind of tampering says what becomes of it, and the test asserts exactly that: so the list of what only a
//! signature could catch (FORMAT.md, "What only a signature can catch") is what was found, not what was supposed.

mod kinds;
mod lines;
mod postgres;
mod scene;

use super::{all, restored};
use backup_agent::choose;
use backup_agent::error::Error;
use backup_agent::repository::{Manifest, Repository, StoredBackup};
use backup_agent::restore::Restored;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use kinds::Kind;
use scene::{NEWEST, OLDEST, Scene};
use shared::model::{At, Class};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tests::is_long;
use tests::memory_store::{MemoryStore, Objects};
use tests::mutations::Draws;

/// Tampers of the everyday run; the long run draws ten times as many.
const TAMPERS: usize = 200;
/// Seed of the draws where `HOLDFAST_TEST_SEED` gives none.
const SEED: u64 = 200;

/// What became of one tampering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// The restore, the listing or the export ends in an error and leaves nothing under the target's name.
    Refused,
    /// It goes on, but says so: values that differ because they were "recomputed", backups passed over.
    Named,
    /// What comes back, or is said, is what it was.
    Identical,
    /// Another database comes back and is proven, or another thing is said, and nothing gives it away.
    OnlyASignature,
}

/// By which way the tampered store is looked at.
#[derive(Debug, Clone, Copy)]
enum Door {
    /// A restore of this backup by its id.
    ById(usize),
    /// A restore of the newest.
    Latest,
    /// A restore of what there was at this time.
    AsOf(Timestamp),
    /// The archive of this backup.
    Export(usize),
    /// What a listing says of all backups. A restore of this one must be what it was.
    Said(usize),
    /// A restore of this backup, of which every byte must be what it was, not only the rows.
    Bytes(usize),
    /// The texts in the store for people without Holdfast; a restore of this backup must be what it was.
    Texts(usize),
}

/// A store that was tampered with.
struct Tamper {
    /// In words, for a failure's message.
    what: String,
    objects: Objects,
    door: Door,
}

/// A verdict, and what was said.
struct Judged {
    verdict: Verdict,
    said: String,
}

impl Judged {
    fn refused(error: &Error) -> Judged {
        assert_ne!(error.class(), Class::Transient, "{error}");
        Judged { verdict: Verdict::Refused, said: error.to_string() }
    }

    fn equal_or_not(is_equal: bool, what: &str) -> Judged {
        let verdict = if is_equal { Verdict::Identical } else { Verdict::OnlyASignature };
        Judged { verdict, said: what.to_owned() }
    }
}

impl Scene {
    async fn judge(&self, tamper: &Tamper) -> Judged {
        let store = MemoryStore::holding(tamper.objects.clone());
        let repository = match Repository::open(Arc::new(store.clone())).await {
            Ok(repository) => repository,
            Err(error) => return Judged::refused(&error),
        };
        match tamper.door {
            Door::ById(victim) => self.judge_restore(&repository, victim).await,
            Door::Latest => self.judge_time(&repository, At::Latest, NEWEST).await,
            Door::AsOf(instant) => {
                let meant = (OLDEST..=NEWEST).rev().find(|of| self.backups[*of].at <= instant).unwrap();
                self.judge_time(&repository, At::Instant(instant), meant).await
            }
            Door::Export(victim) => self.judge_archive(&repository, victim).await,
            Door::Said(victim) => {
                let said = said(&repository).await;
                let before = said_of(&self.objects).await;
                self.and_restored(&repository, victim, Judged::equal_or_not(said == before, "listed")).await
            }
            Door::Bytes(victim) => self.judge_bytes(&repository, victim).await,
            Door::Texts(victim) => {
                let text = |objects: &Objects| [objects["restore.sh"].clone(), objects["RESTORE.md"].clone()];
                let is_equal = text(&store.objects()) == text(&self.objects);
                self.and_restored(&repository, victim, Judged::equal_or_not(is_equal, "the texts")).await
            }
        }
    }

    /// This verdict, if a restore of the backup is what it was.
    async fn and_restored(&self, repository: &Repository, victim: usize, judged: Judged) -> Judged {
        let restored = self.judge_restore(repository, victim).await;
        if restored.verdict == Verdict::Identical { judged } else { restored }
    }

    async fn judge_restore(&self, repository: &Repository, victim: usize) -> Judged {
        match choose::by_name(repository, self.name(victim)).await {
            Ok(chosen) => self.judge_manifest(repository, chosen.manifest, victim).await,
            Err(error) => Judged::refused(&error),
        }
    }

    async fn judge_time(&self, repository: &Repository, at: At, meant: usize) -> Judged {
        let chosen = match choose::by_time(repository, &"shop".parse().unwrap(), &at).await {
            Ok(chosen) => chosen,
            Err(error) => return Judged::refused(&error),
        };
        let judged = self.judge_manifest(repository, chosen.manifest, meant).await;
        match chosen.passed_over.as_slice() {
            [] => judged,
            passed_over => Judged { verdict: Verdict::Named, said: format!("passed over: {passed_over:?}") },
        }
    }

    async fn judge_manifest(&self, repository: &Repository, manifest: Manifest, meant: usize) -> Judged {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("restored.db");
        match restored(repository, manifest, &format!("sqlite:{}", target.display())).await {
            Ok(restored) => self.judge_file(&restored, &target, meant),
            Err(error) => {
                assert_nothing_but_kept(place.path(), &error);
                Judged::refused(&error)
            }
        }
    }

    fn judge_file(&self, restored: &Restored, target: &Path, meant: usize) -> Judged {
        assert!(restored.proven, "{restored:?}");
        if !restored.recomputed.is_empty() {
            return Judged { verdict: Verdict::Named, said: format!("recomputed: {:?}", restored.recomputed) };
        }
        Judged::equal_or_not(self.backups[meant].expected.is_at(target), "proven")
    }

    async fn judge_bytes(&self, repository: &Repository, victim: usize) -> Judged {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("restored.db");
        let chosen = choose::by_name(repository, self.name(victim)).await.unwrap();
        match restored(repository, chosen.manifest, &format!("sqlite:{}", target.display())).await {
            Ok(restored) => {
                assert!(restored.proven && restored.recomputed.is_empty(), "{restored:?}");
                Judged::equal_or_not(std::fs::read(&target).unwrap() == self.backups[victim].expected.bytes, "proven")
            }
            Err(error) => Judged::refused(&error),
        }
    }

    async fn judge_archive(&self, repository: &Repository, victim: usize) -> Judged {
        let whole = Repository::open(Arc::new(MemoryStore::holding(self.objects.clone()))).await.unwrap();
        let before = archive(&whole, self.name(victim)).await.unwrap();
        match archive(repository, self.name(victim)).await {
            Ok(found) => {
                let exported = Judged::equal_or_not(found == before, "exported");
                self.and_restored(repository, victim, exported).await
            }
            Err(error) => Judged::refused(&error),
        }
    }
}

/// A restore that was refused leaves nothing; one whose proof failed leaves what it keeps to be looked at.
fn assert_nothing_but_kept(place: &Path, error: &Error) {
    let left: Vec<String> =
        std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    if matches!(error, Error::Different { .. }) {
        assert!(matches!(left.as_slice(), [name] if name.contains(".kept-")), "{left:?} after: {error}");
    } else {
        assert_eq!(left, Vec::<String>::new(), "something was left after: {error}");
    }
}

/// The raw bytes of a backup's archive.
async fn archive(repository: &Repository, name: &str) -> Result<Vec<u8>, Error> {
    let chosen = choose::by_name(repository, name).await?;
    let stored = StoredBackup::open(repository, chosen.manifest).await?;
    let members: Vec<bytes::Bytes> = stored.archive().try_collect().await?;
    Ok(lines::gunzip(&members.concat()))
}

async fn said_of(objects: &Objects) -> String {
    said(&Repository::open(Arc::new(MemoryStore::holding(objects.clone()))).await.unwrap()).await
}

/// What `list` and `show` say of all backups.
async fn said(repository: &Repository) -> String {
    let mut text = String::new();
    for backup in all(repository).await {
        let state = format!("complete: {}, proven: {:?}", backup.is_complete(), backup.proven_at());
        let marks: Vec<_> = backup.marks.iter().collect();
        text.push_str(&format!("{}/{}: {state}, {marks:?}, {:?}", backup.database, backup.id, backup.marks.holds()));
        match backup.manifest {
            Ok(mut manifest) => {
                manifest.header.facts = serde_json::Value::Null;
                let tables: Vec<_> = manifest.tables.iter().map(|table| (&table.name, table.rows)).collect();
                text.push_str(&format!("{:?} {tables:?}\n", manifest.header));
            }
            Err(error) => text.push_str(&format!("{error}\n")),
        }
    }
    text
}

/// How often a kind was tried, and what was said the first time.
#[derive(Default)]
struct Row {
    tried: usize,
    said: String,
}

/// Each kind once, then by chance.
fn drawn<'a>(kinds: &'a [Kind], number: usize, draws: &mut Draws) -> Vec<&'a Kind> {
    assert!(kinds.len() <= number);
    let mut drawn: Vec<&Kind> = kinds.iter().collect();
    while drawn.len() < number {
        drawn.push(draws.pick(kinds));
    }
    drawn
}

#[test]
fn two_hundred_consistent_tampers_are_caught_or_are_of_a_kind_that_only_a_signature_can_catch() {
    let (scene, kinds) = (Scene::new(), kinds::all());
    let mut draws = Draws::from_environment_or(SEED);
    let number = if is_long() { 10 * TAMPERS } else { TAMPERS };
    let (mut table, mut wrong) = (BTreeMap::<(Verdict, &str), Row>::new(), Vec::new());
    for kind in drawn(&kinds, number, &mut draws) {
        let tamper = (kind.make)(&scene, &mut draws);
        assert_ne!(tamper.objects, scene.objects, "{}: {}: nothing was changed", kind.name, tamper.what);
        let judged = scene.block_on(scene.judge(&tamper));
        if judged.verdict != kind.expected {
            let Judged { verdict, said } = &judged;
            wrong.push(format!("{}: {}: {verdict:?} and not {:?}: {said}", kind.name, tamper.what, kind.expected));
        }
        let row = table.entry((judged.verdict, &kind.name)).or_default();
        row.tried += 1;
        row.said = judged.said;
    }
    print(&table);
    assert!(
        wrong.is_empty(),
        "HOLDFAST_TEST_SEED={}: {} of {number}:\n{}",
        draws.seed(),
        wrong.len(),
        wrong.join("\n")
    );
    let of =
        |verdict| table.iter().filter(|((found, _), _)| *found == verdict).map(|(_, row)| row.tried).sum::<usize>();
    assert!(
        of(Verdict::Refused) >= number / 4 && of(Verdict::OnlyASignature) >= number / 8,
        "hardly anything was tried"
    );
}

fn print(table: &BTreeMap<(Verdict, &str), Row>) {
    for ((verdict, kind), Row { tried, said }) in table {
        let said: String = said.replace('\n', " ").chars().take(110).collect();
        println!("{kind} | {tried} | {verdict:?} | {said}");
    }
}

#[test]
fn an_untouched_store_is_identical_by_every_door() {
    let scene = Scene::new();
    for victim in 0..scene.backups.len() {
        for door in [
            Door::ById(victim),
            Door::Latest,
            Door::AsOf(scene.backups[OLDEST].at),
            Door::Export(victim),
            Door::Said(victim),
            Door::Bytes(victim),
            Door::Texts(victim),
        ] {
            let tamper = Tamper { what: String::new(), objects: scene.objects.clone(), door };
            let judged = scene.block_on(scene.judge(&tamper));
            assert_eq!(judged.verdict, Verdict::Identical, "{door:?}: {}", judged.said);
        }
    }
}
