//! The load: tables, rows, sequences, large objects, indexes and constraints, then everything that must come last.

mod after;
pub(crate) mod checks;
mod objects;
mod rows;
mod statistics;

use super::archive::Archive;
use super::dump::View;
use super::facts::{Columns, Facts};
use super::quote::{ident, qualified};
use super::session::{self, Doing, exec, words};
use super::snapshot::Server;
use super::tools::{Complaint, Leave, Load};
use super::{select, texts, toc};
use crate::engine::{DumpSource, EngineError, LoadOptions, LoadProgress, Loaded, Progress};
use crate::model::{Fingerprint, PostgresUrl};
use serde::Deserialize;
use sqlx::PgConnection;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) use statistics::Statistics;

/// What a load is to bring.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chosen {
    leave: Leave,
    part: Option<Part>,
}

/// Some tables instead of everything.
#[derive(Debug, Clone)]
struct Part {
    /// Indices of the tables' data entries.
    tables: BTreeSet<usize>,
    /// Dump ids of archive entries.
    kept: BTreeSet<u32>,
    left_out: Vec<String>,
    /// Qualified names of the tables, and of the sequences that come with them.
    names: BTreeSet<String>,
}

impl Chosen {
    /// Resolves the options against the backup. Refused where a table is not in it.
    pub(crate) fn new(facts: &Facts, archive: &Archive, options: &LoadOptions) -> Result<Self, EngineError> {
        let leave = Leave { owner: options.no_owner, acl: options.no_acl };
        if options.tables.is_empty() {
            return Ok(Chosen { leave, part: None });
        }
        let tables = select::chosen(&facts.tables, &options.tables)?;
        let fact = |at: &usize| &facts.tables[*at];
        let oids = tables.iter().map(fact).flat_map(|t| t.leaves.iter().copied().chain([t.oid])).collect();
        let selection = toc::select(&archive.entries, &oids);
        let mut names: BTreeSet<String> = tables.iter().map(|at| fact(at).qualified()).collect();
        let sequence = |entry: &&toc::TocEntry| entry.kind == "SEQUENCE" && selection.kept.contains(&entry.dump_id);
        let labels: BTreeSet<String> =
            archive.entries.iter().filter(sequence).map(|entry| entry.label.clone()).collect();
        // The label is "schema name owner"; the facts know schema and name apart.
        let kept = |(schema, name): &&(String, String)| {
            labels.iter().any(|label| label.starts_with(&format!("{schema} {name} ")))
        };
        names.extend(facts.sequences.iter().filter(kept).map(|(schema, name)| qualified(schema, name)));
        // A key from another table to this one is not missed; that table is not there.
        let own = |entry: &&toc::TocEntry| tables.iter().map(fact).any(|table| entry.is_of(&table.schema, &table.name));
        let left_out = selection.left_out.iter().filter(own).map(toc::TocEntry::describe).collect();
        let part = Part { tables, kept: selection.kept, left_out, names };
        Ok(Chosen { leave, part: Some(part) })
    }

    /// Whether nothing is left out.
    pub(crate) fn is_everything(&self) -> bool {
        self.leave == Leave::default() && self.part.is_none()
    }

    /// What of the restored database is compared.
    pub(crate) fn view(&self) -> View {
        View { leave: self.leave, whole: self.part.is_none() }
    }

    /// Archive entries that are kept, where not all are.
    pub(crate) fn kept(&self) -> Option<&BTreeSet<u32>> {
        self.part.as_ref().map(|part| &part.kept)
    }

    /// Takes out of a fingerprint what was not chosen (the schema is the caller's).
    pub(crate) fn limit(&self, fingerprint: &mut Fingerprint) {
        if let Some(part) = &self.part {
            fingerprint.tables.retain(|name, _| part.names.contains(name));
            fingerprint.sequences.retain(|name, _| part.names.contains(name));
            fingerprint.large_objects.clear();
        }
    }

    /// Owners and grants that stay away.
    pub(crate) fn leave(&self) -> Leave {
        self.leave
    }

    fn has(&self, table: usize) -> bool {
        self.part.as_ref().is_none_or(|part| part.tables.contains(&table))
    }

    fn has_sequence(&self, name: &str) -> bool {
        self.part.as_ref().is_none_or(|part| part.names.contains(name))
    }
}

/// The database to fill and what is known about it.
pub(crate) struct Target<'a> {
    pub(crate) url: &'a PostgresUrl,
    pub(crate) facts: &'a Facts,
    pub(crate) archive: &'a Archive,
    pub(crate) server: &'a Server,
    pub(crate) chosen: &'a Chosen,
    pub(crate) workers: usize,
}

