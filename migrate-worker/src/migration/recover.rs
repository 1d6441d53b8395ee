//! A task whose worker was lost: look, then finish it or take it back. Never a blind retry.

use super::facts::{Applying, BackedUp, Outcome, heads, step};
use super::halt::{Halt, Reason};
use super::resume::{self, Promoted, Shows};
use super::steps::{self, open_backup};
use super::{Extent, Live, Site, Success, conclude, go_locked, in_place};
use crate::Error;
use backup_agent::target::{self, Lock};
use shared::crash_point;
use shared::model::{Phase, TaskState};
use shared::subprocess;
use std::time::Duration;

/// Goes on with a task that somebody else had begun.
pub async fn recover(site: &mut Site, extent: Extent) -> Result<Outcome, Error> {
    if let Some(outcome) = site.ledger.find::<Outcome>(step::OUTCOME, Phase::Done)?
        && !crash_point::is_off("outcome-replay")
    {
        // Told before, but the record did not hear of it; nor, perhaps, was the application started or it tidied up.
        let mut outcome = outcome;
        steps::start_application(site, &mut outcome).await;
        if outcome.state != TaskState::Stuck {
            steps::tidy(site).await;
        }
        return Ok(outcome);
    }
    let ended = look_and_act(site, extent).await;
    conclude(site, ended).await
}

/// What is left of a lost task.
pub enum Left {
    /// Nothing of it concerns the database: it is begun anew.
    Nothing,
    /// It was finished.
    Finished(Success),
    /// It had been refused, and nothing of it reached the database.
    Refused(Reason),
}

async fn look_and_act(site: &mut Site, extent: Extent) -> Result<Success, Halt> {
    site.story.head(&format!("job {} of {} lost its worker: looking at what is there", site.ledger.job(), site.name));
    // Where the lost one cannot be ended or its lock not be had, somebody else tries again later.
    let _lock = match taken_over(site).await {
        Ok(lock) => lock,
        Err(Halt::Refused(reason)) => return Err(Halt::Lost(reason.message)),
        Err(other) => return Err(other),
    };
    crash_point::reached("recovery: the database is locked");
    match left(site).await {
        Ok(Left::Finished(success)) => Ok(success),
        Ok(Left::Refused(reason)) => Err(Halt::Refused(reason)),
        Ok(Left::Nothing) => {
            steps::tidy(site).await;
            go_locked(site, extent).await
        }
        // It is not known what the lost one left: that must not read as "nothing was touched".
        Err(Halt::Refused(reason)) if has_begun(site) => Err(Halt::Stuck(reason)),
        Err(other) => Err(other),
    }
}

async fn taken_over(site: &mut Site) -> Result<Lock, Halt> {
    end_the_lost(site).await?;
    site.note_begin().await?;
    steps::lock(site).await
}

/// Whether anything that concerns the database itself was announced.
fn has_begun(site: &Site) -> bool {
    [step::FENCE, step::APPLY].iter().any(|step| site.ledger.has(step, Phase::Intent))
}

async fn left(site: &mut Site) -> Result<Left, Halt> {
    match site.live().await? {
        Live::Sqlite(_) => match resume::promoted(&site.ledger)? {
            Promoted::Ended(_) | Promoted::Again => Ok(Left::Nothing),
            Promoted::Committing(note) => committed_or_not(site, note).await.map(Left::Finished),
            Promoted::Applying(note) => not_committed(site, note).await.map(Left::Finished),
        },
        Live::Postgres(live) => in_place::resume(site, &live).await,
    }
}

/// Ends what the lost worker left running on this machine: itself, where it is only stopped, and its tools.
pub(super) async fn end_the_lost(site: &Site) -> Result<(), Halt> {
    let job = site.ledger.job();
    target::end_the_lost(&site.live().await?, &site.ledger).await?;
    if crash_point::is_off("end-the-tool") {
        return Ok(());
    }
    let ended = tokio::task::spawn_blocking(move || subprocess::end_tagged(&job.to_string())).await;
    match ended {
        Ok(Ok(0)) => Ok(()),
        Ok(Ok(number)) => {
            site.story.detail(&format!("{number} processes of its tool were still running and were ended"));
            Ok(())
        }
        Ok(Err(error)) => {
            Err(Error::failed(format!("its tool may still be running and cannot be ended: {error}")).into())
        }
        Err(error) => Err(Error::failed(format!("its tool may still be running: {error}")).into()),
    }
}

/// The commit was announced: the database shows whether it was made.
async fn committed_or_not(site: &mut Site, note: Applying) -> Result<Success, Halt> {
    match seen(site, &note).await? {
        Shows::After => {
            let message = format!("it stands at {}: the commit had been made", heads(&note.after.heads));
            site.story.step("look", &message, Duration::ZERO);
            let after = site.rehearsed_after()?;
            Ok(Success { message, backup: Some(note.backup), effects: None, after })
        }
        Shows::Before => {
            Err(Halt::Restored(Reason::new("its worker was lost before the commit; the database is as it was")))
        }
        Shows::Neither => Err(stuck(site, &note)),
    }
}

/// The tool had run on its copy only.
async fn not_committed(site: &mut Site, note: Applying) -> Result<Success, Halt> {
    match seen(site, &note).await? {
        Shows::Before => Err(Halt::Restored(Reason::new(
            "its worker was lost while the tool worked on a copy; the database is as it was",
        ))),
        _ => Err(stuck(site, &note)),
    }
}

async fn seen(site: &Site, note: &Applying) -> Result<Shows, Halt> {
    let backed_up = BackedUp { backup: note.backup.clone(), state: note.before.clone() };
    let history = site.runner.history().await?;
    let kept = open_backup(site, &backed_up).await?;
    let (_, now) = site.look(&*site.engine, &history, &*kept.stored).await?;
    Ok(resume::shows(note, &now))
}

fn stuck(site: &Site, note: &Applying) -> Halt {
    Halt::Stuck(
        Reason::new(format!(
            "its worker was lost, and {} shows neither the state before nor the one after the migration",
            site.name
        ))
        .with_hint(format!("backup {} shows it as it was; migrate-worker resolve shows what is there", note.backup)),
    )
}
