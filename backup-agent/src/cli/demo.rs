//! `backup-agent demo`

pub mod shop;

use super::progress::Meter;
use super::{Done, Global, put_line, text};
use crate::backup::{BackupOptions, backup};
use crate::choose;
use crate::error::Error;
use crate::repository::{Codec, Manifest, Repository, StoredBackup};
use crate::restore::{RestoreOptions, restore};
use clap::Args;
use shared::connect;
use shared::engine::Engine;
use shared::model::{At, DatabaseName, DatabaseUrl};
use shop::Shop;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Shows the main job on sample data: back up, lose data, restore to a moment, prove
///
/// Makes a small shop database in ./holdfast-demo and backs it up into the store, under the name holdfast-demo.
#[derive(Debug, Args)]
#[command(after_help = "Example: backup-agent demo")]
pub struct Demo {
    /// Where the sample database is made; files of an earlier demo there are replaced
    #[arg(long, value_name = "DIR", default_value = "holdfast-demo")]
    directory: PathBuf,
}

const NAME: &str = "holdfast-demo";

impl Demo {
    pub(super) async fn run(self, global: &Global) -> Done {
        let config = global.config()?;
        let stage = Stage::set(global, &self.directory, global.repository_to_write(&config, Codec::Gzip).await?.0)?;

        tell("A shop keeps its orders in SQLite. Here is one, in WAL mode, as web frameworks make it:");
        let shop = Shop::open(&stage.live)?;
        put_line(&format!(
            "   {} customers, {} orders in {}",
            text::count(shop.customers()?),
            text::count(shop.orders()?),
            stage.live.display()
        ));

        tell("Back it up while a customer is ordering. No lock-out, no copy of a half-written file:");
        let selling = shop.keep_selling()?;
        let first = stage.back_up("   ").await?;
        let sold = selling.stop()?;
        put_line(&format!(
            "   meanwhile {} orders came in; the backup holds a consistent moment: {} rows",
            text::count(sold),
            text::count(first.rows())
        ));

        tell("A day later 1 % more orders are in. The second backup stores only what is new:");
        shop.sell(1_000)?;
        let before = shop.orders()?;
        let second = stage.back_up("   ").await?;
        put_line(&format!(
            "   {} of {} had to be stored",
            text::size(second.header.new_bytes),
            text::size(second.header.stored_bytes)
        ));

        tell("Then somebody runs DELETE FROM orders and forgets the WHERE:");
        shop.lose_everything()?;
        put_line(&format!("   {} orders left", text::count(shop.orders()?)));

        tell("Bring the last backup back, beside the broken database, and prove it row by row:");
        let restored = stage.bring_back(&second).await?;
        let orders = Shop::count_orders(&restored)?;
        if orders != before {
            return Err(Error::failed(format!("the demo failed: {orders} orders came back instead of {before}")).into());
        }
        put_line(&format!("   {} orders are back in {}", text::count(orders), restored.display()));

        tell("The archive is ordinary gzip and tar. Without Holdfast the same backup comes back like this:");
        put_line(&format!(
            "   sh restore.sh {NAME}/{} sqlite:again.db      (restore.sh lies in {})",
            second.header.id,
            stage.repository.store().describe()
        ));
        put_line("");
        put_line(
            "Now with your own: backup-agent backup sqlite:PATH   or   backup-agent backup postgres://user@host/database",
        );
        Ok(())
    }
}

fn tell(line: &str) {
    put_line("");
    put_line(line);
}

struct Stage<'a> {
    global: &'a Global,
    repository: Repository,
    live: PathBuf,
    restored: PathBuf,
    name: DatabaseName,
    engine: Box<dyn Engine>,
}

impl<'a> Stage<'a> {
    fn set(global: &'a Global, directory: &Path, repository: Repository) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::failed(format!("{}: {error}", directory.display()));
        std::fs::create_dir_all(directory).map_err(failed)?;
        let (live, restored) = (directory.join("shop.db"), directory.join("restored.db"));
        for file in [&live, &restored] {
            for ending in ["", "-wal", "-shm", "-journal"] {
                let path = PathBuf::from(format!("{}{ending}", file.display()));
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
                    _ => {}
                }
            }
        }
        let name = NAME.parse().map_err(|error| Error::failed(format!("{error}")))?;
        let engine = connect::engine(DatabaseUrl::Sqlite(live.clone()));
        Ok(Stage { global, repository, live, restored, name, engine })
    }

    async fn back_up(&self, indent: &str) -> Result<Manifest, Error> {
        let started = Instant::now();
        let meter = Meter::new(self.global, "reading", 0);
        // The demo may be played in another directory tomorrow; its name in the repository stays.
        let options = BackupOptions { new_identity: true, ..Default::default() };
        let result = backup(&self.repository, &self.name, &*self.engine, &options, meter.clone()).await;
        meter.finish();
        let manifest = result?;
        put_line(&format!(
            "{indent}{}/{} in {:.2} s, read back from the store",
            manifest.header.database,
            manifest.header.id,
            started.elapsed().as_secs_f64()
        ));
        Ok(manifest)
    }

    async fn bring_back(&self, wanted: &Manifest) -> Result<PathBuf, Error> {
        let chosen = choose::by_time(&self.repository, &self.name, &At::Id(wanted.header.id.clone())).await?;
        let stored = Arc::new(StoredBackup::open(&self.repository, chosen.manifest).await?);
        let target = connect::engine(DatabaseUrl::Sqlite(self.restored.clone()));
        let started = Instant::now();
        let meter = Meter::new(self.global, "restoring", wanted.header.raw_bytes);
        let result = restore(&self.repository, stored, &*target, &RestoreOptions::default(), meter.for_load()).await;
        meter.finish();
        let restored = result?;
        if !restored.proven {
            return Err(Error::failed("the demo failed: the restored database was not proven"));
        }
        put_line(&format!(
            "   proven in {:.2} s: all {} rows, the schema and the settings equal what was backed up",
            started.elapsed().as_secs_f64(),
            text::count(restored.rows)
        ));
        Ok(self.restored.clone())
    }
}
