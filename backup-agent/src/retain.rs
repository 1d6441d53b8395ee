//! Applies a database's retention: what it lets go is forgotten, if no guard objects.

use crate::error::Error;
use crate::forget::{self, ForgetPlan};
use crate::guards::GuardOptions;
use crate::policy::DatabasePolicy;
use crate::repository::{Hold, Listed, Repository};
use crate::retention::Candidate;
use shared::model::DatabaseName;

/// A backup as retention looks at it.
pub fn candidate(backup: &Listed) -> Candidate {
    Candidate {
        id: backup.id.clone(),
        is_complete: backup.is_complete(),
        is_proven: backup.marks.proven_at().is_some(),
        holds: backup.marks.holds().iter().map(words).collect(),
    }
}

/// Who holds a backup, and why.
fn words(hold: &Hold) -> String {
    if hold.reason.is_empty() { hold.owner.to_string() } else { format!("{}: {}", hold.owner, hold.reason) }
}

/// Plans what the database's retention lets go. `yes`: a person has allowed to forget many at once.
///
/// Refuses where the configuration names no retention.
pub async fn plan(
    repository: &Repository,
    database: &DatabaseName,
    policy: &DatabasePolicy,
    yes: bool,
    guards: &GuardOptions,
) -> Result<ForgetPlan, Error> {
    let Some(retention) = &policy.retention else {
        return Err(Error::refused(
            format!("[database.{database}] has no retention, so everything is kept"),
            "give it retention = { … }, or name the backups to forget",
        ));
    };
    let candidates: Vec<Candidate> = repository.backups_given_out(database).await?.iter().map(candidate).collect();
    let verdicts = retention.plan(&candidates, repository.clock().now(), &policy.zone()).into_iter();
    let verdicts = verdicts
        .map(|verdict| forget::Verdict { id: verdict.id, keep: verdict.keep, reasons: verdict.reasons })
        .collect();
    forget::forget_plan(repository, database, verdicts, yes, guards).await
}
