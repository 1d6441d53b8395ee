//! What there is to read, cut into pieces for several readers.

use crate::engine::postgres::catalog::{Table, Unit, copy_columns};
use crate::engine::postgres::facts::LargeObjectFact;
use crate::engine::postgres::quote::{column_list, literal};
use crate::engine::{Cut, Segment};
use std::collections::VecDeque;
use std::sync::Mutex;

const MIB: u64 = 1 << 20;

/// Heap tables above this are read in block ranges.
const RANGED_FROM_BYTES: u64 = 64 * MIB;

/// A block range covers about this much, TOAST included.
const RANGE_BYTES: u64 = 32 * MIB;

/// Blocks in a full range of a table without TOAST. Smaller ranges are this divided by a power of two, so that their
/// borders stay where they are while a table grows.
const RANGE_BLOCKS: u64 = 4096;

/// Tables at least this large get larger chunks.
const LARGE_TABLE_BYTES: u64 = 1 << 30;

/// Large objects are cut here.
const LARGE_OBJECT_CHUNK_BYTES: u32 = 256 * 1024;

/// What kind of reading a piece needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rows for the sink.
    Rows,
    /// Rows with their generated columns, for the second digest only.
    Generated,
    /// One large object for the sink.
    LargeObject(u32),
}

/// One piece of work for one reader.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) kind: Kind,
    pub(super) segment: Segment,
    /// The relation to lock; empty for a large object.
    pub(super) relation: String,
    /// The COPY statement; empty for a large object.
    pub(super) copy: String,
    /// Estimate, for the order of work.
    pub(super) bytes: u64,
}

/// Cuts everything into pieces, the largest first. Entries are numbered as the units, then the large objects.
pub(super) fn plan(units: &[Unit], objects: &[LargeObjectFact], server: u32, encoding: &str) -> Vec<Work> {
    let mut list = Vec::new();
    for (entry, unit) in units.iter().enumerate() {
        let average = if unit.bytes() < LARGE_TABLE_BYTES { 128 * 1024 } else { 256 * 1024 };
        let (mut ordinal, mut second) = (0, Vec::new());
        for leaf in &unit.leaves {
            for blocks in ranges(leaf, server) {
                let segment =
                    Segment { entry, ordinal, relation: leaf.qualified(), blocks, cut: Cut::Rows { average } };
                let share = blocks.map_or(leaf.bytes, |_| RANGE_BYTES);
                // Columns are those of the root: the same names, in an order that does not depend on the leaf.
                let stored = unit.table.stored();
                let work =
                    |kind, copy| Work { kind, segment: segment.clone(), relation: leaf.sql(), copy, bytes: share };
                list.push(work(Kind::Rows, copy_rows(unit, leaf, &stored, blocks, encoding)));
                if unit.table.has_generated() {
                    let all = unit.table.all();
                    second.push(work(Kind::Generated, select_rows(unit, leaf, &all, blocks, encoding)));
                }
                ordinal += 1;
            }
        }
        list.append(&mut second);
    }
    // Stable, so that the ranges of a table are read in their order.
    list.sort_by_key(|work| std::cmp::Reverse(work.bytes));
    for (at, object) in objects.iter().enumerate() {
        let cut = Cut::Fixed { bytes: LARGE_OBJECT_CHUNK_BYTES };
        let segment = Segment { entry: units.len() + at, ordinal: 0, relation: String::new(), blocks: None, cut };
        let kind = Kind::LargeObject(object.oid);
        list.push(Work { kind, segment, relation: String::new(), copy: String::new(), bytes: 0 });
    }
    list
}

/// COPY of a table takes neither a plan nor locks on indexes; only ranges and conditions need the query form.
fn copy_rows(unit: &Unit, leaf: &Table, columns: &[String], blocks: Option<(u32, u32)>, encoding: &str) -> String {
    if blocks.is_some() || unit.table.config.as_ref().is_some_and(|condition| !condition.is_empty()) {
        return select_rows(unit, leaf, columns, blocks, encoding);
    }
    format!("COPY {}{} TO STDOUT (ENCODING {})", leaf.sql(), copy_columns(columns), literal(encoding))
}

