//! A restore beside its target: under a name of its own until it is proven.

use super::archive::Archive;
use super::blank::Blank;
use super::dump::{self, View};
use super::facts::Facts;
use super::forced::{self, Forced};
use super::load::{self, Chosen, Statistics};
use super::loosen::loosen;
use super::quote::{ident, literal};
use super::schema;
use super::session::{self, Doing, exec, one, rows, sqlstate};
use super::snapshot::Server;
use super::texts;
use super::tools::Tools;
use crate::engine::{Aside, Dump, DumpOptions, DumpSource, EngineError, LoadOptions, Loaded, Nowhere, Progress};
use crate::model::{Fingerprint, PostgresUrl};
use async_trait::async_trait;
use serde::Deserialize;
use sqlx::PgConnection;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// What stands between the target's name and eight hexadecimal digits.
const INFIX: &str = "__restoring_";

/// Key of the advisory lock that is held while a database is made and has no mark yet: "holdfast" in ASCII.
const MAKING: i64 = 0x686f_6c64_6661_7374;

/// Longest name of a database, in bytes.
pub(super) const NAME_BYTES: usize = 63;

/// How long sessions that are just ending may keep a database from being renamed or dropped.
const PATIENCE: Duration = Duration::from_secs(15);

/// Beginning of the comment of a database that is ours: an unfinished restore, or one kept on purpose.
const UNFINISHED: &str = "holdfast: unfinished restore of ";
const KEPT: &str = "holdfast: kept restore of ";

/// What is known about how the database was loaded.
#[derive(Debug, Default)]
struct State {
    chosen: Chosen,
    options: LoadOptions,
    /// A session held all the time, so that nobody takes the database for abandoned.
    guard: Option<PgConnection>,
    /// Still being gathered, it may be.
    statistics: Statistics,
}

/// An unfinished database beside its target.
pub(crate) struct PostgresAside {
    target: PostgresUrl,
    maintenance: PostgresUrl,
    /// The unfinished database.
    url: PostgresUrl,
    folders: Option<Vec<PathBuf>>,
    tools: Tools,
    server: Server,
    facts: Facts,
    state: Mutex<State>,
}

impl PostgresAside {
    /// Checks the target, removes what earlier restores left, creates the database.
    pub(crate) async fn begin(
        target: &PostgresUrl,
        folders: Option<Vec<PathBuf>>,
        source: &dyn DumpSource,
    ) -> Result<Self, EngineError> {
        let facts = facts_of(source)?;
        refuse_reserved(&target.database)?;
        let (maintenance, mut conn) = maintenance(target).await?;
        let server = Server::ask(&mut conn).await?;
        let archive_major = facts.pg_dump.split(['.', 'b', 'd', 'r']).next().and_then(|major| major.parse().ok());
        let tools = Tools::find(folders.as_deref(), server.major().max(archive_major.unwrap_or_default())).await?;
        refuse_filled(&mut conn, target).await?;
        drop_leftovers(&mut conn, target).await?;
        // Until a session of ours is in it: what is not marked yet must not be taken for abandoned.
        let making = format!("SELECT pg_advisory_lock_shared({MAKING})");
        exec(&mut conn, &making).await.doing("the server could not be told that a database is being made")?;
        let name = aside_name(&target.database)?;
        create(&mut conn, &facts, &server, &name, &target.database).await?;
        let url = target.with_database(&name);
        let guard = Some(session::connect(&url).await?);
        session::close(conn).await;
        let state = Mutex::new(State { guard, ..State::default() });
        Ok(PostgresAside { target: target.clone(), maintenance, url, folders, tools, server, facts, state })
    }

    /// Ends our own session in the database and runs statements that need it to have none.
    async fn alone(&self, conn: &mut PgConnection, sql: &str, what: &str) -> Result<(), EngineError> {
        let mut state = self.state.lock().await;
        state.statistics.gathered().await;
        if let Some(guard) = state.guard.take() {
            session::close(guard).await;
        }
        drop(state);
        retry_in_use(conn, sql).await.doing(format!("{what}; the restored database is {}", self.url.database))
    }

