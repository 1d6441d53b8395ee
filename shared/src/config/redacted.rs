//! The configuration as it may be shown to others.

use super::{Config, ConfigError};
use crate::model::DatabaseUrl;
use std::path::Path;

/// Keys whose texts are no secrets. Whatever is not named here is hidden: who adds a key decides that here.
const SHOWN: [&str; 39] = [
    "cron",
    "current",
    "databases",
    "days",
    "deadline",
    "directory",
    "drill",
    "endpoint",
    "expect",
    "from",
    "grace",
    "group",
    "health_timeout",
    "heartbeat",
    "jitter",
    "kind",
    "lease",
    "listen",
    "may_drop",
    "name",
    "of",
    "on",
    "own_tables",
    "pass_env",
    "pattern",
    "principal",
    "region",
    "required_env",
    "runner",
    "settings",
    "spool",
    "sql",
    "timezone",
    "to",
    "value",
    "what",
    "who",
    "within",
    "workdir",
];

/// Keys of programs and their arguments: hidden, since an argument may be secret, but made of words that are everywhere.
const COMMANDS: [&str; 9] = ["command", "downgrade", "pause", "probe", "program", "resume", "start", "stop", "upgrade"];

/// What stands for a hidden text.
const HIDDEN: &str = "(hidden)";

/// Shorter texts are not looked for elsewhere: they would be found everywhere.
const LEAST_SECRET: usize = 4;

/// A configuration without secrets, and the secrets.
pub struct Redacted {
    /// The file with every text hidden that may be secret; addresses of databases without their passwords.
    pub text: String,
    /// What was hidden, so that it can be looked for elsewhere; also what variables and files hold that the file names.
    pub secrets: Vec<String>,
}

impl Config {
    /// The configuration file for somebody else's eyes; empty where there is none. Fails where it cannot be read any more.
    pub fn redacted(&self) -> Result<Redacted, ConfigError> {
        let mut secrets = Vec::new();
        let Some(path) = &self.path else { return Ok(Redacted { text: String::new(), secrets }) };
        let unreadable = |message: String| ConfigError::Unreadable { path: path.clone(), message };
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        let mut table: toml::Table = text.parse().map_err(|_| unreadable("it is no TOML any more".into()))?;
        for (key, value) in &mut table {
            hide(key, value, &self.base, &mut secrets);
        }
        let text = toml::to_string_pretty(&table).map_err(|error| unreadable(error.to_string()))?;
        secrets.retain(|secret| secret.len() >= LEAST_SECRET);
        Ok(Redacted { text, secrets })
    }
}

fn hide(key: &str, value: &mut toml::Value, base: &Path, secrets: &mut Vec<String>) {
    match value {
        toml::Value::Table(table) => {
            let is_environment = key == "env";
            for (name, value) in table.iter_mut() {
                hide(if is_environment { "" } else { name }, value, base, secrets);
            }
        }
        toml::Value::Array(list) => list.iter_mut().for_each(|value| hide(key, value, base, secrets)),
        toml::Value::String(text) => hide_text(key, text, base, secrets),
        _ => {}
    }
}

fn hide_text(key: &str, text: &mut String, base: &Path, secrets: &mut Vec<String>) {
    if SHOWN.contains(&key) {
        return;
    }
    if key.ends_with("_env") {
        secrets.extend(std::env::var(&*text).ok().into_iter().flat_map(|value| parts_of(&value)));
        return;
    }
    if key.ends_with("_file") {
        let held = std::fs::read_to_string(base.join(&*text)).unwrap_or_default();
        secrets.extend(parts_of(held.trim()));
        return;
    }
    if COMMANDS.contains(&key) {
        *text = HIDDEN.to_owned();
        return;
    }
    let shown = match text.parse::<DatabaseUrl>() {
        Ok(url) if key.ends_with("url") => url.to_string(),
        _ => HIDDEN.to_owned(),
    };
    secrets.extend(parts_of(text));
    *text = shown;
}

/// A text that is secret; of an address of a database only its password.
fn parts_of(text: &str) -> Vec<String> {
    match text.parse::<DatabaseUrl>() {
        Ok(DatabaseUrl::Postgres(url)) => url.password.into_iter().collect(),
        Ok(DatabaseUrl::Sqlite(_)) => Vec::new(),
        Err(_) => vec![text.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_may_be_secret_is_hidden_and_the_rest_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("key"), "in-a-file\n").expect("written");
        let path = folder.path().join("holdfast.toml");
        let text = "[store]\nurl = \"s3://bucket/x\"\nregion = \"eu\"\nsecret_access_key_file = \"key\"\n\
            [database.shop]\nurl = \"postgres://app:pass%20word@db/shop\"\nretention = { last = 3 }\n\
            notify = { ping_url = \"https://hc/secret-ping\" }\n\
            [database.shop.migrations]\nrunner = \"sql\"\ndirectory = \"m\"\nenv = { SECRET_KEY = \"in-the-env\", sql = \"also-hidden\" }\n";
        std::fs::write(&path, text).expect("written");
        let redacted = Config::load(Some(&path)).expect("valid").redacted().expect("read");
        for secret in ["pass word", "secret-ping", "in-the-env", "also-hidden"] {
            assert!(
                !redacted.text.contains(secret) && redacted.secrets.iter().any(|known| known.contains(secret)),
                "{secret}"
            );
        }
        assert!(redacted.secrets.contains(&"in-a-file".to_owned()));
        for shown in ["postgres://app@db/shop", "region = \"eu\"", "last = 3", "runner = \"sql\"", "key\""] {
            assert!(redacted.text.contains(shown), "{shown}: {}", redacted.text);
        }
    }
}
