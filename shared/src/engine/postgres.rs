//! PostgreSQL: the schema by `pg_dump`, rows, sequences and large objects by our own COPY over one snapshot.

mod archive;
mod aside;
mod blank;
mod catalog;
mod dump;
mod facts;
mod forced;
mod large_objects;
mod live;
mod load;
mod loosen;
mod nodelay;
mod preflight;
mod profile;
mod quote;
mod schema;
mod select;
pub(crate) mod session;
mod snapshot;
mod texts;
mod toc;
mod tools;

pub use live::{
    Exchange, Fence, FencePlan, FenceState, GlobalChange, Globals, LockHolder, Obstacle, PostgresLive, PostgresLock,
    SwapPlan, Unfenced, differences, scratch_name,
};

use super::{Aside, Dump, DumpOptions, DumpSink, DumpSource, Engine, EngineError, Nowhere, Probe};
use crate::model::{EngineKind, Fingerprint, Identity, PostgresUrl, Profile, Structure};
use async_trait::async_trait;
use std::path::PathBuf;
use std::sync::Arc;

/// One PostgreSQL database (version 12 and later).
#[derive(Debug, Clone)]
pub struct PostgresEngine {
    url: PostgresUrl,
    folders: Option<Vec<PathBuf>>,
    public: Option<String>,
}

impl PostgresEngine {
    /// The database at `url`; connects to nothing yet.
    pub fn new(url: PostgresUrl) -> Self {
        PostgresEngine { url, folders: None, public: None }
    }

    /// Looks for `pg_dump` and `pg_restore` in these folders only, instead of PATH and `/usr/lib/postgresql/*/bin`.
    pub fn with_tools_in(mut self, folders: Vec<PathBuf>) -> Self {
        self.folders = Some(folders);
        self
    }

    /// The database is known by the name `public`, although it bears another one now: behind a fence it is the same
    /// database to everybody who looks at its backups.
    pub fn known_as(mut self, public: &str) -> Self {
        self.public = Some(public.to_owned());
        self
    }

    fn as_known(&self, mut probe: Probe) -> Probe {
        if let (Some(public), Identity::Postgres { database, .. }) = (&self.public, &mut probe.identity) {
            database.clone_from(public);
        }
        probe
    }

    async fn dump_into(&self, sink: Arc<dyn DumpSink>, options: &DumpOptions) -> Result<Dump, EngineError> {
        let dump = dump::dump(&self.url, self.folders.as_deref(), sink, options, dump::View::ALL).await?;
        Ok(Dump { probe: self.as_known(dump.probe.clone()), ..dump })
    }
}

#[async_trait]
impl Engine for PostgresEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Postgres
    }

    fn describe(&self) -> String {
        self.url.to_string()
    }

    async fn probe(&self) -> Result<Probe, EngineError> {
        let mut conn = session::connect(&self.url).await?;
        let server = snapshot::Server::ask(&mut conn).await?;
        session::close(conn).await;
        let tools = tools::Tools::find(self.folders.as_deref(), server.major()).await;
        Ok(self.as_known(dump::probe(&server, tools.ok().map(|tools| tools.version))))
    }

    async fn check_dump(&self) -> Result<(), EngineError> {
        dump::check(&self.url, self.folders.as_deref(), &DumpOptions::default()).await
    }

    async fn dump(&self, sink: Arc<dyn DumpSink>, options: &DumpOptions) -> Result<Dump, EngineError> {
        self.dump_into(sink, options).await
    }

    async fn fingerprint(&self, _source: &dyn DumpSource, workers: usize) -> Result<Fingerprint, EngineError> {
        let options = DumpOptions { workers, ..DumpOptions::default() };
        Ok(self.dump_into(Arc::new(Nowhere), &options).await?.fingerprint)
    }

    async fn structure(&self) -> Result<Structure, EngineError> {
        dump::structure(&self.url, self.folders.as_deref()).await
    }

    fn tables_meant(&self, source: &dyn DumpSource, typed: &[String]) -> Result<Vec<String>, EngineError> {
        let facts = aside::facts_of(source)?;
        let meant = select::chosen(&facts.tables, typed)?;
        Ok(meant.into_iter().map(|at| facts.tables[at].qualified()).collect())
    }

    async fn profile(&self, workers: usize) -> Result<Profile, EngineError> {
        profile::profile(&self.url, workers).await
    }

    async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, EngineError> {
        let mut conn = session::connect(&self.url).await?;
        let rows = session::texts(&mut conn, sql).await;
        session::close(conn).await;
        session::Doing::doing(rows, format!("{} could not be read", self.url))
    }

    async fn ask(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, EngineError> {
        // Our own queries name schemas; this one relies on what database and role have set.
        self.query(&format!("SET LOCAL search_path TO DEFAULT; {sql}")).await
    }

    async fn aside(&self, source: &dyn DumpSource) -> Result<Box<dyn Aside>, EngineError> {
        let aside = aside::PostgresAside::begin(&self.url, self.folders.clone(), source).await?;
        Ok(Box::new(aside))
    }
}

/// A table as fingerprints name it.
pub(super) fn table_key(schema: &str, table: &str) -> String {
    quote::qualified(schema, table)
}
