//! Lost data, and how it is told.

use super::names::shown;
use serde::Serialize;
use std::fmt;

/// Data a migration lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The table, as the fingerprint before the migration names it.
    pub table: String,
    /// The column, where only that is concerned.
    pub column: Option<String>,
    /// Number of rows, or of values that were not NULL.
    pub rows_or_values: u64,
    /// What happened to them.
    pub why: String,
}

impl Loss {
    /// The `--may-drop` that allows it.
    pub fn allowance(&self) -> String {
        match &self.column {
            None => shown(&self.table),
            Some(column) => format!("{}:{}", shown(&self.table), super::names::column(column)),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            None => write!(f, "table {} ({})", shown(&self.table), count(self.rows_or_values, "row")),
            Some(column) => {
                let values = count(self.rows_or_values, "value");
                write!(f, "column {}.{} ({values})", shown(&self.table), super::names::column(column))
            }
        }
    }
}

/// Why a migration is not applied: it would delete data nobody allowed it to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Facts, without the word `refused`.
    pub message: String,
    /// What a person can do.
    pub hint: String,
}

impl Refusal {
    /// The refusal of `revisions` for these losses; none where there are none.
    pub fn of(revisions: &[String], losses: &[Loss]) -> Option<Refusal> {
        if losses.is_empty() {
            return None;
        }
        let what: Vec<String> = losses.iter().map(Loss::to_string).collect();
        let allow: Vec<String> = losses.iter().map(|loss| format!("--may-drop {}", typed(&loss.allowance()))).collect();
        let who = if revisions.is_empty() { "the migration".to_owned() } else { revisions.join(", ") };
        Some(Refusal {
            message: format!("{who} would delete data: {}", what.join(", ")),
            hint: format!("allow it with {}, or copy the {} first", allow.join(" "), what_to_copy(losses)),
        })
    }
}

fn what_to_copy(losses: &[Loss]) -> &'static str {
    if losses.iter().all(|loss| loss.column.is_some()) { "values" } else { "rows" }
}

/// The word as a shell takes it.
fn typed(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_.:-".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// `1 row`, `4,812 rows`.
pub(super) fn count(number: u64, noun: &str) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text} {noun}{}", if number == 1 { "" } else { "s" })
}
