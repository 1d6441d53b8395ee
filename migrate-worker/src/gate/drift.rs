//! Whether a database's structure is still the one its last migration left: a pure decision.

use crate::migration::After;
use serde::{Serialize, Serializer};
use shared::model::{JobId, Task};

/// What became of the structure since the last migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drift {
    /// Something else was found before.
    NotLookedAt,
    /// There is nothing to compare with, and why.
    NotJudged(String),
    /// It is the one this job left.
    None(JobId),
    /// It is another one than this job left.
    Found(JobId),
}

impl Serialize for Drift {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Drift::NotLookedAt => "not looked at",
            Drift::NotJudged(_) => "not judged",
            Drift::None(_) => "none",
            Drift::Found(_) => "found",
        })
    }
}

/// What the newest of these migrations that led to `heads` left; they come newest first.
pub(super) fn newest_after(tasks: &[Task], heads: &[String]) -> Option<(JobId, After)> {
    let wanted = sorted(heads);
    tasks.iter().find_map(|task| {
        let after = task.report.result.as_ref()?.get("after")?;
        let after: After = serde_json::from_value(after.clone()).ok()?;
        (sorted(&after.heads) == wanted).then_some((task.job_id, after))
    })
}

fn sorted(heads: &[String]) -> Vec<&String> {
    let mut heads: Vec<&String> = heads.iter().collect();
    heads.sort();
    heads
}

/// Compares what a job left with what is there now.
pub(super) fn judge(job: JobId, after: &After, now: &After) -> Drift {
    if after.structure == now.structure {
        Drift::None(job)
    } else if after.written_by != now.written_by {
        Drift::NotJudged(format!(
            "job {job} noted the schema in the words of {}; now they are those of {}",
            after.written_by, now.written_by
        ))
    } else {
        Drift::Found(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use serde_json::{Value, json};
    use shared::model::{TaskDoor, TaskKind, TaskReport, TaskState};

    fn after(heads: &[&str], structure: &str, written_by: &str) -> After {
        let heads = heads.iter().map(|head| (*head).to_owned()).collect();
        After { heads, structure: structure.into(), written_by: written_by.into() }
    }

    fn task(result: Option<Value>) -> Task {
        Task {
            job_id: JobId::random(),
            kind: TaskKind::Migrate,
            target: None,
            state: TaskState::Succeeded,
            step: None,
            spec: json!({}),
            run_at: None,
            deadline_s: None,
            priority: 4,
            attempt: 1,
            max_attempts: 1,
            door: TaskDoor::Command,
            requested_by: String::new(),
            stuck_job: None,
            reply: None,
            worker: None,
            is_lapsed: false,
            cancel_requested: false,
            created_at: Timestamp::UNIX_EPOCH,
            started_at: None,
            finished_at: None,
            plan: None,
            report: TaskReport { result, ..TaskReport::default() },
        }
    }

    #[test]
    fn the_newest_migration_that_led_here_counts_and_one_that_tells_nothing_does_not() {
        let left = |heads: &[&str], structure: &str| task(Some(json!({"after": after(heads, structure, "x")})));
        let tasks = [
            task(None),
            task(Some(json!({"after": null}))),
            left(&["c"], "3"),
            left(&["b", "a"], "2"),
            left(&["a", "b"], "1"),
        ];
        let heads = ["a", "b"].map(str::to_owned);
        let (job, found) = newest_after(&tasks, &heads).expect("there");
        assert_eq!((job, found.structure.as_str()), (tasks[3].job_id, "2"));
        assert_eq!(newest_after(&tasks, &["d".to_owned()]), None);
    }

    #[test]
    fn another_structure_is_drift_unless_somebody_else_wrote_its_words() {
        let job = JobId::random();
        let noted = after(&["a"], "1", "pg_dump 16.3 of PostgreSQL 16");
        assert_eq!(judge(job, &noted, &noted), Drift::None(job));
        assert_eq!(judge(job, &noted, &after(&["a"], "2", "pg_dump 16.3 of PostgreSQL 16")), Drift::Found(job));
        // Newer tools may write the same words, and then there is nothing to doubt.
        assert_eq!(judge(job, &noted, &after(&["a"], "1", "pg_dump 17.1 of PostgreSQL 17")), Drift::None(job));
        let other = judge(job, &noted, &after(&["a"], "2", "pg_dump 17.1 of PostgreSQL 17"));
        assert!(matches!(&other, Drift::NotJudged(why) if why.contains("16.3") && why.contains("17.1")), "{other:?}");
    }
}