    /// The backup's schema as today's client writes it: restored into a scratch database without rows, and dumped.
    ///
    /// What cannot be created there is missing here too; the load of the real one has named it then.
    async fn rewritten_schema(
        &self,
        source: &dyn DumpSource,
        options: &LoadOptions,
    ) -> Result<Vec<String>, EngineError> {
        let blank = Arc::new(Blank::of(source).await?);
        let scratch = PostgresAside::begin(&self.target, self.folders.clone(), &*blank).await?;
        let loaded = scratch.load(blank.clone(), options, Arc::new(|_| {})).await;
        let found = match loaded {
            Ok(_) => scratch.fingerprint(&*blank, 1).await,
            Err(error) => Err(error),
        };
        let discarded = Box::new(scratch).discard().await;
        let schema = found?.schema;
        discarded.map(|()| schema)
    }

    async fn read(&self, workers: usize, view: View) -> Result<Dump, EngineError> {
        let options = DumpOptions { workers, ..DumpOptions::default() };
        dump::dump(&self.url, self.folders.as_deref(), Arc::new(Nowhere), &options, view).await
    }

    fn mark(&self, beginning: &str) -> String {
        let comment = self.facts.database.comment.as_deref().unwrap_or_default();
        let text = format!("{beginning}{}\n{comment}", self.target.database);
        format!("COMMENT ON DATABASE {} IS {}", ident(&self.url.database), literal(&text))
    }
}

#[async_trait]
impl Aside for PostgresAside {
    fn place(&self) -> String {
        self.url.to_string()
    }

    async fn load(
        &self,
        source: Arc<dyn DumpSource>,
        options: &LoadOptions,
        progress: Progress,
    ) -> Result<Loaded, EngineError> {
        let archive = archive_of(&self.tools, &*source).await?;
        let chosen = Chosen::new(&self.facts, &archive, options)?;
        {
            let mut state = self.state.lock().await;
            (state.chosen, state.options) = (chosen.clone(), options.clone());
        }
        let target = load::Target {
            url: &self.url,
            facts: &self.facts,
            archive: &archive,
            server: &self.server,
            chosen: &chosen,
            workers: options.workers.max(1),
        };
        let (loaded, statistics) = load::load(&target, source, progress).await?;
        self.state.lock().await.statistics = statistics;
        Ok(loaded)
    }

    async fn fingerprint(&self, _source: &dyn DumpSource, workers: usize) -> Result<Fingerprint, EngineError> {
        let (view, hidden) = {
            let mut state = self.state.lock().await;
            let hidden = match &mut state.guard {
                Some(guard) => Forced::hiding(guard).await?,
                None => Vec::new(),
            };
            (state.chosen.view(), hidden)
        };
        if hidden.is_empty() {
            return Ok(self.read(workers, view).await?.fingerprint);
        }
        let mut conn = session::connect(&self.url).await?;
        forced::switch(&mut conn, &hidden, Forced::off).await?;
        let read = self.read(workers, view).await;
        // Also where the rows could not be read: the database may be kept.
        forced::switch(&mut conn, &hidden, Forced::on).await?;
        session::close(conn).await;
        let Dump { mut fingerprint, facts, .. } = read?;
        fingerprint.schema = dump::schema(&self.url, self.folders.as_deref(), &understood(facts)?, view).await?;
        Ok(fingerprint)
    }

