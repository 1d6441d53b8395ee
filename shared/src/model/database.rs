//! Which database: its name in the repository, its address, its identity.

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The product a database is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EngineKind::Postgres => "postgres",
            EngineKind::Sqlite => "sqlite",
        })
    }
}

impl FromStr for EngineKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "postgres" => Ok(EngineKind::Postgres),
            "sqlite" => Ok(EngineKind::Sqlite),
            other => Err(format!("unknown engine {other:?}")),
        }
    }
}

/// The name of a database in configuration and repository: `[a-z0-9][a-z0-9_-]{0,40}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabaseName(String);

/// A name that does not follow the rule.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} cannot name a database: 1 to 41 of a-z, 0-9, '_' and '-', not beginning with '_' or '-'")]
pub struct InvalidName(pub String);

impl DatabaseName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let fits = matches!(text.as_bytes(), [first, rest @ ..] if plain(*first) && rest.len() <= 40
            && rest.iter().all(|c| plain(*c) || matches!(c, b'_' | b'-')));
        if fits { Ok(DatabaseName(text.to_owned())) } else { Err(InvalidName(text.to_owned())) }
    }
}

impl TryFrom<String> for DatabaseName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<DatabaseName> for String {
    fn from(name: DatabaseName) -> String {
        name.0
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which database this is, whatever it is called: two addresses with the same identity are the same database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "engine", rename_all = "lowercase")]
pub enum Identity {
    /// A database of a PostgreSQL cluster.
    Postgres {
        /// The cluster's system identifier.
        system: String,
        /// The database's public name.
        database: String,
    },
    /// A file on a machine.
    Sqlite {
        /// The machine's id.
        machine: String,
        /// The canonical path.
        path: String,
    },
}

impl Identity {
    /// The product the database is of.
    pub fn engine(&self) -> EngineKind {
        match self {
            Identity::Postgres { .. } => EngineKind::Postgres,
            Identity::Sqlite { .. } => EngineKind::Sqlite,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Postgres { system, database } => {
                write!(f, "database {database:?} of PostgreSQL cluster {system}")
            }
            Identity::Sqlite { machine, path } => write!(f, "file {path:?} on machine {machine}"),
        }
    }
}

/// The address of a database. `Display` and `Debug` never show a password.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// `postgres://user:password@host:port/database?option=…`
    Postgres(PostgresUrl),
    /// `sqlite:PATH`, as given (relative paths count from the working directory or the configuration file).
    Sqlite(PathBuf),
}

/// The parts of a PostgreSQL URL, percent-decoded. An absent part falls back to libpq's environment and defaults.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct PostgresUrl {
    /// Host name, address, or (beginning with `/`) socket directory.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Role.
    pub user: Option<String>,
    /// Password; only [`PostgresUrl`]'s users that open connections may look at it.
    pub password: Option<String>,
    /// Database.
    pub database: String,
    /// `sslmode` as in libpq.
    pub ssl_mode: Option<String>,
    /// Path of the root certificate.
    pub ssl_root_cert: Option<String>,
}

/// An address that cannot be understood. Never repeats a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct InvalidUrl(pub String);

impl DatabaseUrl {
    /// Which product.
    pub fn kind(&self) -> EngineKind {
        match self {
            DatabaseUrl::Postgres(_) => EngineKind::Postgres,
            DatabaseUrl::Sqlite(_) => EngineKind::Sqlite,
        }
    }

    /// Whether `text` looks like a URL at all (and not like the name of a configured database).
    pub fn looks_like_one(text: &str) -> bool {
        text.starts_with("sqlite:") || text.contains("://")
    }

    /// The name a database has in the repository when none was configured: file stem or database name, if it fits.
    pub fn default_name(&self) -> Result<DatabaseName, InvalidName> {
        match self {
            DatabaseUrl::Postgres(url) => url.database.parse(),
            DatabaseUrl::Sqlite(path) => path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().parse(),
        }
    }

    /// The same address with a relative SQLite path counted from `base`.
    pub fn relative_to(self, base: &Path) -> Self {
        match self {
            DatabaseUrl::Sqlite(path) => DatabaseUrl::Sqlite(base.join(path)),
            other => other,
        }
    }
}

impl FromStr for DatabaseUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            // sqlite:///abs and sqlite://rel are written by people who know other tools.
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.contains('\0') {
                return Err(InvalidUrl("sqlite: needs a path, for instance sqlite:app.db".into()));
            }
            return Ok(DatabaseUrl::Sqlite(PathBuf::from(path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return parse_postgres(text).map(DatabaseUrl::Postgres);
        }
        Err(InvalidUrl("a database URL begins with sqlite: or postgres://".into()))
    }
}

