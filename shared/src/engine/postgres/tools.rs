//! `pg_dump` and `pg_restore`: where they are, whether they are new enough, and how they are called.

use super::quote::{conninfo_value, one_line};
use crate::engine::EngineError;
use crate::model::PostgresUrl;
use crate::subprocess::{Finished, Subprocess, SubprocessError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How long a schema may take to be written or an index to be built.
const DEADLINE: Duration = Duration::from_secs(48 * 3600);

/// Kept output: a schema's text may be large, complaints should not be.
const TEXT_CAP_BYTES: usize = 1 << 30;

/// Where Debian and its relatives keep one folder a major version.
const VERSIONED: &str = "/usr/lib/postgresql";

/// The program that stands on Debian's PATH for each of the tools.
const WRAPPER: &str = "pg_wrapper";

/// Client tools of one version, all in one folder.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    folder: PathBuf,
    /// Version, for instance `15.18`.
    pub(crate) version: String,
    major: u32,
}

/// What `pg_restore` should leave to whoever restores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Leave {
    /// Owners.
    pub(crate) owner: bool,
    /// Grants.
    pub(crate) acl: bool,
}

/// How `pg_restore` loads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    /// Major version of the server.
    pub(crate) major: u32,
    /// `pre-data` or `post-data`.
    pub(crate) section: &'a str,
    /// Connections at work.
    pub(crate) jobs: usize,
    pub(crate) leave: Leave,
}

impl Tools {
    /// Finds the tools nearest to, and not older than, major version `at_least`.
    ///
    /// Not simply the newest: SQL written by a newer `pg_dump` may not load into an older server. `folders` replaces
    /// the usual places (PATH and one folder a version) where it is given.
    pub(crate) async fn find(folders: Option<&[PathBuf]>, at_least: u32) -> Result<Tools, EngineError> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for folder in folders.map_or_else(usual_folders, <[PathBuf]>::to_vec) {
            let program = folder.join("pg_dump");
            let Ok(real) = program.canonicalize() else { continue };
            // Debian's wrapper only chooses among the versioned folders, and takes a tenth of a second for it.
            let is_needless = real.ends_with(WRAPPER) && !found.is_empty();
            if is_needless || !folder.join("pg_restore").exists() || !seen.insert(real) {
                continue;
            }
            if let Some((version, major)) = version_of(&program).await {
                found.push(Tools { folder, version, major });
            }
        }
        // The sort is stable: of the same version the one that stands first in the list is the last here.
        found.reverse();
        found.sort_by_key(|tools| (tools.major, minor(&tools.version)));
        let Some(newest) = found.last().cloned() else {
            return Err(EngineError::refused("pg_dump and pg_restore were not found")
                .with_hint(format!("install the package postgresql-client-{at_least}, or put the tools on PATH")));
        };
        let near = found.iter().filter(|tools| tools.major >= at_least).map(|tools| tools.major).min();
        let chosen = found.into_iter().rfind(|tools| Some(tools.major) == near);
        chosen.ok_or_else(|| {
            EngineError::refused(format!(
                "the client tools are version {}, older than PostgreSQL {at_least}",
                newest.version
            ))
            .with_hint(format!("install the package postgresql-client-{at_least}"))
        })
    }

    /// Writes the schema's archive (pre-data and post-data, no rows) as seen in `snapshot`.
    pub(crate) async fn dump_schema(
        &self,
        url: &PostgresUrl,
        snapshot: &str,
        lock_timeout_s: u32,
        encoding: &str,
        archive: &Path,
    ) -> Result<(), EngineError> {
        let done = self
            .command("pg_dump", url)
            .args(["--format=custom", "--compress=0", "--section=pre-data", "--section=post-data", "--no-password"])
            .arg(format!("--snapshot={snapshot}"))
            .arg(format!("--lock-wait-timeout={}", u64::from(lock_timeout_s.max(1)) * 1000))
            // UTF-8 wherever the server can convert, so that schema texts read alike in every backup.
            .arg(format!("--encoding={}", if encoding == "SQL_ASCII" { encoding } else { "UTF8" }))
            .arg(format!("--dbname=dbname={}", conninfo_value(&url.database)))
            .arg("--file")
            .arg(archive)
            .run()
            .await
            .map_err(failed)?;
        if done.status.success() {
            return Ok(());
        }
        let message = format!("pg_dump could not read the schema of {url}: {}", first_error(&done.stderr));
        if done.stderr.contains("lock timeout") || done.stderr.contains("could not obtain lock") {
            return Err(EngineError::Unreachable {
                message,
                hint: Some("another session holds a lock on a table, or waits for one; try again later".into()),
            });
        }
        Err(EngineError::failed(message))
    }

    /// The archive's table of contents, with the dependencies of each entry.
    pub(crate) async fn contents(&self, archive: &Path) -> Result<String, EngineError> {
        self.text(archive, ["--list", "--verbose"].map(String::from).to_vec()).await
    }

    /// The archive, or the entries of `list`, as SQL text.
    pub(crate) async fn sql(
        &self,
        archive: &Path,
        list: Option<&Path>,
        section: Option<&str>,
        leave: Leave,
    ) -> Result<String, EngineError> {
        let mut args = vec!["--file=-".to_owned()];
        args.extend(section.map(|section| format!("--section={section}")));
        args.extend(leave.arguments());
        if let Some(list) = list {
            args.push(format!("--use-list={}", list.display()));
        }
        self.text(archive, args).await
    }

    /// Loads what `list` keeps of a section into a database; goes on after errors, which are in the answer.
    pub(crate) async fn load(
        &self,
        url: &PostgresUrl,
        archive: &Path,
        list: &Path,
        load: Load<'_>,
    ) -> Result<Vec<Complaint>, EngineError> {
        let done = self
            .command("pg_restore", url)
            .envs([("PGOPTIONS", session_options(load.major))])
            .arg(format!("--dbname=dbname={}", conninfo_value(&url.database)))
            // Only a verbose pg_restore says which entry an error belongs to.
            .args(["--no-password", "--verbose"])
            .arg(format!("--section={}", load.section))
            .arg(format!("--jobs={}", load.jobs.max(1)))
            .arg(format!("--use-list={}", list.display()))
            .args(load.leave.arguments())
            .arg(archive)
            .keep(256 << 20)
            .run()
            .await
            .map_err(failed)?;
        let complaints = Complaint::parse(&done.stderr);
        if !done.status.success() && complaints.is_empty() {
            return Err(EngineError::failed(format!(
                "pg_restore could not load the schema into {}: {}",
                url.database,
                first_error(&done.stderr)
            )));
        }
        Ok(complaints)
    }

    async fn text(&self, archive: &Path, args: Vec<String>) -> Result<String, EngineError> {
        let program = Subprocess::new(&self.folder.join("pg_restore")).envs([("LC_ALL", "C")]).keep(TEXT_CAP_BYTES);
        let Finished { status, stdout, stderr } =
            program.args(args).arg(archive).deadline(DEADLINE).run().await.map_err(failed)?;
        if !status.success() {
            return Err(EngineError::failed(format!("pg_restore cannot read the schema: {}", first_error(&stderr))));
        }
        // Only a database without a declared encoding can hold names that are no UTF-8.
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    fn command(&self, program: &str, url: &PostgresUrl) -> Subprocess {
        Subprocess::new(&self.folder.join(program)).envs(environment(url)).deadline(DEADLINE)
    }
}

