//! Alembic projects for tests, run by the real Alembic.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The program `alembic`.
///
/// Panics where none was prepared for the tests: see `ops/test`.
#[track_caller]
pub fn alembic() -> PathBuf {
    let program = std::env::var_os("HOLDFAST_TEST_ALEMBIC").map(PathBuf::from);
    let program = program.unwrap_or_else(|| panic!("HOLDFAST_TEST_ALEMBIC is not set: run the tests by ops/test"));
    assert!(program.is_file(), "there is no {}: run the tests by ops/test", program.display());
    program
}

/// A project in a temporary folder, made by `alembic init`; migrations are added as hand-written text.
#[derive(Debug)]
pub struct AlembicProject {
    folder: tempfile::TempDir,
}

impl AlembicProject {
    /// A project without migrations whose own `alembic.ini` names `url`, in SQLAlchemy's form.
    #[track_caller]
    pub fn new(url: &str) -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap() };
        project.alembic(&["init", "migrations"]);
        let ini = std::fs::read_to_string(project.ini()).unwrap();
        let own = "sqlalchemy.url = driver://user:pass@localhost/dbname";
        assert!(ini.contains(own), "alembic init writes another alembic.ini: {ini}");
        std::fs::write(project.ini(), ini.replace(own, &format!("sqlalchemy.url = {}", url.replace('%', "%%"))))
            .unwrap();
        project
    }

    /// The directory of `alembic.ini`.
    pub fn directory(&self) -> &Path {
        self.folder.path()
    }

    /// The project's `alembic.ini`.
    pub fn ini(&self) -> PathBuf {
        self.directory().join("alembic.ini")
    }

    /// The project's `env.py`.
    pub fn env_py(&self) -> PathBuf {
        self.directory().join("migrations/env.py")
    }

    /// The file of a revision.
    pub fn file(&self, id: &str) -> PathBuf {
        self.directory().join(format!("migrations/versions/{id}.py"))
    }

    /// Adds a revision behind `parents` (none: a first one). `upgrade` and `downgrade` are Python statements, a line each.
    pub fn add(&self, id: &str, parents: &[&str], upgrade: &str, downgrade: &str) -> &Self {
        let below = match parents {
            [] => "None".to_owned(),
            [one] => format!("{one:?}"),
            several => format!("{several:?}").replace('[', "(").replace(']', ")"),
        };
        let body = |text: &str| {
            let lines: Vec<String> = text.lines().map(|line| format!("    {line}\n")).collect();
            if lines.is_empty() { "    pass\n".to_owned() } else { lines.concat() }
        };
        let text = format!(
            "\"\"\"revision {id}\"\"\"\nfrom alembic import op\nimport sqlalchemy as sa\n\nrevision = {id:?}\n\
             down_revision = {below}\nbranch_labels = None\ndepends_on = None\n\n\ndef upgrade() -> None:\n{}\n\n\
             def downgrade() -> None:\n{}",
            body(upgrade),
            body(downgrade)
        );
        std::fs::write(self.file(id), text).unwrap();
        self
    }

    /// What a revision says of itself, as `alembic history` shows it.
    pub fn says(&self, id: &str, message: &str) -> &Self {
        let text = std::fs::read_to_string(self.file(id)).unwrap();
        let (_, rest) = text.split_once('\n').unwrap();
        std::fs::write(self.file(id), format!("\"\"\"{message}\"\"\"\n{rest}")).unwrap();
        self
    }

    /// Adds a revision of SQL statements, a line each.
    pub fn add_sql(&self, id: &str, parents: &[&str], upgrade: &str, downgrade: &str) -> &Self {
        let calls = |sql: &str| {
            let calls: Vec<String> = sql.lines().map(|line| format!("op.execute({line:?})")).collect();
            calls.join("\n")
        };
        self.add(id, parents, &calls(upgrade), &calls(downgrade))
    }

    /// Runs Alembic as a person would in the project's directory; panics with its words where it fails.
    #[track_caller]
    pub fn alembic(&self, args: &[&str]) -> String {
        let done = Command::new(alembic()).args(args).current_dir(self.directory()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(done.status.success(), "alembic {args:?}: {}{}", text(&done.stdout), text(&done.stderr));
        text(&done.stdout)
    }
}