fn select_rows(unit: &Unit, leaf: &Table, columns: &[String], blocks: Option<(u32, u32)>, encoding: &str) -> String {
    let condition = match blocks {
        None => unit.table.config.clone().unwrap_or_default(),
        Some((first, u32::MAX)) => format!("WHERE ctid >= '({first},0)'::tid"),
        Some((first, last)) => {
            format!("WHERE ctid >= '({first},0)'::tid AND ctid < '({},0)'::tid", u64::from(last) + 1)
        }
    };
    let list = column_list(columns.iter().map(String::as_str));
    format!("COPY (SELECT {list} FROM ONLY {} {condition}) TO STDOUT (ENCODING {})", leaf.sql(), literal(encoding))
}

/// Block ranges of one heap table; the last is open-ended, because the table may grow after it was measured.
fn ranges(leaf: &Table, server: u32) -> Vec<Option<(u32, u32)>> {
    let scannable = server >= 140_000 && leaf.method == "heap" && leaf.config.is_none();
    if !scannable || leaf.bytes <= RANGED_FROM_BYTES || leaf.blocks < 2 {
        return vec![None];
    }
    let mut step = RANGE_BLOCKS;
    while step > 1 && leaf.bytes / leaf.blocks * step > RANGE_BYTES {
        step /= 2;
    }
    let last = u64::from(u32::MAX);
    let starts: Vec<u64> = (0..leaf.blocks.min(last)).step_by(step as usize).collect();
    starts
        .iter()
        .enumerate()
        .map(|(at, start)| {
            let end = starts.get(at + 1).map_or(last, |next| next - 1);
            Some((*start as u32, end as u32))
        })
        .collect()
}

/// Pieces not yet taken, shared by the readers.
pub(super) struct Queue(Mutex<VecDeque<Work>>);

/// Small pieces are taken several at once, so that locking them costs one round trip.
const SMALL_BYTES: u64 = 256 * 1024;
const TAKEN_AT_ONCE: usize = 25;

impl Queue {
    pub(super) fn new(list: Vec<Work>) -> Self {
        Queue(Mutex::new(list.into()))
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len()
    }

    /// The next pieces for one reader; empty when there are none left.
    pub(super) fn take(&self) -> Vec<Work> {
        let mut queue = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let most = (queue.len() / 8).clamp(1, TAKEN_AT_ONCE);
        let mut taken: Vec<Work> = queue.pop_front().into_iter().collect();
        while taken.len() < most && taken.first().is_some_and(|work| work.bytes <= SMALL_BYTES) {
            let Some(next) = queue.pop_front() else { break };
            taken.push(next);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heap(blocks: u64, bytes: u64) -> Table {
        serde_json::from_value(serde_json::json!({
            "oid": 1, "schema": "s", "name": "t", "kind": "r", "persistence": "p", "method": "heap", "forced": false,
            "hidden": false, "readable": true, "partition": false, "parents": [], "detaching": false,
            "extension": null, "config": null, "columns": [], "blocks": blocks, "bytes": bytes,
        }))
        .expect("a table")
    }

    #[test]
    fn large_heaps_are_cut_into_ranges_whose_borders_stay_when_they_grow() {
        assert_eq!(ranges(&heap(8192, 64 * MIB), 150_000), [None], "64 MiB is not large yet");
        let small = ranges(&heap(10_000, 10_000 * 8192), 150_000);
        assert_eq!(small, [Some((0, 4095)), Some((4096, 8191)), Some((8192, u32::MAX))]);
        let grown = ranges(&heap(14_000, 14_000 * 8192), 150_000);
        assert_eq!((grown[0], grown[1], grown.len()), (small[0], small[1], 4));
        let toasted = ranges(&heap(100, 1 << 30), 150_000);
        assert_eq!((toasted[0], toasted.len()), (Some((0, 1)), 50), "TOAST counts");
        assert_eq!(ranges(&heap(10_000, 1 << 30), 130_000), [None], "no range scans before 14");
    }

    #[test]
    fn every_piece_is_taken_once() {
        let unit = Unit { table: heap(1, 1), leaves: vec![heap(1, 1)] };
        let queue = Queue::new(plan(&vec![unit; 100], &[], 150_000, "UTF8"));
        let mut taken = Vec::new();
        while let batch @ [_, ..] = &queue.take()[..] {
            taken.extend(batch.iter().map(|work| work.segment.entry));
        }
        assert_eq!(taken, (0..100).collect::<Vec<_>>());
    }
}
