//! From the configuration to a runner.

use super::alembic::AlembicRunner;
use super::sql::SqlRunner;
use super::{Environment, Runner, RunnerError, tool};
use shared::config::{Config, RunnerKind};
use shared::model::DatabaseName;

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
    match migrations.runner {
        RunnerKind::Sql if migrations.program.is_some() => {
            Err(in_section(RunnerError::new("the runner sql is Holdfast itself and has no program")))
        }
        RunnerKind::Sql => {
            let this = std::env::current_exe();
            let this =
                this.map_err(|error| RunnerError::new(format!("this program cannot be found again: {error}")))?;
            Ok(Box::new(SqlRunner::new(directory, this, environment).workdir(workdir)))
        }
        RunnerKind::Alembic => {
            let usual = ["alembic".to_owned()];
            let (program, args) = match migrations.program.as_deref().unwrap_or(&usual) {
                [program, args @ ..] => (program, args),
                [] => return Err(in_section(RunnerError::new("program is empty"))),
            };
            let program = tool::find(program, &config.base, "alembic (pip install alembic)").map_err(in_section)?;
            let runner = AlembicRunner::new(directory, program, args.to_vec(), environment).map_err(in_section)?;
            Ok(Box::new(runner.workdir(workdir)))
        }
    }
}
