//! `backup-agent forget` and `backup-agent unforget`

use super::{Done, Failure, Global, put_line, text};
use crate::choose;
use crate::error::Error;
use crate::forget::{ForgetPlan, Forgotten, apply, named_plan};
use crate::policy::Policies;
use crate::repository::{MIN_GRACE, Repository};
use crate::retain;
use crate::unforget::unforget;
use clap::Args;
use shared::config::Config;
use shared::model::{BackupId, DatabaseName};

/// Moves backups to the trash, from where they can be brought back for a time
///
/// Says what would go and stays at that, unless told to --apply. Never goes: the newest complete and the newest proven
/// backup of a database, and what is on hold. The space is freed by prune, when the grace time is over.
#[derive(Debug, Args)]
#[command(after_help = "Example: backup-agent forget shop/20250131T030000Z-1a2b3c --apply")]
pub struct Forget {
    /// <database>/<id>, or the beginning of an id; or a database, whose configured retention is applied
    #[arg(required = true, value_name = "BACKUP")]
    what: Vec<String>,
    /// Do it
    #[arg(long)]
    apply: bool,
    /// Allow more than 3 and more than 30 % of a database's backups to go
    #[arg(long)]
    yes: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Forget {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let grace = config.prune.grace.0;
        if grace < MIN_GRACE {
            return Err(Failure::Usage("grace of [prune] is shorter than 24h".into()));
        }
        let repository = global.repository(&config).await?;
        let plan = self.plan(&config, &repository).await?;
        let done =
            if self.apply && plan.refusals.is_empty() { Some(apply(&repository, &plan, grace).await?) } else { None };
        report(&plan, done.as_ref(), self.json)
    }

    async fn plan(&self, config: &Config, repository: &Repository) -> Result<ForgetPlan, Failure> {
        let databases = repository.databases().await?;
        let mut named: Vec<(DatabaseName, BackupId)> = Vec::new();
        for what in &self.what {
            match what.parse::<DatabaseName>().ok().filter(|name| databases.contains(name)) {
                Some(database) => return self.policy_plan(config, repository, &database).await,
                None => named.push(choose::key(repository, what).await?),
            }
        }
        Ok(named_plan(repository, &named, self.yes).await?)
    }

    /// What a database's own retention lets go.
    async fn policy_plan(
        &self,
        config: &Config,
        repository: &Repository,
        database: &DatabaseName,
    ) -> Result<ForgetPlan, Failure> {
        if self.what.len() > 1 {
            return Err(Failure::Usage("name one database, whose retention is applied, or backups".into()));
        }
        let policies = Policies::of(config).map_err(Error::from)?;
        let policy = policies.databases.get(database).ok_or_else(|| {
            Failure::Usage(format!("{database} is no configured database; name the backups to forget: {database}/<id>"))
        })?;
        let guards = policies.guards(config, repository.clock().now());
        Ok(retain::plan(repository, database, policy, self.yes, &guards).await?)
    }
}

fn report(plan: &ForgetPlan, done: Option<&Forgotten>, json: bool) -> Done {
    if json {
        let kept = done.map(|done| &done.kept);
        put_line(&serde_json::json!({
            "applied": done.is_some(),
            "backups": plan.backups.iter().map(|line| {
                let late = kept.and_then(|kept| kept.iter().find(|kept| kept.id == line.id && kept.database == line.database));
                let line = late.unwrap_or(line);
                serde_json::json!({"id": format!("{}/{}", line.database, line.id), "forget": line.forget, "reasons": line.reasons})
            }).collect::<Vec<_>>(),
            "refusals": plan.refusals,
        }).to_string());
    } else {
        plan.backups.iter().for_each(|line| put_line(&line.to_string()));
    }
    for line in done.iter().flat_map(|done| &done.kept) {
        say!("stays after all: {line}");
    }
    for refusal in &plan.refusals {
        say!("refused: {refusal}");
    }
    if !plan.refusals.is_empty() {
        return Err(Failure::Said(3));
    }
    match done {
        Some(done) => {
            say!("forgot {}; unforget brings them back for a time", text::counted(done.forgotten.len(), "backup"))
        }
        None => say!("nothing was changed: --apply would forget {}", text::counted(plan.forgotten().count(), "backup")),
    }
    Ok(())
}

/// Brings a forgotten backup back
///
/// Possible in the first half of the grace time; list --trash tells until when. Its marks come back with it.
#[derive(Debug, Args)]
#[command(after_help = "Example: backup-agent unforget shop/20250131T030000Z-1a2b3c")]
pub struct Unforget {
    /// <database>/<id>, or the beginning of an id
    backup: String,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Unforget {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let repository = global.repository(&config).await?;
        let (database, id) = anywhere(&repository, &self.backup).await?;
        unforget(&repository, &database, &id).await?;
        if self.json {
            put_line(&serde_json::json!({"id": format!("{database}/{id}")}).to_string());
        }
        say!("{database}/{id} is back and complete");
        Ok(())
    }
}

/// Finds a backup that may be forgotten or not.
pub(super) async fn anywhere(repository: &Repository, text: &str) -> Result<(DatabaseName, BackupId), Error> {
    match choose::forgotten(repository, text).await?.as_slice() {
        [] => choose::key(repository, text).await,
        [copy] => Ok((copy.database.clone(), copy.id.clone())),
        several => Err(Error::refused(
            format!("{text} is not unique: {} forgotten backups begin so", several.len()),
            "give more of the id, or <database>/<id>",
        )),
    }
}
