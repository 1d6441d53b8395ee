//! A team: its Alembic project, its database on a server of its own, and the worker it asks.

use super::desk::{Desk, Door, Ended};
use serde_json::{Value, json};
use shared::model::JobId;
use std::path::PathBuf;
use std::process::Command;
use tests::agent::Run;
use tests::alembic::alembic;
use tests::fixtures::copy_folder;
use tests::postgres::pg_dump_text;
use tests::private_postgres::PrivatePostgres;

/// What a team brings along.
#[derive(Debug, Clone, Copy)]
pub struct Story {
    /// The folder below `tests/fixtures`.
    pub folder: &'static str,
    /// The database's name, in PostgreSQL and in the configuration.
    pub database: &'static str,
    /// Whom it belongs to: the superuser, as in an image of PostgreSQL that is told a user.
    pub role: &'static str,
    /// The revision it stands at in the beginning.
    pub revision: &'static str,
}

/// A team, its database filled, its worker configured.
pub struct Team {
    pub story: Story,
    pub desk: Desk,
    pub server: PrivatePostgres,
    project: tempfile::TempDir,
}

impl Team {
    /// A team that asks by `door`; `more` are the further lines of `[database.….migrations]` and what comes behind them.
    pub fn new(story: Story, door: Door, more: &str) -> Self {
        let project = tempfile::tempdir().unwrap();
        copy_folder(story.folder, project.path());
        let mut team = Team { story, desk: Desk::new(door), server: PrivatePostgres::start(), project };
        team.server.psql("postgres", &format!("CREATE ROLE {} SUPERUSER LOGIN", story.role));
        team.fill();
        team.configure(more);
        team
    }

    /// Makes the database as the team would have it: by Alembic, and with its rows.
    pub fn fill(&self) {
        let Story { database, role, revision, .. } = self.story;
        self.server.psql("postgres", &format!("CREATE DATABASE {database} TEMPLATE template0 OWNER {role}"));
        self.alembic(&["upgrade", revision]);
        self.psql(&std::fs::read_to_string(self.file("data.sql")).unwrap());
    }

    /// Writes the configuration anew.
    pub fn configure(&mut self, more: &str) {
        let (name, url, project, program) = (self.story.database, self.url(), self.project.path(), alembic());
        self.desk.configure(&format!(
            "[database.{name}]\nurl = \"{url}\"\n\n[database.{name}.migrations]\nrunner = \"alembic\"\n\
             directory = {project:?}\nprogram = [{program:?}]\n{more}\n"
        ));
    }

    /// The database's address as its role.
    pub fn url(&self) -> String {
        self.url_of(self.story.database)
    }

    /// The address of another database of the server.
    pub fn url_of(&self, database: &str) -> String {
        self.server.url(database).replace("//postgres@", &format!("//{}@", self.story.role))
    }

    /// A file of the project.
    pub fn file(&self, name: &str) -> PathBuf {
        self.project.path().join(name)
    }

    /// Takes a file of the project into its migrations, as a merge of two branches does.
    pub fn take_in(&self, name: &str) {
        let file = self.file(name);
        std::fs::copy(&file, self.file("alembic/versions").join(file.file_name().unwrap())).unwrap();
    }

    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        self.server.psql(self.story.database, sql)
    }

    /// What `pg_dump` writes of the database.
    #[track_caller]
    pub fn dump(&self) -> String {
        pg_dump_text(&self.url())
    }

    /// Runs a program of the team's virtual environment in its project, as a person would.
    #[track_caller]
    pub fn runs(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(alembic().with_file_name(program));
        let url = self.url().replace("postgres://", "postgresql://");
        // One project knows the address by its variable, the other by its alembic.ini.
        let ini = std::fs::read_to_string(self.file("alembic.ini")).unwrap();
        let own: Vec<String> = ini
            .lines()
            .map(
                |line| if line.starts_with("sqlalchemy.url") { format!("sqlalchemy.url = {url}") } else { line.into() },
            )
            .collect();
        std::fs::write(self.file("own.ini"), own.join("\n")).unwrap();
        if program == "alembic" {
            command.args(["-c", "own.ini"]);
        }
        command.args(arguments).current_dir(self.project.path()).env("DATABASE_URL", url);
        let done = command.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{program} {arguments:?}: {said}");
        String::from_utf8(done.stdout).unwrap()
    }

    #[track_caller]
    pub fn alembic(&self, arguments: &[&str]) -> String {
        self.runs("alembic", arguments)
    }

    /// What `alembic current` says of the revision.
    #[track_caller]
    pub fn current(&self) -> String {
        self.alembic(&["current"]).trim().to_owned()
    }

    #[track_caller]
    pub fn backup_agent(&self, arguments: &[&str]) -> Run {
        self.desk.backup_agent(arguments)
    }

    /// Asks for a migration with these details and asserts how it ends.
    #[track_caller]
    pub fn migrate(&mut self, spec: Value, state: &str) -> Ended {
        self.desk.migrate(self.story.database, spec, state)
    }

    /// Sends a wish of any kind and waits for the end of its job.
    #[track_caller]
    pub fn by_message(&mut self, kind: &str, spec: Value, state: &str) -> Ended {
        self.desk.open();
        let id = JobId::random().to_string();
        self.send(kind, &id, spec);
        let ended = self.desk.end_of(&id);
        ended.is(state);
        ended
    }

    /// Sends a wish under this id.
    pub fn send(&self, kind: &str, id: &str, spec: Value) {
        let wish = json!({"id": id, "kind": kind, "target": self.story.database, "spec": spec});
        self.desk.publish(kind, &wish);
    }
}
