//! The environment of a tool: what is configured for it, and how its sessions behave.

use super::template::Template;
use super::{RunnerError, ToolCall, address};
use shared::config::MigrationsConfig;
use shared::model::DatabaseUrl;
use std::collections::BTreeMap;

/// The variable in which most tools look for the address.
pub(super) const DATABASE_URL: &str = "DATABASE_URL";

/// How long a tool's session waits for a lock. Behind a fence nobody else holds one.
const LOCK_TIMEOUT: &str = "60s";

/// Words in the name of a variable whose value is not to be seen.
const SECRET_WORDS: [&str; 7] = ["KEY", "SECRET", "TOKEN", "PASS", "PWD", "URL", "DSN"];

/// Variables of libpq that say where to connect where a URL does not.
const LIBPQ: [&str; 6] = ["PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGPASSWORD", "PGPASSFILE"];

/// Variables configured for a tool.
#[derive(Clone, Default)]
pub struct Environment {
    templates: BTreeMap<String, Template>,
    passed: BTreeMap<String, String>,
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.templates.keys().chain(self.passed.keys())).finish()
    }
}

impl Environment {
    /// What `config` asks for. Refuses unknown placeholders, and required variables that are not set or empty.
    pub fn of(config: &MigrationsConfig) -> Result<Self, RunnerError> {
        let mut templates = BTreeMap::new();
        for (name, text) in &config.env {
            if name.is_empty() || name.contains(['=', '\0']) || text.contains('\0') {
                return Err(RunnerError::new(format!("env: {name:?} cannot be a variable")));
            }
            templates.insert(name.clone(), Template::parse(&format!("env.{name}"), text)?);
        }
        let set = |name: &String| std::env::var(name).ok().filter(|value| !value.is_empty());
        let missing = config.required_env.iter().filter(|name| set(name).is_none() && !templates.contains_key(*name));
        let missing: Vec<&str> = missing.map(String::as_str).collect();
        if !missing.is_empty() {
            let message = format!("the migrations need variables that are not set: {}", missing.join(", "));
            return Err(RunnerError::new(message).hint("set them where this program runs (required_env names them)"));
        }
        let names = config.pass_env.iter().chain(&config.required_env);
        let passed = names.filter_map(|name| Some((name.clone(), std::env::var(name).ok()?))).collect();
        Ok(Environment { templates, passed })
    }

    /// The variables for a database, the later ones going before the earlier: `own`, passed ones, configured ones.
    pub(super) fn variables(
        &self,
        own: Vec<(String, String)>,
        url: &DatabaseUrl,
    ) -> Result<Vec<(String, String)>, RunnerError> {
        let mut variables = own;
        variables.extend(self.passed.clone());
        for (name, template) in &self.templates {
            variables.push((name.clone(), template.fill(url)?));
        }
        Ok(variables)
    }

    /// Variables where no database is meant: an address in them leads nowhere.
    pub(super) fn nowhere(&self) -> Vec<(String, String)> {
        let file = DatabaseUrl::Sqlite("/dev/null/no-database".into());
        let server = "postgresql:///no-database?host=/dev/null".parse().unwrap_or_else(|_| file.clone());
        let mut variables: Vec<(String, String)> = self.passed.clone().into_iter().collect();
        for (name, template) in &self.templates {
            let filled = template.fill(&file).or_else(|_| template.fill(&server));
            variables.extend(filled.ok().map(|value| (name.clone(), value)));
        }
        variables
    }

    /// A variable as it is set whatever database is meant.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.nowhere().into_iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// What must not be seen in the tool's output.
    pub(super) fn secrets(&self, url: Option<&DatabaseUrl>) -> Vec<String> {
        let secret = |name: &&String| SECRET_WORDS.iter().any(|word| name.to_uppercase().contains(word));
        let mut secrets: Vec<String> =
            self.passed.keys().filter(secret).map(|name| self.passed[name].clone()).collect();
        if let Some(DatabaseUrl::Postgres(url)) = url {
            secrets.extend(url.password.clone());
        }
        secrets.extend(std::env::var("PGPASSWORD").ok());
        secrets
    }
}

/// Where the database is (`DATABASE_URL`), and how the sessions of a tool behave: whose they are, how long they wait, and
/// that they end when the tool is killed.
///
/// The latter by libpq's variables, so that the tool itself knows nothing of it. Asks the server for its version.
pub(super) async fn of_sessions(url: &DatabaseUrl, call: &ToolCall) -> Result<Vec<(String, String)>, RunnerError> {
    let address = (DATABASE_URL.to_owned(), address::plain(url)?);
    let DatabaseUrl::Postgres(parts) = url else { return Ok(vec![address]) };
    let answer = shared::connect::engine(url.clone()).query("SHOW server_version_num").await?;
    let version = answer.first().and_then(|row| row.first()?.as_deref()?.parse::<u32>().ok()).unwrap_or_default();
    let inherited = |name: &str| name.starts_with("PGSSL") || LIBPQ.contains(&name);
    let mut variables: Vec<(String, String)> = std::env::vars().filter(|(name, _)| inherited(name)).collect();
    if parts.host.is_some() {
        variables.retain(|(name, _)| name != "PGHOSTADDR");
    }
    let idle_ms = call.deadline.as_millis().clamp(1, i32::MAX as u128);
    let mut options = format!("-c lock_timeout={LOCK_TIMEOUT} -c idle_in_transaction_session_timeout={idle_ms}");
    if version >= 140_000 {
        // Else a statement of a killed tool would run to its end and be committed.
        options.push_str(" -c client_connection_check_interval=500ms");
    }
    let own = [
        ("PGHOST", parts.host.clone()),
        ("PGPORT", parts.port.map(|port| port.to_string())),
        ("PGUSER", parts.user.clone()),
        ("PGPASSWORD", parts.password.clone()),
        ("PGDATABASE", Some(parts.database.clone())),
        ("PGSSLMODE", parts.ssl_mode.clone()),
        ("PGSSLROOTCERT", parts.ssl_root_cert.clone()),
        ("PGAPPNAME", Some(format!("holdfast-{}", call.job))),
        ("PGOPTIONS", Some(options)),
        ("PGCONNECT_TIMEOUT", Some("15".to_owned())),
    ];
    variables.push(address);
    variables.extend(own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Ok(variables)
}
