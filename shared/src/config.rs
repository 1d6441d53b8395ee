//! The one configuration file, `holdfast.toml`.

use crate::model::{DatabaseName, DatabaseUrl, InvalidUrl, Secret};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the file is looked for when none is named.
pub const DEFAULT_PATHS: [&str; 2] = ["holdfast.toml", "/etc/holdfast/holdfast.toml"];
/// The store when none is configured.
pub const DEFAULT_STORE: &str = "file:./holdfast-store";

/// The configuration, with relative paths counted from its file.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from, if any.
    pub path: Option<PathBuf>,
    /// The directory relative paths count from.
    pub base: PathBuf,
    /// Where backups are kept.
    pub store: StoreConfig,
    /// The databases by name.
    pub databases: BTreeMap<DatabaseName, DatabaseConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    store: StoreConfig,
    #[serde(default)]
    database: BTreeMap<String, DatabaseConfig>,
}

/// `[store]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// `file:PATH` or `s3://bucket/prefix`.
    pub url: Option<String>,
    /// Endpoint of an S3 server that is not Amazon's.
    pub endpoint: Option<String>,
    /// Region; default: that of the usual AWS places, else `us-east-1`.
    pub region: Option<String>,
    /// Bucket in the path instead of the host name; default: yes with an endpoint.
    pub path_style: Option<bool>,
    /// Access key; default: the usual AWS places.
    pub access_key_id: Option<String>,
    /// Name of the environment variable that holds it.
    pub access_key_id_env: Option<String>,
    /// File that holds it.
    pub access_key_id_file: Option<PathBuf>,
    /// Secret key.
    pub secret_access_key: Option<Secret>,
    /// Name of the environment variable that holds it.
    pub secret_access_key_env: Option<String>,
    /// File that holds it.
    pub secret_access_key_file: Option<PathBuf>,
}

/// `[database.<name>]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Address; may hold a password.
    pub url: Option<Secret>,
    /// Name of the environment variable that holds the address.
    pub url_env: Option<String>,
    /// File that holds the address.
    pub url_file: Option<PathBuf>,
    /// Address of a database that `drill` may create and drop.
    pub scratch_url: Option<Secret>,
}

/// What is wrong with the configuration. Never repeats a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {message}", path.display())]
    Unreadable {
        /// Absolute path where possible.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The file is not as it should be.
    #[error("{}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where known.
        message: String,
    },
    /// A value named elsewhere is not there.
    #[error("{0}")]
    Value(String),
}

