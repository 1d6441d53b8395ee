//! The table of contents of a schema archive: which entries go where, and what a chosen table needs.

use std::collections::{BTreeMap, BTreeSet};

/// One entry as `pg_restore --list --verbose` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TocEntry {
    /// The entry's number inside the archive.
    pub(crate) dump_id: u32,
    /// OID of the object in the source; 0 where it has none of its own.
    pub(crate) oid: u32,
    /// Kind, for instance `FK CONSTRAINT`.
    pub(crate) kind: &'static str,
    /// Schema, name and owner as printed.
    pub(crate) label: String,
    depends: Vec<u32>,
    line: String,
}

/// Kinds of entries, those of several words first. Any other kind is known by its first word only.
const KINDS: [&str; 32] = [
    "MATERIALIZED VIEW DATA",
    "DATABASE PROPERTIES",
    "SEQUENCE OWNED BY",
    "CHECK CONSTRAINT",
    "MATERIALIZED VIEW",
    "PUBLICATION TABLES IN SCHEMA",
    "PUBLICATION TABLE",
    "BLOB METADATA",
    "FK CONSTRAINT",
    "SECURITY LABEL",
    "EVENT TRIGGER",
    "FOREIGN TABLE",
    "TABLE ATTACH",
    "INDEX ATTACH",
    "SEQUENCE SET",
    "ROW SECURITY",
    "DEFAULT ACL",
    "LARGE OBJECT",
    "CONSTRAINT",
    "STATISTICS",
    "SEQUENCE",
    "COMMENT",
    "TRIGGER",
    "DEFAULT",
    "POLICY",
    "BLOBS",
    "INDEX",
    "TABLE",
    "VIEW",
    "RULE",
    "BLOB",
    "ACL",
];

/// Everything this module does not tell apart.
const OTHER: &str = "OTHER";

/// Kinds that belong to the table they depend on and come with it.
const BOUND: [&str; 18] = [
    "SEQUENCE OWNED BY",
    "CHECK CONSTRAINT",
    "FK CONSTRAINT",
    "SECURITY LABEL",
    "TABLE ATTACH",
    "INDEX ATTACH",
    "SEQUENCE SET",
    "ROW SECURITY",
    "CONSTRAINT",
    "STATISTICS",
    "SEQUENCE",
    "COMMENT",
    "TRIGGER",
    "DEFAULT",
    "POLICY",
    "INDEX",
    "RULE",
    "ACL",
];

/// Kinds that hold rows or show other relations' rows: never drawn in by a dependency alone, except as a type's home.
const RELATIONS: [&str; 4] = ["TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW"];

/// When an entry is created during a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// By `pg_restore`, in the entry's own section.
    Main,
    /// By us, after everything else: grants, refreshes, event triggers.
    Final,
    /// Never: large objects are made by ourselves, databases too.
    Never,
}

impl TocEntry {
    /// When this entry is created.
    pub(crate) fn stage(&self) -> Stage {
        let about = |what: &str| self.label.contains(what) && self.oid == 0;
        match self.kind {
            "BLOB" | "BLOBS" | "BLOB METADATA" | "LARGE OBJECT" | "DATABASE PROPERTIES" => Stage::Never,
            "COMMENT" | "ACL" | "SECURITY LABEL" if about("- LARGE OBJECT") || about("- LARGE OBJECTS") => Stage::Never,
            "COMMENT" | "ACL" | "SECURITY LABEL" if about("- DATABASE ") => Stage::Never,
            "ACL" | "DEFAULT ACL" | "MATERIALIZED VIEW DATA" | "EVENT TRIGGER" => Stage::Final,
            "COMMENT" | "SECURITY LABEL" if about("- EVENT TRIGGER ") => Stage::Final,
            _ => Stage::Main,
        }
    }

    /// Whether the entry's label says that it is an object of this table.
    pub(crate) fn is_of(&self, schema: &str, table: &str) -> bool {
        self.label.starts_with(&format!("{schema} {table} "))
    }

    /// Kind, schema, name and owner, for a person.
    pub(crate) fn describe(&self) -> String {
        self.line.split_whitespace().skip(3).collect::<Vec<_>>().join(" ")
    }
}

