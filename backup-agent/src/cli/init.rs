//! `backup-agent init`

use super::{Done, Failure, Global};
use crate::error::Error;
use crate::repository::Codec;
use clap::Args;

/// Makes a repository, in a directory or a bucket
///
/// The commands that write a backup do it by themselves when they find none; init is for choosing the codec, and for
/// trying whether the store works. Where a repository is already, nothing changes.
#[derive(Debug, Args)]
#[command(after_help = "Example: backup-agent --store file:/srv/backups init --codec zstd")]
pub struct Init {
    /// How backups are compressed; zstd is smaller and faster, gzip restores with tools every system has
    #[arg(long, value_enum, default_value = "gzip")]
    codec: Codec,
}

impl Init {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let (repository, is_new) = global.repository_to_write(&config, self.codec).await?;
        if !is_new {
            let found = repository.config().codec;
            if found != self.codec {
                return Err(Failure::Error(Error::refused(
                    format!("{} holds a repository with codec {}", repository.store().describe(), found.name()),
                    "a repository keeps its codec; make another one in another place",
                )));
            }
            say!("{} holds a repository already; nothing changed", repository.store().describe());
        }
        Ok(())
    }
}
