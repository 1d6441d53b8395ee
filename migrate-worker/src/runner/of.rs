//! From the configuration to a runner.

use super::alembic::AlembicRunner;
use super::command::CommandRunner;
use super::django::DjangoRunner;
use super::sql::SqlRunner;
use super::then::WithSteps;
use super::{Environment, Runner, RunnerError, tool};
use shared::config::{Config, MigrationsConfig, RunnerKind};
use shared::model::DatabaseName;
use std::path::PathBuf;

/// The configured runner of a database.
///
/// Looks whether everything it needs is there: directories, program, required variables. Starts nothing.
pub fn of(config: &Config, name: &DatabaseName) -> Result<Box<dyn Runner>, RunnerError> {
    let section = format!("[database.{name}.migrations]");
    let database =
        config.databases.get(name).ok_or_else(|| RunnerError::new(format!("there is no [database.{name}]")))?;
    let missing =
        || RunnerError::new(format!("{name} has no migrations")).hint(format!("add {section} to the configuration"));
    let migrations = database.migrations.as_ref().ok_or_else(missing)?;
    let in_section = |error: RunnerError| RunnerError { message: format!("{section}: {}", error.message), ..error };
    let environment = Environment::of(migrations).map_err(in_section)?;
    let directory = config.base.join(&migrations.directory);
    tool::directory("directory", &directory).map_err(in_section)?;
    let workdir = migrations.workdir.as_ref().map_or_else(|| directory.clone(), |workdir| config.base.join(workdir));
    tool::directory("workdir", &workdir).map_err(in_section)?;
    of_other_runners(migrations).map_err(in_section)?;
    let find = |usual: &str, package: &str| -> Result<(PathBuf, Vec<String>), RunnerError> {
        let usual = [usual.to_owned()];
        let [program, args @ ..] = migrations.program.as_deref().unwrap_or(&usual) else {
            return Err(RunnerError::new("program is empty"));
        };
        Ok((tool::find(program, &config.base, package)?, args.to_vec()))
    };
    let made = || -> Result<Box<dyn Runner>, RunnerError> {
        let (directory, workdir, environment) = (directory.clone(), workdir.clone(), environment.clone());
        Ok(match migrations.runner {
            RunnerKind::Sql => Box::new(SqlRunner::new(directory, this_program()?, environment).workdir(workdir)),
            RunnerKind::Alembic => {
                let (program, args) = find("alembic", "alembic (pip install alembic)")?;
                Box::new(AlembicRunner::new(directory, program, args, environment)?.workdir(workdir))
            }
            RunnerKind::Django => {
                let (program, args) = find("python3", "Python with Django (pip install django)")?;
                let settings = migrations.settings.clone();
                Box::new(DjangoRunner::new(directory, program, args, settings, environment)?.workdir(workdir))
            }
            RunnerKind::Command => Box::new(CommandRunner::new(migrations, workdir, environment)?),
        })
    };
    let runner = made().map_err(in_section)?;
    if migrations.then.is_empty() {
        return Ok(runner);
    }
    let with_steps = || WithSteps::new(runner, &migrations.then, workdir, environment, this_program()?);
    Ok(Box::new(with_steps().map_err(in_section)?))
}

/// Refuses keys that mean nothing to the runner: somebody relies on them.
fn of_other_runners(config: &MigrationsConfig) -> Result<(), RunnerError> {
    use RunnerKind::{Alembic, Command, Django, Sql};
    let keys = [
        ("program", config.program.is_some(), &[Alembic, Django][..]),
        ("settings", config.settings.is_some(), &[Django]),
        ("upgrade", config.upgrade.is_some(), &[Command]),
        ("downgrade", config.downgrade.is_some(), &[Command]),
        ("probe", config.probe.is_some(), &[Command]),
        ("current", config.current.is_some(), &[Command]),
        ("own_tables", !config.own_tables.is_empty(), &[Command]),
    ];
    match keys.iter().find(|(_, is_given, runners)| *is_given && !runners.contains(&config.runner)) {
        None => Ok(()),
        Some(("program", ..)) if config.runner == Sql => {
            Err(RunnerError::new("the runner sql is Holdfast itself and has no program"))
        }
        Some((key, ..)) => Err(RunnerError::new(format!("{key} means nothing to the runner {}", config.runner))),
    }
}

/// This very program, which runs SQL.
fn this_program() -> Result<PathBuf, RunnerError> {
    std::env::current_exe().map_err(|error| RunnerError::new(format!("this program cannot be found again: {error}")))
}
