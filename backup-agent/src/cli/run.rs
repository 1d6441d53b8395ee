//! `backup-agent run`

use super::{Done, Global};
use crate::agent::{StoreSource, World, on_signals, run};
use clap::Args;
use shared::clock;
use std::sync::Arc;

/// Makes backups by schedule, keeps what should be kept, proves it, and removes what may go
///
/// Meant to be left alone: it needs a configuration with schedules, waits out what is not there (the database, the store,
/// its own record), and tells others what it did. SIGTERM lets running tasks finish for 20 s and then give up; a second one
/// ends at once. What was cut off is done again by the next start.
#[derive(Debug, Args)]
#[command(after_help = "Example: backup-agent run --config /etc/holdfast/holdfast.toml")]
pub struct Run {
    /// End when nothing is left to be done now (to be started by another scheduler)
    #[arg(long)]
    until_idle: bool,
}

impl Run {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        if config.path.is_none() {
            return Err(crate::error::Error::refused(
                "there is no configuration file, so there is nothing to be done",
                "write a holdfast.toml with a [database.<name>] section; backup-agent config check looks at it",
            )
            .into());
        }
        let world = World::new(config, clock::system(), StoreSource::Configured(global.store.clone()))?;
        Ok(run(Arc::new(world), self.until_idle, on_signals()?).await?)
    }
}
