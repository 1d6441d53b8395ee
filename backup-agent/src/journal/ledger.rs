//! The journal and the record together: what is written before and after each step.

use super::Journal;
use crate::error::Error;
use crate::record::HeldLease;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::clock::Clock;
use shared::crash_point;
use shared::model::{JobId, Phase, StepNote};
use shared::task_log::{TaskLease, TaskLog, TaskLogError, TaskProgress};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a task has done and is about to do.
///
/// An intent is on the local disk, then in the record, before the step is begun. Until the first step that changes the
/// database a record that does not answer ends the task; from then on the local journal is enough, and what the record
/// missed is written there later.
pub struct Ledger {
    journal: Journal,
    held: HeldLease,
    clock: Arc<dyn Clock>,
    /// Notes up to this one are in the record.
    recorded: u64,
}

impl Ledger {
    /// Opens the journal of a claimed task and takes over what other machines noted.
    pub async fn open(spool: &Path, held: HeldLease, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let job = held.lease.job_id;
        let mut journal = Journal::open(spool, &job).map_err(|error| unwritable(spool, &error))?;
        let noted = held.log.steps(&job).await?;
        let recorded = noted.last().map_or(0, |note| note.seq);
        journal.adopt(noted).map_err(|error| unwritable(spool, &error))?;
        let mut ledger = Ledger { journal, held, clock, recorded };
        ledger.catch_up().await?;
        Ok(ledger)
    }

    /// The task.
    pub fn job(&self) -> JobId {
        self.held.lease.job_id
    }

    /// The lease under which is written.
    pub fn lease(&self) -> &TaskLease {
        &self.held.lease
    }

    /// The record.
    pub fn record(&self) -> &Arc<dyn TaskLog> {
        &self.held.log
    }

    /// All notes.
    pub fn notes(&self) -> &[StepNote] {
        self.journal.notes()
    }

    /// From here on the local journal is enough: a record that cannot be reached stops nothing.
    pub fn rely_on_journal(&mut self) {
        self.held.bears_silence.store(true, Ordering::SeqCst);
    }

    /// The newest note of a step, as what it holds; none where there is none.
    pub fn find<T: DeserializeOwned>(&self, step: &str, phase: Phase) -> Result<Option<T>, Error> {
        let note = self.notes().iter().rev().find(|note| note.step == step && note.phase == phase);
        let read = |note: &StepNote| {
            serde_json::from_value(note.data.clone())
                .map_err(|error| Error::Damaged(format!("the journal's note of {step} cannot be understood: {error}")))
        };
        note.map(read).transpose()
    }

    /// Whether a note of a step is there.
    pub fn has(&self, step: &str, phase: Phase) -> bool {
        self.notes().iter().any(|note| note.step == step && note.phase == phase)
    }

    /// Announces a step.
    pub async fn intent(&mut self, step: &'static str, data: &impl Serialize) -> Result<(), Error> {
        self.note(step, Phase::Intent, data).await
    }

    /// Notes that a step is done.
    pub async fn done(&mut self, step: &'static str, data: &impl Serialize) -> Result<(), Error> {
        self.note(step, Phase::Done, data).await
    }

    async fn note(&mut self, step: &'static str, phase: Phase, data: &impl Serialize) -> Result<(), Error> {
        let point = |intent, done| match phase {
            Phase::Intent => crash_point::reached_in(step, intent),
            Phase::Done => crash_point::reached_in(step, done),
        };
        point("before its intent", "after the effect, before its note");
        let data = serde_json::to_value(data).map_err(|error| Error::failed(error.to_string()))?;
        let (epoch, now) = (self.held.lease.epoch, self.clock.now());
        let noted = self.journal.append(epoch, now, step, phase, data);
        noted.map_err(|error| Error::failed(format!("the local journal cannot be written: {error}")))?;
        point("its intent is noted here, not yet in the record", "its end is noted here, not yet in the record");
        self.catch_up().await?;
        point("its intent is written, before the effect", "after its note");
        Ok(())
    }

    fn is_alone(&self) -> bool {
        self.held.bears_silence.load(Ordering::SeqCst)
    }

    /// Writes what the record has missed. A lost lease always ends the work.
    pub async fn catch_up(&mut self) -> Result<(), Error> {
        let missing: Vec<StepNote> =
            self.journal.notes().iter().filter(|note| note.seq > self.recorded).cloned().collect();
        for note in missing {
            match self.held.log.note_step(&self.held.lease, &note).await {
                Ok(()) => self.recorded = note.seq,
                Err(TaskLogError::LeaseLost { .. }) if crash_point::is_off("lease-check") => return Ok(()),
                Err(TaskLogError::Unavailable { place, message } | TaskLogError::Unusable { place, message, .. })
                    if self.is_alone() =>
                {
                    tracing::warn!(%place, message, step = note.step, "the record does not answer; the local journal is relied on");
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Asks the record whether the task is still ours. A record that cannot be reached does not say no.
    pub async fn still_ours(&self) -> Result<(), Error> {
        if crash_point::is_off("lease-check") {
            return Ok(());
        }
        match self.held.log.renew(&self.held.lease, self.held.time, &TaskProgress::default()).await {
            Ok(_) => Ok(()),
            Err(TaskLogError::Unavailable { place, message } | TaskLogError::Unusable { place, message, .. })
                if self.is_alone() =>
            {
                tracing::warn!(%place, message, "the record does not answer; the lock at the database is relied on");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the record has every note.
    pub fn is_recorded(&self) -> bool {
        self.notes().last().is_none_or(|note| note.seq <= self.recorded)
    }

    /// Lets go of a task in good order: whoever has it next finds everything noted in the record, and nothing here.
    ///
    /// The local file goes first: once the note is written nothing of this machine is touched any more, so that nothing is
    /// taken from a successor on it. A crash in between leaves a task whose worker was lost. Fails where the record does
    /// not answer or the lease is lost. Nothing may be noted afterwards.
    pub async fn let_go(&mut self, step: &'static str, data: &impl Serialize) -> Result<(), Error> {
        self.catch_up().await?;
        if !self.is_recorded() {
            return Err(Error::failed("the record does not have every note of the journal"));
        }
        let data = serde_json::to_value(data).map_err(|error| Error::failed(error.to_string()))?;
        let seq = self.notes().last().map_or(1, |note| note.seq + 1);
        let (epoch, at) = (self.held.lease.epoch, self.clock.now());
        let note = StepNote { seq, epoch, at, step: step.to_owned(), phase: Phase::Done, data };
        crash_point::reached_in(step, "before its note");
        self.journal.unlink().map_err(irremovable)?;
        crash_point::reached_in(step, "the journal is gone, not yet noted in the record");
        self.held.log.note_step(&self.held.lease, &note).await?;
        crash_point::reached_in(step, "after its note");
        Ok(())
    }

    /// Ends the journal of a task whose end the record knows.
    pub fn close(self) -> Result<(), Error> {
        self.journal.unlink().map_err(irremovable)
    }
}

fn irremovable(error: std::io::Error) -> Error {
    Error::failed(format!("the local journal cannot be removed: {error}"))
}

fn unwritable(spool: &Path, error: &std::io::Error) -> Error {
    Error::Refused {
        message: format!("no journal can be kept in {}: {error}", spool.display()),
        hint: Some("give this user write permission there, or set spool in [state]".into()),
    }
}
