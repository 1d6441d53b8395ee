//! A copy to rehearse on: made, handed to the tool, removed.

use crate::Error;
use crate::migration::facts::{Scratch, step};
use crate::migration::halt::Halt;
use crate::migration::site::{Live, Site};
use backup_agent::target::{self, RESTART};
use shared::connect;
use shared::engine::Engine;
use shared::engine::postgres::PostgresLive;
use shared::model::{DatabaseUrl, PostgresUrl};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a copy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An empty one, to see where the tool looks.
    Probe,
    /// A restored one, to rehearse on.
    Rehearsal,
}

/// Where a copy is made.
pub struct ScratchSite {
    /// Its address.
    pub url: DatabaseUrl,
    /// It as restores see it.
    pub engine: Box<dyn Engine>,
    home: Home,
}

enum Home {
    /// The folder that holds the file.
    Folder(PathBuf),
    /// The server's databases and the name of this one.
    Server(Box<PostgresLive>, String),
}

impl ScratchSite {
    /// Chooses where; its name is in the journal before anything is made.
    pub async fn choose(site: &mut Site, purpose: Purpose) -> Result<Self, Halt> {
        let made = match site.live().await? {
            Live::Sqlite(live) => {
                let folder = site.folder().join(if purpose == Purpose::Probe { "probe" } else { "rehearsal" });
                let file = live.path().file_name().unwrap_or_default().to_owned();
                let url = DatabaseUrl::Sqlite(folder.join(file));
                ScratchSite { engine: connect::engine(url.clone()), url, home: Home::Folder(folder) }
            }
            Live::Postgres(_) => {
                let server = scratch_server(site)?;
                let name = PostgresLive::scratch_name(&public_name(site), "__reh_")?;
                let url = DatabaseUrl::Postgres(server.with_database(&name));
                let live = Box::new(PostgresLive::new(server.clone(), server));
                ScratchSite { engine: connect::engine(url.clone()), url, home: Home::Server(live, name) }
            }
        };
        let place = match &made.home {
            // Its folder is the task's; paths of this machine do not belong into the record.
            Home::Folder(_) => format!("{purpose:?}").to_lowercase(),
            Home::Server(_, name) => name.clone(),
        };
        site.ledger.intent(step::REHEARSE, &Scratch { place }).await?;
        if let Home::Folder(folder) = &made.home {
            remove_folder(folder)?;
            let no_folder = |error| Error::failed(format!("{} cannot be made: {error}", folder.display()));
            std::fs::create_dir_all(folder).map_err(no_folder)?;
        }
        Ok(made)
    }

    /// Makes an empty database there. To SQLite a file without content is one, and many a script asks for a file.
    pub async fn make_empty(&self) -> Result<(), Error> {
        if let Home::Server(live, name) = &self.home {
            return Ok(live.create_scratch(name).await?);
        }
        if let DatabaseUrl::Sqlite(file) = &self.url {
            let no_file = |error| Error::failed(format!("{} cannot be made: {error}", file.display()));
            std::fs::File::create(file).map_err(no_file)?;
        }
        Ok(())
    }

    /// Removes the copy; one that is not there is fine. On a server that goes on by itself, and [`removed`] waits for it: a
    /// server writes everything it holds to its disk before it drops a database. One that restarts is waited for.
    pub fn remove(self, site: &mut Site) -> Result<(), Halt> {
        match self.home {
            Home::Folder(folder) => remove_folder(&folder)?,
            Home::Server(live, name) => {
                let clock = site.world.clock.clone();
                site.leaving.push(tokio::spawn(async move {
                    target::insist(&*clock, RESTART, || Box::pin(target::drop_copy(&live, &name))).await
                }));
            }
        }
        Ok(())
    }

    /// The server's side of a copy, where there is one.
    pub fn server(&self) -> Option<&PostgresLive> {
        match &self.home {
            Home::Folder(_) => None,
            Home::Server(live, _) => Some(live),
        }
    }
}

/// Waits until all copies are gone. Best effort: one that stays is named, and nothing depends on it.
pub async fn removed(site: &mut Site) {
    for leaving in std::mem::take(&mut site.leaving) {
        match leaving.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a copy is left behind"),
            Err(error) => tracing::warn!(%error, "a copy may be left behind"),
        }
    }
}

/// Drops a copy on `server` and what an unfinished restore of it made; a server that is away is waited for.
pub async fn drop_copy(site: &Site, server: &PostgresLive, name: &str, patience: Duration) -> Result<(), Halt> {
    site.insist(patience, || Box::pin(target::drop_copy(server, name))).await
}

fn remove_folder(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::failed(format!("the copy {} cannot be removed: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}

/// The server on which copies are made.
pub fn scratch_server(site: &Site) -> Result<PostgresUrl, Halt> {
    let given = site.world.config.scratch_url(&site.name).map_err(Error::from)?;
    match (given, &site.url) {
        (Some(DatabaseUrl::Postgres(url)), _) => Ok(url),
        (None, DatabaseUrl::Postgres(url)) => Ok(url.clone()),
        _ => Err(Halt::refused("scratch_url is of another kind of database than url")),
    }
}

/// The public name of a PostgreSQL database.
fn public_name(site: &Site) -> String {
    match &site.url {
        DatabaseUrl::Postgres(url) => url.database.clone(),
        DatabaseUrl::Sqlite(_) => site.name.to_string(),
    }
}
