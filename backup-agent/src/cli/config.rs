//! `backup-agent config`

mod check;
mod print;

use super::{Done, Global};
use clap::{Args, Subcommand};

/// Tells about the configuration
#[derive(Debug, Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Check(check::Check),
}

impl ConfigCommand {
    pub(super) async fn run(self, global: &Global) -> Done {
        match self.what {
            What::Check(command) => command.run(global).await,
        }
    }
}
