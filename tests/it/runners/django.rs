//! Django as it is, on both databases: where a database stands, and what it does when a migration fails.

use super::{Fresh, call, go, planned, refused};
use migrate_worker::runner::of;
use migrate_worker::runner::{Branches, Runner};
use shared::config::Config;
use std::path::Path;
use tests::django;

/// Two applications whose migrations depend on each other, without anything of Django's own.
const SETTINGS: &str = "import os
SECRET_KEY = os.environ['SECRET_KEY']
INSTALLED_APPS = ['people', 'lessons']
# Nobody may come here: every run is told another place.
DATABASES = {
    'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': '/nowhere/else.db', 'OPTIONS': {'timeout': 7}},
    'other': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': '/nowhere/other.db'},
}
DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'
";

const MANAGE: &str = "#!/usr/bin/env python
import os
import sys

if __name__ == '__main__':
    os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'school.settings')
    from django.core.management import execute_from_command_line
    print('school speaking')
    execute_from_command_line(sys.argv)
";

struct School {
    folder: tempfile::TempDir,
}

impl School {
    fn new() -> Self {
        let school = School { folder: tempfile::tempdir().unwrap() };
        school.write("manage.py", MANAGE);
        school.write("school/settings.py", SETTINGS);
        school.write("school/__init__.py", "");
        for app in ["people", "lessons"] {
            school.write(&format!("{app}/__init__.py"), "");
            school.write(&format!("{app}/migrations/__init__.py"), "");
        }
        school.migration("people.0001_initial", &[], &[&create("Person")]);
        school.migration("lessons.0001_initial", &["people.0001_initial"], &[&create("Lesson")]);
        school.migration("lessons.0002_room", &["lessons.0001_initial"], &[&add("lesson", "room")]);
        school
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn migration(&self, id: &str, below: &[&str], operations: &[&str]) {
        let (app, name) = id.split_once('.').unwrap();
        let below: Vec<String> = below.iter().map(|id| format!("('{}')", id.replace('.', "', '"))).collect();
        self.write(
            &format!("{app}/migrations/{name}.py"),
            &format!(
                "from django.db import migrations, models\n\n\ndef nothing(apps, schema_editor):\n    pass\n\n\n\
                 class Migration(migrations.Migration):\n    dependencies = [{}]\n    operations = [{}]\n",
                below.join(", "),
                operations.join(", ")
            ),
        );
    }

    fn runner(&self) -> Box<dyn Runner> {
        runner(self.folder.path(), "")
    }
}

fn runner(project: &Path, more: &str) -> Box<dyn Runner> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holdfast.toml");
    let text = format!(
        "[database.shop]\nurl = \"sqlite:shop.db\"\n[database.shop.migrations]\nrunner = \"django\"\n\
         directory = {project:?}\nprogram = [{:?}]\nenv = {{ SECRET_KEY = \"of the tests\", PYTHONDONTWRITEBYTECODE = \"1\" }}\n{more}",
        django::python()
    );
    std::fs::write(&path, text).unwrap();
    of(&Config::load(Some(&path)).unwrap(), &"shop".parse().unwrap()).unwrap()
}

fn create(model: &str) -> String {
    format!(
        "migrations.CreateModel('{model}', [('id', models.BigAutoField(primary_key=True)), ('name', models.TextField())])"
    )
}

fn add(model: &str, field: &str) -> String {
    format!("migrations.AddField('{model}', '{field}', models.TextField(null=True))")
}

#[tokio::test]
async fn every_applications_line_is_walked_both_ways_on_both_databases() {
    let school = School::new();
    let runner = school.runner();
    let history = runner.history().await.unwrap();
    let ids: Vec<&str> = history.revisions.iter().map(|revision| revision.id.as_str()).collect();
    assert_eq!(ids, ["people.0001_initial", "lessons.0001_initial", "lessons.0002_room"]);
    assert_eq!(history.branches, Branches::Apps);
    assert!(history.revisions[2].message.contains("room"), "{:?}", history.revisions[2]);
    for database in Fresh::both() {
        let url = database.url();
        assert_eq!(runner.probe(&url, &call()).await.unwrap(), Vec::<String>::new());
        let (run, current) = go(&*runner, &url, "head").await;
        assert!(run.output.contains("Applying lessons.0002_room"), "{}", run.output);
        assert_eq!(current.heads, ["lessons.0002_room"]);
        assert_eq!(current.faults, Vec::<String>::new());
        assert_eq!(runner.probe(&url, &call()).await.unwrap(), ids);
        assert_eq!(database.columns("lessons_lesson"), "id,name,room");

        let (_, current) = go(&*runner, &url, "lessons.0001_initial").await;
        assert_eq!(current.heads, ["lessons.0001_initial"]);
        assert_eq!(database.columns("lessons_lesson"), "id,name");
        let (_, current) = go(&*runner, &url, "people.zero").await;
        assert_eq!(current.heads, Vec::<String>::new());
        assert_eq!(database.columns("people_person"), "");
        let stamped = runner.stamp(&url, "lessons.0001_initial", &call()).await.unwrap();
        assert_eq!(stamped.exit, Some(0), "{}", stamped.output);
        let (_, current, route) = planned(&*runner, &url, "head").await.unwrap();
        assert_eq!(
            (current.heads, route.revisions),
            (vec!["lessons.0001_initial".into()], vec!["lessons.0002_room".into()])
        );
    }
}

