//! A database's state as digests: what "equal" means.
//!
//! The rules are those of FORMAT.md, section "The fingerprint".

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Sum modulo 2^256 of the SHA-256 of rows: the same for the same rows in any order.
///
/// A sum, not an exclusive or, so that two equal rows do not cancel out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowSum([u64; 4]);

impl RowSum {
    /// Adds one row by its SHA-256, read as a 256-bit little-endian number.
    pub fn add_digest(&mut self, digest: &[u8; 32]) {
        let mut carry = false;
        for (limb, bytes) in self.0.iter_mut().zip(digest.as_chunks::<8>().0) {
            let (sum, over) = limb.overflowing_add(u64::from_le_bytes(*bytes));
            let (sum, over_carry) = sum.overflowing_add(u64::from(carry));
            *limb = sum;
            carry = over || over_carry;
        }
    }

    /// Hashes `row`, adds it and returns its digest.
    pub fn add_row(&mut self, row: &[u8]) -> [u8; 32] {
        let digest: [u8; 32] = Sha256::digest(row).into();
        self.add_digest(&digest);
        digest
    }

    /// Adds another sum, for instance that of another part of the same table.
    pub fn merge(&mut self, other: &RowSum) {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(other.0) {
            *chunk = limb.to_le_bytes();
        }
        self.add_digest(&bytes);
    }

    /// 64 lower-case hexadecimal digits, least significant byte first.
    pub fn to_hex(self) -> String {
        self.0.iter().map(|limb| hex::encode(limb.to_le_bytes())).collect()
    }
}

/// Rows of one table (a partitioned table counts as one, under its root).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFingerprint {
    /// Number of rows.
    pub rows: u64,
    /// [`RowSum`] over the stored, non-generated columns, hexadecimal.
    pub digest: String,
    /// The same including generated columns, where the table has any.
    pub digest_with_generated: Option<String>,
}

/// Position of a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceState {
    /// `last_value` of the sequence relation.
    pub last_value: i64,
    /// Whether `nextval` was ever called since the value was set.
    pub is_called: bool,
}

/// Content of one large object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObject {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of the content, hexadecimal.
    pub sha256: String,
}

/// A database's state as digests. Two databases are equal when [`Fingerprint::differences`] is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Tables by qualified, quoted name.
    pub tables: BTreeMap<String, TableFingerprint>,
    /// Sequences by qualified, quoted name.
    pub sequences: BTreeMap<String, SequenceState>,
    /// Large objects by OID.
    pub large_objects: BTreeMap<u32, LargeObject>,
    /// The normalised schema, one statement (or fact) an element, sorted.
    pub schema: Vec<String>,
}

/// One place where two fingerprints part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The object: a table, sequence, large object or statement.
    pub object: String,
    /// What differs, for a person.
    pub what: String,
    /// How much it matters.
    pub kind: DifferenceKind,
}

/// What a difference concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DifferenceKind {
    /// Rows, sequences or large objects: data is missing or wrong.
    Data,
    /// The schema.
    Schema,
    /// A value that is computed anew on restore (a generated column): named, but not counted against a proof.
    Recomputed,
}

impl Fingerprint {
    /// SHA-256 over the sorted schema statements, hexadecimal.
    pub fn schema_digest(&self) -> String {
        digest(&self.schema)
    }

    /// Total number of rows.
    pub fn rows(&self) -> u64 {
        self.tables.values().map(|table| table.rows).sum()
    }

    /// Everything in which `found` differs from `self`, which is what was expected.
    pub fn differences(&self, found: &Fingerprint) -> Vec<Difference> {
        let mut list = Vec::new();
        compare_maps(&self.tables, &found.tables, "table", &mut list, describe_table);
        compare_maps(&self.sequences, &found.sequences, "sequence", &mut list, |a, b| {
            let state =
                |s: &SequenceState| format!("{}{}", s.last_value, if s.is_called { "" } else { " (not called)" });
            (format!("stands at {} instead of {}", state(b), state(a)), DifferenceKind::Data)
        });
        compare_maps(&self.large_objects, &found.large_objects, "large object", &mut list, |a, b| {
            (format!("has other content ({} bytes instead of {})", b.bytes, a.bytes), DifferenceKind::Data)
        });
        compare_statements(&self.schema, &found.schema, &mut list);
        list
    }
}

/// SHA-256 over statements, each behind its length, hexadecimal.
pub(super) fn digest(statements: &[String]) -> String {
    let mut hasher = Sha256::new();
    for statement in statements {
        hasher.update((statement.len() as u64).to_le_bytes());
        hasher.update(statement.as_bytes());
    }
    hex::encode(hasher.finalize())
}

