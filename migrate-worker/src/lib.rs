//! Changes databases safely: the harness around the migration tool a team has already.
//!
//! A migration is rehearsed on a copy restored from a backup made for it, applied where nobody else writes, verified, and
//! taken back where anything fails. [`migration`] tells that story; [`runner`] calls the tools; [`effect`] says what a
//! migration did to the data; [`cli`] is the thin layer of commands.

pub mod around;
pub mod bundle;
pub mod checklist;
pub mod cli;
pub mod doors;
pub mod effect;
pub mod executor;
pub mod gate;
pub mod leftovers;
pub mod migration;
pub mod plan;
pub mod pool;
pub mod runner;
pub mod spec;
pub mod story;
pub mod structure;
pub mod worker;
pub mod world;
pub mod wrap;

pub use backup_agent::error::Error;
