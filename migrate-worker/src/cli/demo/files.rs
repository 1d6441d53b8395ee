//! The demo's folder: its configuration and its migrations.

use crate::Error;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The shop's database.
pub const DATABASE: &str = "shop.db";
/// What is restored.
pub const RESTORED: &str = "restored.db";
/// The configuration.
pub const CONFIG: &str = "holdfast.toml";
/// The migrations.
pub const MIGRATIONS: &str = "migrations";

/// The first line of the configuration, by which a folder is known as the demo's.
const MARK: &str = "# Made by migrate-worker demo, which makes this folder anew each time.\n";

const SETTINGS: &str = r#"
[store]
url = "file:store"

[database.shop]
url = "sqlite:shop.db"

[database.shop.migrations]
runner = "sql"
directory = "migrations"
deadline = "1m"
"#;

/// A file of SQL.
pub struct Migration {
    /// Its version.
    pub version: i64,
    name: &'static str,
    sql: &'static str,
}

/// Adds a column and fills it.
pub const DELIVERY: Migration = Migration {
    version: 1,
    name: "delivery",
    sql: "ALTER TABLE orders ADD COLUMN delivered_on INTEGER;
UPDATE orders SET delivered_on = day + 3 WHERE status = 'paid';
",
};

/// Loses what customers have written.
pub const CARELESS: Migration =
    Migration { version: 2, name: "tidy_up", sql: "ALTER TABLE orders DROP COLUMN note;\n" };

/// Makes a table from another.
pub const INVOICES: Migration = Migration {
    version: 2,
    name: "invoices",
    sql:
        "CREATE TABLE invoices (id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL REFERENCES orders(id), cents INTEGER);
INSERT INTO invoices (order_id, cents) SELECT id, total_cents FROM orders;
",
};

/// Takes its time where it is applied, so that it can be killed there.
pub const VAT: Migration = Migration {
    version: 3,
    name: "vat",
    sql: "ALTER TABLE orders ADD COLUMN vat_cents INTEGER;
UPDATE orders SET vat_cents = total_cents * 19 / 119;
-- For the demo: quick where it is rehearsed, slow where it is applied.
WITH RECURSIVE slow(n) AS (
    SELECT 1 FROM pragma_database_list WHERE name = 'main' AND file LIKE '%/jobs/%/apply/%'
    UNION ALL
    SELECT n + 1 FROM slow WHERE n < 2000000000
)
SELECT count(*) FROM slow;
",
};

impl Migration {
    /// Where it lies in the demo's folder.
    pub fn path(&self, folder: &Path) -> PathBuf {
        folder.join(MIGRATIONS).join(format!("{:04}_{}.sql", self.version, self.name))
    }

    /// Writes it there.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let path = self.path(folder);
        std::fs::write(&path, self.sql).map_err(|error| failed(&path, &error))
    }
}

/// Makes the folder with a configuration and no migrations; removes what an earlier demo left, and nothing else.
pub fn clear(folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    let config = folder.join(CONFIG);
    let is_ours = std::fs::read_to_string(&config).is_ok_and(|text| text.starts_with(MARK));
    for name in ["store", "holdfast-spool", MIGRATIONS, CONFIG] {
        let path = folder.join(name);
        match (path.try_exists(), is_ours) {
            (Ok(false), _) | (Ok(true), true) => {}
            (Ok(true), false) => {
                let message = format!("{} was not made by a demo", path.display());
                return Err(Error::refused(message, "name another folder: migrate-worker demo --directory DIR"));
            }
            (Err(error), _) => return Err(failed(&path, &error)),
        }
    }
    for name in ["store", "holdfast-spool", MIGRATIONS] {
        let path = folder.join(name);
        gone(&path, std::fs::remove_dir_all(&path))?;
    }
    for name in [DATABASE, RESTORED, "holdfast-state.db"] {
        for ending in ["", "-wal", "-shm", "-journal"] {
            let path = folder.join(format!("{name}{ending}"));
            gone(&path, std::fs::remove_file(&path))?;
        }
    }
    std::fs::write(&config, format!("{MARK}{SETTINGS}")).map_err(|error| failed(&config, &error))?;
    let migrations = folder.join(MIGRATIONS);
    std::fs::create_dir(&migrations).map_err(|error| failed(&migrations, &error))
}

fn gone(path: &Path, removed: std::io::Result<()>) -> Result<(), Error> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(path, &error)),
        _ => Ok(()),
    }
}

/// What could not be done with a file of the demo.
pub fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::failed(format!("{}: {error}", path.display()))
}
