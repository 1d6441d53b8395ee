//! `migrate-worker doctor`

use super::apply::open_world;
use crate::Error;
use crate::around::Around;
use crate::runner;
use crate::worker::as_error;
use crate::world::World;
use backup_agent::cli::doctor::report;
use backup_agent::cli::{Done, Global};
use backup_agent::doctor::{Finding, Patient, examine, patiently};
use clap::Args;
use shared::connect;
use shared::model::DatabaseName;
use shared::queue::amqp::DeadLetters;

/// Looks at everything migrations need: what works, what does not, what to do
///
/// What `backup-agent doctor` looks at, and the broker, the migration tools, their directories and variables. Exit code
/// 1 where something does not work.
#[derive(Debug, Args)]
#[command(after_help = "Example: migrate-worker --config /etc/holdfast/holdfast.toml doctor")]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) async fn run(self, global: &Global) -> Done {
        let world = open_world(global).await?;
        let patient = Patient { config: &world.config, store: global.store(), clock: world.clock.clone() };
        let mut findings = examine(&patient).await;
        findings.extend(broker(&world).await);
        for (name, database) in &world.config.databases {
            if database.migrations.is_some() {
                findings.push(migrations(&world, name).await.unwrap_or_else(|error| Finding::of(name, &error)));
            }
        }
        report(&findings, self.json)
    }
}

async fn broker(world: &World) -> Option<Finding> {
    let settings = match world.config.queue() {
        Ok(settings) => settings?,
        Err(error) => return Some(Finding::of("queue", &error.into())),
    };
    let place = settings.place();
    let opened =
        patiently(async { DeadLetters::open(settings, 1).await.map_err(|error| Error::failed(error.to_string())) });
    Some(match opened.await {
        Ok(dead) if dead.list().is_empty() => Finding::good("queue", format!("{place} answers")),
        Ok(_) => Finding::warning(
            "queue",
            format!("{place} answers; there are dead letters"),
            Some("migrate-worker dead-letters list".into()),
        ),
        Err(error) => Finding::of("queue", &error),
    })
}

/// Whether the tool can be called and where the database stands by it.
async fn migrations(world: &World, name: &DatabaseName) -> Result<Finding, Error> {
    let section = world.migrations(name)?;
    let missing: Vec<&str> = section
        .required_env
        .iter()
        .map(String::as_str)
        .filter(|variable| std::env::var_os(variable).is_none())
        .collect();
    if !missing.is_empty() {
        let fact = format!("migrations need variables that are not set here: {}", missing.join(", "));
        return Ok(Finding::bad(name, fact, Some("set them where the worker is started".into())));
    }
    Around::of(&world.config, name).map_err(as_error)?;
    let runner = runner::of(&world.config, name).map_err(as_error)?;
    let history = runner.history().await.map_err(as_error)?;
    let engine = connect::engine(world.url(name)?);
    let current = runner.current(&*engine, &history).await.map_err(as_error)?;
    let at = crate::migration::heads(&current.heads);
    let revisions = backup_agent::cli::text::counted(history.revisions.len(), "revision");
    Ok(Finding::good(name, format!("migrations by {}: {revisions}, it stands at {at}", runner.name())))
}
