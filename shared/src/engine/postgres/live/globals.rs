//! What a migration can change outside its database: roles, memberships, settings, grants, tablespaces.

use super::PostgresLive;
use super::names::is_ours;
use crate::engine::EngineError;
use crate::engine::postgres::session::{self, Doing, rows};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is common to all databases of a server, in an order of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Globals {
    things: BTreeMap<String, Definition>,
}

/// One thing: what it is like, and the statements that make it so or remove it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Definition {
    name: String,
    text: String,
    make: Option<String>,
    remove: Option<String>,
    /// It belongs to a database that we made or renamed for a while; such things are not compared.
    ours: bool,
}

/// A difference between two looks at the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalChange {
    /// Facts.
    pub what: String,
    /// The statement that would undo it, where there is one.
    pub undo_sql: Option<String>,
}

impl Globals {
    /// Descriptions of all things with what they are like, in order.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.things.values().map(|it| format!("{}: {}", it.name, it.text)).collect();
        lines.sort();
        lines
    }
}

/// What changed from `before` to `after`, by description.
pub fn differences(before: &Globals, after: &Globals) -> Vec<GlobalChange> {
    let mut list = Vec::new();
    for (key, old) in before.things.iter().filter(|(_, old)| !old.ours) {
        match after.things.get(key) {
            None => list.push(GlobalChange { what: format!("{} is gone", old.name), undo_sql: old.make.clone() }),
            Some(new) if new.text != old.text && !new.ours => list.push(GlobalChange {
                what: format!("{} changed from {} to {}", old.name, old.text, new.text),
                undo_sql: old.make.clone(),
            }),
            Some(_) => {}
        }
    }
    for (_, new) in after.things.iter().filter(|(key, new)| !new.ours && !before.things.contains_key(*key)) {
        list.push(GlobalChange { what: format!("{} is new ({})", new.name, new.text), undo_sql: new.remove.clone() });
    }
    list.sort_by(|one, other| one.what.cmp(&other.what));
    list
}

/// One row of the queries below.
#[derive(Debug, Deserialize)]
struct Thing {
    /// What it is known by; OIDs stand for databases, whose names change while they are fenced.
    key: String,
    name: String,
    text: String,
    make: Option<String>,
    remove: Option<String>,
    /// The database it belongs to, if to one.
    database: Option<String>,
    /// That database's comment.
    comment: Option<String>,
}

impl PostgresLive {
    /// Roles, memberships, tablespaces; settings and grants of roles and of this database, not of others.
    ///
    /// Passwords are no part of it.
    pub async fn globals(&self) -> Result<Globals, EngineError> {
        let mut conn = self.maintenance().await?;
        let mut things = BTreeMap::new();
        for query in [ROLES, MEMBERS, SETTINGS, DATABASES, GRANTS, TABLESPACES] {
            let list: Vec<Thing> = rows(&mut conn, query).await.doing("what all databases share could not be read")?;
            for Thing { key, name, text, make, remove, database, comment } in list {
                // Whoever works on another database of the server is no business of this one.
                if database.as_ref().is_some_and(|database| database != self.public() && !is_ours(database)) {
                    continue;
                }
                let ours = database.is_some_and(|database| is_ours(&database))
                    || comment.is_some_and(|comment| comment.starts_with("holdfast: placeholder "));
                things.insert(key, Definition { name, text, make, remove, ours });
            }
        }
        session::close(conn).await;
        Ok(Globals { things })
    }
}

const ROLES: &str = "
    SELECT 'role ' || rolname AS key, 'role ' || quote_ident(rolname) AS name, text, 'ALTER ROLE ' || quote_ident(rolname) || ' ' || text AS make,
           'DROP ROLE ' || quote_ident(rolname) AS remove, NULL AS database, NULL AS comment
    FROM pg_roles CROSS JOIN LATERAL (SELECT concat_ws(' ',
        CASE WHEN rolsuper THEN 'SUPERUSER' ELSE 'NOSUPERUSER' END,
        CASE WHEN rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END,
        CASE WHEN rolcreaterole THEN 'CREATEROLE' ELSE 'NOCREATEROLE' END,
        CASE WHEN rolcreatedb THEN 'CREATEDB' ELSE 'NOCREATEDB' END,
        CASE WHEN rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END,
        CASE WHEN rolreplication THEN 'REPLICATION' ELSE 'NOREPLICATION' END,
        CASE WHEN rolbypassrls THEN 'BYPASSRLS' ELSE 'NOBYPASSRLS' END,
        'CONNECTION LIMIT ' || rolconnlimit,
        'VALID UNTIL ' || quote_literal(coalesce(rolvaliduntil::text, 'infinity'))) AS text) AS attributes";

