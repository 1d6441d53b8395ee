//! What a person allows a migration to delete.

use super::loss::Loss;
use super::names::{quoted, shown, spellings};
use shared::config::nearest;
use shared::model::{Profile, TableProfile};

/// Data a migration may delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// The table, as fingerprints name it.
    pub table: String,
    /// The column; none where the table with all its columns may go.
    pub column: Option<String>,
}

/// A `--may-drop` that fits nothing in the database, or more than one thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UnknownAllowance {
    /// Facts.
    pub message: String,
    /// What a person can do.
    pub hint: Option<String>,
}

impl Allowance {
    /// Reads `TABLE` and `TABLE:COLUMN` as people type them, quoted or not, for the database as it was before the
    /// migration. Outside `public` a table needs its schema.
    pub fn parse(typed: &str, before: &Profile) -> Result<Allowance, UnknownAllowance> {
        for exact in [true, false] {
            let mut fits = before.tables.iter().flat_map(|(key, table)| meant(typed, key, table, exact));
            match (fits.next(), fits.next()) {
                (None, _) => {}
                (Some(one), None) => return Ok(one),
                (Some(one), Some(other)) => {
                    let message = format!("--may-drop {typed} could be {} or {}", one.named(), other.named());
                    let hint = Some("write the names in double quotes, and the schema".to_owned());
                    return Err(UnknownAllowance { message, hint });
                }
            }
        }
        Err(unknown(typed, before))
    }

    /// Reads all of them.
    pub fn parse_all(typed: &[String], before: &Profile) -> Result<Vec<Allowance>, UnknownAllowance> {
        typed.iter().map(|one| Allowance::parse(one, before)).collect()
    }

    fn named(&self) -> String {
        match &self.column {
            None => format!("table {}", shown(&self.table)),
            Some(column) => format!("column {column} of table {}", shown(&self.table)),
        }
    }

    fn covers(&self, loss: &Loss) -> bool {
        self.table == loss.table && (self.column.is_none() || self.column == loss.column)
    }
}

/// The losses nobody allowed.
pub fn unallowed(losses: &[Loss], allowances: &[Allowance]) -> Vec<Loss> {
    losses.iter().filter(|loss| !allowances.iter().any(|allowance| allowance.covers(loss))).cloned().collect()
}

/// What of this table is meant: itself, or one of its columns.
fn meant(typed: &str, key: &str, table: &TableProfile, exact: bool) -> Vec<Allowance> {
    let same = |way: &str, word: &str| if exact { way == word } else { folded(way, word) };
    let ways = spellings(key);
    let mut list = Vec::new();
    if ways.iter().any(|way| same(way, typed)) {
        list.push(Allowance { table: key.to_owned(), column: None });
    }
    for (at, _) in typed.match_indices(':') {
        let (name, column) = (&typed[..at], &typed[at + 1..]);
        if ways.iter().any(|way| same(way, name)) {
            let fits = table.columns.iter().filter(|c| same(&c.name, column) || same(&quoted(&c.name), column));
            list.extend(fits.map(|c| Allowance { table: key.to_owned(), column: Some(c.name.clone()) }));
        }
    }
    list
}

/// Unquoted names mean the same in any case.
fn folded(way: &str, word: &str) -> bool {
    !word.contains('"') && way.to_lowercase() == word.to_lowercase()
}

fn unknown(typed: &str, before: &Profile) -> UnknownAllowance {
    let mut known: Vec<String> = before.tables.keys().map(|key| shown(key)).collect();
    if typed.contains(':') {
        known = before
            .tables
            .iter()
            .flat_map(|(key, table)| {
                table.columns.iter().map(|c| format!("{}:{}", shown(key), super::names::column(&c.name)))
            })
            .collect();
    }
    let near = nearest(typed, known.iter().map(String::as_str));
    UnknownAllowance {
        message: format!("--may-drop {typed} fits nothing in the database"),
        hint: near.map(|near| format!("did you mean {near}?")),
    }
}
