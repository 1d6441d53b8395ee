//! What an operator declares around a migration: checks of the data, hooks of the application, a window.

pub mod checks;
pub mod hooks;
pub mod window;

use crate::runner::RunnerError;
use checks::Checks;
use hooks::Hooks;
use shared::config::Config;
use shared::model::DatabaseName;
use window::Window;

/// Everything that is declared around the migrations of a database.
pub struct Around {
    /// What must be true of the data.
    pub checks: Checks,
    /// What stops and starts the application.
    pub hooks: Hooks,
    /// When it may be migrated.
    pub window: Option<Window>,
}

impl Around {
    /// What the configuration declares for a database. Refuses what cannot be meant.
    pub fn of(config: &Config, name: &DatabaseName) -> Result<Self, RunnerError> {
        let Some(database) = config.databases.get(name) else {
            return Err(RunnerError::new(format!("there is no [database.{name}]")));
        };
        let section = |key: &str, error: RunnerError| RunnerError {
            message: format!("[database.{name}.{key}]: {}", error.message),
            ..error
        };
        Ok(Around {
            checks: Checks::of(&database.checks).map_err(|error| section("checks", error))?,
            hooks: Hooks::of(&database.hooks, &config.base).map_err(|error| section("hooks", error))?,
            window: database.window.as_ref().map(Window::of).transpose().map_err(|error| section("window", error))?,
        })
    }
}
