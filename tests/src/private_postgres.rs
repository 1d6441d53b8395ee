//! A PostgreSQL server of a test's own, for what concerns a whole server: roles, restarts, whoever is connected.

use crate::postgres::{psql, quoted};
use crate::server::PrivateServer;

/// A running server with nobody else on it. Dropping it stops it and removes its data.
#[derive(Debug)]
pub struct PrivatePostgres {
    server: PrivateServer,
}

impl PrivatePostgres {
    /// Makes a cluster and starts its server, which takes about 2 s.
    #[track_caller]
    pub fn start() -> Self {
        Self::with_settings("")
    }

    /// The same with further lines of postgresql.conf, separated by `;`.
    #[track_caller]
    pub fn with_settings(settings: &str) -> Self {
        let server = PrivateServer::start(settings);
        Self { server: server.unwrap_or_else(|error| panic!("no private server: {error:#}")) }
    }

    /// The URL of a database as superuser; the database need not exist.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.server.port())
    }

    /// The URL for another role, with its password.
    pub fn url_as(&self, database: &str, role: &str, password: &str) -> String {
        format!("postgres://{role}:{password}@127.0.0.1:{}/{database}", self.server.port())
    }

    /// Makes an empty database.
    #[track_caller]
    pub fn create(&self, database: &str) {
        self.psql("postgres", &format!("CREATE DATABASE {} TEMPLATE template0", quoted(database)));
    }

    /// Drops a database and everything whose name begins with its own and `__`.
    #[track_caller]
    pub fn remove(&self, database: &str) {
        for name in self.databases(database) {
            self.psql("postgres", &format!("DROP DATABASE {} WITH (FORCE)", quoted(&name)));
        }
    }

    /// Names of the database and of those that were made for it, sorted.
    #[track_caller]
    pub fn databases(&self, database: &str) -> Vec<String> {
        let names = self.psql("postgres", "SELECT datname FROM pg_database ORDER BY datname COLLATE \"C\"");
        let beside = format!("{database}__");
        names.lines().filter(|name| *name == database || name.starts_with(&beside)).map(str::to_owned).collect()
    }

    /// Runs SQL by `psql` and returns what it printed, unaligned; panics with its words.
    #[track_caller]
    pub fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap_or_else(|error| panic!("psql on {database}: {error}"))
    }

    /// The same; the error is what psql said.
    #[track_caller]
    pub fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        psql(&self.url(database), sql).map(|text| text.trim_end().to_owned())
    }

    /// Stops the server as a power cut would.
    pub fn stop_immediately(&mut self) {
        self.server.stop_immediately();
    }

    /// Starts the stopped server again, on the same data and port; returns when it takes connections.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.server.start_again().unwrap_or_else(|error| panic!("the private server does not start: {error:#}"));
    }
}
