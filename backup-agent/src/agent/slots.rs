//! Which tasks the schedules demand now.

use crate::policy::Policies;
use crate::schedule::Schedule;
use jiff::{SignedDuration, Timestamp};
use shared::model::{DatabaseName, JobId, NewTask, Slot, TaskDoor, TaskKind};

/// A schedule and what it demands.
#[derive(Debug)]
pub struct Entry {
    /// Its name in the record, like `backup:shop`.
    pub name: String,
    /// What is to be done.
    pub kind: TaskKind,
    /// To which database.
    pub target: Option<DatabaseName>,
    /// When.
    pub schedule: Schedule,
}

/// The name of a schedule in the record, which also decides its delay.
pub fn schedule_name(kind: TaskKind, target: Option<&DatabaseName>) -> String {
    target.map_or_else(|| kind.to_string(), |name| format!("{kind}:{name}"))
}

/// If the newest slot known lies further ahead of the clock than this, the clock was wrong then or is now.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

impl Entry {
    /// Every schedule of a configuration.
    pub fn all(policies: &Policies) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (name, policy) in &policies.databases {
            let backups = policy.schedule.as_ref().map(|schedule| (TaskKind::Backup, schedule));
            let drills = policy.drill_schedule().map(|schedule| (TaskKind::Drill, schedule));
            for (kind, schedule) in backups.into_iter().chain(drills) {
                let (target, schedule) = (Some(name.clone()), schedule.clone());
                entries.push(Entry { name: schedule_name(kind, Some(name)), kind, target, schedule });
            }
        }
        let schedule = policies.prune.schedule.clone();
        entries.push(Entry {
            name: schedule_name(TaskKind::Prune, None),
            kind: TaskKind::Prune,
            target: None,
            schedule,
        });
        entries
    }

    /// The slot that is due at `now` when everything up to `since` was done: of several missed ones the newest.
    pub fn due(&self, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let delay = SignedDuration::try_from(self.schedule.delay(&self.name)).unwrap_or(SignedDuration::ZERO);
        let nominal = now.checked_sub(delay).ok()?;
        // After a clock that ran ahead, the slots of its time must not keep the right ones away. Ids of slots see to
        // it that none is done twice.
        let since = if since > now + TOLERANCE {
            let interval =
                SignedDuration::try_from(self.schedule.interval(now)).unwrap_or(SignedDuration::from_hours(24));
            nominal.checked_sub(interval).ok()?
        } else {
            since
        };
        self.schedule.latest_slot(since, nominal)
    }

    /// When the next slot after `now` begins, its delay included.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let delay = SignedDuration::try_from(self.schedule.delay(&self.name)).ok()?;
        let slot = self.schedule.slots_after(now.checked_sub(delay).ok()?).next()?;
        slot.checked_add(delay).ok()
    }

    /// The task of a slot.
    pub fn task(&self, slot: Timestamp) -> NewTask {
        NewTask {
            job_id: JobId::of_slot(&self.name, slot),
            // A second night must not queue up behind a first one that is still waiting.
            unique_key: Some(self.name.clone()),
            max_attempts: 3,
            door: TaskDoor::Schedule,
            requested_by: "backup-agent run".into(),
            slot: Some(Slot { schedule: self.name.clone(), at: slot }),
            ..NewTask::new(self.kind, self.target.clone())
        }
    }
}
