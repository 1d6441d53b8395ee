//! What a restore needs to know beyond the archive: kept as JSON in the manifest.

use super::catalog::{Table, USER_SCHEMA};
use super::quote::{ident, literal, qualified};
use super::session::{one, rows};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

/// Everything a restore needs that no archive holds. Fields may be added, never change their meaning.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// `server_version_num` of the source.
    pub(crate) server: u32,
    /// Version of the `pg_dump` that wrote the archive.
    pub(crate) pg_dump: String,
    /// Write-ahead log position at the snapshot, where the server tells.
    pub(crate) lsn: Option<String>,
    /// The database itself.
    pub(crate) database: DatabaseFacts,
    /// Tables in the order of their data entries.
    pub(crate) tables: Vec<TableFact>,
    /// Sequences by qualified name: schema and name apart.
    pub(crate) sequences: Vec<(String, String)>,
    /// Large objects, in the order of their data entries, which follow those of the tables.
    pub(crate) large_objects: Vec<LargeObjectFact>,
    /// Roles that own something or are granted something.
    pub(crate) roles: Vec<String>,
    /// Inheritance children: their nullable columns, which a restore could make NOT NULL.
    pub(crate) nullable: Vec<Columns>,
    /// Relations whose row type is the type of a column somewhere: their columns in order.
    pub(crate) row_types: Vec<Columns>,
    /// `search_path` as the application has it, for what works only with it.
    pub(crate) search_path: String,
    /// Schemas and extensions every new database has, which this one no longer had.
    pub(crate) missing: Missing,
    /// Materialized views that hold rows, by qualified name; older backups tell of none.
    #[serde(default)]
    pub(crate) filled: Vec<String>,
}

/// Columns of one relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Columns {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
}

/// Things a new database has from the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Missing {
    /// Schema `public`.
    pub(crate) public: bool,
    /// Extension `plpgsql`.
    pub(crate) plpgsql: bool,
}

/// One table whose rows are in the backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TableFact {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    /// Columns of the COPY text, in its order.
    pub(crate) columns: Vec<String>,
    /// For an extension's configuration table: the condition its rows were read with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<String>,
    /// OIDs of its leaves, where it is partitioned (foreign leaves too).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) leaves: Vec<u32>,
}

impl TableFact {
    /// Qualified name, always quoted.
    pub(crate) fn sql(&self) -> String {
        format!("{}.{}", ident(&self.schema), ident(&self.name))
    }

    /// Qualified name, as in manifests and fingerprints.
    pub(crate) fn qualified(&self) -> String {
        qualified(&self.schema, &self.name)
    }
}

/// One large object, without its content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LargeObjectFact {
    pub(crate) oid: u32,
    pub(crate) owner: String,
    /// Whether the ACL differs from the default one.
    pub(crate) has_acl: bool,
    /// GRANT statements.
    pub(crate) grants: Vec<String>,
    pub(crate) comment: Option<String>,
}

/// The database as `CREATE DATABASE` and the statements after it would make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DatabaseFacts {
    pub(crate) name: String,
    pub(crate) encoding: String,
    pub(crate) collate: String,
    pub(crate) ctype: String,
    /// `libc`, `icu` or `builtin`.
    pub(crate) provider: String,
    /// Locale of a provider that is not libc.
    pub(crate) locale: Option<String>,
    pub(crate) icu_rules: Option<String>,
    pub(crate) owner: String,
    pub(crate) connection_limit: i32,
    /// Whether the ACL differs from the default one.
    pub(crate) has_acl: bool,
    /// GRANT statements after a REVOKE of the defaults, with `%s` for the database.
    pub(crate) grants: Vec<String>,
    /// `SET name TO value` for the database, and for a role in it.
    pub(crate) settings: Vec<Setting>,
    pub(crate) comment: Option<String>,
}

/// One `ALTER DATABASE … SET`, or `ALTER ROLE … IN DATABASE … SET`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) role: Option<String>,
    pub(crate) name: String,
    pub(crate) value: String,
}

impl Setting {
    /// List-valued settings are stored quoted as they must be written; any other value is one string.
    fn assignment(&self) -> String {
        const LISTS: [&str; 8] = [
            "search_path",
            "temp_tablespaces",
            "session_preload_libraries",
            "local_preload_libraries",
            "shared_preload_libraries",
            "unix_socket_directories",
            "createrole_self_grant",
            "restrict_nonsystem_relation_kind",
        ];
        let value = if LISTS.contains(&self.name.as_str()) && !self.value.is_empty() {
            self.value.clone()
        } else {
            literal(&self.value)
        };
        let name = self.name.split('.').map(ident).collect::<Vec<_>>().join(".");
        format!("SET {name} TO {value}")
    }
}

