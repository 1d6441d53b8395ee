//! What was found, for a person: one line, notes, and what to do.

use super::{Comparison, Drift, Named, Report, Verdict};
use crate::migration::heads;
use crate::runner::Current;
use backup_agent::cli::text;
use shared::model::{DatabaseName, Phase, StepNote, Task, TaskState};

/// So many revisions are named in the summary.
const NAMED: usize = 20;

/// What revisions and structure say.
pub(super) fn of(
    name: &DatabaseName,
    compared: Comparison,
    current: Current,
    drift: Drift,
    pinned: Option<&str>,
) -> Report {
    // Half a migration is no state any migration leaves.
    let is_broken = !current.faults.is_empty() || matches!(drift, Drift::Found(_));
    let verdict = match compared.verdict {
        Verdict::AsExpected if is_broken => Verdict::Drift,
        verdict => verdict,
    };
    let mut notes = Vec::new();
    if verdict != Verdict::AsExpected {
        let (at, expected) = (heads(&current.heads), heads(&compared.expected));
        notes.push(format!("it stands at {at}; expected is {expected}"));
    }
    notes.extend(current.faults.iter().cloned());
    match &drift {
        Drift::NotJudged(why) => notes.push(format!("drift is not judged: {why}")),
        Drift::None(job) => notes.push(format!("its schema is the one job {job} left")),
        Drift::Found(_) | Drift::NotLookedAt => {}
    }
    let mut report = Report {
        database: name.clone(),
        verdict,
        summary: String::new(),
        at: current.heads,
        expected: compared.expected,
        missing: compared.missing,
        beyond: compared.beyond,
        drift,
        job: None,
        notes,
        hint: None,
    };
    report.summary = format!("{name}: {}", summary(&report, compared.because.as_deref()));
    report.hint = hint(&report, pinned);
    report
}

fn summary(report: &Report, because: Option<&str>) -> String {
    let (missing, beyond) = (named(&report.missing), named(&report.beyond));
    let number = |list: &[Named]| text::count(list.len() as u64);
    match (report.verdict, because) {
        (Verdict::AsExpected, _) => format!("as expected: it stands at {}", heads(&report.at)),
        (Verdict::Behind, _) => format!("behind by {}: {missing}", number(&report.missing)),
        (Verdict::Ahead, _) => format!("ahead by {}: {beyond}", number(&report.beyond)),
        (Verdict::Diverged, Some(because)) => format!("diverged: {because}"),
        (Verdict::Diverged, None) => format!("diverged: missing are {missing}; not expected are {beyond}"),
        (Verdict::Drift, _) => match &report.drift {
            Drift::Found(job) => {
                format!("drift: it stands at {}, but its schema is not the one job {job} left", heads(&report.at))
            }
            _ => format!("drift: it stands at {}, but not all there is as its migrations leave it", heads(&report.at)),
        },
        (Verdict::InProgress, _) => "in progress".to_owned(),
    }
}

fn named(revisions: &[Named]) -> String {
    let one = |revision: &Named| text::name(format!("{} {}", revision.id, revision.message).trim_end());
    let mut words: Vec<String> = revisions.iter().take(NAMED).map(one).collect();
    if revisions.len() > NAMED {
        words.push(format!("and {} more", revisions.len() - NAMED));
    }
    words.join(", ")
}

fn hint(report: &Report, pinned: Option<&str>) -> Option<String> {
    let name = &report.database;
    let to = pinned.map_or(String::new(), |revision| format!(" --to {revision}"));
    Some(match report.verdict {
        Verdict::AsExpected => return None,
        Verdict::Behind => format!("migrate before the code is deployed: migrate-worker apply {name}{to}"),
        Verdict::Ahead => {
            let newer = format!("deploy the code that brought {}", heads(&report.at));
            match &report.expected[..] {
                [one] => format!("{newer}, or go back first: migrate-worker rehearse {name} --to {one}"),
                _ => newer,
            }
        }
        Verdict::Diverged if report.missing.is_empty() => {
            "join the heads (`alembic merge heads`), or pin the release's revision: --expect REVISION".to_owned()
        }
        Verdict::Diverged => "database and code come of different branches: deploy the release whose migrations the \
                              database has, or join the branches in the code"
            .to_owned(),
        Verdict::Drift => format!(
            "somebody changed it besides the migrations: migrate-worker schema diff {name} OTHER shows what, against a \
             backup or another database; then make a migration of it, or undo it"
        ),
        Verdict::InProgress => return None,
    })
}

/// Somebody works on it; `note` is the newest of the job's journal.
pub(super) fn in_progress(name: &DatabaseName, task: &Task, note: Option<&StepNote>) -> Report {
    let job = task.job_id;
    let step = match (note, &task.step) {
        (Some(note), _) if note.phase == Phase::Done => format!(", after {}", text::name(&note.step)),
        (Some(StepNote { step, .. }), _) | (None, Some(step)) => format!(", at {}", text::name(step)),
        (None, None) => String::new(),
    };
    let since = text::moment(task.started_at.unwrap_or(task.created_at));
    let state = if task.is_lapsed { "does not answer any more" } else { words_of(task.state) };
    let hint = match task.state {
        TaskState::Stuck => format!("migrate-worker resolve {job} shows what is there, and ends it"),
        _ if task.is_lapsed || task.state == TaskState::Recovering => {
            format!("a worker (migrate-worker run) or migrate-worker apply {name} brings it to its end")
        }
        _ => format!("wait for it: migrate-worker show {job} tells how far it is"),
    };
    Report {
        database: name.clone(),
        verdict: Verdict::InProgress,
        summary: format!("{name}: in progress: {} job {job}, begun at {since}, {state}{step}", task.kind),
        at: Vec::new(),
        expected: Vec::new(),
        missing: Vec::new(),
        beyond: Vec::new(),
        drift: Drift::NotLookedAt,
        job: Some(job),
        notes: Vec::new(),
        hint: Some(hint),
    }
}

fn words_of(state: TaskState) -> &'static str {
    match state {
        TaskState::Stuck => "is stuck",
        TaskState::Recovering => "is being recovered",
        _ => "is running",
    }
}
