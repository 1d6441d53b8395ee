//! CHECK constraints, of tables and domains, that call functions of the database, or any that are not immutable: away
//! while rows are loaded, back at the end.
//!
//! The former may read other tables, so whether the constraint holds depends on the order of loading; the latter may not
//! hold any more (`CHECK (valid_until > now())`). `FORCE ROW
//! LEVEL SECURITY` is treated alike: it would stop an owner who is no superuser from validating foreign keys.

use crate::engine::EngineError;
use crate::engine::postgres::forced::Forced;
use crate::engine::postgres::quote::{ident, literal};
use crate::engine::postgres::session::{Doing, exec, rows, words};
use serde::Deserialize;
use sqlx::PgConnection;

/// What is taken away while rows are loaded.
#[derive(Debug, Default)]
pub(crate) struct SetAside {
    checks: Vec<Check>,
    forced: Vec<Forced>,
}

/// A CHECK as it has to come back.
#[derive(Debug, Deserialize)]
struct Check {
    schema: String,
    /// The table or domain it belongs to.
    owner: String,
    domain: bool,
    name: String,
    definition: String,
    comment: Option<String>,
    /// Defined on this table, not only inherited.
    local: bool,
    /// Levels of inheritance above the table.
    depth: i32,
}

impl Check {
    /// `TABLE x` or `DOMAIN x`.
    fn on(&self) -> String {
        let noun = if self.domain { "DOMAIN" } else { "TABLE" };
        format!("{noun} {}.{}", ident(&self.schema), ident(&self.owner))
    }

    fn add(&self) -> String {
        format!("ALTER {} ADD CONSTRAINT {} {}", self.on(), ident(&self.name), self.definition)
    }

    fn comment(&self, text: &str) -> String {
        let noun = if self.domain { "DOMAIN " } else { "" };
        let on = format!("{noun}{}.{}", ident(&self.schema), ident(&self.owner));
        format!("COMMENT ON CONSTRAINT {} ON {on} IS {}", ident(&self.name), literal(text))
    }

    fn label(&self) -> String {
        format!("CHECK {} of {}.{}", self.name, self.schema, self.owner)
    }
}

/// Constraints that reach a function of the database, directly or by an operator (those of extensions do not count), or
/// whose expression, as the server keeps it, names a function that is not immutable.
const CHECKS: &str = "WITH RECURSIVE above (relation, depth) AS (
        SELECT c.oid, 0 FROM pg_class c WHERE c.relkind IN ('r', 'p', 'f')
            AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
        UNION ALL SELECT i.inhrelid, a.depth + 1 FROM above a JOIN pg_inherits i ON i.inhparent = a.relation),
    own_function (oid) AS (
        SELECT p.oid FROM pg_proc p WHERE p.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d
            WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'))
    SELECT n.nspname AS schema, coalesce(c.relname, t.typname) AS owner, k.contypid <> 0 AS domain, k.conname AS name,
        pg_get_constraintdef(k.oid) AS definition, obj_description(k.oid, 'pg_constraint') AS comment,
        k.conislocal AS local, coalesce((SELECT max(a.depth) FROM above a WHERE a.relation = c.oid), 0)::int AS depth
    FROM pg_constraint k LEFT JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_type t ON t.oid = k.contypid
    JOIN pg_namespace n ON n.oid = coalesce(c.relnamespace, t.typnamespace)
    WHERE k.contype = 'c' AND (k.conbin::text ~ '{SQLVALUEFUNCTION'
        OR EXISTS (SELECT FROM regexp_matches(k.conbin::text, ':(?:op)?funcid (\\d+)', 'g') AS used
            JOIN pg_proc p ON p.oid = used[1]::oid WHERE p.provolatile <> 'i')
        OR EXISTS (SELECT FROM pg_depend d LEFT JOIN pg_operator o
            ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
        WHERE d.classid = 'pg_constraint'::regclass AND d.objid = k.oid
          AND (d.refclassid = 'pg_proc'::regclass AND d.refobjid IN (SELECT oid FROM own_function)
               OR o.oprcode IN (SELECT oid FROM own_function))))
    ORDER BY depth, 1, 2, 3";

impl SetAside {
    /// Looks what there is to set aside in a database.
    pub(crate) async fn list(conn: &mut PgConnection) -> Result<Self, EngineError> {
        let checks: Vec<Check> = rows(conn, CHECKS).await.doing("the constraints could not be listed")?;
        Ok(SetAside { checks, forced: Forced::list(conn).await? })
    }

    /// Whether functions will be called when everything comes back.
    pub(crate) fn has_functions(&self) -> bool {
        !self.checks.is_empty()
    }

    /// Statements that take everything away. Parents come first and take their children's with them.
    pub(crate) fn away(&self) -> Vec<String> {
        let drop = |check: &Check| format!("ALTER {} DROP CONSTRAINT IF EXISTS {}", check.on(), ident(&check.name));
        self.checks.iter().map(drop).chain(self.forced.iter().map(Forced::off)).collect()
    }

    /// Statements that bring everything back where no row stands against it: the deepest children first.
    pub(crate) fn back(&self) -> Vec<String> {
        let mut list: Vec<String> = self.deepest_first().into_iter().map(Check::add).collect();
        list.extend(self.comments());
        list.extend(self.forced.iter().map(Forced::on));
        list
    }

    fn deepest_first(&self) -> Vec<&Check> {
        let mut list: Vec<&Check> = self.checks.iter().filter(|check| check.local).collect();
        list.sort_by_key(|check| std::cmp::Reverse(check.depth));
        list
    }

    fn comments(&self) -> Vec<String> {
        let local = self.checks.iter().filter(|check| check.local);
        local.filter_map(|check| check.comment.as_ref().map(|text| check.comment(text))).collect()
    }
}

/// Takes the constraints and the force away; the tables are still empty.
pub(super) async fn take_away(conn: &mut PgConnection) -> Result<SetAside, EngineError> {
    let aside = SetAside::list(conn).await?;
    for statement in aside.away() {
        exec(conn, &statement).await.doing(format!("a constraint could not be set aside ({statement})"))?;
    }
    Ok(aside)
}

/// Puts everything back, the deepest child first. A constraint the rows violate comes back NOT VALID and is named.
pub(super) async fn put_back(
    conn: &mut PgConnection,
    aside: &SetAside,
    search_path: &str,
    lines: &mut Vec<String>,
) -> Result<(), EngineError> {
    for check in aside.deepest_first() {
        let add = check.add();
        let path = format!("SET search_path = {search_path}; {add}; SET search_path = ''");
        let Err(first) = exec(conn, &add).await else { continue };
        // With the application's own search path its functions may find what they need.
        if exec(conn, &path).await.is_ok() {
            continue;
        }
        exec(conn, "SET search_path = ''").await.doing("the search path could not be set")?;
        match exec(conn, &format!("{add} NOT VALID")).await {
            Ok(()) => lines.push(format!(
                "{}: rows of the backup violate it ({}); created NOT VALID",
                check.label(),
                words(&first)
            )),
            Err(error) => lines.push(format!("{}: {}", check.label(), words(&error))),
        }
    }
    for statement in aside.comments() {
        super::tolerate(conn, &statement, lines).await;
    }
    for table in &aside.forced {
        super::tolerate(conn, &table.on(), lines).await;
    }
    Ok(())
}