const MEMBERS: &str = "
    SELECT format('membership %s %s %s', member, roleid, grantor) AS key, format('membership of %s in %s', member::regrole, roleid::regrole)
               || coalesce(' by ' || nullif(grantor, 0)::regrole::text, '') AS name,
           concat_ws(', ', 'member', CASE WHEN admin_option THEN 'with admin option' END,
               'inherit ' || (to_jsonb(m) ->> 'inherit_option'), 'set ' || (to_jsonb(m) ->> 'set_option')) AS text,
           format('GRANT %s TO %s%s', roleid::regrole, member::regrole,
               CASE WHEN admin_option THEN ' WITH ADMIN OPTION' ELSE '' END) AS make,
           format('REVOKE %s FROM %s', roleid::regrole, member::regrole) AS remove, NULL AS database, NULL AS comment
    FROM pg_auth_members m";

const SETTINGS: &str = "
    SELECT format('setting %s %s %s', parameter, setrole, setdatabase) AS key,
           format('setting %s of %s', parameter, bearer) AS name, value AS text,
           format('ALTER %s SET %s = %s', bearer, quoted, constant) AS make,
           format('ALTER %s RESET %s', bearer, quoted) AS remove, datname AS database,
           shobj_description(d.oid, 'pg_database') AS comment
    FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase
    CROSS JOIN LATERAL unnest(s.setconfig) AS pair
    CROSS JOIN LATERAL (SELECT split_part(pair, '=', 1) AS parameter,
        (SELECT string_agg(quote_ident(part), '.') FROM unnest(string_to_array(split_part(pair, '=', 1), '.')) AS part) AS quoted,
        substr(pair, strpos(pair, '=') + 1) AS value,
        CASE WHEN split_part(pair, '=', 1) IN ('search_path', 'temp_tablespaces', 'local_preload_libraries',
                 'session_preload_libraries') THEN substr(pair, strpos(pair, '=') + 1)
             ELSE quote_literal(substr(pair, strpos(pair, '=') + 1)) END AS constant,
        CASE WHEN s.setrole = 0 THEN 'DATABASE ' || quote_ident(d.datname)
             ELSE format('ROLE %s', s.setrole::regrole) || coalesce(' IN DATABASE ' || quote_ident(d.datname), '')
        END AS bearer) AS parts";

const DATABASES: &str = "
    SELECT format('database %s', d.oid) AS key, format('database %I', datname) AS name,
           format('owner %s, tablespace %s, connection limit %s, connections %s, template %s', datdba::regrole,
               t.spcname, datconnlimit, datallowconn::text, datistemplate::text) AS text,
           format('ALTER DATABASE %I OWNER TO %s; ALTER DATABASE %I CONNECTION LIMIT %s ALLOW_CONNECTIONS %s IS_TEMPLATE %s',
               datname, datdba::regrole, datname, datconnlimit, datallowconn::text, datistemplate::text) AS make,
           format('DROP DATABASE %I', datname) AS remove, datname AS database,
           shobj_description(d.oid, 'pg_database') AS comment
    FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace";

const GRANTS: &str = "
    SELECT format('grant %s %s %s %s', d.oid, a.privilege_type, a.grantee, a.grantor) AS key,
           format('grant of %s on database %I to %s by %s', a.privilege_type, datname, receiver, a.grantor::regrole) AS name,
           CASE WHEN a.is_grantable THEN 'with grant option' ELSE 'plain' END AS text,
           format('GRANT %s ON DATABASE %I TO %s%s', a.privilege_type, datname, receiver,
               CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS make,
           format('REVOKE %s ON DATABASE %I FROM %s', a.privilege_type, datname, receiver) AS remove, datname AS database,
           shobj_description(d.oid, 'pg_database') AS comment
    FROM pg_database d CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
    CROSS JOIN LATERAL (SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS receiver) AS g";

const TABLESPACES: &str = "
    SELECT format('tablespace %s', oid) AS key, format('tablespace %I', spcname) AS name,
           format('owner %s, location %L, options %s, grants %s', spcowner::regrole, pg_tablespace_location(oid),
               spcoptions, spcacl) AS text,
           NULL AS make, format('DROP TABLESPACE %I', spcname) AS remove, NULL AS database, NULL AS comment
    FROM pg_tablespace";