/// Fills the database; fails when a row could not be loaded. Statistics may still be gathered afterwards.
pub(crate) async fn load(
    target: &Target<'_>,
    source: Arc<dyn DumpSource>,
    progress: Progress,
) -> Result<(Loaded, Statistics), EngineError> {
    let step = |name: &str| progress(LoadProgress::Step(name));
    let chosen = target.chosen;
    let mut lines: Vec<String> = Vec::new();
    let mut conn = session::connect(target.url).await?;
    refuse_missing_roles(&mut conn, target).await?;

    step("creating tables");
    for statement in target.facts.missing.statements() {
        tolerate(&mut conn, &statement, &mut lines).await;
    }
    lines.extend(target.pre_data().await?.iter().map(|complaint| target.say(complaint)));
    restore_nullable(&mut conn, target).await?;
    refuse_swapped_row_types(&mut conn, target).await?;
    let checks = checks::take_away(&mut conn).await?;

    step("loading rows");
    rows::load(target, &source, &progress).await.map_err(|error| after_complaints(error, &lines))?;
    let set = texts::set_sequences(target.facts, source.fingerprint(), |name| chosen.has_sequence(name));
    for batch in set.chunks(100) {
        exec(&mut conn, &batch.join("; ")).await.doing("the sequences could not be set")?;
    }
    if chosen.part.is_none() {
        step("loading large objects");
        objects::load(&mut conn, target, &source, &progress).await?;
        for object in &target.facts.large_objects {
            for statement in super::large_objects::statements(object, chosen.leave) {
                tolerate(&mut conn, &statement, &mut lines).await;
            }
        }
    }

    step("creating indexes and constraints");
    let complaints = target.post_data().await?;
    lines.extend(after::foreign_keys(&mut conn, target, complaints).await?);
    // Queries of materialized views and of functions in constraints want statistics, and are very slow without. Where
    // there are none, the proof may read meanwhile.
    let wanted = checks.has_functions() || after::refreshes(target);
    let mut statistics = Statistics::default();
    if wanted {
        step("analyzing");
        statistics = Statistics::gather(&mut conn, target).await?;
        statistics.gathered().await;
    }
    checks::put_back(&mut conn, &checks, &target.facts.search_path, &mut lines).await?;
    step("finishing");
    after::finish(&mut conn, target, &mut lines).await?;
    let unfilled = after::unfilled(&mut conn, target, &lines).await?;
    lines.extend(unfilled);
    if !wanted {
        statistics = Statistics::gather(&mut conn, target).await?;
    }
    session::close(conn).await;
    let left_out = chosen.part.iter().flat_map(|part| &part.left_out);
    let left_out = left_out.map(|what| format!("{what}: it needs a table that was not chosen")).collect();
    Ok((Loaded { failed: lines, left_out }, statistics))
}

impl Target<'_> {
    /// Lets `pg_restore` create entries of one section.
    async fn section(
        &self,
        section: &str,
        entries: Vec<&toc::TocEntry>,
        jobs: usize,
    ) -> Result<Vec<Complaint>, EngineError> {
        let archive = self.archive;
        let list = archive.list(&format!("{section}.list"), entries).await?;
        let load = Load { major: self.server.major(), section, jobs, leave: self.chosen.leave };
        archive.tools.load(self.url, &archive.path(), &list, load).await
    }

    /// The entry a complaint is about, with its schema where the archive knows it.
    fn name(&self, complaint: &Complaint) -> String {
        let entry = self.archive.entries.iter().find(|entry| Some(entry.dump_id) == complaint.dump_id);
        entry.map_or_else(|| complaint.entry.clone(), toc::TocEntry::describe)
    }

    fn say(&self, complaint: &Complaint) -> String {
        format!("{}: {}", self.name(complaint), complaint.reason)
    }

    /// Creates the tables; what fails is tried again while that helps, because a function may hide what it needs.
    async fn pre_data(&self) -> Result<Vec<Complaint>, EngineError> {
        // Tables depend on each other in ways only their order tells.
        let mut complaints = self.section("pre-data", self.archive.main(self.chosen.kept()), 1).await?;
        loop {
            let before = complaints.len();
            if !self.again("pre-data", &mut complaints).await? || complaints.len() == before {
                return Ok(complaints);
            }
        }
    }

    /// Creates indexes, constraints and what else comes after the rows. Builders that work at once on the indexes of one
    /// partitioned table can lock each other out; what failed is then made once more, one after the other.
    async fn post_data(&self) -> Result<Vec<Complaint>, EngineError> {
        let mut complaints = self.section("post-data", self.archive.main(self.chosen.kept()), self.workers).await?;
        if complaints.iter().any(|complaint| complaint.reason.contains("deadlock detected")) {
            self.again("post-data", &mut complaints).await?;
        }
        Ok(complaints)
    }

    /// Tries once more what failed, one entry after the other, and takes off the list what went in. False where none of
    /// it is an entry of the archive.
    async fn again(&self, section: &str, complaints: &mut Vec<Complaint>) -> Result<bool, EngineError> {
        let failed = |entry: &&toc::TocEntry| complaints.iter().any(|c| c.dump_id == Some(entry.dump_id));
        let entries: Vec<&toc::TocEntry> = self.archive.entries.iter().filter(failed).collect();
        if entries.is_empty() {
            return Ok(false);
        }
        let second = self.section(section, entries, 1).await?;
        // An entry that had come in part (a table whose owner could not be set) is told of as the first time, one that
        // failed because of another one as the second time.
        let mut still = Vec::new();
        for first in complaints.drain(..) {
            match second.iter().find(|complaint| complaint.dump_id == first.dump_id) {
                Some(second) if first.reason.contains("deadlock detected") => still.push(second.clone()),
                Some(_) => still.push(first),
                None if first.dump_id.is_none() => still.push(first),
                None => {}
            }
        }
        *complaints = still;
        Ok(true)
    }
}

