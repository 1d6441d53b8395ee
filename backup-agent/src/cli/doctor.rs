//! `backup-agent doctor`

use super::{Done, Failure, Global, put_line, text};
use crate::doctor::{Finding, Health, Patient, examine};
use clap::Args;
use shared::clock;

/// Looks at everything backups and restores need: what works, what does not, what to do
///
/// Store, record, spool, clock, and for every database version, client tools and rights. Writes a probe object into the
/// store and removes it again. Exit code 1 where something does not work.
#[derive(Debug, Args)]
#[command(after_help = "Example: backup-agent --config /etc/holdfast/holdfast.toml doctor")]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let patient = Patient { config: &config, store: global.store(), clock: clock::system() };
        report(&examine(&patient).await, self.json)
    }
}

/// Prints findings, what to do below each; the exit code says whether something does not work.
pub fn report(findings: &[Finding], json: bool) -> Done {
    if json {
        put_line(&serde_json::json!(findings).to_string());
    } else {
        let width = findings.iter().map(|finding| finding.about.len()).max().unwrap_or_default();
        for finding in findings {
            let word = match finding.health {
                Health::Good => "ok",
                Health::Warning => "warn",
                Health::Bad => "FAIL",
            };
            put_line(&format!("{word:4}  {:width$}  {}", finding.about, finding.fact));
            if let Some(remedy) = &finding.remedy {
                put_line(&format!("{:4}  {:width$}  do: {remedy}", "", ""));
            }
        }
        put_line(&summary(findings));
    }
    let is_bad = findings.iter().any(|finding| finding.health == Health::Bad);
    if is_bad { Err(Failure::Said(1)) } else { Ok(()) }
}

fn summary(findings: &[Finding]) -> String {
    let count = |health| findings.iter().filter(|finding| finding.health == health).count();
    let (good, warnings, bad) = (count(Health::Good), count(Health::Warning), count(Health::Bad));
    if warnings + bad == 0 {
        return format!("{} looked at: all is well", text::counted(good, "thing"));
    }
    let failures = if bad == 1 { "1 does not work".to_owned() } else { format!("{bad} do not work") };
    format!("{good} well, {}, {failures}", text::counted(warnings, "warning"))
}
