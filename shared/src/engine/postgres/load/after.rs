//! What comes after the rows: foreign keys that do not hold, grants, refreshes, event triggers, settings.

use super::{Target, tolerate};
use crate::engine::EngineError;
use crate::engine::postgres::catalog::USER_SCHEMA;
use crate::engine::postgres::quote::ident;
use crate::engine::postgres::session::{Doing, exec, words};
use crate::engine::postgres::toc::TocEntry;
use crate::engine::postgres::tools::Complaint;
use crate::engine::postgres::{preflight, schema, toc};
use sqlx::PgConnection;

/// Turns `pg_restore`'s complaints into lines; a foreign key with orphans is created NOT VALID, never faked.
pub(super) async fn foreign_keys(
    conn: &mut PgConnection,
    target: &Target<'_>,
    complaints: Vec<Complaint>,
) -> Result<Vec<String>, EngineError> {
    let mut lines = Vec::new();
    for complaint in &complaints {
        let key =
            target.archive.entries.iter().find(|e| Some(e.dump_id) == complaint.dump_id && e.kind == "FK CONSTRAINT");
        let created = match key {
            Some(entry) => not_valid(conn, target, entry).await?,
            None => false,
        };
        lines.push(if created {
            format!(
                "{}: rows of the backup violate it ({}); created NOT VALID",
                target.name(complaint),
                complaint.reason
            )
        } else {
            target.say(complaint)
        });
    }
    Ok(lines)
}

async fn not_valid(conn: &mut PgConnection, target: &Target<'_>, entry: &TocEntry) -> Result<bool, EngineError> {
    let script = target.archive.sql([entry], None, target.chosen.leave()).await?;
    let statements = schema::statements(&script);
    let Some(add) = statements.iter().find(|statement| statement.starts_with("ALTER TABLE")) else { return Ok(false) };
    Ok(exec(conn, &format!("{add} NOT VALID")).await.is_ok())
}

/// Whether there is a materialized view to fill.
pub(super) fn refreshes(target: &Target<'_>) -> bool {
    target.archive.last(target.chosen.kept()).into_iter().any(|entry| toc::rank(entry) == REFRESH)
}

/// Rank of a refresh among what comes last.
const REFRESH: u8 = 1;

/// Grants, refreshes, event triggers, the database's own properties; in this order.
pub(super) async fn finish(
    conn: &mut PgConnection,
    target: &Target<'_>,
    lines: &mut Vec<String>,
) -> Result<(), EngineError> {
    let entries = target.archive.last(target.chosen.kept());
    for kind in 0..=2 {
        let same: Vec<&TocEntry> = entries.iter().copied().filter(|entry| toc::rank(entry) == kind).collect();
        if same.is_empty() || (kind == 0 && target.chosen.leave().acl) {
            continue;
        }
        let script = target.archive.sql(same, None, target.chosen.leave()).await?;
        let list: Vec<&str> = schema::statements(&script).into_iter().filter(|text| !is_setting(text)).collect();
        if kind == REFRESH {
            refresh(conn, &target.facts.search_path, list, lines).await?;
        } else {
            in_order(conn, &list, lines).await;
        }
    }
    if target.chosen.kept().is_none() {
        let leave = target.chosen.leave();
        for statement in target.facts.database.after(&ident(&target.url.database), leave.owner, leave.acl) {
            tolerate(conn, &statement, lines).await;
        }
    }
    Ok(())
}

/// Materialized views that held rows when they were backed up and could not be filled, beside those named already: they
/// read one that was never filled itself, and `pg_dump` writes no refresh for them.
pub(super) async fn unfilled(
    conn: &mut PgConnection,
    target: &Target<'_>,
    named: &[String],
) -> Result<Vec<String>, EngineError> {
    let query = format!(
        "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'm' AND NOT c.relispopulated AND {USER_SCHEMA} ORDER BY 1, 2"
    );
    let empty = preflight::named(conn, &query).await?;
    let filled = |name: &String| {
        target.facts.filled.contains(name) && !named.iter().any(|line| line.contains(&format!("VIEW {name}")))
    };
    let line = |name: String| format!("MATERIALIZED VIEW {name}: it reads one that was never filled, and stays empty");
    Ok(empty.into_iter().filter(filled).map(line).collect())
}

/// Settings of the script's head; who is speaking in a grant is not one of them.
fn is_setting(statement: &str) -> bool {
    (statement.starts_with("SET ") && !statement.starts_with("SET SESSION AUTHORIZATION"))
        || statement.starts_with("SELECT pg_catalog.set_config(")
}

async fn in_order(conn: &mut PgConnection, list: &[&str], lines: &mut Vec<String>) {
    for statement in list {
        tolerate(conn, statement, lines).await;
    }
}

/// Refreshes while each round brings something, the last one with the application's search path: a view may read
/// another one through a function, which no catalogue tells.
async fn refresh(
    conn: &mut PgConnection,
    search_path: &str,
    mut list: Vec<&str>,
    lines: &mut Vec<String>,
) -> Result<(), EngineError> {
    let mut own_path = false;
    while !list.is_empty() {
        let mut failed = Vec::new();
        for statement in &list {
            if let Err(error) = exec(conn, statement).await {
                failed.push((*statement, words(&error)));
            }
        }
        if failed.len() == list.len() {
            if own_path {
                lines.extend(failed.iter().map(|(statement, reason)| format!("{statement}: {reason}")));
                break;
            }
            own_path = true;
            exec(conn, &format!("SET search_path = {search_path}")).await.doing("the search path could not be set")?;
        }
        list = failed.into_iter().map(|(statement, _)| statement).collect();
    }
    exec(conn, "SET search_path = ''").await.doing("the search path could not be set")
}