/// Understands the output of `pg_restore --list --verbose`.
pub(crate) fn parse(text: &str) -> Vec<TocEntry> {
    let mut list: Vec<TocEntry> = Vec::new();
    for line in text.lines() {
        if let Some(ids) = line.strip_prefix(";\tdepends on:") {
            if let Some(entry) = list.last_mut() {
                entry.depends.extend(ids.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
            }
        } else if let Some(entry) = parse_line(line) {
            list.push(entry);
        }
    }
    list
}

fn parse_line(line: &str) -> Option<TocEntry> {
    let (id, rest) = line.split_once("; ")?;
    let dump_id = id.parse().ok()?;
    let mut parts = rest.splitn(3, ' ');
    let (_catalogue, oid, rest) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    let kind = KINDS.iter().find(|kind| rest.strip_prefix(**kind).is_some_and(|tail| tail.starts_with(' ')));
    let label = kind.map_or(rest, |kind| rest[kind.len()..].trim_start()).to_owned();
    Some(TocEntry { dump_id, oid, kind: kind.unwrap_or(&OTHER), label, depends: Vec::new(), line: line.to_owned() })
}

/// The list file for `pg_restore --use-list` that keeps the order of the archive.
pub(crate) fn list_file<'a>(entries: impl IntoIterator<Item = &'a TocEntry>) -> String {
    entries.into_iter().map(|entry| entry.line.as_str()).flat_map(|line| [line, "\n"]).collect()
}

/// The last steps of a restore in their order: grants, refreshes, event triggers.
///
/// A refresh runs with the rights of the view's owner, so grants come first; an event trigger that forbids DDL would
/// stop refreshes, so those come last.
pub(crate) fn final_order<'a>(entries: impl IntoIterator<Item = &'a TocEntry>) -> Vec<&'a TocEntry> {
    let mut list: Vec<&TocEntry> = entries.into_iter().filter(|entry| entry.stage() == Stage::Final).collect();
    list.sort_by_key(|entry| rank(entry));
    list
}

/// Place of an entry among the last steps.
pub(crate) fn rank(entry: &TocEntry) -> u8 {
    match entry.kind {
        "ACL" | "DEFAULT ACL" => 0,
        "MATERIALIZED VIEW DATA" => 1,
        _ => 2,
    }
}

/// What remains of an archive when only some tables are wanted.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// Dump ids that stay.
    pub(crate) kept: BTreeSet<u32>,
    /// Entries bound to a chosen table and something not chosen: foreign keys from or to it, mostly.
    pub(crate) left_out: Vec<TocEntry>,
}

/// Keeps the tables with these OIDs, everything they need, and everything bound to them that needs no other table.
pub(crate) fn select(entries: &[TocEntry], tables: &BTreeSet<u32>) -> Selection {
    let by_id: BTreeMap<u32, &TocEntry> = entries.iter().map(|entry| (entry.dump_id, entry)).collect();
    let chosen = |entry: &TocEntry| entry.kind == "TABLE" && tables.contains(&entry.oid);
    let mut kept: BTreeSet<u32> = BTreeSet::new();
    let mut todo: Vec<u32> = entries.iter().filter(|entry| chosen(entry)).map(|entry| entry.dump_id).collect();
    while let Some(id) = todo.pop() {
        if kept.insert(id) {
            todo.extend(by_id.get(&id).iter().flat_map(|entry| entry.depends.iter().copied()));
        }
    }
    let mut selection = Selection { kept, left_out: Vec::new() };
    // A constraint may hang on an index that hangs on a table, so go round until nothing is added.
    loop {
        let before = selection.kept.len();
        for entry in entries.iter().filter(|entry| BOUND.contains(&entry.kind)) {
            let hangs = entry.depends.iter().any(|id| bound_to(&by_id, &selection.kept, *id, entry));
            if hangs && !selection.kept.contains(&entry.dump_id) && closed(&by_id, &selection.kept, entry) {
                keep_with_needs(&by_id, &mut selection.kept, entry.dump_id);
            }
        }
        if selection.kept.len() == before {
            break;
        }
    }
    for entry in entries.iter().filter(|entry| BOUND.contains(&entry.kind) && !selection.kept.contains(&entry.dump_id))
    {
        if entry.depends.iter().any(|id| selection.kept.contains(id) && by_id.get(id).is_some_and(|on| chosen(on))) {
            selection.left_out.push(entry.clone());
        }
    }
    selection
}

