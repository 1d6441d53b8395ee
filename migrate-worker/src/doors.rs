//! The ways by which other services ask for work. Each does one thing: it submits a task to the record.
//!
//! A wish names what the operator configured: never a command, an address, a path, a credential or SQL.

pub mod amqp;
pub mod celery;
pub mod message;
pub mod policy;
pub mod signature;
