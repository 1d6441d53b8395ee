//! A foreign key that fails a rehearsal, named with the rows that break it: the copy still has them.

mod postgres;
mod sqlite;

use crate::effect::shown as name;
use crate::migration::halt::Reason;
use crate::migration::site::Site;
use backup_agent::cli::text::counted;
use shared::engine::{Engine, EngineError};
use shared::model::EngineKind;
use std::time::Duration;

/// How many keys are told.
const SAMPLES: usize = 5;

/// Characters of a key that are told.
const MOST_KEY: usize = 40;

/// How long the copy is asked, which may have large tables and no index on what is looked for.
const PATIENCE: Duration = Duration::from_secs(60);

const HINT: &str = "mend or remove these rows first; if they are right and only the order of the changes is not, drop the \
                    constraint, alter the tables, and make it again last";

/// Adds to why a run on the copy failed which rows break a foreign key, as far as the tool's output and the copy tell.
///
/// Only reads. A copy that does not answer, or not within a minute, adds nothing. PostgreSQL's words are known in English only.
pub async fn with_violations(site: &Site, copy: &dyn Engine, output: &str, reason: Reason) -> Reason {
    let work = async {
        match copy.kind() {
            EngineKind::Postgres => postgres::violations(copy, output).await,
            EngineKind::Sqlite => sqlite::violations(copy, output).await,
        }
    };
    let work = async { Ok::<_, crate::Error>(tokio::time::timeout(PATIENCE, work).await.unwrap_or_default()) };
    let Ok(Some(found)) = site.stop.or(work).await else { return reason };
    let hints: Vec<String> = reason.hint.into_iter().chain([HINT.to_owned()]).collect();
    Reason { message: format!("{}; {found}", reason.message), hint: Some(hints.join("; ")) }
}

/// A foreign key. Names are as SQL takes them; the columns are those of both tables, pair by pair.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ForeignKey {
    child: String,
    parent: String,
    columns: Vec<(String, String)>,
}

impl ForeignKey {
    /// The columns that refer, for a person.
    fn referring(&self) -> String {
        self.columns.iter().map(|(child, _)| name(child)).collect::<Vec<_>>().join(", ")
    }

    /// The table referred to and its columns, for a person.
    fn referred(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|(_, parent)| name(parent)).collect();
        format!("{} ({})", name(&self.parent), columns.join(", "))
    }

    /// The referring columns as one text, their values apart as PostgreSQL's own messages have them.
    fn key_of(&self, kind: EngineKind) -> String {
        let text = |column: &str| match kind {
            EngineKind::Postgres => format!("c.{column}::text"),
            EngineKind::Sqlite => format!("CAST(c.{column} AS TEXT)"),
        };
        self.columns.iter().map(|(child, _)| text(child)).collect::<Vec<_>>().join(" || ', ' || ")
    }

    /// Rows whose key the other table does not have, in words; none where there are none.
    async fn orphans(&self, copy: &dyn Engine) -> Result<Option<String>, EngineError> {
        let ForeignKey { child, parent, columns } = self;
        let given: Vec<String> = columns.iter().map(|(column, _)| format!("c.{column} IS NOT NULL")).collect();
        let same: Vec<String> = columns.iter().map(|(column, key)| format!("p.{key} = c.{column}")).collect();
        let sql = format!(
            "SELECT {}, count(*), sum(count(*)) OVER (), count(*) OVER () FROM {child} c
             WHERE {} AND NOT EXISTS (SELECT 1 FROM {parent} p WHERE {})
             GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {SAMPLES}",
            self.key_of(copy.kind()),
            given.join(" AND "),
            same.join(" AND ")
        );
        let found = copy.query(&sql).await?;
        let number = |at: usize| found.first()?.get(at)?.as_deref()?.parse::<usize>().ok();
        let (Some(rows), Some(keys)) = (number(2), number(3)) else { return Ok(None) };
        let told: Vec<String> = found
            .iter()
            .filter_map(|row| Some((row.first()?.as_deref()?, row.get(1)?.as_deref()?.parse().ok()?)))
            .map(|(key, rows)| format!("{} ({})", value(key), counted(rows, "row")))
            .collect();
        Ok(Some(format!(
            "{} of {} whose {} is not in {}: {}",
            counted(rows, "row"),
            name(child),
            self.referring(),
            self.referred(),
            listed(&told, keys)
        )))
    }
}

/// The told ones of `all`.
fn listed(told: &[String], all: usize) -> String {
    let more = if all > told.len() { format!(" and {} more", all - told.len()) } else { String::new() };
    format!("{}{more}", told.join(", "))
}

/// A value on one line, cut where it is long.
fn value(key: &str) -> String {
    let line = |c: char| if c.is_control() { ' ' } else { c };
    let mut text: String = key.chars().take(MOST_KEY).map(line).collect();
    if key.chars().nth(MOST_KEY).is_some() {
        text.push('…');
    }
    text
}
