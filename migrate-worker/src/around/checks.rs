//! Checks of the data that an operator declares: asked before and after the tool, on the copy and for real.

mod judge;

use crate::runner::{Direction, RunnerError};
use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shared::config::{CheckConfig, Expectation};
use shared::engine::{Engine, EngineError};
use shared::model::Class;

/// How many rows of an answer are kept for people.
const KEPT_ROWS: usize = 50;

/// How much of a value is shown.
const SHOWN_CHARS: usize = 60;

/// The checks of a database.
#[derive(Debug, Clone, Default)]
pub struct Checks(Vec<Check>);

#[derive(Debug, Clone)]
struct Check {
    name: String,
    sql: String,
    expect: Expect,
    on: Direction,
}

/// What is expected, with what it is measured by.
#[derive(Debug, Clone)]
enum Expect {
    Unchanged,
    Zero { before: bool },
    Value { value: String, before: bool },
    Pattern { pattern: Regex, before: bool },
    Conservation { of: String },
    Distribution,
}

/// What a query answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Number of its rows.
    pub rows: u64,
    /// Digest of all of them, whatever their order.
    pub digest: String,
    /// The first of them, in their order.
    pub first: Vec<Vec<Option<String>>>,
}

/// What a check said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Its name.
    pub name: String,
    /// Whether it is as expected.
    pub passed: bool,
    /// What was found, on one line.
    pub said: String,
    /// The rows before, of a distribution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Vec<Vec<Option<String>>>>,
    /// The rows after, of a distribution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<Vec<Option<String>>>>,
}

/// A check that is not as expected, or cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The data is not as it must be.
    #[error("the check {name:?} failed: {said}")]
    Failed {
        /// Its name.
        name: String,
        /// What was found.
        said: String,
    },
    /// The query cannot be asked.
    #[error("the check {name:?} cannot be asked: {error}")]
    Unasked {
        /// Its name.
        name: String,
        /// Why.
        error: EngineError,
    },
}

impl Checks {
    /// Reads the configuration. Refuses a check without what it is measured by.
    pub fn of(config: &[CheckConfig]) -> Result<Self, RunnerError> {
        config.iter().map(Check::of).collect::<Result<_, _>>().map(Checks)
    }

