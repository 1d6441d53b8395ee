//! `migrate-worker schema`

use crate::doors::message;
use backup_agent::cli::{Done, put_line};
use clap::Args;

/// Prints the JSON Schema of the messages that ask for jobs
#[derive(Debug, Args)]
pub struct Schema {}

impl Schema {
    pub(super) fn run(self) -> Done {
        put_line(&format!("{:#}", message::schema()));
        Ok(())
    }
}
