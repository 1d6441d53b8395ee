//! The texts of the tar: what `psql` and a person need to restore without Holdfast.

use super::archive::Archive;
use super::catalog::copy_columns;
use super::facts::Facts;
use super::load::checks::SetAside;
use super::quote::{column_list, ident, literal, one_line, tsv_field};
use super::session::{Doing, rows};
use super::tools::Leave;
use super::{large_objects, schema, toc};
use crate::engine::{EngineError, Entry};
use crate::model::Fingerprint;
use futures_util::future::try_join_all;
use serde::Deserialize;
use sqlx::PgConnection;

/// The script that restores an unpacked backup with sh, coreutils and psql.
const RESTORE_SH: &str = include_str!("restore.sh");

/// Path of the schema's archive.
pub(crate) const ARCHIVE: &str = "schema.pgdump";

/// Path of the n-th table's rows.
pub(crate) fn data_path(at: usize) -> String {
    format!("data/{:06}.copy", at + 1)
}

/// Path of a large object's content.
pub(crate) fn large_object_path(oid: u32) -> String {
    format!("large-objects/{oid}")
}

/// Texts that stand before and behind the data.
pub(crate) struct Texts {
    before: Vec<Entry>,
    after: Vec<Entry>,
}

impl Texts {
    /// The tar's entries in order.
    pub(crate) fn around(self, data: Vec<Entry>) -> Vec<Entry> {
        self.before.into_iter().chain(data).chain(self.after).collect()
    }
}

/// Makes all texts.
pub(crate) async fn make(
    archive: &Archive,
    facts: &Facts,
    fingerprint: &Fingerprint,
    roles_sql: &str,
    set_aside: &SetAside,
) -> Result<Texts, EngineError> {
    let text = |path: &str, body: String| Entry::Text { path: path.to_owned(), body: body.into_bytes() };
    let (pre_data, post_data, last) =
        tokio::try_join!(archive.section("pre-data"), archive.section("post-data"), last(archive))?;
    let mut before = vec![
        text("restore.sh", RESTORE_SH.to_owned()),
        text("roles.sql", roles_sql.to_owned()),
        text("database.sql", database(facts)),
        text("schema/pre-data.sql", with_missing(facts, pre_data)),
        text("schema/before-rows.sql", before_rows(facts, set_aside)),
        Entry::Text { path: ARCHIVE.to_owned(), body: archive.bytes().await? },
        text("data/encoding", format!("{}\n", facts.database.encoding)),
        text("data/search_path", format!("{}\n", facts.search_path.replace('\\', "\\\\").replace(' ', "\\ "))),
        text("data/index.tsv", index(facts, fingerprint)),
    ];
    let mut after = vec![
        text("sequences.sql", sequences(facts, fingerprint)),
        text("schema/post-data.sql", post_data),
        text("schema/after-rows.sql", script(set_aside.back())),
        text("verify.sql", verify(facts, fingerprint)),
    ];
    after.extend(last.into_iter().map(|(path, body)| text(path, body)));
    if !facts.large_objects.is_empty() {
        before.push(text("large-objects/index.tsv", large_object_index(facts)));
        after.push(text("large-objects/objects.sql", large_object_owners(facts)));
    }
    Ok(Texts { before, after })
}

/// The database's name in texts: a variable of psql.
const TARGET: &str = ":\"target\"";

/// `psql -v create=1` makes the database; with `create=0` owner, grants, settings and comment follow, which must come
/// last, because a setting could stop the restore.
fn database(facts: &Facts) -> String {
    let create = facts.database.create(TARGET, facts.server);
    let mut text = format!("\\if :create\n{create};\n\\else\n");
    for statement in facts.database.after(TARGET, false, false) {
        text.push_str(&format!("{statement};\n"));
    }
    text.push_str(&format!("{};\n\\endif\n", facts.database.comment(TARGET)));
    text
}

fn script(statements: Vec<String>) -> String {
    statements.into_iter().map(|statement| format!("{statement};\n")).collect()
}

/// What would stop rows from going in: constraints that call functions, NOT NULL that a child had given up.
fn before_rows(facts: &Facts, set_aside: &SetAside) -> String {
    let nullable = |relation: &super::facts::Columns| {
        let table = format!("{}.{}", ident(&relation.schema), ident(&relation.name));
        let drop = |column: &String| format!("ALTER TABLE ONLY {table} ALTER {} DROP NOT NULL", ident(column));
        relation.columns.iter().map(drop).collect::<Vec<_>>()
    };
    script(set_aside.away().into_iter().chain(facts.nullable.iter().flat_map(nullable)).collect())
}

fn with_missing(facts: &Facts, pre_data: String) -> String {
    format!("{}{pre_data}", script(facts.missing.statements()))
}

