//! What the two databases have in common: a transaction that takes SQL with `$1`, whole numbers and texts.
//!
//! Everything the record does is written once, in this dialect; an adapter only connects, begins, commits, and says
//! what its errors mean. Times are microseconds since 1970, UTC.

use super::TaskLogError;
use async_trait::async_trait;
use jiff::Timestamp;

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It only reads.
    Read,
    /// It writes.
    Write,
}

/// A value for a parameter.
#[derive(Debug, Clone)]
pub enum Arg {
    Int(Option<i64>),
    Text(Option<String>),
}

impl From<i64> for Arg {
    fn from(value: i64) -> Self {
        Arg::Int(Some(value))
    }
}

impl From<u64> for Arg {
    fn from(value: u64) -> Self {
        Arg::Int(Some(i64::try_from(value).unwrap_or(i64::MAX)))
    }
}

impl From<Option<u64>> for Arg {
    fn from(value: Option<u64>) -> Self {
        value.map_or(Arg::Int(None), Arg::from)
    }
}

impl From<Option<Timestamp>> for Arg {
    fn from(value: Option<Timestamp>) -> Self {
        Arg::Int(value.map(|at| at.as_microsecond()))
    }
}

impl From<&str> for Arg {
    fn from(value: &str) -> Self {
        Arg::Text(Some(clean(value)))
    }
}

impl From<String> for Arg {
    fn from(value: String) -> Self {
        Arg::from(value.as_str())
    }
}

impl From<Option<&str>> for Arg {
    fn from(value: Option<&str>) -> Self {
        Arg::Text(value.map(clean))
    }
}

/// PostgreSQL has no NUL in its texts.
pub fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A database's own words on one line.
pub fn words(error: &sqlx::Error) -> String {
    let text = error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Parameters of a statement.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::task_log::session::Arg::from($value)),*] };
}
pub(super) use args;

/// A value of a row.
#[derive(Debug, Clone)]
pub enum Cell {
    Null,
    Int(i64),
    Text(String),
    /// Something no column of ours holds.
    Other,
}

/// A row, its values by name.
#[derive(Debug)]
pub struct Row(pub Vec<(String, Cell)>);

impl Row {
    fn cell(&self, name: &str) -> Option<&Cell> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, cell)| cell)
    }

    /// A whole number, if there is one.
    pub fn opt_int(&self, name: &str) -> Result<Option<i64>, String> {
        match self.cell(name) {
            Some(Cell::Null) => Ok(None),
            Some(Cell::Int(value)) => Ok(Some(*value)),
            other => Err(format!("{name} is {other:?}, no whole number")),
        }
    }

    /// A whole number.
    pub fn int(&self, name: &str) -> Result<i64, String> {
        self.opt_int(name)?.ok_or_else(|| format!("{name} is missing"))
    }

    /// A number that is not negative.
    pub fn count(&self, name: &str) -> Result<u64, String> {
        let value = self.int(name)?;
        u64::try_from(value).map_err(|_| format!("{name} is {value}"))
    }

    /// A number that is not negative, if there is one.
    pub fn opt_count(&self, name: &str) -> Result<Option<u64>, String> {
        self.opt_int(name)?.map(|value| u64::try_from(value).map_err(|_| format!("{name} is {value}"))).transpose()
    }

    /// A text, if there is one.
    pub fn opt_text(&self, name: &str) -> Result<Option<String>, String> {
        match self.cell(name) {
            Some(Cell::Null) => Ok(None),
            Some(Cell::Text(value)) => Ok(Some(value.clone())),
            other => Err(format!("{name} is {other:?}, no text")),
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<String, String> {
        self.opt_text(name)?.ok_or_else(|| format!("{name} is missing"))
    }

    /// A time, if there is one.
    pub fn opt_time(&self, name: &str) -> Result<Option<Timestamp>, String> {
        let read = |us| Timestamp::from_microsecond(us).map_err(|_| format!("{name} is {us}, no time"));
        self.opt_int(name)?.map(read).transpose()
    }

    /// A time.
    pub fn time(&self, name: &str) -> Result<Timestamp, String> {
        self.opt_time(name)?.ok_or_else(|| format!("{name} is missing"))
    }
}

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub enum Fault {
    /// Another one was faster; the same again from the beginning finds what it left.
    Race,
    /// Anything else.
    Error(TaskLogError),
}

impl From<TaskLogError> for Fault {
    fn from(error: TaskLogError) -> Self {
        Fault::Error(error)
    }
}

/// A transaction. Dropping it undoes it.
#[async_trait]
pub trait Session: Send {
    /// Runs a statement and says how many rows it changed.
    async fn execute(&mut self, sql: &str, args: Vec<Arg>) -> Result<u64, Fault>;

    /// Runs a statement and returns its rows.
    async fn rows(&mut self, sql: &str, args: Vec<Arg>) -> Result<Vec<Row>, Fault>;

    /// The time at which it began, by the clock that decides.
    fn now(&self) -> i64;

    /// The record, for messages.
    fn place(&self) -> &str;

    /// What makes a SELECT from `task_log AS t` take the rows that nobody else is changing.
    fn skip_locked(&self) -> &'static str;

    /// The same for `event_delivery AS d`.
    fn skip_locked_delivery(&self) -> &'static str;

    /// Keeps every other transaction that names the same word waiting until this one ends.
    async fn lock_word(&mut self, word: &str) -> Result<(), Fault>;

    /// Makes it lasting.
    async fn commit(self: Box<Self>) -> Result<(), Fault>;

    /// Undoes it.
    async fn rollback(self: Box<Self>);
}

impl dyn Session + '_ {
    /// Runs a statement and returns its first row.
    pub async fn row(&mut self, sql: &str, args: Vec<Arg>) -> Result<Option<Row>, Fault> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// An error about what is recorded.
    pub fn damaged(&self, message: impl Into<String>) -> Fault {
        Fault::Error(TaskLogError::Damaged { place: self.place().to_owned(), message: message.into() })
    }
}

/// A database that can hold the record.
#[async_trait]
pub trait Database: Send + Sync + 'static {
    /// Begins a transaction. Waits a bounded time for others.
    async fn begin(&self, mode: Mode) -> Result<Box<dyn Session>, TaskLogError>;

    /// Where it is, for a person.
    fn place(&self) -> String;
}
