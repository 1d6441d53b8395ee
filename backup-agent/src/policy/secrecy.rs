//! Whether files that hold secrets can be read by others.

use crate::error::Error;
use shared::config::{Config, ConfigError, NotifyConfig};
use shared::model::DatabaseUrl;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Refuses a configuration of which a file that holds a secret can be read by everybody, and names, as a warning each,
/// those the file's group can read.
///
/// A secret is a password in an address, a key, and an address of `notify`, for who knows it can use it. Reads the
/// files that hold addresses to see whether there is a password in them.
pub fn check(config: &Config) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    for path in files_with_secrets(config)? {
        let metadata =
            std::fs::metadata(&path).map_err(|error| Error::refused(format!("{}: {error}", path.display()), None))?;
        let mode = mode(&metadata);
        let fact = format!("{} holds a secret and can be read by", path.display());
        if mode & 0o007 != 0 {
            let hint = format!("make it private: chmod 600 {}", path.display());
            return Err(Error::Refused { message: format!("{fact} everybody (mode {mode:03o})"), hint: Some(hint) });
        }
        if mode & 0o070 != 0 {
            warnings.push(format!("{fact} its group (mode {mode:03o})"));
        }
    }
    Ok(warnings)
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o777
}

fn files_with_secrets(config: &Config) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files = Vec::new();
    if let Some(path) = config.path.clone().filter(|_| holds_secret(config)) {
        files.push(path);
    }
    let mut named: Vec<&Path> = Vec::new();
    if config.state.url_file.is_some() && has_password(&config.state_url()?) {
        named.extend(config.state.url_file.as_deref());
    }
    named.extend(config.store.secret_access_key_file.as_deref());
    named.extend(config.queue.url_file.as_deref());
    named.extend(config.queue.key.values().filter_map(|key| key.secret_file.as_deref()));
    for (name, database) in &config.databases {
        if let Some(file) = &database.url_file
            && config.database_url(name)?.is_some_and(|url| has_password(&url))
        {
            named.push(file);
        }
        named.extend(database.notify.webhook_secret_file.as_deref());
    }
    named.extend(config.prune.notify.webhook_secret_file.as_deref());
    files.extend(named.into_iter().map(|path| config.base.join(path)));
    files.dedup();
    Ok(files)
}

/// Whether the configuration file itself holds a secret.
fn holds_secret(config: &Config) -> bool {
    let in_url = |secret: &shared::model::Secret| secret.reveal().trim().parse().is_ok_and(|url| has_password(&url));
    let state = config.state.url.iter();
    let databases = config.databases.values();
    let urls = state.chain(databases.clone().flat_map(|database| database.url.iter().chain(&database.scratch_url)));
    urls.into_iter().any(in_url)
        || config.store.secret_access_key.is_some()
        || config.queue.url.as_ref().is_some_and(|url| url.reveal().contains('@'))
        || config.queue.key.values().any(|key| key.secret.is_some())
        || databases.map(|database| &database.notify).chain([&config.prune.notify]).any(notify_holds_secret)
}

fn notify_holds_secret(notify: &NotifyConfig) -> bool {
    let NotifyConfig { ping_url, start_url, success_url, failure_url, webhook_url, webhook_secret, .. } = notify;
    [ping_url, start_url, success_url, failure_url, webhook_url, webhook_secret].iter().any(|secret| secret.is_some())
}

fn has_password(url: &DatabaseUrl) -> bool {
    matches!(url, DatabaseUrl::Postgres(url) if url.password.is_some())
}