impl Config {
    /// Reads `path`, or the first of [`DEFAULT_PATHS`] that exists; without any, everything has its default.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let found =
            path.map(Path::to_owned).or_else(|| DEFAULT_PATHS.iter().map(PathBuf::from).find(|path| path.exists()));
        match found {
            Some(path) => Self::read(&path),
            None => {
                let base = absolute(Path::new("."));
                Ok(Config { path: None, base, store: StoreConfig::default(), databases: BTreeMap::new() })
            }
        }
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let path = absolute(path);
        let unreadable =
            |error: std::io::Error| ConfigError::Unreadable { path: path.clone(), message: error.to_string() };
        let text = std::fs::read_to_string(&path).map_err(unreadable)?;
        let invalid = |message: String| ConfigError::Invalid { path: path.clone(), message };
        // Only message and place: toml's own display quotes the line, which may hold a password.
        let file: File = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            invalid(format!("line {line}: {}", error.message()))
        })?;
        let mut databases = BTreeMap::new();
        for (name, database) in file.database {
            let name: DatabaseName = name.parse().map_err(|error| invalid(format!("[database]: {error}")))?;
            let given = [database.url.is_some(), database.url_env.is_some(), database.url_file.is_some()];
            if given.iter().filter(|given| **given).count() != 1 {
                return Err(invalid(format!("[database.{name}]: give exactly one of url, url_env, url_file")));
            }
            databases.insert(name, database);
        }
        let base = path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
        Ok(Config { path: Some(path.clone()), base, store: file.store, databases })
    }

    /// Address of a configured database, or `None` when there is no such name.
    pub fn database_url(&self, name: &DatabaseName) -> Result<Option<DatabaseUrl>, ConfigError> {
        let Some(database) = self.databases.get(name) else { return Ok(None) };
        let what = format!("url of [database.{name}]");
        let plain = database.url.as_ref().map(|secret| secret.reveal().to_owned());
        let text = self.value(&what, plain, database.url_env.as_deref(), database.url_file.as_deref())?;
        self.parse_url(&what, &text.unwrap_or_default()).map(Some)
    }

    /// Scratch address of a configured database, where it has one.
    pub fn scratch_url(&self, name: &DatabaseName) -> Result<Option<DatabaseUrl>, ConfigError> {
        let scratch = self.databases.get(name).and_then(|database| database.scratch_url.as_ref());
        scratch.map(|url| self.parse_url(&format!("scratch_url of [database.{name}]"), url.reveal())).transpose()
    }

    fn parse_url(&self, what: &str, text: &str) -> Result<DatabaseUrl, ConfigError> {
        let url: DatabaseUrl =
            text.trim().parse().map_err(|InvalidUrl(why)| ConfigError::Value(format!("{what}: {why}")))?;
        Ok(url.relative_to(&self.base))
    }

    /// A value given as it is, by an environment variable, or by a file.
    pub(crate) fn value(
        &self,
        what: &str,
        plain: Option<String>,
        env: Option<&str>,
        file: Option<&Path>,
    ) -> Result<Option<String>, ConfigError> {
        if plain.is_some() {
            return Ok(plain);
        }
        if let Some(name) = env {
            let value = std::env::var(name).ok().filter(|value| !value.trim().is_empty());
            let missing = || ConfigError::Value(format!("{what}: the environment variable {name} is not set or empty"));
            return value.map(|value| Some(value.trim().to_owned())).ok_or_else(missing);
        }
        if let Some(file) = file {
            let path = self.base.join(file);
            let text = std::fs::read_to_string(&path)
                .map_err(|error| ConfigError::Value(format!("{what}: {}: {error}", path.display())))?;
            return Ok(Some(text.trim().to_owned()));
        }
        Ok(None)
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("holdfast.toml");
        std::fs::write(&path, text).expect("writes");
        Config::load(Some(&path))
    }

    #[test]
    fn relative_paths_count_from_the_file() {
        let config = load("[database.shop]\nurl = \"sqlite:data/shop.db\"\n").expect("valid");
        let url = config.database_url(&"shop".parse().expect("valid")).expect("readable").expect("there");
        assert_eq!(url, DatabaseUrl::Sqlite(config.base.join("data/shop.db")));
    }

    #[test]
    fn the_example_shows_every_key_and_each_is_known() {
        let text = include_str!("../../ops/holdfast.example.toml");
        load(text).expect("valid as it stands");
        let commented: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|line| line.starts_with(char::is_alphabetic))
            .collect();
        let (of_database, of_store): (Vec<&str>, Vec<&str>) =
            commented.iter().partition(|line| line.starts_with("url_") || line.starts_with("scratch_"));
        assert_eq!((of_store.len(), of_database.len()), (9, 3), "{commented:?}");
        load(&format!("[store]\n{}\n", of_store.join("\n"))).expect("keys of [store]");
        for line in of_database {
            let url = if line.starts_with("scratch_") { "url = \"sqlite:x\"" } else { "" };
            load(&format!("[database.shop]\n{url}\n{line}\n")).expect(line);
        }
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not_repeated() {
        for (text, expected) in [
            ("[store]\nurll = \"x\"", "unknown field `urll`"),
            ("[database.Shop]\nurl = \"sqlite:x\"", "cannot name a database"),
            ("[database.shop]\n", "exactly one of"),
            ("[database.shop]\nurl = \"postgres://u:s3cret@h/d\"\nbogus = 1", "unknown field `bogus`"),
            ("[database.shop]\nurl = \"postgres://u:s3cret@h/d\n", "line 2"),
        ] {
            let error = load(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