/// Grants, refreshes and event triggers, a file each: they come last, and refreshes may need several rounds.
async fn last(archive: &Archive) -> Result<Vec<(&'static str, String)>, EngineError> {
    let entries = archive.last(None);
    let script = async |rank, path| {
        let same = entries.iter().copied().filter(|entry| toc::rank(entry) == rank);
        let script = archive.sql(same, None, Leave::default()).await?;
        Ok((path, schema::without_commands(&script)))
    };
    let scripts = [(0, "schema/grants.sql"), (1, "schema/refresh.sql"), (2, "schema/event-triggers.sql")];
    try_join_all(scripts.map(|(rank, path)| script(rank, path))).await
}

/// One line a table: file, table, columns (`-` for none), rows.
fn index(facts: &Facts, fingerprint: &Fingerprint) -> String {
    let line = |(at, table): (usize, &super::facts::TableFact)| {
        let columns = column_list(table.columns.iter().map(String::as_str));
        let rows = fingerprint.tables.get(&table.qualified()).map_or(0, |found| found.rows);
        format!("{}\t{}\t{}\t{rows}\n", data_path(at), tsv_field(&table.sql()), tsv_field(&columns))
    };
    facts.tables.iter().enumerate().map(line).collect()
}

fn sequences(facts: &Facts, fingerprint: &Fingerprint) -> String {
    script(set_sequences(facts, fingerprint, |_| true))
}

/// The statements that set the chosen sequences to their positions.
pub(crate) fn set_sequences(facts: &Facts, expected: &Fingerprint, chosen: impl Fn(&str) -> bool) -> Vec<String> {
    let statement = |(schema, name): &(String, String)| {
        let qualified = super::quote::qualified(schema, name);
        let state = expected.sequences.get(&qualified).filter(|_| chosen(&qualified))?;
        let sequence = literal(&format!("{}.{}", ident(schema), ident(name)));
        Some(format!("SELECT pg_catalog.setval({sequence}, {}, {})", state.last_value, state.is_called))
    };
    facts.sequences.iter().filter_map(statement).collect()
}

fn large_object_index(facts: &Facts) -> String {
    facts.large_objects.iter().map(|object| format!("{}\t{}\n", large_object_path(object.oid), object.oid)).collect()
}

fn large_object_owners(facts: &Facts) -> String {
    let statements = facts.large_objects.iter().flat_map(|object| large_objects::statements(object, Leave::default()));
    script(statements.collect())
}

/// Asserts the number of rows of every table, in plain SQL: a cast of the message to a number fails with the message.
fn verify(facts: &Facts, fingerprint: &Fingerprint) -> String {
    let mut text = String::new();
    for table in &facts.tables {
        let name = table.qualified();
        let expected = fingerprint.tables.get(&name).map_or(0, |found| found.rows);
        let only = if table.leaves.is_empty() { "ONLY " } else { "" };
        let (label, condition) = (literal(&one_line(&name)), table.config.as_deref().unwrap_or_default());
        text.push_str(&format!(
            "SELECT CASE WHEN count(*) = {expected} THEN 0 ELSE ('table ' || {label} || ' has ' || count(*) || \
             ' rows instead of {expected}')::integer END FROM {only}{} {condition};\n",
            table.sql()
        ));
    }
    text
}

/// Roles the database refers to and their memberships among each other: no passwords, no rights of their own.
pub(crate) async fn roles(conn: &mut PgConnection, names: &[String]) -> Result<String, EngineError> {
    #[derive(Deserialize)]
    struct Membership {
        role: String,
        member: String,
    }
    let list: Vec<Membership> = rows(
        conn,
        "SELECT DISTINCT r.rolname AS role, m.rolname AS member FROM pg_auth_members a
         JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
         WHERE r.rolname !~ '^pg_' AND m.rolname !~ '^pg_' ORDER BY 1, 2",
    )
    .await
    .doing("the roles could not be read")?;
    let mut text = String::from("-- Missing roles are made without login and without password.\n");
    for name in names {
        let create = literal(&format!("CREATE ROLE {} NOLOGIN", ident(name)));
        let there = literal(name);
        text.push_str(&format!(
            "SELECT {create} WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {there}) \\gexec\n"
        ));
    }
    for Membership { role, member } in list.iter().filter(|m| names.contains(&m.role) && names.contains(&m.member)) {
        let grant = literal(&format!("GRANT {} TO {}", ident(role), ident(member)));
        let (role, member) = (literal(role), literal(member));
        text.push_str(&format!(
            "SELECT {grant} WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members a \
             JOIN pg_catalog.pg_roles r ON r.oid = a.roleid JOIN pg_catalog.pg_roles m ON m.oid = a.member \
             WHERE r.rolname = {role} AND m.rolname = {member}) \\gexec\n"
        ));
    }
    Ok(text)
}

/// The COPY statement that loads rows through `table`.
pub(crate) fn copy_in(table: &super::facts::TableFact, encoding: &str) -> String {
    format!("COPY {}{} FROM STDIN (ENCODING {})", table.sql(), copy_columns(&table.columns), literal(encoding))
}
