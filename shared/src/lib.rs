//! The nouns and the doors of Holdfast.
//!
//! Nouns are the words both programs use ([`model`]); doors are the only places that touch the world:
//! [`engine`] (databases), [`store`] (objects), [`task_log`] (the record of all tasks), [`queue`] (messages), [`subprocess`]
//! (client tools), [`clock`] (time). [`config`] reads the one TOML file and [`connect`] is the only module that names the
//! adapters behind the doors.

pub mod clock;
pub mod config;
pub mod connect;
pub mod crash_point;
pub mod engine;
pub mod model;
pub mod queue;
pub mod store;
pub mod subprocess;
pub mod task_log;