/// Comments and grants come with anything kept, the rest only with relations and what hangs on them.
fn bound_to(by_id: &BTreeMap<u32, &TocEntry>, kept: &BTreeSet<u32>, id: u32, entry: &TocEntry) -> bool {
    let Some(on) = by_id.get(&id).filter(|on| kept.contains(&on.dump_id)) else { return false };
    matches!(entry.kind, "COMMENT" | "ACL" | "SECURITY LABEL") || on.kind == "TABLE" || BOUND.contains(&on.kind)
}

/// Whether everything an entry needs is kept already or is no relation.
fn closed(by_id: &BTreeMap<u32, &TocEntry>, kept: &BTreeSet<u32>, entry: &TocEntry) -> bool {
    let mut seen = BTreeSet::new();
    let mut todo = entry.depends.clone();
    while let Some(id) = todo.pop() {
        let Some(need) = by_id.get(&id) else { continue };
        if kept.contains(&id) || !seen.insert(id) {
            continue;
        }
        // An index or constraint that is not kept stands for a table that is not.
        if RELATIONS.contains(&need.kind) || matches!(need.kind, "CONSTRAINT" | "INDEX") {
            return false;
        }
        todo.extend(need.depends.iter().copied());
    }
    true
}

fn keep_with_needs(by_id: &BTreeMap<u32, &TocEntry>, kept: &mut BTreeSet<u32>, id: u32) {
    if kept.insert(id) {
        for need in by_id.get(&id).iter().flat_map(|entry| entry.depends.iter().copied()) {
            keep_with_needs(by_id, kept, need);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
;
; Selected TOC Entries:
;
5; 2615 100 SCHEMA - app owner
20; 1247 101 TYPE app mood owner
;\tdepends on: 5
30; 1259 200 TABLE app orders owner
;\tdepends on: 5 20
31; 1259 201 TABLE app lines owner
;\tdepends on: 5
32; 1259 202 VIEW app both owner
;\tdepends on: 30 31
40; 2606 300 CONSTRAINT app orders orders_pkey owner
;\tdepends on: 30
41; 2606 301 FK CONSTRAINT app lines lines_fkey owner
;\tdepends on: 30 40 31
50; 0 0 COMMENT app TABLE orders owner
;\tdepends on: 30
60; 0 0 ACL app TABLE orders owner
;\tdepends on: 30
70; 3466 400 EVENT TRIGGER - guard owner
71; 0 0 COMMENT - EVENT TRIGGER guard owner
;\tdepends on: 70
80; 2613 500 BLOB - 500 owner
81; 0 0 COMMENT - LARGE OBJECT 500 owner
90; 0 202 MATERIALIZED VIEW DATA app mv owner
";

    #[test]
    fn entries_are_read_with_kind_and_dependencies() {
        let list = parse(LIST);
        assert_eq!(list.len(), 14);
        assert_eq!((list[6].kind, list[6].oid, &list[6].depends), ("FK CONSTRAINT", 301, &vec![30, 40, 31]));
        assert_eq!(list[6].describe(), "FK CONSTRAINT app lines lines_fkey owner");
        assert!(list_file(&list[..1]).starts_with("5; 2615 100 SCHEMA - app owner\n"));
    }

    #[test]
    fn large_objects_are_left_out_and_event_triggers_come_last() {
        let list = parse(LIST);
        let never: Vec<u32> = list.iter().filter(|e| e.stage() == Stage::Never).map(|e| e.dump_id).collect();
        assert_eq!(never, [80, 81]);
        let last: Vec<u32> = final_order(&list).iter().map(|e| e.dump_id).collect();
        assert_eq!(last, [60, 90, 70, 71]);
    }

    #[test]
    fn a_chosen_table_brings_what_it_needs_and_leaves_foreign_keys_to_others() {
        let list = parse(LIST);
        let orders = select(&list, &BTreeSet::from([200]));
        assert_eq!(orders.kept, BTreeSet::from([5, 20, 30, 40, 50, 60]));
        let lines = select(&list, &BTreeSet::from([201]));
        assert_eq!(lines.kept, BTreeSet::from([5, 31]));
        assert_eq!(lines.left_out.len(), 1);
        assert!(lines.left_out[0].is_of("app", "lines") && !lines.left_out[0].is_of("app", "orders"));
    }
}
