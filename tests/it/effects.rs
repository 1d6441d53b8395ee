//! The effect report on real databases: profiles before and after real SQL, and what is called lost.

mod both;
mod postgres_only;
mod sqlite_only;
mod wide;

use migrate_worker::effect::{Effects, Loss};
use shared::engine::Engine;
use shared::engine::postgres::PostgresEngine;
use shared::engine::sqlite::SqliteEngine;
use shared::model::DatabaseUrl;
use tests::postgres::TestDatabase;
use tests::sqlite::TestFile;

/// A database of either product.
enum Subject {
    Postgres(TestDatabase),
    Sqlite(TestFile),
}

impl Subject {
    fn run(&self, sql: &str) {
        match self {
            Subject::Postgres(database) => drop(database.psql(sql)),
            Subject::Sqlite(file) => drop(file.sqlite3(sql)),
        }
    }

    fn engine(&self) -> Box<dyn Engine> {
        match self {
            Subject::Postgres(database) => {
                let DatabaseUrl::Postgres(url) = database.url().parse().unwrap() else { panic!("not PostgreSQL") };
                Box::new(PostgresEngine::new(url))
            }
            Subject::Sqlite(file) => Box::new(SqliteEngine::new(file.path())),
        }
    }

    /// What `migration` does to a database made by `before`.
    async fn effects(&self, before: &str, migration: &str) -> Effects {
        self.run(before);
        let engine = self.engine();
        engine.number_apart().await.unwrap();
        let old = engine.profile(2).await.unwrap();
        self.run(migration);
        Effects::between(&old, &engine.profile(2).await.unwrap(), &[])
    }
}

/// The losses, as a person would allow them, with their numbers.
fn told(effects: &Effects) -> Vec<String> {
    let told = |loss: &Loss| format!("{} {}", loss.allowance(), loss.rows_or_values);
    effects.losses().iter().map(told).collect()
}
