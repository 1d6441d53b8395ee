//! Contract exams and end-to-end tests against real servers.
#![allow(clippy::unwrap_used)]

mod agent_faults;
mod agent_run;
mod bad_input;
mod canaries;
mod config_check;

mod crash_matrix;
mod crash_points;
mod damage;
mod diff;
mod doctor;
mod effects;
mod golden;
mod history;
mod http;
mod in_place;
mod json_shapes;
mod migrating;
mod mutations;
mod notify;
mod nth_call;
mod open_restore;
mod ops_files;
mod ordinary_roles;
mod postgres_engine;
mod postgres_live;
mod proof;
mod prune;
mod prune_model;
mod queue;
mod races;
mod restore_reads;
mod round_trip;
mod runners;
mod s3_repository;
mod sqlite_engine;
mod store_contract;
mod store_faults;
mod task_log_contract;
mod worker_commands;
mod worker_demo;
mod worker_run;
mod workers;
mod world;
mod year;