#[tokio::test]
async fn each_migration_is_committed_by_itself_and_a_failing_one_leaves_nothing() {
    let school = School::new();
    let broken = "migrations.RunSQL('INSERT INTO nowhere VALUES (1)')";
    school.migration("lessons.0003_broken", &["lessons.0002_room"], &[&add("lesson", "half"), broken]);
    let runner = school.runner();
    for database in Fresh::both() {
        let url = database.url();
        let (history, _, route) = planned(&*runner, &url, "head").await.unwrap();
        let run = runner.run(&url, &route, &call()).await.unwrap();
        assert_eq!(run.exit, Some(1), "{}", run.output);
        let current = runner.current(&*shared::connect::engine(url), &history).await.unwrap();
        assert_eq!(current.heads, ["lessons.0002_room"], "what came before is committed");
        assert_eq!(database.columns("lessons_lesson"), "id,name,room", "of the failing one nothing is left");
    }
}

#[tokio::test]
async fn what_django_would_trip_over_is_refused_before_it_runs() {
    let database = Fresh::sqlite();
    let url = database.url();

    // A line with two ends.
    let forked = School::new();
    forked.migration("lessons.0002_other", &["lessons.0001_initial"], &[&add("lesson", "other")]);
    let said = refused(planned(&*forked.runner(), &url, "head").await.map(drop));
    assert!(said.contains("lessons has multiple heads: lessons.0002_other, lessons.0002_room"), "{said}");
    assert!(said.contains("makemigrations --merge"), "{said}");

    // A database that newer code has migrated.
    let school = School::new();
    let runner = school.runner();
    go(&*runner, &url, "head").await;
    database
        .execute("INSERT INTO django_migrations (app, name, applied) VALUES ('lessons', '0003_later', '2026-01-01')");
    let (_, current, _) = planned(&*runner, &url, "head").await.unwrap();
    assert_eq!(current.faults, ["django_migrations says lessons.0003_later, which no file has"]);
    database.execute("DELETE FROM django_migrations WHERE name = '0003_later'");

    // A copy that SQLite's way of changing a table left.
    database.execute("CREATE TABLE new__lessons_lesson (id)");
    let (_, current, _) = planned(&*runner, &url, "head").await.unwrap();
    assert!(current.faults.concat().contains("left the table new__lessons_lesson"), "{:?}", current.faults);

    // Without a way back.
    school.migration("lessons.0003_once", &["lessons.0002_room"], &["migrations.RunPython(nothing)"]);
    let fresh = Fresh::sqlite();
    go(&*runner, &fresh.url(), "head").await;
    let said = refused(planned(&*runner, &fresh.url(), "lessons.0001_initial").await.map(drop));
    assert!(said.contains("revision lessons.0003_once has no way back"), "{said}");

    // A project that cannot be read, and one that names no settings.
    school.write("lessons/migrations/0004_bad.py", "import nothing_of_this_name");
    let said = refused(school.runner().history().await);
    assert!(
        said.contains("the project cannot be read: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        "{said}"
    );
}

#[tokio::test]
async fn a_migration_that_reaches_for_another_database_of_the_project_fails() {
    let school = School::new();
    let reach =
        "migrations.RunPython(lambda apps, schema_editor: __import__('django.db').db.connections['other'].cursor())";
    school.migration("lessons.0003_reach", &["lessons.0002_room"], &[reach]);
    let database = Fresh::sqlite();
    let (_, _, route) = planned(&*school.runner(), &database.url(), "head").await.unwrap();
    let run = school.runner().run(&database.url(), &route, &call()).await.unwrap();
    assert_eq!(run.exit, Some(1), "{}", run.output);
    assert!(run.output.contains("ImproperlyConfigured"), "{}", run.output);
}
