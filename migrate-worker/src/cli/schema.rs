//! `migrate-worker schema`

use crate::Error;
use crate::doors::message;
use crate::runner;
use crate::structure::Comparison;
use crate::worker::as_error;
use backup_agent::cli::{Done, Failure, Global, open, put_line};
use clap::{Args, Subcommand};
use serde_json::json;
use shared::config::Config;
use shared::connect;
use shared::engine::DumpSource;
use shared::model::{DatabaseName, EngineKind, Structure};

/// Prints the JSON Schema of the messages that ask for jobs, or compares the schemas of two databases
#[derive(Debug, Args)]
#[command(after_help = "Example: migrate-worker schema > job.schema.json
         migrate-worker schema diff blue green")]
pub struct Schema {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Diff(Diff),
}

/// Compares the structure of two databases or backups: tables, columns, indexes, constraints; no rows
///
/// Of two configured databases it also tells which revisions only one of them has. Exit code 7 where something differs.
#[derive(Debug, Args)]
#[command(after_help = "Example: migrate-worker schema diff blue green
         migrate-worker schema diff shop/20250131T030000Z-1a2b3c shop
         migrate-worker schema diff shop postgres://app@staging.example/shop")]
struct Diff {
    /// A database of the configuration, a backup as <database>/<id>, or a URL; it is only read
    left: String,
    /// The same
    right: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is compared.
struct Side {
    /// What it is called.
    title: String,
    kind: EngineKind,
    structure: Structure,
    /// Applied revisions, where it is configured and its tool lists them.
    applied: Option<Vec<String>>,
}

impl Schema {
    pub(super) async fn run(self, global: &Global) -> Done {
        match self.command {
            Some(Command::Diff(diff)) => diff.run(global).await,
            None => {
                put_line(&format!("{:#}", message::schema()));
                Ok(())
            }
        }
    }
}

impl Diff {
    async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let (left, right) = (side(global, &config, &self.left).await?, side(global, &config, &self.right).await?);
        if left.kind != right.kind {
            let message = format!("a {} database and a {} database cannot be compared", left.kind, right.kind);
            return Err(Error::refused(message, None).into());
        }
        let found = Comparison::of(left.kind, &left.structure, &right.structure);
        let (missing_right, missing_left) = out_of_step(&left, &right);
        let is_equal = found.is_equal() && missing_right.is_empty() && missing_left.is_empty();
        if self.json {
            let value = json!({
                "left": left.title, "right": right.title, "equal": is_equal, "schema": found,
                "revisions": {"only_left": missing_right, "only_right": missing_left},
            });
            put_line(&value.to_string());
        } else {
            put_line(&format!("- {}\n+ {}", left.title, right.title));
            found.lines().iter().for_each(|line| put_line(line));
            for (sign, revisions) in [('-', &missing_right), ('+', &missing_left)] {
                revisions.iter().for_each(|id| put_line(&format!("{sign} revision {id}")));
            }
            if is_equal {
                put_line("the same structure");
            }
        }
        if is_equal { Ok(()) } else { Err(Failure::Said(7)) }
    }
}

async fn side(global: &Global, config: &Config, typed: &str) -> Result<Side, Failure> {
    let Some(url) = open::database_meant(config, typed)? else {
        let backup = open::stored(&global.repository(config).await?, typed).await?;
        let (title, kind) = (backup.name(), backup.manifest().header.engine);
        return Ok(Side { title, kind, structure: Structure::from(backup.fingerprint()), applied: None });
    };
    let engine = connect::engine(url);
    let structure = engine.structure().await.map_err(Error::from)?;
    let name = typed.parse::<DatabaseName>().ok().filter(|name| config.databases.contains_key(name));
    let migrated = name.filter(|name| config.databases[name].migrations.is_some());
    let applied = match migrated {
        Some(name) => {
            let runner = runner::of(config, &name).map_err(as_error)?;
            let history = runner.history().await.map_err(as_error)?;
            let current = runner.current(&*engine, &history).await.map_err(as_error)?;
            Some(history.applied(&current))
        }
        None => None,
    };
    Ok(Side { title: engine.describe(), kind: engine.kind(), structure, applied })
}

/// Revisions that only the left one has, and those that only the right one has.
fn out_of_step(left: &Side, right: &Side) -> (Vec<String>, Vec<String>) {
    let (Some(left), Some(right)) = (&left.applied, &right.applied) else { return (Vec::new(), Vec::new()) };
    let only = |these: &[String], those: &[String]| these.iter().filter(|id| !those.contains(id)).cloned().collect();
    (only(left, right), only(right, left))
}