/// What could not be created before is why rows cannot be loaded, more often than not.
fn after_complaints(error: EngineError, lines: &[String]) -> EngineError {
    match (error, lines) {
        (EngineError::Failed { message, hint: None }, [first, ..]) => {
            let missing = lines.iter().find(|line| line.starts_with("EXTENSION ")).unwrap_or(first);
            EngineError::failed(message).with_hint(format!("before, this could not be created: {missing}"))
        }
        (error, _) => error,
    }
}

/// Runs a statement whose failure leaves all rows in: it becomes a line for a person.
async fn tolerate(conn: &mut PgConnection, statement: &str, lines: &mut Vec<String>) {
    if let Err(error) = exec(conn, statement).await {
        lines.push(format!("{statement}: {}", words(&error)));
    }
}

/// Without its roles a database comes back with wrong owners and without grants: better to say so before the work.
async fn refuse_missing_roles(conn: &mut PgConnection, target: &Target<'_>) -> Result<(), EngineError> {
    let Leave { owner, acl } = target.chosen.leave;
    if owner && acl {
        return Ok(());
    }
    #[derive(Deserialize)]
    struct Role {
        name: String,
    }
    let there: Vec<Role> =
        session::rows(conn, "SELECT rolname AS name FROM pg_roles").await.doing("the roles could not be listed")?;
    let there: BTreeSet<&str> = there.iter().map(|role| role.name.as_str()).collect();
    let missing: Vec<String> =
        target.facts.roles.iter().filter(|role| !there.contains(role.as_str())).map(|role| ident(role)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("the server does not know the roles {} that own or may use objects", missing.join(", "));
    Err(EngineError::refused(message).with_hint("create them first (CREATE ROLE …), or use --no-owner --no-acl"))
}

async fn columns_of(conn: &mut PgConnection, wanted: &str) -> Result<Vec<Columns>, EngineError> {
    let query = format!(
        "SELECT n.nspname AS schema, c.relname AS name,
            coalesce(json_agg(a.attname ORDER BY a.attnum) FILTER (WHERE {wanted}), '[]') AS columns
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid) GROUP BY 1, 2"
    );
    session::rows(conn, &query).await.doing("the restored tables could not be looked at")
}

/// A child column may have lost its parent's NOT NULL; a restore gives it back, and rows would not fit.
async fn restore_nullable(conn: &mut PgConnection, target: &Target<'_>) -> Result<(), EngineError> {
    if target.facts.nullable.is_empty() {
        return Ok(());
    }
    for found in columns_of(conn, "a.attnotnull").await? {
        let Some(expected) = same_relation(&target.facts.nullable, &found) else { continue };
        for column in found.columns.iter().filter(|column| expected.columns.contains(column)) {
            let table = format!("{}.{}", ident(&found.schema), ident(&found.name));
            let sql = format!("ALTER TABLE ONLY {table} ALTER {} DROP NOT NULL", ident(column));
            // On servers where this is not possible the load of the table tells.
            if let Err(error) = exec(conn, &sql).await {
                tracing::warn!(table, column, error = words(&error), "NOT NULL could not be dropped");
            }
        }
    }
    Ok(())
}

/// Values of a row type are stored by position: with another column order they would be swapped without an error.
async fn refuse_swapped_row_types(conn: &mut PgConnection, target: &Target<'_>) -> Result<(), EngineError> {
    if target.facts.row_types.is_empty() {
        return Ok(());
    }
    let found = columns_of(conn, "true").await?;
    let swapped = |expected: &&Columns| same_relation(&found, expected).is_some_and(|f| f.columns != expected.columns);
    match target.facts.row_types.iter().find(swapped) {
        None => Ok(()),
        Some(columns) => Err(EngineError::failed(format!(
            "the row type of {} is used as a column type, and PostgreSQL restores its columns in another order: \
             values would change places",
            qualified(&columns.schema, &columns.name)
        ))
        .with_hint("restore the other tables with --table")),
    }
}

fn same_relation<'a>(list: &'a [Columns], wanted: &Columns) -> Option<&'a Columns> {
    list.iter().find(|columns| columns.schema == wanted.schema && columns.name == wanted.name)
}
