//! The effect report: what a migration did to a database, and what data it lost.
//!
//! Two profiles are compared, taken before and after the tool ran on the same copy. Rows and values count as lost where
//! they are found nowhere else; found is what another place gained in the same number and with the same sum.
//! In doubt it is a loss: the person who knows better names it with `--may-drop`.

mod allow;
mod compare;
mod lines;
mod loss;
mod names;
mod outline;
mod search;
#[cfg(test)]
mod tests;

use serde::Serialize;
use shared::model::Profile;

pub use allow::{Allowance, UnknownAllowance, unallowed};
pub use loss::{Loss, Refusal};
pub use names::shown;

/// What became of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It is still there.
    Kept,
    /// It is new.
    Created,
    /// It is gone.
    Dropped,
    /// Another table stands under its name.
    Recreated,
    /// It is still there, and its rows, keys and all, are others.
    Replaced,
}

/// What became of a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "change")]
pub enum ColumnChange {
    /// It is new, with so many values.
    Added {
        /// Values that are not NULL.
        values: u64,
    },
    /// It is gone.
    Dropped {
        /// Values it had.
        values: u64,
        /// Where they are now, as `TABLE.COLUMN` or, in the same table, `COLUMN`.
        found_in: Option<String>,
    },
    /// All its values stand under another name.
    Renamed {
        /// The other name.
        to: String,
    },
    /// Values became NULL.
    Emptied {
        /// How many.
        values: u64,
        /// Where they are now.
        found_in: Option<String>,
    },
    /// Rows are as many, values are others.
    Changed,
    /// It has another type.
    Retyped {
        /// The type it had.
        from: String,
        /// The type it has.
        to: String,
    },
}

/// What happened to a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnEffect {
    /// Its name; the one before, where it had one.
    pub name: String,
    /// What became of it.
    #[serde(flatten)]
    pub change: ColumnChange,
}

/// What happened to a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableEffect {
    /// Its name as fingerprints have it; the one before, where it had one.
    pub name: String,
    /// What became of it.
    pub fate: Fate,
    /// The name it has now, where that is another.
    pub renamed_to: Option<String>,
    /// Rows before; none where it was not there.
    pub rows_before: Option<u64>,
    /// Rows after; none where it is gone.
    pub rows_after: Option<u64>,
    /// It was written anew.
    pub rewritten: bool,
    /// What happened to its columns.
    pub columns: Vec<ColumnEffect>,
    /// The tables that hold rows it lost.
    pub found_in: Vec<String>,
    /// The tables that lost rows it has now.
    pub from: Vec<String>,
    /// Rows that are found nowhere.
    pub rows_lost: u64,
}

impl TableEffect {
    fn nothing_happened(&self) -> bool {
        self.fate == Fate::Kept
            && self.renamed_to.is_none()
            && self.rows_before == self.rows_after
            && !self.rewritten
            && self.columns.is_empty()
    }
}

/// What a migration did to the rows of a database. The tool's own tables are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Effects {
    /// Tables to which something happened, by name.
    pub tables: Vec<TableEffect>,
    /// Number of tables to which nothing did.
    pub unchanged: usize,
    losses: Vec<Loss>,
}

impl Effects {
    /// Compares what a database held with what it holds. `own_tables` are the migration tool's, as fingerprints name
    /// them.
    pub fn between(before: &Profile, after: &Profile, own_tables: &[String]) -> Effects {
        compare::compare(before, after, own_tables)
    }

    /// The data found nowhere any more, by table as it was called before; its rows first, then its columns.
    pub fn losses(&self) -> Vec<Loss> {
        self.losses.clone()
    }

    /// What happens to each table, a line each, without numbers of rows and values: those of an application that goes on
    /// working are others at each rehearsal. What is only stored anew is left out.
    pub fn outline(&self) -> Vec<String> {
        outline::outline(self)
    }

    /// The report for people, a line each; the tables nothing happened to are counted in the last.
    pub fn lines(&self) -> Vec<String> {
        lines::lines(self)
    }
}
