//! What a database holds, column by column: enough to say what a migration did to it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sums of two independent 64-bit hashes of values, each modulo 2^64: the same for the same values in any order, and
/// what was taken away from one place and added in another can be told by subtraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ValueSum(pub u64, pub u64);

impl ValueSum {
    /// The sum over one value, from 128 bits of its hash.
    pub fn of(hash: [u8; 16]) -> ValueSum {
        let [first, second] =
            [0, 8].map(|at| hash[at..at + 8].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        ValueSum(first, second)
    }

    /// The sum over the values of both.
    pub fn plus(self, other: ValueSum) -> ValueSum {
        ValueSum(self.0.wrapping_add(other.0), self.1.wrapping_add(other.1))
    }

    /// The sum over the values that are here and not in `other`, where all of `other`'s are here.
    pub fn minus(self, other: ValueSum) -> ValueSum {
        ValueSum(self.0.wrapping_sub(other.0), self.1.wrapping_sub(other.1))
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnProfile {
    /// Its name, unquoted.
    pub name: String,
    /// Its type as the database words it.
    pub kind: String,
    /// Part of the primary key.
    pub key: bool,
    /// Number of values that are not NULL.
    pub values: u64,
    /// Sum over them.
    pub sum: ValueSum,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableProfile {
    /// Which table this is, whatever it is called: its OID in PostgreSQL, the number of its entry in SQLite's schema
    /// (which is only used again where a table is dropped that was made last; see `Engine::number_apart`).
    pub identity: u64,
    /// Where its rows lie (PostgreSQL's file node, SQLite's root page); another one means that it was written anew.
    pub storage: u64,
    /// Number of rows.
    pub rows: u64,
    /// Its columns in their order, without those computed from others.
    pub columns: Vec<ColumnProfile>,
}

/// What a database holds. Tables by the names fingerprints have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The tables.
    pub tables: BTreeMap<String, TableProfile>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[u8]) -> ValueSum {
        values.iter().fold(ValueSum::default(), |sum, value| sum.plus(ValueSum::of([value.wrapping_mul(151); 16])))
    }

    #[test]
    fn the_order_of_values_does_not_matter_but_their_number_does() {
        assert_eq!(sum(&[1, 2, 3]), sum(&[3, 1, 2]));
        assert_ne!(sum(&[1, 2]), sum(&[1, 2, 2]));
        assert_ne!(sum(&[1, 1]), sum(&[]), "equal values must not cancel out");
    }

    #[test]
    fn what_was_moved_is_told_by_subtraction() {
        assert_eq!(sum(&[1, 2, 3, 4]).minus(sum(&[2, 4])), sum(&[1, 3]));
        assert_eq!(sum(&[]).minus(sum(&[7])).plus(sum(&[7])), sum(&[]), "sums wrap around");
    }

    #[test]
    fn both_halves_of_the_hash_count() {
        let mut hash = [0; 16];
        hash[0] = 1;
        assert_eq!(ValueSum::of(hash), ValueSum(1, 0));
        hash[15] = 1;
        assert_eq!(ValueSum::of(hash), ValueSum(1, 1 << 56));
    }
}
