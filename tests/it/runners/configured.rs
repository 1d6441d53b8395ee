//! From `[database.<name>.migrations]` to a runner.

use super::{Fresh, call, go, refused};
use migrate_worker::runner::of;
use shared::config::Config;
use tests::alembic::{AlembicProject, alembic};

fn config(folder: &std::path::Path, text: &str) -> Config {
    let path = folder.join("holdfast.toml");
    std::fs::write(&path, format!("[database.shop]\nurl = \"sqlite:shop.db\"\n{text}")).unwrap();
    Config::load(Some(&path)).unwrap()
}

#[tokio::test]
async fn what_is_missing_is_named_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("m")).unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    for (text, expected) in [
        ("", "shop has no migrations; add [database.shop.migrations]"),
        ("runner = \"sql\"\ndirectory = \"gone\"", "gone cannot be read"),
        ("runner = \"sql\"\ndirectory = \"file\"", "file is no directory"),
        ("runner = \"sql\"\ndirectory = \"m\"\nworkdir = \"gone\"", "workdir"),
        ("runner = \"sql\"\ndirectory = \"m\"\nprogram = [\"x\"]", "has no program"),
        ("runner = \"sql\"\ndirectory = \"m\"\nenv = { A = \"{passwort}\" }", "env.A: unknown placeholder {passwort}"),
        (
            "runner = \"sql\"\ndirectory = \"m\"\nrequired_env = [\"PATH\", \"HOLDFAST_TEST_UNSET\", \"HOLDFAST_TEST_UNSET_2\"]",
            "variables that are not set: HOLDFAST_TEST_UNSET, HOLDFAST_TEST_UNSET_2;",
        ),
        ("runner = \"alembic\"\ndirectory = \"m\"\nprogram = [\"no-such-alembic\"]", "pip install alembic"),
        ("runner = \"alembic\"\ndirectory = \"m\"\nprogram = [\"venv/bin/alembic\"]", "/venv/bin/alembic; install"),
        ("runner = \"alembic\"\ndirectory = \"m\"\nprogram = [\"/bin/sh\"]", "there is no alembic.ini"),
    ] {
        let section = if text.is_empty() { "" } else { "[database.shop.migrations]\n" };
        let config = config(folder.path(), &format!("{section}{text}\n"));
        let said = refused(of(&config, &"shop".parse().unwrap()).map(|runner| runner.name()));
        assert!(said.contains(expected), "{text}: {said}");
    }
}

#[tokio::test]
async fn the_configured_environment_reaches_the_tool_and_its_secrets_are_not_shown() {
    let project = AlembicProject::new("sqlite:////nowhere/else.db");
    let names = ["MY_URL", "MY_PATH", "DATABASE_URL", "PATH_COPY", "CARGO_MANIFEST_DIR"];
    project.add(
        "r1",
        &[],
        &format!("import os\nfor name in {names:?}:\n    print(name, os.environ.get(name))\nprint(os.getcwd())"),
        "",
    );
    let folder = tempfile::tempdir().unwrap();
    let config = config(
        folder.path(),
        &format!(
            "[database.shop.migrations]\nrunner = \"alembic\"\ndirectory = {:?}\nprogram = [{:?}]\npass_env = [\"HOME\"]\n\
             env = {{ MY_URL = \"<{{sqlalchemy_url}}>\", MY_PATH = \"{{path}}\", PATH_COPY = \"{{{{x}}}}\" }}\n",
            project.directory(),
            alembic()
        ),
    );
    let runner = of(&config, &"shop".parse().unwrap()).unwrap();
    let database = Fresh::sqlite();
    let Fresh::Sqlite(file) = &database else { unreachable!() };
    let (run, _) = go(runner.as_ref(), &database.url(), "head").await;
    let path = file.path().display().to_string();
    let directory = project.directory().canonicalize().unwrap().display().to_string();
    for line in [
        format!("MY_URL <sqlite:///{path}>"),
        format!("MY_PATH {path}"),
        format!("DATABASE_URL sqlite:///{path}"),
        "PATH_COPY {x}".into(),
        "CARGO_MANIFEST_DIR None".into(),
        directory,
    ] {
        assert!(run.output.lines().any(|found| found == line), "{line}: {}", run.output);
    }
    assert_eq!(runner.probe(&database.url(), &call()).await.unwrap(), ["r1"]);
}
