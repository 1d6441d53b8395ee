//! Private servers, temporary databases and independent oracles for the tests of Holdfast.
//!
//! Nothing here shares code with the product when it judges: equality is decided by `psql`, `pg_dump` and `sqlite3`,
//! and by text handling of our own. A helper that meets missing software, an empty answer or a failed command panics
//! and says by name what is missing: a test never passes because it had nothing to look at.
#![allow(clippy::unwrap_used)]

pub mod agent;
pub mod agent_world;
pub mod alembic;
pub mod amqp;
pub mod counting_store;
pub mod decoders;
pub mod django;
pub mod fake_clock;
pub mod faulty_store;
pub mod fixtures;
pub mod golden;
mod install;
pub mod memory;
pub mod memory_store;
pub mod mutations;
pub mod npm;
pub mod plain_tools;
pub mod postgres;
pub mod postgres_dump;
pub mod private_postgres;
pub mod rabbitmq;
pub mod s3;
pub mod scripted_http;
pub mod server;
pub mod sqlite;
pub mod store_files;
pub mod strace;
pub mod tools;

/// Whether this is the long run (`HOLDFAST_TEST_LONG=1`).
pub fn is_long() -> bool {
    std::env::var_os("HOLDFAST_TEST_LONG").is_some()
}
