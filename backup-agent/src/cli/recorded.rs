//! Commands as tasks of the record.

use super::Global;
use crate::error::Error;
use crate::record::{HeldLease, KeptAlive, TaskMeter, ending, succeeded, write_end};
use crate::stop::{self, Stop, Stopper};
use shared::clock;
use shared::config::Config;
use shared::connect;
use shared::model::{DatabaseName, NewTask, TaskKind, TaskReport, TaskState};
use shared::task_log::{Claimed, TaskLog, TaskLogError, Worker};
use std::sync::Arc;

/// An error of the record; where somebody else works on the database, with what to do.
pub(super) fn busy(error: TaskLogError) -> Error {
    let hint = match &error {
        TaskLogError::Busy { job, state: TaskState::Stuck, .. } => {
            format!("migrate-worker resolve {job}; nothing was touched")
        }
        TaskLogError::Busy { .. } => {
            "wait for it: backup-agent history tells how far it is; nothing was touched".to_owned()
        }
        _ => return error.into(),
    };
    Error::Refused { message: error.to_string(), hint: Some(hint) }
}

/// A command's work as the record sees it.
pub(super) struct Recorded {
    record: Option<(Arc<dyn TaskLog>, Claimed)>,
    stopper: Stopper,
    /// Asks for the work's end, when somebody cancels the task.
    pub stop: Stop,
    _alive: Option<KeptAlive>,
}

impl Recorded {
    /// Enters the work into the record. Without a record the work is done all the same, and that is said.
    ///
    /// Fails when the record says that somebody else works on the database.
    pub async fn begin(
        global: &Global,
        config: &Config,
        kind: TaskKind,
        target: Option<&DatabaseName>,
    ) -> Result<Self, Error> {
        let (stopper, stop) = stop::channel();
        let mut recorded = Recorded { record: None, stopper, stop, _alive: None };
        let task = NewTask { requested_by: global.person(), ..NewTask::new(kind, target.cloned()) };
        let clock = clock::system();
        let log = match connect::task_log(config, clock.clone()).await {
            Ok(log) => log,
            Err(error) => {
                say!("warning: this is not recorded: {error}");
                return Ok(recorded);
            }
        };
        match log.submit_claimed(&task, &Worker::here("backup-agent"), config.lease()).await {
            Ok(claimed) => {
                let lease = Some(HeldLease::bearing_silence(log.clone(), claimed.lease.clone(), config.lease()));
                let meter = Arc::new(TaskMeter::default());
                recorded._alive = Some(KeptAlive::begin(lease, clock, None, meter, recorded.stopper.clone()));
                recorded.record = Some((log, claimed));
            }
            Err(error @ TaskLogError::Busy { .. }) => return Err(busy(error)),
            Err(error) => say!("warning: this is not recorded: {error}"),
        }
        Ok(recorded)
    }

    /// Writes down how the work ended and passes its result on.
    pub async fn end<T>(self, result: Result<T, Error>, report: impl FnOnce(&T) -> TaskReport) -> Result<T, Error> {
        let Some((log, claimed)) = &self.record else { return result };
        let clock = clock::SystemClock;
        let ending = match &result {
            Ok(done) => succeeded(report(done)),
            Err(error) => ending(error, 1, 1, &clock),
        };
        if let Some(error) = write_end(&**log, &claimed.lease, &ending, &clock).await {
            say!("warning: the end of this could not be recorded: {error}");
        }
        result
    }
}
