//! Alembic's own words for trouble, and what helps.

use crate::runner::RunnerError;

/// What Alembic says (a part of it), what we call it, what helps.
const KNOWN: [(&str, &str, &str); 6] = [
    (
        "Multiple head revisions are present",
        "multiple heads",
        "join them (`alembic merge heads`), or name the one you mean: --to REVISION",
    ),
    ("Multiple heads are present", "multiple heads", "join them (`alembic merge heads`), or name the one you mean"),
    (
        "Can't locate revision identified by",
        "unknown revision",
        "bring its file back, or, if the database really is at another revision, write that down by `stamp`",
    ),
    ("Target database is not up to date", "the database is behind", "upgrade it first"),
    (
        "Revision identifiers",
        "a revision stands twice",
        "see which files have the same revision, and change one of them",
    ),
    ("overlaps with other requested revisions", "the revisions overlap", "name one of them"),
];

/// The refusal that a tool's output stands for, where it is one of those we know; with the tool's own line.
pub fn refusal(output: &str) -> Option<RunnerError> {
    let line = |words: &str| output.lines().find(|line| line.contains(words));
    KNOWN.iter().find_map(|(words, name, hint)| {
        let said = line(words)?.trim();
        let said = said.strip_prefix("FAILED: ").unwrap_or(said);
        Some(RunnerError::new(format!("{name}: {said}")).hint(*hint))
    })
}
