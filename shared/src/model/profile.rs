//! What a database holds, column by column: enough to say what a migration did to it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sum of the hashes of values, modulo 2^128: the same for the same values in any order, and what was taken away from
/// one place and added in another can be told by subtraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ValueSum(pub u64, pub u64);

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnProfile {
    /// Its name, unquoted.
    pub name: String,
    /// Its type as the database words it.
    pub kind: String,
    /// Number of values that are not NULL.
    pub values: u64,
    /// Sum over them.
    pub sum: ValueSum,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableProfile {
    /// Which table this is, whatever it is called: its OID in PostgreSQL, its root page in SQLite.
    pub identity: u64,
    /// Where its rows lie (PostgreSQL's file node); another one means that it was written anew.
    pub storage: u64,
    /// Number of rows.
    pub rows: u64,
    /// Its columns, in their order.
    pub columns: Vec<ColumnProfile>,
}

/// What a database holds. Tables by the names fingerprints have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The tables.
    pub tables: BTreeMap<String, TableProfile>,
}
