//! What the manifest says about the backup: its header, and the numbers and digests of its tables.

use super::super::lines::Lines;
use super::super::scene::{MIDDLE, NEWEST, OLDEST, Scene};
use super::super::{Door, Tamper, Verdict};
use super::{Kind, any};
use tests::mutations::Draws;

/// A change of a manifest's lines; it may draw a place.
type Change = fn(&mut Lines, &mut Draws);

/// A kind that changes a manifest's lines and makes its end line right.
pub(super) fn changed(name: &str, expected: Verdict, door: fn(usize) -> Door, change: Change) -> Kind {
    Kind::new(name, expected, move |scene, draws| {
        let victim = any(scene, draws);
        let mut lines = scene.lines(victim);
        change(&mut lines, draws);
        let what = scene.name(victim).to_owned();
        Tamper { what, objects: scene.with_manifest(victim, &lines), door: door(victim) }
    })
}

pub fn kinds() -> Vec<Kind> {
    let mut kinds = said();
    kinds.extend(needed());
    kinds.extend(tables());
    kinds.push(Kind::new("the instant of the snapshot, asked by time", Verdict::OnlyASignature, as_of));
    kinds
}

/// Gives a header another value.
macro_rules! header {
    ($key:literal, $value:literal) => {
        |lines, _| lines.set_header($key, $value)
    };
}

/// Headers a restore does not need: what is said of the backup is another thing, what comes back is not.
fn said() -> Vec<Kind> {
    let kind = |name: &str, change| changed(name, Verdict::OnlyASignature, Door::Said, change);
    vec![
        kind("said: server_version", header!("server_version", "3.0.0")),
        kind("said: writer", header!("writer", "9.9.9")),
        kind("said: created_at", header!("created_at", "2031-01-01T00:00:00.000Z")),
        kind("said: finished_at", header!("finished_at", "2031-01-01T00:00:00Z")),
        kind("said: identity", header!("identity", r#"{"engine":"sqlite","machine":"other","path":"/other.db"}"#)),
        kind("said: sizes", |lines, draws| {
            let key = *draws.pick(&["raw_bytes", "stored_bytes", "new_bytes"]);
            lines.set_header(key, "1");
        }),
        kind("said: a parent", |lines, _| insert_header(lines, "parent", "20200101T000000Z-abcdef")),
        kind("said: a defect", |lines, _| insert_header(lines, "defect", "integrity_check: *** damaged ***")),
        kind("said: client_version", |lines, _| insert_header(lines, "client_version", "17.0")),
        changed("said: facts", Verdict::Identical, Door::Said, |lines, _| {
            lines.set_header("facts", r#"{"page_size":65536,"had_wal":true,"integrity":["no"]}"#);
        }),
        changed("said: an unknown header", Verdict::Identical, Door::Said, |lines, _| {
            insert_header(lines, "signature", "good");
        }),
    ]
}

fn insert_header(lines: &mut Lines, key: &str, value: &str) {
    let at = 1 + *lines.places("H").last().unwrap();
    lines.0.insert(at, ["H", key, value].map(str::to_owned).to_vec());
}

/// Headers that are checked.
fn needed() -> Vec<Kind> {
    let kind = |name: &str, change| changed(name, Verdict::Refused, Door::ById, change);
    vec![
        kind("header: format", header!("format", "2")),
        kind("header: id", header!("id", "20310101T000000Z-abcdef")),
        kind("header: database", header!("database", "other")),
        kind("header: engine", header!("engine", "postgres")),
        kind("header: codec", header!("codec", "zstd")),
        kind("header: schema_digest", |lines, draws| {
            let digest = other_digit(lines.header("schema_digest"), draws);
            lines.set_header("schema_digest", &digest);
        }),
        kind("header: one is missing", |lines, draws| {
            let key = *draws.pick(&["id", "identity", "writer", "facts", "raw_bytes", "schema_digest"]);
            lines.0.retain(|fields| fields[0] != "H" || fields[1] != key);
        }),
    ]
}

/// Hexadecimal digits of which one is another.
pub(super) fn other_digit(digits: &str, draws: &mut Draws) -> String {
    let at = draws.below(digits.len());
    let other = if &digits[at..=at] == "0" { "1" } else { "0" };
    format!("{}{other}{}", &digits[..at], &digits[at + 1..])
}

fn any_table(lines: &Lines, draws: &mut Draws) -> usize {
    *draws.pick(&lines.places("T"))
}

/// Numbers and digests of tables.
fn tables() -> Vec<Kind> {
    let kind = |name: &str, change| changed(name, Verdict::Refused, Door::ById, change);
    vec![
        kind("table: its number of rows", |lines, draws| {
            let at = any_table(lines, draws);
            lines.0[at][2] = (lines.0[at][2].parse::<u64>().unwrap() + 1).to_string();
        }),
        kind("table: its digest", |lines, draws| {
            let at = any_table(lines, draws);
            lines.0[at][4] = other_digit(&lines.0[at][4], draws);
        }),
        kind("table: its name", |lines, draws| {
            let at = any_table(lines, draws);
            lines.0[at][1] = "\"others\"".into();
        }),
        kind("table: hidden", |lines, draws| {
            let at = any_table(lines, draws);
            lines.0.remove(at);
        }),
        kind("table: invented", |lines, draws| {
            let at = any_table(lines, draws);
            let mut fields = lines.0[at].clone();
            fields[1] = "\"invented\"".into();
            lines.0.insert(at, fields);
        }),
        kind("table: two names exchanged", |lines, draws| {
            let places = lines.places("T");
            let left = draws.below(places.len());
            let right = (left + 1 + draws.below(places.len() - 1)) % places.len();
            let name = lines.0[places[left]][1].clone();
            lines.0[places[left]][1] = std::mem::replace(&mut lines.0[places[right]][1], name);
        }),
        kind("a sequence invented", |lines, _| {
            let at = 1 + *lines.places("T").last().unwrap();
            lines.0.insert(at, ["S", "\"s\"", "1", "t"].map(str::to_owned).to_vec());
        }),
        changed("table: the digest of its generated columns", Verdict::Named, Door::ById, |lines, draws| {
            let at = lines.places("T").into_iter().find(|at| lines.0[*at][5] != "-").unwrap();
            lines.0[at][5] = other_digit(&lines.0[at][5], draws);
        }),
    ]
}

/// One of two backups of a database says that it was taken at another time, so that a time means the other.
fn as_of(scene: &Scene, draws: &mut Draws) -> Tamper {
    let (victim, to, asked) = *draws.pick(&[
        // Earlier than it was: it is taken for what there was then.
        (NEWEST, "2025-03-02T02:00:00.000Z", MIDDLE),
        (MIDDLE, "2025-03-01T03:00:00.000Z", OLDEST),
        // Later than it was: the one before it is.
        (MIDDLE, "2025-03-02T23:00:00.000Z", MIDDLE),
    ]);
    let mut lines = scene.lines(victim);
    lines.set_header("created_at", to);
    let what = format!("{} says {to}", scene.name(victim));
    let door = Door::AsOf(scene.backups[asked].at);
    Tamper { what, objects: scene.with_manifest(victim, &lines), door }
}
