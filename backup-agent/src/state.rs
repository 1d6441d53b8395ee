//! The record of tasks never lives in a database it protects: a restore would take it back in time, a migration that
//! is undone would take its own record with it.

use crate::error::Error;
use shared::config::Config;
use shared::connect;
use shared::model::{DatabaseUrl, Identity};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a server is asked who it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// Refuses a configuration whose `[state]` is one of its databases.
///
/// Files are compared by their canonical path and their inode. Servers are asked for their identity; where one of the
/// two cannot be reached, host, port and database of the addresses decide.
pub async fn state_is_apart(config: &Config) -> Result<(), Error> {
    let state = config.state_url()?;
    let mut state_identity = None;
    for name in config.databases.keys() {
        let Some(database) = config.database_url(name)? else { continue };
        let is_same = match (&state, &database) {
            (DatabaseUrl::Sqlite(state), DatabaseUrl::Sqlite(database)) => is_same_file(state, database),
            (DatabaseUrl::Postgres(_), DatabaseUrl::Postgres(_)) if is_same_address(&state, &database) => true,
            (DatabaseUrl::Postgres(_), DatabaseUrl::Postgres(_)) => {
                if state_identity.is_none() {
                    state_identity = Some(identity(&state).await);
                }
                let known = state_identity.clone().flatten();
                // Without an identity of one the other need not be asked.
                known.is_some() && known == identity(&database).await
            }
            _ => false,
        };
        if is_same {
            return Err(Error::refused(
                format!("[state] is database {name} itself ({state}): the record of tasks must not live in a database it protects"),
                "name another database or file as url of [state]",
            ));
        }
    }
    Ok(())
}

/// Which database a server says it is; none where it does not answer.
async fn identity(url: &DatabaseUrl) -> Option<Identity> {
    let engine = connect::engine(url.clone());
    let probe = tokio::time::timeout(PATIENCE, engine.probe()).await.ok()?;
    probe.inspect_err(|error| tracing::debug!("{url} could not be asked who it is: {error}")).ok().map(|it| it.identity)
}

fn is_same_address(left: &DatabaseUrl, right: &DatabaseUrl) -> bool {
    let (DatabaseUrl::Postgres(left), DatabaseUrl::Postgres(right)) = (left, right) else { return false };
    let place = |url: &shared::model::PostgresUrl| {
        let host = url.host.clone().unwrap_or_default().to_ascii_lowercase();
        let host = if matches!(host.as_str(), "127.0.0.1" | "::1") { "localhost".to_owned() } else { host };
        (host, url.port.unwrap_or(5432), url.database.clone())
    };
    place(left) == place(right)
}

fn is_same_file(left: &Path, right: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    // Two hard links are one file.
    let is_same_inode = inode(left).is_some_and(|left| Some(left) == inode(right));
    is_same_inode || canonical(left) == canonical(right)
}

/// The canonical path, also of a file that is not there yet.
fn canonical(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
    match (parent, path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    }
}