    async fn expected(&self, source: &dyn DumpSource) -> Result<Fingerprint, EngineError> {
        let (chosen, options) = {
            let state = self.state.lock().await;
            (state.chosen.clone(), state.options.clone())
        };
        let mut expected = source.fingerprint().clone();
        // Backups of earlier versions have it in both.
        schema::one_spelling(&mut expected.schema);
        let written_alike =
            self.tools.version == self.facts.pg_dump && self.server.major() == self.facts.server / 10_000;
        if written_alike && chosen.is_everything() {
            return Ok(expected);
        }
        expected.schema = if written_alike {
            let View { leave, whole } = chosen.view();
            let archive = archive_of(&self.tools, source).await?;
            archive.statements(&self.facts, leave, chosen.kept(), whole).await?
        } else {
            self.rewritten_schema(source, &options).await?
        };
        chosen.limit(&mut expected);
        Ok(expected)
    }

    async fn promote(self: Box<Self>) -> Result<(), EngineError> {
        let mut conn = session::connect(&self.maintenance).await?;
        let target = &self.target.database;
        let (from, to) = (ident(&self.url.database), ident(target));
        let comment = self.facts.database.comment(&from);
        // Somebody may have made or filled the target while we were loading.
        let empty = refuse_filled(&mut conn, &self.target).await?;
        if !empty {
            let sql = format!("BEGIN; {comment}; ALTER DATABASE {from} RENAME TO {to}; COMMIT");
            return self.alone(&mut conn, &sql, "the restored database could not be given its name").await;
        }
        // The empty database made beforehand goes out of the way in the same transaction.
        let old = ident(&aside_name(target)?);
        let sql = format!(
            "BEGIN; {comment}; ALTER DATABASE {to} RENAME TO {old}; ALTER DATABASE {from} RENAME TO {to}; COMMIT"
        );
        self.alone(&mut conn, &sql, "the restored database could not take the place of the empty one").await?;
        retry_in_use(&mut conn, &format!("DROP DATABASE {old}"))
            .await
            .doing(format!("{target} is restored, but the empty database it replaced is left as {old}"))
    }

    async fn keep(self: Box<Self>) -> Result<String, EngineError> {
        let mut conn = session::connect(&self.maintenance).await?;
        self.alone(&mut conn, &self.mark(KEPT), "the restored database could not be marked as kept").await?;
        Ok(self.url.database.clone())
    }

    async fn discard(self: Box<Self>) -> Result<(), EngineError> {
        let mut conn = session::connect(&self.maintenance).await?;
        loosen(&mut conn, &self.url).await?;
        let sql = format!("DROP DATABASE {}", ident(&self.url.database));
        self.alone(&mut conn, &sql, "the unfinished database could not be removed").await
    }
}

/// The comment as it was before our mark was put in front of it.
pub(crate) fn unmarked(comment: &str) -> Option<String> {
    if !comment.starts_with(UNFINISHED) && !comment.starts_with(KEPT) {
        return Some(comment.to_owned());
    }
    comment.split_once('\n').map(|(_, rest)| rest.to_owned()).filter(|rest| !rest.is_empty())
}

pub(super) fn facts_of(source: &dyn DumpSource) -> Result<Facts, EngineError> {
    understood(source.facts().clone())
}

fn understood(facts: serde_json::Value) -> Result<Facts, EngineError> {
    serde_json::from_value(facts)
        .map_err(|error| EngineError::Damaged(format!("the backup's facts cannot be understood: {error}")))
}

async fn archive_of(tools: &Tools, source: &dyn DumpSource) -> Result<Archive, EngineError> {
    let bytes = source.text(texts::ARCHIVE).await?;
    let bytes = bytes.ok_or_else(|| EngineError::Damaged(format!("the backup has no {}", texts::ARCHIVE)))?;
    Archive::from_bytes(tools, &bytes).await
}

fn refuse_reserved(database: &str) -> Result<(), EngineError> {
    if matches!(database, "template0" | "template1" | "postgres") {
        return Err(EngineError::refused(format!("{database} belongs to the server itself"))
            .with_hint("restore into a database of its own"));
    }
    Ok(())
}

