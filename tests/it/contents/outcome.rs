//! What became of a case, and how it is found out.

use std::fmt;
use tests::agent::{Agent, Run};

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing differs, nothing is said.
    Equal,
    /// Nothing differs, and something is said.
    EqualSaid(Vec<String>),
    /// No row differs; what else does is named.
    RowsSaid(Vec<String>),
    /// There is a backup, and no restored database.
    NotRestored(String),
    /// There is no backup.
    Refused(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Equal => write!(formatter, "comes back equal"),
            Outcome::EqualSaid(said) => write!(formatter, "comes back equal; said: {}", said.join("; ")),
            Outcome::RowsSaid(said) => write!(formatter, "all rows come back; said: {}", said.join("; ")),
            Outcome::NotRestored(why) => write!(formatter, "backed up, not restored: {why}"),
            Outcome::Refused(why) => write!(formatter, "refused: {why}"),
        }
    }
}

/// What two dumps say of source and copy.
#[derive(Debug, Default)]
pub struct Differences {
    pub rows: Vec<String>,
    pub schema: Vec<String>,
    /// What is no difference to whoever asks, and worth a word.
    pub seen: Vec<String>,
}

/// Backs `source` up and restores it to `target`; `compare` is asked where something was restored, and `is_left` where
/// nothing should be at the target. `names` are taken out of what is said.
#[track_caller]
pub fn go_round(
    what: &str,
    source: &str,
    target: &str,
    names: &[(&str, &str)],
    compare: &dyn Fn() -> Differences,
    is_left: &dyn Fn() -> bool,
) -> Outcome {
    let agent = Agent::new();
    let backup = agent.run(&["backup", source, "--name", "case"]);
    assert!(!backup.stderr.contains("panicked"), "{what}: {}", backup.stderr);
    if backup.code != Some(0) {
        let listed = agent.run(&["list", "--json"]).stdout;
        assert!(["", "[]"].contains(&listed.trim()), "{what}: a refused backup is listed: {listed}");
        return Outcome::Refused(why(what, &backup, names));
    }
    let mut said = warnings(&backup, names);
    let id = backup.stdout.trim();
    let restored = agent.run(&["restore", id, "--into", target]);
    assert!(!restored.stderr.contains("panicked"), "{what}: {}", restored.stderr);
    said.extend(warnings(&restored, names));
    let is_whole = restored.code == Some(0);
    if !is_whole && !restored.stderr.contains("all rows are in") {
        assert!(!is_left(), "{what}: something is left at the target after: {}", restored.stderr);
        return Outcome::NotRestored(why(what, &restored, names));
    }
    let Differences { rows, schema, seen } = compare();
    said.extend(seen);
    assert_eq!(rows, Vec::<String>::new(), "{what}: rows differ; {}", restored.stderr);
    match (is_whole, said.is_empty()) {
        (true, is_silent) => {
            // A difference that the backup had announced is no surprise.
            assert!(schema.is_empty() || !is_silent, "{what}: the schema differs: {schema:#?}; {}", restored.stderr);
            assert!(restored.stderr.contains("proven: read anew"), "{what}: {}", restored.stderr);
            if is_silent { Outcome::Equal } else { Outcome::EqualSaid(said) }
        }
        (false, true) => panic!("{what}: nobody says what could not be created: {}", restored.stderr),
        (false, false) => Outcome::RowsSaid(said),
    }
}

/// What a run says beside its result, without what changes from run to run.
fn warnings(run: &Run, names: &[(&str, &str)]) -> Vec<String> {
    let marks = ["note: ", "defect: ", "left out: ", "could not be created: ", "warning: "];
    run.stderr
        .lines()
        .filter(|line| marks.iter().any(|mark| line.starts_with(mark)))
        .map(|line| plain(line, names))
        .collect()
}

#[track_caller]
fn why(what: &str, run: &Run, names: &[(&str, &str)]) -> String {
    let said =
        |line: &'_ str| Some(line.strip_prefix("error: ").or_else(|| line.strip_prefix("refused: "))?.to_owned());
    let said = run.stderr.lines().find_map(said).unwrap_or_else(|| panic!("{what}: no error in: {}", run.stderr));
    plain(&said, names)
}

fn plain(line: &str, names: &[(&str, &str)]) -> String {
    let line = names.iter().fold(line.to_owned(), |line, (name, instead)| line.replace(name, instead));
    NUMBERED.iter().fold(line, |line, before| without_number(&line, before))
}

/// What stands before numbers that are given anew in every run.
const NUMBERED: [&str; 3] = ["toast value ", "pg_toast_", "(process "];

fn without_number(line: &str, before: &str) -> String {
    match line.split_once(before) {
        Some((head, rest)) => {
            format!("{head}{before}N{}", rest.trim_start_matches(|digit: char| digit.is_ascii_digit()))
        }
        None => line.to_owned(),
    }
}