    /// Asks what must be known before the tool runs, in the checks' order, and judges what must be true then already.
    pub async fn before(&self, engine: &dyn Engine, way: Direction) -> Result<Vec<Option<Answer>>, CheckError> {
        let mut answers = Vec::new();
        for check in self.on(way) {
            let answer = match check.asked_before() {
                Some(sql) => check.known(check.ask(engine, sql).await)?,
                None => None,
            };
            if let (Some(answer), true) = (&answer, check.is_judged_before()) {
                let said = judge::alone(&check.expect, answer);
                said.map_err(|said| CheckError::Failed {
                    name: check.name.clone(),
                    said: format!("before it, {said}"),
                })?;
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    /// Asks and judges after the tool; `before` is what was answered then.
    pub async fn after(
        &self,
        engine: &dyn Engine,
        way: Direction,
        before: &[Option<Answer>],
    ) -> Result<Vec<Verdict>, CheckError> {
        let mut verdicts = Vec::new();
        for (at, check) in self.on(way).enumerate() {
            let after = check.ask(engine, &check.sql).await?;
            let before = before.get(at).and_then(Option::as_ref);
            let verdict = judge::verdict(&check.name, &check.expect, before, after);
            if !verdict.passed {
                return Err(CheckError::Failed { name: verdict.name, said: verdict.said });
            }
            verdicts.push(verdict);
        }
        Ok(verdicts)
    }

    fn on(&self, way: Direction) -> impl Iterator<Item = &Check> {
        self.0.iter().filter(move |check| check.on == way)
    }
}

impl Check {
    fn of(config: &CheckConfig) -> Result<Self, RunnerError> {
        let CheckConfig { name, sql, expect, value, pattern, of, before, on } = config.clone();
        let wrong = |message: String| RunnerError::new(format!("{name:?}: {message}"));
        let needs = |key: &str| wrong(format!("{} is missing", key));
        let given = [("value", value.is_some()), ("pattern", pattern.is_some()), ("of", of.is_some())];
        let meant = match expect {
            Expectation::Value => "value",
            Expectation::Pattern => "pattern",
            Expectation::Conservation => "of",
            _ => "",
        };
        if let Some((key, _)) = given.iter().find(|(key, is_given)| *is_given && *key != meant) {
            return Err(wrong(format!("{key} means nothing to what is expected")));
        }
        let expect = match expect {
            Expectation::Unchanged => Expect::Unchanged,
            Expectation::Zero => Expect::Zero { before },
            Expectation::Value => Expect::Value { value: value.ok_or_else(|| needs("value"))?, before },
            Expectation::Pattern => {
                let pattern = pattern.ok_or_else(|| needs("pattern"))?;
                let pattern = Regex::new(&pattern)
                    .map_err(|error| wrong(format!("pattern is no regular expression: {error}")))?;
                Expect::Pattern { pattern, before }
            }
            Expectation::Conservation => Expect::Conservation { of: of.ok_or_else(|| needs("of"))? },
            Expectation::Distribution => Expect::Distribution,
        };
        let on = if on == shared::config::Way::Downgrade { Direction::Downgrade } else { Direction::Upgrade };
        Ok(Check { name, sql, expect, on })
    }

    /// The query that is asked before the tool runs.
    fn asked_before(&self) -> Option<&str> {
        match &self.expect {
            Expect::Unchanged | Expect::Distribution => Some(&self.sql),
            Expect::Conservation { of } => Some(of),
            _ if self.is_judged_before() => Some(&self.sql),
            _ => None,
        }
    }

    fn is_judged_before(&self) -> bool {
        matches!(
            self.expect,
            Expect::Zero { before: true } | Expect::Value { before: true, .. } | Expect::Pattern { before: true, .. }
        )
    }

    /// Lets a distribution go unanswered before the tool runs: it often counts by a column the tool is to add.
    fn known(&self, answer: Result<Answer, CheckError>) -> Result<Option<Answer>, CheckError> {
        match answer {
            Err(CheckError::Unasked { error, .. })
                if matches!(self.expect, Expect::Distribution) && error.class() != Class::Transient =>
            {
                Ok(None)
            }
            answer => answer.map(Some),
        }
    }

    async fn ask(&self, engine: &dyn Engine, sql: &str) -> Result<Answer, CheckError> {
        let rows = engine.ask(sql).await;
        let rows = rows.map_err(|error| CheckError::Unasked { name: self.name.clone(), error })?;
        Ok(match &self.expect {
            // Those that do not match are what a person wants to see.
            Expect::Pattern { pattern, .. } => {
                let matches = |row: &Vec<Option<String>>| {
                    row.first().and_then(Option::as_deref).is_some_and(|text| pattern.is_match(text))
                };
                Answer::of(rows.into_iter().filter(|row| !matches(row)).collect())
            }
            _ => Answer::of(rows),
        })
    }
}

impl Answer {
    fn of(rows: Vec<Vec<Option<String>>>) -> Self {
        let first = rows.iter().take(KEPT_ROWS).map(|row| row.iter().map(shortened).collect()).collect();
        let count = rows.len() as u64;
        let mut digests: Vec<[u8; 32]> = rows.iter().map(digest).collect();
        digests.sort_unstable();
        let digest = hex::encode(Sha256::digest(digests.concat()));
        Answer { rows: count, digest, first }
    }

    /// The only value; none where there are more, or none.
    fn value(&self) -> Option<&str> {
        match &self.first[..] {
            [row] if self.rows == 1 && row.len() == 1 => row.first()?.as_deref(),
            _ => None,
        }
    }
}

fn digest(row: &Vec<Option<String>>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for value in row {
        // Lengths before values: else ("a", "b") and ("ab", "") were one.
        let length = value.as_ref().map_or(u64::MAX, |value| value.len() as u64);
        digest.update(length.to_le_bytes());
        digest.update(value.as_deref().unwrap_or_default());
    }
    digest.finalize().into()
}

fn shortened(value: &Option<String>) -> Option<String> {
    let value = value.as_ref()?;
    if value.chars().count() <= SHOWN_CHARS {
        return Some(value.clone());
    }
    Some(value.chars().take(SHOWN_CHARS).chain(['…']).collect())
}