/// A session from which databases are created and renamed.
async fn maintenance(target: &PostgresUrl) -> Result<(PostgresUrl, PgConnection), EngineError> {
    let usual = target.with_database("postgres");
    match session::connect(&usual).await {
        Ok(conn) => Ok((usual, conn)),
        Err(first) => {
            let other = target.with_database("template1");
            session::connect(&other).await.map(|conn| (other, conn)).map_err(|_| first)
        }
    }
}

/// Refuses a target that holds anything; tells whether there is an empty one.
async fn refuse_filled(conn: &mut PgConnection, target: &PostgresUrl) -> Result<bool, EngineError> {
    #[derive(Deserialize)]
    struct Found {
        template: bool,
    }
    let name = &target.database;
    let query = format!("SELECT datistemplate AS template FROM pg_database WHERE datname = {}", literal(name));
    let found: Vec<Found> = rows(conn, &query).await.doing("the databases could not be listed")?;
    let Some(found) = found.first() else { return Ok(false) };
    if found.template {
        return Err(EngineError::refused(format!("{name} is a template database"))
            .with_hint("restore into a database of its own"));
    }
    #[derive(Deserialize)]
    struct Content {
        objects: i64,
        example: Option<String>,
    }
    let mut inside = session::connect(target).await?;
    let content: Content = one(&mut inside, CONTENT).await.doing(format!("{name} could not be looked into"))?;
    session::close(inside).await;
    if content.objects == 0 {
        return Ok(true);
    }
    let example = content.example.unwrap_or_default();
    Err(EngineError::refused(format!(
        "{name} is not empty: it holds {} objects, for instance {example}",
        content.objects
    ))
    .with_hint("restore into a new database, or drop this one first"))
}

/// Everything a person can have put into a database; what `initdb` made has smaller OIDs.
const CONTENT: &str = "SELECT count(*) AS objects, min(what) AS example FROM (
    SELECT 'table ' || relname AS what FROM pg_class WHERE oid >= 16384 AND relpersistence <> 't'
        AND relnamespace <> 'pg_toast'::regnamespace AND relkind NOT IN ('t', 'i', 'I')
        AND relnamespace::regnamespace::text !~ '^pg_temp_'
    UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE oid >= 16384 AND nspname !~ '^pg_(toast_)?temp_'
    UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT 'type ' || typname FROM pg_type WHERE oid >= 16384 AND typrelid = 0 AND typelem = 0
    UNION ALL SELECT 'extension ' || extname FROM pg_extension WHERE oid >= 16384
    UNION ALL SELECT 'operator ' || oprname FROM pg_operator WHERE oid >= 16384
    UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger WHERE oid >= 16384
    UNION ALL SELECT 'publication ' || pubname FROM pg_publication WHERE oid >= 16384
    UNION ALL SELECT 'foreign-data wrapper ' || fdwname FROM pg_foreign_data_wrapper WHERE oid >= 16384
    UNION ALL SELECT 'large object ' || oid FROM pg_largeobject_metadata) AS content";

/// Removes databases that earlier restores into the same target left unfinished and nobody is connected to (the server's
/// own cleaning workers give way); those that bear no mark yet only while nobody is making one.
async fn drop_leftovers(conn: &mut PgConnection, url: &PostgresUrl) -> Result<(), EngineError> {
    #[derive(Deserialize)]
    struct Left {
        name: String,
    }
    let target = &url.database;
    let mark = format!("{UNFINISHED}{target}\n");
    #[derive(Deserialize)]
    struct Alone {
        alone: bool,
    }
    let look = "the databases could not be listed";
    let Alone { alone } = one(conn, &format!("SELECT pg_try_advisory_lock({MAKING}) AS alone")).await.doing(look)?;
    let query = format!(
        "SELECT d.datname AS name FROM pg_database d
         WHERE starts_with(d.datname, {prefix}) AND (starts_with(shobj_description(d.oid, 'pg_database'), {mark})
                OR {alone} AND d.datname ~ '{INFIX}[0-9a-f]{{8}}$' AND shobj_description(d.oid, 'pg_database') IS NULL)
           AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid
               AND a.backend_type IS DISTINCT FROM 'autovacuum worker')",
        prefix = literal(&format!("{}{INFIX}", cut(target, INFIX.len() + 8))),
        mark = literal(&mark)
    );
    let left: Vec<Left> = rows(conn, &query).await.doing(look)?;
    for Left { name } in left {
        // Not being able to clean up must not stop a restore.
        let dropped = match loosen(conn, &url.with_database(&name)).await {
            Ok(()) => exec(conn, &format!("DROP DATABASE {}", ident(&name))).await.doing("it could not be dropped"),
            Err(error) => Err(error),
        };
        if let Err(error) = dropped {
            tracing::warn!(database = name, %error, "an unfinished restore could not be removed");
        }
    }
    if alone {
        exec(conn, &format!("SELECT pg_advisory_unlock({MAKING})")).await.doing(look)?;
    }
    Ok(())
}

