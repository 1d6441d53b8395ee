//! Changes databases safely: the harness around the migration tool a team has already.
//!
//! A migration is rehearsed on a copy restored from a backup made for it, applied where nobody else writes, verified, and
//! taken back where anything fails. [`runner`] calls the tools; [`effect`] tells what they did; [`cli`] is the thin
//! layer of commands.

pub mod cli;
pub mod effect;
pub mod runner;

pub use backup_agent::error::Error;