impl Leave {
    fn arguments(self) -> Vec<String> {
        let flags = [(self.owner, "--no-owner"), (self.acl, "--no-acl")];
        flags.iter().filter(|(on, _)| *on).map(|(_, flag)| (*flag).to_owned()).collect()
    }
}

/// One object `pg_restore` could not create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// Dump id of the archive entry, where it was told.
    pub(crate) dump_id: Option<u32>,
    /// The entry as `pg_restore` names it, for instance `FK CONSTRAINT lines lines_order_fkey app`.
    pub(crate) entry: String,
    /// The server's words.
    pub(crate) reason: String,
}

impl Complaint {
    /// Reads `pg_restore`'s standard error. An entry is named once, before the first of its errors.
    fn parse(stderr: &str) -> Vec<Complaint> {
        let (mut dump_id, mut entry) = (None, String::new());
        let mut list = Vec::new();
        for line in stderr.lines() {
            if let Some(rest) = line.split_once("from TOC entry ").map(|(_, rest)| rest) {
                let (id, rest) = rest.split_once(';').unwrap_or(("", rest));
                dump_id = id.trim().parse().ok();
                entry = rest.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
            } else if let Some((_, reason)) = line.split_once("error: ") {
                let reason = reason.trim_start_matches("could not execute query: ").trim_start_matches("ERROR:  ");
                list.push(Complaint { dump_id, entry: entry.clone(), reason: one_line(reason) });
            }
        }
        list
    }
}

fn usual_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(VERSIONED)
        .map(|list| list.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    folders.sort();
    folders.reverse();
    // The versioned folders go first, because /usr/bin may hold only a wrapper that chooses among them.
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    folders
}

/// What programs said of their version, and when they were last changed then: a migration asks a dozen times.
static VERSIONS: Mutex<BTreeMap<PathBuf, (SystemTime, Version)>> = Mutex::new(BTreeMap::new());