async fn create(
    conn: &mut PgConnection,
    facts: &Facts,
    server: &Server,
    name: &str,
    target: &str,
) -> Result<(), EngineError> {
    let what = format!("a database beside {target} could not be created; nothing was touched");
    if let Err(error) = exec(conn, &facts.database.create(&ident(name), server.number)).await {
        let failed = session::engine_error(&what, &error);
        return Err(match sqlstate(&error).as_deref() {
            Some("42501") => failed.with_hint("the role needs CREATEDB"),
            Some("42809" | "22023" | "42704") => failed.with_hint(format!(
                "the server must know the locale {} of the backup",
                facts.database.locale.as_ref().unwrap_or(&facts.database.collate)
            )),
            _ => failed,
        });
    }
    let comment = facts.database.comment.as_deref().unwrap_or_default();
    let mark = format!("{UNFINISHED}{target}\n{comment}");
    exec(conn, &format!("COMMENT ON DATABASE {} IS {}", ident(name), literal(&mark)))
        .await
        .doing(format!("the new database {name} could not be marked and is left behind"))
}

fn aside_name(target: &str) -> Result<String, EngineError> {
    Ok(format!("{}{INFIX}{}", cut(target, INFIX.len() + 8), eight_digits()?))
}

/// Eight random hexadecimal digits.
pub(super) fn eight_digits() -> Result<String, EngineError> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|error| EngineError::failed(format!("no random number: {error}")))?;
    Ok(hex::encode(random))
}

/// The target's name cut at a character so that `behind` bytes fit behind it.
pub(super) fn cut(target: &str, behind: usize) -> &str {
    let mut end = target.len().min(NAME_BYTES - behind);
    while !target.is_char_boundary(end) {
        end -= 1;
    }
    &target[..end]
}

/// Runs statements that need a database without sessions; sessions that are just ending are waited for.
pub(super) async fn retry_in_use(conn: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    let begun = Instant::now();
    loop {
        match exec(conn, sql).await {
            Err(error) if sqlstate(&error).as_deref() == Some("55006") && begun.elapsed() < PATIENCE => {
                rollback(conn).await?;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => {
                // The first error is the one to tell.
                rollback(conn).await.ok();
                return Err(error);
            }
            Ok(()) => return Ok(()),
        }
    }
}

async fn rollback(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    exec(conn, "ROLLBACK").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_keep_whole_characters() {
        let name = aside_name(&"ä".repeat(31)).expect("random");
        assert!(name.len() <= NAME_BYTES && name.starts_with(&"ä".repeat(21)), "{name}");
        assert!(aside_name("shop").expect("random").starts_with("shop__restoring_"));
    }

    #[test]
    fn marks_are_taken_off_comments() {
        assert_eq!(unmarked("holdfast: unfinished restore of shop\nThe shop"), Some("The shop".into()));
        assert_eq!(unmarked("holdfast: kept restore of shop\n"), None);
        assert_eq!(unmarked("The shop"), Some("The shop".into()));
    }
}