fn parse_postgres(text: &str) -> Result<PostgresUrl, InvalidUrl> {
    let url = url::Url::parse(text).map_err(|error| InvalidUrl(format!("not a PostgreSQL URL: {error}")))?;
    let decode = |part: &str| {
        percent_decode_str(part)
            .decode_utf8()
            .map(|text| text.into_owned())
            .ok()
            .filter(|text| !text.contains('\0'))
            .ok_or_else(|| InvalidUrl("not a PostgreSQL URL: a part is not UTF-8 text".into()))
    };
    let filled = |part: &str| -> Result<Option<String>, InvalidUrl> {
        if part.is_empty() { Ok(None) } else { decode(part).map(Some) }
    };
    let mut parts = PostgresUrl {
        host: url.host_str().map(|host| decode(host.trim_matches(['[', ']']))).transpose()?.filter(|h| !h.is_empty()),
        port: url.port(),
        user: filled(url.username())?,
        password: url.password().map(decode).transpose()?,
        database: decode(url.path().trim_start_matches('/'))?,
        ..Default::default()
    };
    for (key, value) in url.query_pairs() {
        let value = value.into_owned();
        match &*key {
            "host" => parts.host = Some(value),
            "port" => parts.port = Some(value.parse().map_err(|_| InvalidUrl("port is not a number".into()))?),
            "user" => parts.user = Some(value),
            "password" => parts.password = Some(value),
            "dbname" => parts.database = value,
            "sslmode" | "ssl-mode" => parts.ssl_mode = Some(value),
            "sslrootcert" => parts.ssl_root_cert = Some(value),
            other => {
                return Err(InvalidUrl(format!(
                    "the PostgreSQL URL has the parameter {other:?}; known are host, port, user, password, dbname, sslmode, sslrootcert"
                )));
            }
        }
    }
    if parts.host.as_ref().is_some_and(|host| host.contains(',')) {
        return Err(InvalidUrl("the PostgreSQL URL names several hosts; give the one to back up from".into()));
    }
    if parts.database.is_empty() {
        return Err(InvalidUrl("the PostgreSQL URL names no database: postgres://host/DATABASE".into()));
    }
    Ok(parts)
}

impl PostgresUrl {
    /// The same server and role, another database.
    pub fn with_database(&self, database: &str) -> Self {
        PostgresUrl { database: database.to_owned(), ..self.clone() }
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match &self.host {
            Some(host) if host.contains('/') => {}
            Some(host) if host.contains(':') => write!(f, "[{host}]")?,
            Some(host) => f.write_str(host)?,
            None => {}
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "/{}", self.database)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabaseUrl::Postgres(url) => url.fmt(f),
            DatabaseUrl::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["shop", "a", "0", "a-b_c9", &"a".repeat(41)] {
            assert!(good.parse::<DatabaseName>().is_ok(), "{good}");
        }
        for bad in ["", "Shop", "-a", "_a", "a.b", "a/b", "a b", "ä", &"a".repeat(42), "a\n"] {
            assert!(bad.parse::<DatabaseName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_password_is_understood_and_never_shown() {
        let url: DatabaseUrl =
            "postgres://bob:p%40s%3As%2Fw%25@db.example:5433/shop?sslmode=require".parse().expect("valid");
        let DatabaseUrl::Postgres(parts) = &url else { panic!("not postgres") };
        assert_eq!(parts.password.as_deref(), Some("p@s:s/w%"));
        assert_eq!((parts.port, parts.ssl_mode.as_deref()), (Some(5433), Some("require")));
        for shown in [format!("{url}"), format!("{url:?}"), format!("{parts:?}")] {
            assert_eq!(shown, "postgres://bob@db.example:5433/shop");
        }
    }

    #[test]
    fn addresses_as_people_write_them() {
        let sqlite = |text: &str| match text.parse() {
            Ok(DatabaseUrl::Sqlite(path)) => path,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(sqlite("sqlite:app.db"), Path::new("app.db"));
        assert_eq!(sqlite("sqlite:///srv/app.db"), Path::new("/srv/app.db"));
        assert_eq!(sqlite("sqlite:/srv/app.db"), Path::new("/srv/app.db"));
        let socket: DatabaseUrl = "postgres:///shop?host=/run/pg&user=u".parse().expect("valid");
        assert!(matches!(socket, DatabaseUrl::Postgres(p) if p.host.as_deref() == Some("/run/pg")));
        for bad in [
            "",
            "sqlite:",
            "mysql://x/y",
            "postgres://host",
            "postgres://h/d?options=-cx",
            "postgres://h:x/d",
            "postgres://a,b/d",
        ] {
            assert!(bad.parse::<DatabaseUrl>().is_err(), "{bad:?}");
        }
    }
}
