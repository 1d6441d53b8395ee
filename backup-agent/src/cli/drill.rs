//! `backup-agent drill`

use super::progress::Meter;
use super::recorded::Recorded;
use super::{Done, Failure, Global, open, restore};
use crate::choose;
use crate::error::Error;
use crate::record::of_restore;
use crate::repository::Repository;
use crate::restore::drill;
use crate::scratch;
use clap::Args;
use shared::config::Config;
use shared::engine::LoadOptions;
use shared::model::{At, DatabaseName, DatabaseUrl, TaskKind};
use std::time::Instant;

/// Restores the newest backup into a scratch database, proves it, and drops it again
///
/// The backup is then marked as proven. The scratch database is made beside the original (PostgreSQL: on the same server,
/// under another name) or in the temporary directory (SQLite).
#[derive(Debug, Args)]
#[command(
    after_help = "Example: backup-agent drill shop\n         backup-agent drill postgres://app@db.example/shop --scratch postgres://app@other.example/scratch"
)]
pub struct Drill {
    /// A name from holdfast.toml or from the repository, or a URL [default: every database that has backups]
    database: Option<String>,
    /// The database to restore into; it must not exist
    #[arg(long, value_name = "URL")]
    scratch: Option<String>,
    /// Connections that load at once (PostgreSQL)
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Drill {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let scratch: Option<DatabaseUrl> = self
            .scratch
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|error| Failure::Usage(format!("--scratch: {error}")))?;
        let repository = global.repository(&config).await?;
        let databases = match &self.database {
            Some(text) => vec![open::named(&config, text, None)?],
            None => all(&config, &repository).await?,
        };
        if databases.is_empty() {
            return Err(Error::refused(
                "there are no backups yet, so nothing can be proven",
                "backup-agent backup makes one",
            )
            .into());
        }
        let mut worst = Ok(());
        for named in databases {
            let done = self.one(global, &config, &repository, named, scratch.clone()).await;
            if let Err(failure) = done {
                // With several databases one failure must not hide the others.
                if self.database.is_some() {
                    return Err(failure);
                }
                worst = Err(say(failure));
            }
        }
        worst
    }

    async fn one(
        &self,
        global: &Global,
        config: &Config,
        repository: &Repository,
        named: open::Named,
        scratch: Option<DatabaseUrl>,
    ) -> Done {
        let chosen = choose::by_time(repository, &named.name, &At::Latest).await?;
        open::warn_of_damage(&chosen);
        let header = &chosen.manifest.header;
        let configured = config.scratch_url(&named.name).map_err(Error::from)?;
        let raw_bytes = header.raw_bytes;
        let scratch = scratch::scratch(
            header.engine,
            &named.name,
            scratch.or(configured),
            named.url.as_ref(),
            &std::env::temp_dir(),
        )?;
        say!("drill: restoring {}/{} into a scratch database", header.database, header.id);
        let recorded = Recorded::begin(global, config, TaskKind::Drill, Some(&named.name)).await?;
        let started = Instant::now();
        let meter = Meter::new(global, "restoring", raw_bytes);
        let load = LoadOptions { workers: self.jobs.into(), ..Default::default() };
        let result = drill(repository, chosen, &*scratch.engine, load, meter.for_load()).await;
        meter.finish();
        let restored = recorded.end(result, |restored| of_restore(restored, raw_bytes)).await?;
        restore::report(&restored, started.elapsed().as_secs_f64(), self.json)
    }
}

fn say(failure: Failure) -> Failure {
    match failure {
        Failure::Error(error) => {
            super::report(&error);
            Failure::Said(error.exit_code())
        }
        Failure::Usage(message) => {
            say!("error: {message}");
            Failure::Said(1)
        }
        said => said,
    }
}

async fn all(config: &Config, repository: &Repository) -> Result<Vec<open::Named>, Failure> {
    let names: Vec<DatabaseName> = repository.databases().await?;
    names
        .into_iter()
        .map(|name| {
            let url = config.database_url(&name).map_err(Error::from)?;
            Ok(open::Named { name, url })
        })
        .collect()
}
