//! Contract exams and end-to-end tests against real servers.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod damage;
mod golden;
mod json_shapes;
mod mutations;
mod open_restore;
mod postgres_engine;
mod proof;
mod prune;
mod prune_model;
mod restore_reads;
mod round_trip;
mod s3_repository;
mod sqlite_engine;
mod store_contract;
mod store_faults;
mod world;
