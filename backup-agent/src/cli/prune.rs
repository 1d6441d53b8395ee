//! `backup-agent prune`

use super::recorded::Recorded;
use super::{Done, Failure, Global, put_line, text};
use crate::error::Error;
use crate::guards::GuardOptions;
use crate::policy::Policies;
use crate::prune::{PruneOptions, PrunePlan, Pruned, apply, plan};
use crate::record::of_prune;
use crate::repository::MIN_GRACE;
use clap::Args;
use jiff::Timestamp;
use shared::config::Time;
use shared::model::TaskKind;

/// Removes packs that no backup needs, and what was forgotten longer ago than the grace time
///
/// Says what would go and stays at that, unless told to --apply. Safe while backups are being made.
#[derive(Debug, Args)]
#[command(after_help = "Example: backup-agent prune --apply")]
pub struct Prune {
    /// Do it
    #[arg(long)]
    apply: bool,
    /// How old must be what nobody needs, at least 24h [default: that of the configuration, else 72h]
    #[arg(long, value_name = "TIME", value_parser = |text: &str| Time::try_from(text.to_owned()))]
    grace: Option<Time>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Prune {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let grace = self.grace.unwrap_or(config.prune.grace).0;
        if grace < MIN_GRACE {
            return Err(Failure::Usage("the grace time is at least 24h: running backups rely on it".into()));
        }
        let GuardOptions { intervals, spool } =
            Policies::of(&config).map_err(Error::from)?.guards(&config, Timestamp::now());
        let options = PruneOptions { grace, intervals, spool };
        let repository = global.repository(&config).await?;
        let found = plan(&repository, &options).await?;
        let done = if self.apply && found.refusals.is_empty() {
            let recorded = Recorded::begin(global, &config, TaskKind::Prune, None).await?;
            let result = apply(&repository, &found, &options).await;
            Some(recorded.end(result, of_prune).await?)
        } else {
            None
        };
        report(&found, done.as_ref(), self.json)
    }
}

/// What would go, or what went.
fn to_json(plan: &PrunePlan, done: Option<&Pruned>) -> serde_json::Value {
    let mut value = serde_json::json!(plan);
    value["applied"] = done.is_some().into();
    let went = serde_json::json!(done.cloned().unwrap_or(Pruned {
        packs: plan.packs,
        bytes: plan.bytes,
        trash: plan.trash,
        leftovers: plan.leftovers,
        spared: 0,
    }));
    if let (Some(value), serde_json::Value::Object(went)) = (value.as_object_mut(), went) {
        value.extend(went);
    }
    value
}

fn report(plan: &PrunePlan, done: Option<&Pruned>, json: bool) -> Done {
    if json {
        put_line(&to_json(plan, done).to_string());
    } else {
        put_line(&format!("needed      {}", text::counted(plan.needed_packs, "pack")));
        let young = text::size(plan.young_bytes);
        put_line(&format!("too young   {}, {young}", text::counted(plan.young_packs, "pack")));
        put_line(&format!("removable   {}, {}", text::counted(plan.packs, "pack"), text::size(plan.bytes)));
        put_line(&format!("            {} whose time is over", text::counted(plan.trash, "forgotten backup")));
        put_line(&format!("            {}", text::counted(plan.leftovers, "left-over small object")));
    }
    for refusal in &plan.refusals {
        say!("refused: {refusal}");
    }
    match done {
        _ if !plan.refusals.is_empty() => return Err(Failure::Said(3)),
        None => say!("nothing was changed: --apply would free {}", text::size(plan.bytes)),
        Some(done) => {
            say!("removed {}, {}", text::counted(done.packs, "pack"), text::size(done.bytes));
            if done.spared > 0 {
                say!("spared {}, which somebody needs now", text::counted(done.spared, "pack"));
            }
        }
    }
    Ok(())
}
