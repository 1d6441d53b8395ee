//! The generated package: settings around the project's own, and a command that tells the history.

use crate::runner::{RunnerError, address};
use serde_json::json;
use shared::model::DatabaseUrl;
use std::path::Path;

/// Where Django looks for its settings.
pub(super) const SETTINGS_VARIABLE: &str = "DJANGO_SETTINGS_MODULE";

const PATH_VARIABLE: &str = "PYTHONPATH";

const SETTINGS: &str = include_str!("settings.py");
const HISTORY: &str = include_str!("holdfast_history.py");

/// A folder of its own on Python's path that only this user can read, removed with the value. It holds no secret: the
/// address comes by the environment.
pub(super) struct Package {
    folder: tempfile::TempDir,
}

impl Package {
    pub(super) fn write() -> Result<Self, RunnerError> {
        let failed = |error: std::io::Error| RunnerError::new(format!("private settings cannot be written: {error}"));
        let folder = tempfile::Builder::new().prefix("holdfast-django-").tempdir().map_err(failed)?;
        let commands = folder.path().join("holdfast_django/management/commands");
        std::fs::create_dir_all(&commands).map_err(failed)?;
        let write = |path: &Path, text: &str| std::fs::write(path, text).map_err(failed);
        for package in commands.ancestors().take(3) {
            write(&package.join("__init__.py"), "")?;
        }
        write(&commands.join("holdfast_history.py"), HISTORY)?;
        write(&folder.path().join("holdfast_django/settings.py"), SETTINGS)?;
        Ok(Package { folder })
    }

    /// `variables` with those by which Django finds the package, and through it the project and its database; without
    /// one, the project is only read.
    pub(super) fn variables(
        &self,
        settings: &str,
        url: Option<&DatabaseUrl>,
        mut variables: Vec<(String, String)>,
    ) -> Result<Vec<(String, String)>, RunnerError> {
        let mut path = address::text(self.folder.path())?.to_owned();
        if let Some((_, theirs)) = variables.iter().rev().find(|(name, _)| name == PATH_VARIABLE) {
            path = format!("{path}:{theirs}");
        }
        let ours = [
            (SETTINGS_VARIABLE, "holdfast_django.settings".to_owned()),
            ("HOLDFAST_DJANGO_SETTINGS", settings.to_owned()),
            (PATH_VARIABLE, path),
            match url {
                Some(url) => ("HOLDFAST_DJANGO_DATABASE", told(url)?.to_string()),
                None => ("HOLDFAST_DJANGO_HISTORY", "1".to_owned()),
            },
        ];
        variables.extend(ours.map(|(name, value)| (name.to_owned(), value)));
        Ok(variables)
    }
}

/// The database as Django's settings have it.
fn told(url: &DatabaseUrl) -> Result<serde_json::Value, RunnerError> {
    Ok(match url {
        DatabaseUrl::Sqlite(path) => json!({"product": "sqlite3", "place": {"NAME": address::text(path)?}}),
        DatabaseUrl::Postgres(url) => {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            let options = [("sslmode", &url.ssl_mode), ("sslrootcert", &url.ssl_root_cert)];
            let given = options.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
            json!({
                "product": "postgresql",
                "place": {
                    "NAME": url.database,
                    "USER": text(&url.user),
                    "PASSWORD": text(&url.password),
                    "HOST": text(&url.host),
                    "PORT": url.port.map(|port| port.to_string()).unwrap_or_default(),
                },
                "options": given.collect::<std::collections::BTreeMap<_, _>>(),
            })
        }
    })
}
