//! A database's structure: its schema without what rows or the server's administration play a part in.

use super::fingerprint::{Fingerprint, digest};

/// The statements by which the structure of two databases is compared, sorted.
///
/// Left out of a fingerprint's schema are the results of SQLite's checks, the tables of its statistics, large objects,
/// and what is set for a PostgreSQL database as a whole (owner, grants, settings): they change without anybody changing
/// the schema.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Structure(Vec<String>);

/// How the statements begin that are no structure.
const LEFT_OUT: [&str; 7] = [
    // What ANALYZE makes: statistics of rows.
    "table \"sqlite_stat",
    "integrity_check: ",
    "foreign_key_check: ",
    "ALTER LARGE OBJECT ",
    "COMMENT ON LARGE OBJECT ",
    "CREATE DATABASE :database",
    "COMMENT ON DATABASE :database",
];

/// What stands inside others that are none.
const CONCERNS: [&str; 2] = [" ON LARGE OBJECT ", " DATABASE :database "];

impl Structure {
    /// That of a schema's statements, as a fingerprint has them.
    pub fn of(schema: Vec<String>) -> Self {
        let mut statements = schema;
        statements.retain(|statement| is_structure(statement));
        statements.sort();
        Structure(statements)
    }

    /// The statements.
    pub fn statements(&self) -> &[String] {
        &self.0
    }

    /// SHA-256 over the statements, hexadecimal.
    pub fn digest(&self) -> String {
        digest(&self.0)
    }
}

impl From<&Fingerprint> for Structure {
    fn from(fingerprint: &Fingerprint) -> Self {
        Structure::of(fingerprint.schema.clone())
    }
}

fn is_structure(statement: &str) -> bool {
    // A function's text may hold any words.
    let is_short = !statement.contains('\n');
    let grants = ["GRANT ", "REVOKE ", "ALTER DATABASE ", "ALTER ROLE "];
    let concerns_other = is_short
        && grants.iter().any(|verb| statement.starts_with(verb))
        && CONCERNS.iter().any(|what| statement.contains(what));
    !concerns_other && !LEFT_OUT.iter().any(|beginning| statement.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_rows_and_administrators_leave_alone_is_structure() {
        let kept = [
            "table \"t\" on \"t\": CREATE TABLE t (a)",
            "user_version: 3",
            "CREATE TABLE public.t (\n    a integer\n)",
            "GRANT SELECT ON TABLE public.t TO reader",
            "CREATE FUNCTION public.f() RETURNS void LANGUAGE sql AS $$ COMMENT ON LARGE OBJECT 1 IS 'x' $$",
        ];
        let left_out = [
            "table \"sqlite_stat1\" on \"sqlite_stat1\": CREATE TABLE sqlite_stat1(tbl,idx,stat)",
            "integrity_check: ok",
            "foreign_key_check: 3 rows, digest 00",
            "ALTER LARGE OBJECT 16388 OWNER TO app",
            "REVOKE ALL ON LARGE OBJECT 16388 FROM app",
            "COMMENT ON LARGE OBJECT 16388 IS 'x'",
            "CREATE DATABASE :database TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'",
            "ALTER DATABASE :database OWNER TO app",
            "REVOKE ALL ON DATABASE :database FROM PUBLIC",
            "GRANT CONNECT ON DATABASE :database TO app",
            "ALTER ROLE app IN DATABASE :database SET work_mem TO '8MB'",
            "COMMENT ON DATABASE :database IS 'the shop'",
        ];
        let all = kept.iter().chain(&left_out).map(|statement| (*statement).to_owned()).collect();
        let structure = Structure::of(all);
        let mut expected = kept.map(str::to_owned).to_vec();
        expected.sort();
        assert_eq!(structure.statements(), expected);
    }
}