impl DatabaseFacts {
    /// `CREATE DATABASE` for a server of this version; `name` is SQL.
    pub(crate) fn create(&self, name: &str, server: u32) -> String {
        let mut sql = format!(
            "CREATE DATABASE {name} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
            literal(&self.encoding),
            literal(&self.collate),
            literal(&self.ctype)
        );
        if server >= 150_000 {
            sql.push_str(&format!(" LOCALE_PROVIDER {}", self.provider));
        }
        if let Some(locale) = &self.locale {
            let option = if self.provider == "builtin" { "BUILTIN_LOCALE" } else { "ICU_LOCALE" };
            sql.push_str(&format!(" {option} {}", literal(locale)));
        }
        if let Some(rules) = self.icu_rules.as_ref().filter(|_| server >= 160_000) {
            sql.push_str(&format!(" ICU_RULES {}", literal(rules)));
        }
        sql
    }

    /// What comes last of all: owner, grants, settings. `name` is SQL.
    pub(crate) fn after(&self, name: &str, no_owner: bool, no_acl: bool) -> Vec<String> {
        let mut list = Vec::new();
        if !no_owner {
            list.push(format!("ALTER DATABASE {name} OWNER TO {}", ident(&self.owner)));
        }
        if self.has_acl && !no_acl {
            list.push(format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"));
            list.push(format!("REVOKE ALL ON DATABASE {name} FROM {}", ident(&self.owner)));
            list.extend(self.grants.iter().map(|grant| grant.replacen("%s", name, 1)));
        }
        if self.connection_limit != -1 {
            list.push(format!("ALTER DATABASE {name} CONNECTION LIMIT {}", self.connection_limit));
        }
        list.extend(self.settings.iter().filter(|setting| setting.role.is_none() || !no_owner).map(|setting| {
            match &setting.role {
                None => format!("ALTER DATABASE {name} {}", setting.assignment()),
                Some(role) => format!("ALTER ROLE {} IN DATABASE {name} {}", ident(role), setting.assignment()),
            }
        }));
        list
    }

    /// The facts of an unfinished restore as they will be when it is finished: without our mark in the comment.
    pub(crate) fn without_marker(mut self) -> Self {
        self.comment = self.comment.and_then(|comment| super::aside::unmarked(&comment));
        self
    }

    /// The comment's statement; `name` is SQL.
    pub(crate) fn comment(&self, name: &str) -> String {
        format!("COMMENT ON DATABASE {name} IS {}", self.comment.as_deref().map_or("NULL".into(), literal))
    }

    /// The database as statements of the fingerprint, its own name made immaterial.
    pub(crate) fn statements(&self, no_owner: bool, no_acl: bool) -> Vec<String> {
        // The newest form of CREATE DATABASE, whatever the server, so that the text depends on the facts alone.
        let mut list = vec![self.create(":database", u32::MAX)];
        list.extend(self.after(":database", no_owner, no_acl));
        list.extend(self.comment.as_ref().map(|_| self.comment(":database")));
        list
    }
}

/// Reads the connected database's own properties.
pub(crate) async fn database(conn: &mut PgConnection, server: u32) -> Result<DatabaseFacts, sqlx::Error> {
    let provider = "CASE d.datlocprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END";
    let (provider, locale, rules) = match server {
        170_000.. => (provider, "d.datlocale", "d.daticurules"),
        160_000.. => (provider, "d.daticulocale", "d.daticurules"),
        150_000.. => (provider, "d.daticulocale", "NULL"),
        _ => ("'libc'", "NULL", "NULL"),
    };
    one(
        conn,
        &format!(
            "SELECT d.datname AS name, pg_encoding_to_char(d.encoding) AS encoding, d.datcollate AS collate,
                d.datctype AS ctype, {provider} AS provider, {locale}::text AS locale, {rules}::text AS icu_rules,
                pg_get_userbyid(d.datdba) AS owner, d.datconnlimit AS connection_limit,
                d.datacl IS NOT NULL AS has_acl,
                coalesce((SELECT json_agg(grant_line ORDER BY grant_line COLLATE \"C\") FROM (
                    SELECT format('GRANT %s ON DATABASE %%s TO %s%s', a.privilege_type,
                        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                        CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS grant_line
                    FROM aclexplode(d.datacl) a) g), '[]') AS grants,
                coalesce((SELECT json_agg(json_build_object('role', pg_get_userbyid(nullif(s.setrole, 0)),
                        'name', split_part(c, '=', 1), 'value', substr(c, strpos(c, '=') + 1))
                        ORDER BY s.setrole <> 0, pg_get_userbyid(s.setrole) COLLATE \"C\", at)
                    FROM pg_db_role_setting s, unnest(s.setconfig) WITH ORDINALITY AS u (c, at)
                    WHERE s.setdatabase = d.oid), '[]') AS settings,
                shobj_description(d.oid, 'pg_database') AS comment
             FROM pg_database d WHERE d.datname = current_database()"
        ),
    )
    .await
}

/// Roles the database refers to: owners, grantees, policies, settings.
pub(crate) async fn roles(conn: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    #[derive(Deserialize)]
    struct Role {
        name: String,
    }
    let list: Vec<Role> = rows(
        conn,
        "SELECT r.rolname AS name FROM pg_roles r WHERE r.rolname !~ '^pg_' AND (
            r.oid IN (SELECT s.refobjid FROM pg_shdepend s, pg_database d WHERE d.datname = current_database()
                AND s.refclassid = 'pg_authid'::regclass
                AND (s.dbid = d.oid OR (s.classid = 'pg_database'::regclass AND s.objid = d.oid)))
            OR r.oid IN (SELECT datdba FROM pg_database WHERE datname = current_database())
            OR r.oid IN (SELECT relowner FROM pg_class WHERE oid >= 16384)
            OR r.oid IN (SELECT s.setrole FROM pg_db_role_setting s, pg_database d
                WHERE d.datname = current_database() AND s.setdatabase = d.oid))
         ORDER BY r.rolname COLLATE \"C\"",
    )
    .await?;
    Ok(list.into_iter().map(|role| role.name).collect())
}

/// Relations that inherit and whose row type is used as (part of) a column's type.
pub(crate) async fn row_types(conn: &mut PgConnection) -> Result<Vec<Columns>, sqlx::Error> {
    rows(
        conn,
        &format!(
            "WITH RECURSIVE used (type) AS (
                SELECT a.atttypid FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                WHERE c.relkind IN ('r', 'p', 'c', 'f', 'm') AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384
                UNION
                SELECT CASE WHEN t.typelem <> 0 THEN t.typelem WHEN t.typtype = 'd' THEN t.typbasetype
                            WHEN t.typtype = 'r' THEN r.rngsubtype ELSE m.rngsubtype END
                FROM used u JOIN pg_type t ON t.oid = u.type LEFT JOIN pg_range r ON r.rngtypid = t.oid
                LEFT JOIN pg_range m ON m.rngtypid = t.typelem
                WHERE t.typelem <> 0 OR t.typtype IN ('d', 'r'))
             SELECT n.nspname AS schema, c.relname AS name,
                (SELECT json_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p', 'f') AND c.reltype IN (SELECT type FROM used) AND {USER_SCHEMA}
               AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
               AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
             ORDER BY 1, 2"
        ),
    )
    .await
}

/// The columns of inheritance children (not partitions) that may be NULL.
pub(crate) fn nullable(tables: &[Table]) -> Vec<Columns> {
    let child = |table: &&Table| !table.partition && !table.parents.is_empty() && table.kind != "f";
    tables
        .iter()
        .filter(child)
        .map(|table| Columns {
            schema: table.schema.clone(),
            name: table.name.clone(),
            columns: table.columns.iter().filter(|c| !c.not_null).map(|c| c.name.clone()).collect(),
        })
        .collect()
}

/// `search_path` as a session of the application would have it.
pub(crate) async fn search_path(conn: &mut PgConnection) -> Result<String, sqlx::Error> {
    #[derive(Deserialize)]
    struct Path {
        path: String,
    }
    let path: Path = one(
        conn,
        "SELECT coalesce(
            (SELECT substr(c, length('search_path=') + 1) FROM pg_db_role_setting s, unnest(s.setconfig) c, pg_database d
             WHERE d.datname = current_database() AND c LIKE 'search\\_path=%'
               AND s.setdatabase IN (0, d.oid) AND s.setrole IN (0, d.datdba)
             ORDER BY s.setdatabase <> 0 AND s.setrole <> 0 DESC, s.setrole <> 0 DESC LIMIT 1),
            '\"$user\", public') AS path",
    )
    .await?;
    Ok(path.path)
}

/// Which of the things every new database has are not there.
pub(crate) async fn missing(conn: &mut PgConnection) -> Result<Missing, sqlx::Error> {
    one(
        conn,
        "SELECT NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public') AS public,
                NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'plpgsql') AS plpgsql",
    )
    .await
}

impl Missing {
    /// Statements that take them away.
    pub(crate) fn statements(self) -> Vec<String> {
        let drops = [(self.public, "DROP SCHEMA public"), (self.plpgsql, "DROP EXTENSION plpgsql")];
        drops.iter().filter(|(gone, _)| *gone).map(|(_, sql)| (*sql).to_owned()).collect()
    }
}
