//! Random single changes to a database, made by `psql` and `sqlite3`: what a proof has to notice.
//!
//! A change is drawn in two steps, first its kind and then its place, so that rare kinds (a policy, a sequence) come
//! as often as changed values. Every draw depends on the seed alone; a test prints it with each failure.

pub mod postgres;
mod postgres_rows;
mod postgres_schema;
pub mod sqlite;

use std::collections::{BTreeMap, HashSet};

/// What a change is made to.
///
/// All kinds change the text of `pg_dump --create` or of [`crate::sqlite::sqlite_dump_text`]. Which of them a
/// fingerprint may leave out is for the published list to say: see [`Kind::is_data`] and the doc of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A value became another one, of the same type or not.
    Value,
    /// A value became NULL, or NULL a value.
    Null,
    /// A row was added, removed or repeated; also two changes that keep the number of rows.
    Row,
    /// SQLite: a row has another rowid, and is otherwise the same.
    RowId,
    /// A sequence's position or definition.
    Sequence,
    /// A byte, the number or the size of a large object.
    LargeObject,
    /// A row of an extension's configuration table.
    ExtensionRow,
    /// A row of an unlogged table.
    UnloggedRow,
    /// A default.
    Default,
    /// A grant given or taken away.
    Grant,
    /// Another owner.
    Owner,
    /// An index.
    Index,
    /// A constraint of a table.
    Constraint,
    /// A column added, dropped, renamed or of another type.
    Column,
    /// A table's existence, name, options, parent or partition.
    Table,
    /// A view or materialized view.
    View,
    /// A function, procedure, aggregate or operator.
    Function,
    /// A trigger, rule or event trigger.
    Trigger,
    /// Row-level security.
    Policy,
    /// A type or domain.
    Type,
    /// Publications, statistics, foreign data, extensions, schemas.
    Other,
    /// A comment.
    Comment,
    /// A setting of the database itself; only `pg_dump --create` shows it.
    DatabaseSetting,
    /// SQLite: a number in the file's header that belongs to the user.
    Header,
    /// SQLite: the statistics that ANALYZE keeps.
    Statistics,
}

impl Kind {
    /// Whether the change is to rows, sequences or large objects rather than to the schema.
    pub fn is_data(self) -> bool {
        self <= Self::UnloggedRow
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// What it is made to.
    pub kind: Kind,
    /// In words, for a failure's message.
    pub description: String,
    /// For `psql` or `sqlite3`. Fails if there is nothing to change.
    pub sql: String,
}

impl Mutation {
    pub(crate) fn new(kind: Kind, description: impl Into<String>, sql: impl Into<String>) -> Self {
        Self { kind, description: description.into(), sql: sql.into() }
    }
}

/// A stream of random numbers that depends on its seed alone (SplitMix64).
#[derive(Debug, Clone)]
pub struct Draws {
    seed: u64,
    state: u64,
}

impl Draws {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// The stream of `HOLDFAST_TEST_SEED`, or of a random seed; the seed is printed, so it stands by a failure.
    pub fn from_environment() -> Self {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let given = std::env::var("HOLDFAST_TEST_SEED").ok();
        let seed =
            given.map_or(u64::from_le_bytes(random), |text| text.parse().expect("HOLDFAST_TEST_SEED is a number"));
        println!("HOLDFAST_TEST_SEED={seed}");
        Self::new(seed)
    }

    /// The same, with a seed of its own where none is given: a sample that is the same in every run.
    pub fn from_environment_or(seed: u64) -> Self {
        let given = std::env::var("HOLDFAST_TEST_SEED").ok();
        let seed = given.map_or(seed, |text| text.parse().expect("HOLDFAST_TEST_SEED is a number"));
        println!("HOLDFAST_TEST_SEED={seed}");
        Self::new(seed)
    }

    /// The seed, for messages.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap() % limit
    }

    /// One of `choices`, which is not empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// Draws `number` different changes out of a fixed list and a source of changes to rows.
///
/// About half are changes to rows. Panics when the two cannot yield as many different ones.
#[track_caller]
fn distinct(
    number: usize,
    draws: &mut Draws,
    schema: &[Mutation],
    mut rows: impl FnMut(&mut Draws) -> Option<Mutation>,
) -> Vec<Mutation> {
    let mut by_kind: BTreeMap<Kind, Vec<&Mutation>> = BTreeMap::new();
    for mutation in schema {
        by_kind.entry(mutation.kind).or_default().push(mutation);
    }
    let kinds: Vec<Vec<&Mutation>> = by_kind.into_values().collect();
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for _ in 0..number * 100 {
        if found.len() == number {
            return found;
        }
        let drawn = if draws.below(2) == 0 {
            rows(draws)
        } else {
            let kind = draws.below(kinds.len());
            Some((*draws.pick(&kinds[kind])).clone())
        };
        found.extend(drawn.filter(|drawn| seen.insert(drawn.sql.clone())));
    }
    panic!("only {} of {number} different changes could be drawn", found.len())
}