/// The version, for instance `15.18`, and its major number.
type Version = (String, u32);

async fn version_of(program: &Path) -> Option<Version> {
    let changed = std::fs::metadata(program).and_then(|found| found.modified()).ok()?;
    let known = VERSIONS.lock().unwrap_or_else(PoisonError::into_inner).get(program).cloned();
    if let Some((_, version)) = known.filter(|(at, _)| *at == changed) {
        return Some(version);
    }
    let done = Subprocess::new(program).arg("--version").deadline(Duration::from_secs(20)).run().await.ok()?;
    let version = parse_version(&String::from_utf8_lossy(&done.stdout))?;
    let mut versions = VERSIONS.lock().unwrap_or_else(PoisonError::into_inner);
    versions.insert(program.to_owned(), (changed, version.clone()));
    Some(version)
}

/// Reads `pg_dump (PostgreSQL) 15.18 (Debian …)`.
fn parse_version(text: &str) -> Option<Version> {
    let version = text.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((version.to_owned(), digits.parse().ok()?))
}

fn minor(version: &str) -> u32 {
    version.split_once('.').and_then(|(_, minor)| minor.parse().ok()).unwrap_or_default()
}

/// Where to connect and as whom, for libpq. The password goes this way and no other.
fn environment(url: &PostgresUrl) -> Vec<(String, String)> {
    let inherited = |name: &str| {
        name.starts_with("PGSSL")
            || matches!(name, "PGHOST" | "PGHOSTADDR" | "PGPORT" | "PGUSER" | "PGPASSWORD" | "PGPASSFILE")
    };
    let mut env: Vec<(String, String)> = std::env::vars().filter(|(name, _)| inherited(name)).collect();
    if url.host.is_some() {
        env.retain(|(name, _)| name != "PGHOSTADDR");
    }
    let own = [
        ("PGHOST", url.host.clone()),
        ("PGPORT", url.port.map(|port| port.to_string())),
        ("PGUSER", url.user.clone()),
        ("PGPASSWORD", url.password.clone()),
        ("PGSSLMODE", url.ssl_mode.clone()),
        ("PGSSLROOTCERT", url.ssl_root_cert.clone()),
        ("PGAPPNAME", Some("holdfast".to_owned())),
        ("PGCONNECT_TIMEOUT", Some("15".to_owned())),
        ("LC_ALL", Some("C".to_owned())),
    ];
    env.extend(own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    env
}

/// What a loading tool's session must not inherit from database or role, and that it ends when the tool is killed.
fn session_options(server_major: u32) -> String {
    let mut options = "-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0 \
                       -c idle_in_transaction_session_timeout=0"
        .to_owned();
    if server_major >= 14 {
        options.push_str(" -c client_connection_check_interval=500ms -c idle_session_timeout=0");
    }
    options
}

fn first_error(stderr: &str) -> String {
    let line =
        stderr.lines().find(|line| line.contains("error:")).or(stderr.lines().next()).unwrap_or("no reason given");
    one_line(line.split_once("error: ").map_or(line, |(_, rest)| rest))
}

fn failed(error: SubprocessError) -> EngineError {
    EngineError::failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_tools_say() {
        assert_eq!(parse_version("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(("15.18".into(), 15)));
        assert_eq!(parse_version("pg_dump (PostgreSQL) 19beta1\n"), Some(("19beta1".into(), 19)));
        assert_eq!(parse_version("something else"), None);
        assert!(minor("15.18") > minor("15.9"));
    }

    #[test]
    fn complaints_carry_their_entry_even_when_it_is_named_once() {
        let text = "pg_restore: while PROCESSING TOC:\n\
            pg_restore: from TOC entry 3255; 2606 16444 FK CONSTRAINT lines fk app\n\
            pg_restore: error: could not execute query: ERROR:  insert or update on table \"lines\" violates\n\
            DETAIL:  Key (a)=(1)\nCommand was: ALTER TABLE\n\n\
            pg_restore: error: could not execute query: ERROR:  again\n\
            pg_restore: warning: errors ignored on restore: 2\n";
        let list = Complaint::parse(text);
        assert_eq!(list.len(), 2);
        assert_eq!((list[1].dump_id, list[1].entry.as_str()), (Some(3255), "FK CONSTRAINT lines fk app"));
        assert_eq!(list[1].reason, "again");
    }

    #[tokio::test]
    async fn missing_tools_are_refused_by_package() {
        let error = Tools::find(Some(&[PathBuf::from("/nowhere")]), 15).await.expect_err("none there");
        assert!(error.hint().is_some_and(|hint| hint.contains("postgresql-client-15")), "{error}");
    }
}
