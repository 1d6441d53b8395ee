//! Start-up: the only module that names the adapters behind the doors.

use crate::clock::Clock;
use crate::config::{Config, ConfigError, DEFAULT_STORE};
use crate::engine::Engine;
use crate::engine::postgres::PostgresEngine;
use crate::engine::sqlite::SqliteEngine;
use crate::model::{DatabaseUrl, Secret};
use crate::store::fs::FsStore;
use crate::store::retry::{RetryPolicy, Retrying};
use crate::store::s3::{S3Settings, S3Store};
use crate::store::{Store, StoreError};
use crate::task_log::postgres::PostgresTaskLog;
use crate::task_log::sqlite::SqliteTaskLog;
use crate::task_log::{TaskLog, TaskLogError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether a store that is not there may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreUse {
    /// Only an existing store.
    Read,
    /// A missing directory is made. A bucket never is.
    Write,
}

/// Why a store or the record of tasks could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store is not there or not usable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The record of tasks is not there or not usable.
    #[error(transparent)]
    TaskLog(#[from] TaskLogError),
}

/// Opens the configured record of all tasks, making it where it is missing.
///
/// In an SQLite file `clock` decides times and leases, in PostgreSQL the server's clock.
pub async fn task_log(config: &Config, clock: Arc<dyn Clock>) -> Result<Arc<dyn TaskLog>, ConnectError> {
    Ok(match config.state_url()? {
        DatabaseUrl::Sqlite(path) => Arc::new(SqliteTaskLog::open(&path, clock).await?),
        DatabaseUrl::Postgres(url) => Arc::new(PostgresTaskLog::open(url).await?),
    })
}

/// Opens the configured record of all tasks to read it; never makes or changes it.
pub async fn existing_task_log(config: &Config, clock: Arc<dyn Clock>) -> Result<Arc<dyn TaskLog>, ConnectError> {
    Ok(match config.state_url()? {
        DatabaseUrl::Sqlite(path) => Arc::new(SqliteTaskLog::open_existing(&path, clock).await?),
        DatabaseUrl::Postgres(url) => Arc::new(PostgresTaskLog::open_existing(url).await?),
    })
}

/// Makes ring the program's one TLS provider. Call first thing in main; later calls do nothing.
pub fn install_tls() {
    // An error means that a provider is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The adapter for a database.
pub fn engine(url: DatabaseUrl) -> Box<dyn Engine> {
    match url {
        DatabaseUrl::Postgres(url) => Box::new(PostgresEngine::new(url)),
        DatabaseUrl::Sqlite(path) => Box::new(SqliteEngine::new(path)),
    }
}

/// Opens the store named on the command line (counted from the working directory) or else the configured one.
pub async fn store(config: &Config, named: Option<&str>, purpose: StoreUse) -> Result<Arc<dyn Store>, ConnectError> {
    match place(config, named)? {
        Place::Directory(path) => Ok(match purpose {
            StoreUse::Read => Arc::new(Retrying::new(FsStore::open(&path)?, RetryPolicy::default())),
            StoreUse::Write => Arc::new(Retrying::new(FsStore::create(&path)?, RetryPolicy::default())),
        }),
        Place::Bucket(bucket, prefix) => {
            let settings = s3_settings(config, &bucket, &prefix)?;
            Ok(Arc::new(Retrying::new(S3Store::connect(settings).await?, RetryPolicy::default())))
        }
    }
}

/// The URL of the store [`store`] would open, with an absolute path. Looks at nothing but the configuration.
pub fn store_url(config: &Config, named: Option<&str>) -> Result<String, ConfigError> {
    Ok(match place(config, named)? {
        Place::Directory(path) => {
            // As the operating system would resolve it, without asking whether it is there.
            let path = std::path::absolute(&path).unwrap_or(path);
            format!("file:{}", path.display())
        }
        Place::Bucket(bucket, prefix) if prefix.is_empty() => format!("s3://{bucket}"),
        Place::Bucket(bucket, prefix) => format!("s3://{bucket}/{prefix}"),
    })
}

/// Where a store is.
enum Place {
    Directory(PathBuf),
    /// Bucket and prefix.
    Bucket(String, String),
}

fn place(config: &Config, named: Option<&str>) -> Result<Place, ConfigError> {
    let (url, base) = match (named, &config.store.url) {
        (Some(url), _) => (url, Path::new(".")),
        (None, Some(url)) => (url.as_str(), config.base.as_path()),
        (None, None) => (DEFAULT_STORE, Path::new(".")),
    };
    if let Some(path) = url.strip_prefix("file:") {
        return Ok(Place::Directory(base.join(path.strip_prefix("//").unwrap_or(path))));
    }
    let wrong = || ConfigError::Value(format!("the store URL {url:?} begins neither with file: nor with s3://"));
    let rest = url.strip_prefix("s3://").ok_or_else(wrong)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() || bucket.contains(['@', ':', '?']) {
        return Err(ConfigError::Value("the store URL must be s3://BUCKET or s3://BUCKET/PREFIX".into()));
    }
    Ok(Place::Bucket(bucket.to_owned(), prefix.trim_matches('/').to_owned()))
}

fn s3_settings(config: &Config, bucket: &str, prefix: &str) -> Result<S3Settings, ConfigError> {
    let store = &config.store;
    let access_key_id = config.value(
        "access_key_id of [store]",
        store.access_key_id.clone(),
        store.access_key_id_env.as_deref(),
        store.access_key_id_file.as_deref(),
    )?;
    let secret_access_key = config.value(
        "secret_access_key of [store]",
        store.secret_access_key.as_ref().map(|secret| secret.reveal().to_owned()),
        store.secret_access_key_env.as_deref(),
        store.secret_access_key_file.as_deref(),
    )?;
    Ok(S3Settings {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: store.endpoint.clone(),
        region: store.region.clone(),
        path_style: store.path_style,
        access_key_id,
        secret_access_key: secret_access_key.map(Secret::new),
        session_token: None,
    })
}