fn describe_table(expected: &TableFingerprint, found: &TableFingerprint) -> (String, DifferenceKind) {
    if expected.rows != found.rows {
        return (format!("has {} rows instead of {}", found.rows, expected.rows), DifferenceKind::Data);
    }
    if expected.digest != found.digest {
        return (format!("has other values in its {} rows", found.rows), DifferenceKind::Data);
    }
    ("has other values in a generated column: recomputed differently".into(), DifferenceKind::Recomputed)
}

fn compare_maps<K: Ord + std::fmt::Display, V: PartialEq>(
    expected: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
    noun: &str,
    list: &mut Vec<Difference>,
    describe: impl Fn(&V, &V) -> (String, DifferenceKind),
) {
    let mut add = |key: &K, (what, kind): (String, DifferenceKind)| {
        list.push(Difference { object: format!("{noun} {key}"), what, kind });
    };
    for (key, value) in expected {
        match found.get(key) {
            None => add(key, ("is missing".into(), DifferenceKind::Data)),
            Some(other) if other == value => {}
            Some(other) => add(key, describe(value, other)),
        }
    }
    for key in found.keys().filter(|key| !expected.contains_key(key)) {
        add(key, ("was not expected".into(), DifferenceKind::Data));
    }
}

/// Compares two sorted lists as multisets, so that a statement that stands twice must stand twice.
fn compare_statements(expected: &[String], found: &[String], list: &mut Vec<Difference>) {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for statement in expected {
        *counts.entry(statement).or_default() += 1;
    }
    for statement in found {
        *counts.entry(statement).or_default() -= 1;
    }
    for (statement, count) in counts.into_iter().filter(|(_, count)| *count != 0) {
        let what = if count > 0 { "is missing from the schema" } else { "was not expected in the schema" };
        let object = without_secrets(statement);
        list.push(Difference { object, what: what.into(), kind: DifferenceKind::Schema });
    }
}

/// A statement as it may be shown: user mappings, foreign servers and subscriptions hold passwords in their options.
fn without_secrets(statement: &str) -> String {
    let holds_some = ["USER MAPPING", "SERVER", "SUBSCRIPTION"].iter().any(|noun| {
        statement
            .strip_prefix("CREATE ")
            .or(statement.strip_prefix("ALTER "))
            .is_some_and(|rest| rest.starts_with(noun))
    });
    let cut = [" OPTIONS", "\nOPTIONS", " CONNECTION"].iter().filter_map(|word| statement.find(word)).min();
    match cut {
        Some(at) if holds_some => format!("{} …", &statement[..at]),
        _ => statement.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[&str]) -> RowSum {
        let mut sum = RowSum::default();
        for row in rows {
            sum.add_row(row.as_bytes());
        }
        sum
    }

    #[test]
    fn the_order_of_rows_does_not_matter_but_their_number_does() {
        assert_eq!(sum(&["a", "b", "c"]), sum(&["c", "a", "b"]));
        assert_ne!(sum(&["a", "b"]), sum(&["a", "b", "b"]));
        assert_ne!(sum(&["a", "a"]), sum(&[]), "equal rows must not cancel out");
    }

    #[test]
    fn merging_parts_equals_summing_the_whole() {
        let mut left = sum(&["a", "b"]);
        left.merge(&sum(&["c"]));
        assert_eq!(left, sum(&["a", "b", "c"]));
    }

    #[test]
    fn carries_run_through_all_limbs() {
        let mut sum = RowSum([u64::MAX, u64::MAX, u64::MAX, 0]);
        let mut one = [0; 32];
        one[0] = 1;
        sum.add_digest(&one);
        assert_eq!(sum, RowSum([0, 0, 0, 1]));
    }

    #[test]
    fn a_difference_never_shows_a_password_of_the_schema() {
        for statement in [
            "CREATE USER MAPPING FOR u SERVER s OPTIONS (password 's3cret')",
            "CREATE SUBSCRIPTION s CONNECTION 'password=s3cret' PUBLICATION p",
            "CREATE SERVER s FOREIGN DATA WRAPPER w\nOPTIONS (password 's3cret')",
        ] {
            let with = Fingerprint { schema: vec![statement.into()], ..Default::default() };
            let list = with.differences(&Fingerprint::default());
            assert!(list[0].object.starts_with("CREATE ") && !list[0].object.contains("s3cret"), "{list:?}");
        }
    }

    #[test]
    fn a_statement_that_stands_once_instead_of_twice_is_a_difference() {
        let twice = Fingerprint { schema: vec!["x".into(), "x".into()], ..Default::default() };
        let once = Fingerprint { schema: vec!["x".into()], ..Default::default() };
        assert_eq!(twice.differences(&once).len(), 1);
        assert!(twice.differences(&twice).is_empty());
    }
}
