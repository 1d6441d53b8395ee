//! A person decides about a database that is stuck: what there is to see, and what is done then.

use super::facts::{Applying, BackedUp, Outcome, State, step};
use super::halt::{Halt, Reason};
use super::steps::{self, Kept, open_backup};
use super::{Live, Site, in_place};
use crate::Error;
use backup_agent::restore::{RestoreOptions, restore};
use serde_json::json;
use shared::connect;
use shared::engine::DumpSource;
use shared::engine::sqlite::live::{Held, SqliteLive, Until};
use shared::model::{DatabaseUrl, Phase, TaskState};
use std::path::PathBuf;
use std::sync::Arc;

/// What a person decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Put the backup back and prove it.
    Restore,
    /// Accept the database as it is.
    Keep,
}

/// How often a database that others write to is tried to be caught between two writes.
const TRIES: u32 = 5;

/// Does what was decided and returns the outcome, which is in the journal then. The task stays stuck where it fails.
pub async fn resolve(site: &mut Site, verdict: Verdict) -> Result<Outcome, Error> {
    site.ledger.rely_on_journal();
    let outcome = match settle(site, verdict).await {
        Ok(outcome) => outcome,
        // Nothing is planned here.
        Err(Halt::Waiting(_)) => {
            return Err(Error::failed("what is stuck cannot wait for approval; nothing was written"));
        }
        Err(Halt::Lost(why)) => return Err(Error::failed(format!("{why}; nothing more was written"))),
        Err(Halt::Refused(reason) | Halt::Stuck(reason) | Halt::Restored(reason)) => Outcome {
            state: TaskState::Stuck,
            message: format!("it could not be resolved: {}", reason.message),
            hint: reason.hint,
            backup: None,
            result: json!({}),
        },
    };
    let mut outcome = Outcome { backup: outcome.backup.or(site.backup()), ..outcome };
    site.ledger.done(step::OUTCOME, &outcome).await?;
    steps::start_application(site, &mut outcome).await;
    if outcome.state != TaskState::Stuck {
        steps::tidy(site).await;
    }
    Ok(outcome)
}

async fn settle(site: &mut Site, verdict: Verdict) -> Result<Outcome, Halt> {
    super::recover::end_the_lost(site).await?;
    site.note_begin().await?;
    let _lock = steps::lock(site).await?;
    match (site.live().await?, verdict) {
        (Live::Postgres(live), Verdict::Keep) => {
            in_place::open_as_it_is(site, &live).await?;
            kept(site).await
        }
        (Live::Postgres(live), Verdict::Restore) => {
            let kept = backup_of(site).await?;
            let how = in_place::put_back(site, &live, &kept).await?;
            Ok(restored(&kept, how))
        }
        (Live::Sqlite(_), Verdict::Keep) => kept(site).await,
        (Live::Sqlite(live), Verdict::Restore) => {
            let kept = backup_of(site).await?;
            let failed = put_back(site, &live, &kept).await?;
            Ok(restored(&kept, format!("what was there is kept as {}", failed.display())))
        }
    }
}

fn restored(kept: &Kept, how: String) -> Outcome {
    let message = format!("by a person's wish backup {} was put back and proven; {how}", kept.note.backup);
    let backup = Some(kept.note.backup.clone());
    Outcome { state: TaskState::Restored, message, hint: None, backup, result: json!({"resolved": "restore"}) }
}

/// The database as it is now, accepted: what it shows decides the outcome.
async fn kept(site: &Site) -> Result<Outcome, Halt> {
    let now = state_now(site).await?;
    let (before, after) = wanted(site)?;
    let state = match &now {
        now if after.as_ref() == Some(now) => TaskState::Succeeded,
        now if before.as_ref() == Some(now) => TaskState::Restored,
        _ => TaskState::Failed,
    };
    let message = format!("by a person's wish it stays as it is: it stands at {}", now.at());
    let after = if state == TaskState::Succeeded { site.rehearsed_after()? } else { None };
    Ok(Outcome { state, message, hint: None, backup: None, result: json!({"resolved": "keep", "after": after}) })
}

async fn state_now(site: &Site) -> Result<State, Halt> {
    let history = site.runner.history().await?;
    let kept = backup_of(site).await?;
    Ok(site.look(&*site.engine, &history, &*kept.stored).await?.1)
}

/// The states before and after, as far as they were noted.
fn wanted(site: &Site) -> Result<(Option<State>, Option<State>), Error> {
    if let Some(note) = site.ledger.find::<Applying>(step::APPLY, Phase::Intent)? {
        return Ok((Some(note.before), Some(note.after)));
    }
    let backed_up = site.ledger.find::<BackedUp>(step::BACKUP_A, Phase::Done)?;
    Ok((backed_up.map(|backed_up| backed_up.state), None))
}

/// The backup that shows the database as it was.
async fn backup_of(site: &Site) -> Result<Kept, Halt> {
    let newest = site.ledger.find::<BackedUp>(step::BACKUP_B, Phase::Done)?;
    let newest = newest.or(site.ledger.find(step::BACKUP_A, Phase::Done)?);
    let note = newest.ok_or_else(|| Halt::refused("the journal names no backup"))?;
    Ok(open_backup(site, &note).await?)
}

/// Puts a backup into a live SQLite database by one commit; what was there is kept beside it.
async fn put_back(site: &mut Site, live: &SqliteLive, kept: &Kept) -> Result<PathBuf, Halt> {
    let folder = site.folder().join("resolve");
    let no_file = |error: std::io::Error| Error::failed(format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(&folder).map_err(no_file)?;
    let file = folder.join(live.path().file_name().unwrap_or_default());
    let failed = failed_name(live);
    for _ in 0..TRIES {
        let mut change = live.begin(&file, Until::Held, site.patience).await?;
        // The copy that was just made shows what is there now; the backup takes its place.
        std::fs::copy(&file, &failed).map_err(no_file)?;
        std::fs::remove_file(&file).map_err(no_file)?;
        let engine = connect::engine(DatabaseUrl::Sqlite(file.clone()));
        let repository = kept.stored.repository().clone();
        let done =
            restore(&repository, kept.stored.clone(), &*engine, &RestoreOptions::default(), Arc::new(|_| {})).await?;
        if !done.proven {
            return Err(Halt::refused(format!("backup {} cannot be proven", done.backup)));
        }
        if change.hold().await? == Held::Moved {
            site.story.detail("the application wrote meanwhile: once more");
            continue;
        }
        change.commit().await?;
        let found = site.engine.fingerprint(&*kept.stored, 2).await?;
        let differences = kept.stored.fingerprint().differences(&found);
        if let Some(first) = differences.first() {
            return Err(Halt::Stuck(Reason::new(format!(
                "after the backup was put back {} places differ, the first: {} {}",
                differences.len(),
                first.object,
                first.what
            ))));
        }
        return Ok(failed);
    }
    Err(Halt::refused_with("the application writes without a pause", "stop it, and run the same again"))
}

fn failed_name(live: &SqliteLive) -> PathBuf {
    let mut name = live.path().as_os_str().to_owned();
    name.push(format!(".failed-{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ")));
    PathBuf::from(name)
}
