//! The nouns and the doors of Holdfast.
//!
//! Nouns are the words both programs use ([`model`]); doors are the only places that touch the world:
//! [`engine`] (databases), [`store`] (objects), [`subprocess`] (client tools). [`config`] reads the one TOML file and
//! [`connect`] is the only module that names the adapters behind the doors.

pub mod config;
pub mod connect;
pub mod engine;
pub mod model;
pub mod store;
pub mod subprocess;
