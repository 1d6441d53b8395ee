//! The record in PostgreSQL, for several hosts.
