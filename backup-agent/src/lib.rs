//! Keeps databases and brings them back: backups of PostgreSQL and SQLite that are proven by restoring them.
//!
//! The verbs are functions ([`backup`], [`restore`], [`export`]); [`repository`] is the format they share, described in
//! FORMAT.md; [`cli`] is the thin layer that turns them into commands.

pub mod agent;
pub mod backup;
pub mod choose;
pub mod cli;
pub mod doctor;
pub mod error;
pub mod export;
pub mod forget;
pub mod guards;
pub mod health;
pub mod hold;
pub mod http;
pub mod in_place;
pub mod journal;
pub mod metrics;
pub mod mirror;
pub mod notify;
pub mod policy;
pub mod prune;
pub mod record;
pub mod repository;
pub mod restore;
pub mod retain;
pub mod retention;
pub mod schedule;
pub mod scratch;
pub mod state;
pub mod status;
pub mod stop;
pub mod systemd;
pub mod target;
pub mod unforget;
