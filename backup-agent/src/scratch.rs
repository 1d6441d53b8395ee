//! Where a drill restores to.

use crate::error::Error;
use shared::connect;
use shared::engine::Engine;
use shared::model::{DatabaseName, DatabaseUrl, EngineKind};
use std::path::Path;

/// A database that a drill makes and drops again.
pub struct Scratch {
    /// The engine to restore with.
    pub engine: Box<dyn Engine>,
    /// Holds the file of a SQLite database; removed with the value.
    _folder: Option<tempfile::TempDir>,
}

/// The scratch database for backups named `name`: the given one; else another name on the server of `url`
/// (PostgreSQL), or a file in `folder`, which is made if it is missing (SQLite).
pub fn scratch(
    kind: EngineKind,
    name: &DatabaseName,
    given: Option<DatabaseUrl>,
    url: Option<&DatabaseUrl>,
    folder: &Path,
) -> Result<Scratch, Error> {
    if let Some(url) = given {
        return Ok(Scratch { engine: connect::engine(url), _folder: None });
    }
    match (kind, url) {
        (EngineKind::Sqlite, _) => {
            let no_folder =
                |error| Error::failed(format!("no directory for the drill in {}: {error}", folder.display()));
            std::fs::create_dir_all(folder).map_err(no_folder)?;
            let dir = tempfile::Builder::new().prefix("drill-").tempdir_in(folder).map_err(no_folder)?;
            let url = DatabaseUrl::Sqlite(dir.path().join("drill.db"));
            Ok(Scratch { engine: connect::engine(url), _folder: Some(dir) })
        }
        (EngineKind::Postgres, Some(DatabaseUrl::Postgres(url))) => {
            // Always the same name, so that the next drill removes what an interrupted one left.
            let scratch = url.with_database(&format!("holdfast_drill_{name}"));
            Ok(Scratch { engine: connect::engine(DatabaseUrl::Postgres(scratch)), _folder: None })
        }
        (EngineKind::Postgres, _) => Err(Error::refused(
            format!("nobody said where the backups of {name} are to be restored for a drill"),
            "give --scratch URL, or url or scratch_url in its section of the configuration",
        )),
    }
}
