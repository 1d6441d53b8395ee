//! Writes one backup as an ordinary archive.

use crate::error::Error;
use crate::repository::StoredBackup;
use futures_util::TryStreamExt;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Name an exported archive has by default.
pub fn default_name(backup: &StoredBackup) -> PathBuf {
    let manifest = backup.manifest();
    PathBuf::from(format!("{}.{}", manifest.folder(), manifest.header.codec.extension()))
}

/// Writes the archive to `path`, which must not exist: first beside it, then under its name when every byte is there.
/// Returns its length in bytes. `advance` hears the bytes written.
pub async fn to_file(backup: &StoredBackup, path: &Path, advance: &(dyn Fn(u64) + Sync)) -> Result<u64, Error> {
    if path.symlink_metadata().is_ok() {
        return Err(Error::refused(format!("{} exists already", path.display()), "choose another file with -o"));
    }
    let name = path.file_name().ok_or_else(|| Error::refused(format!("{} names no file", path.display()), None))?;
    let partial = path.with_file_name(format!(".{}.partial", name.display()));
    let result = write_file(backup, &partial, path, advance).await;
    if result.is_err() {
        // The half file is worthless, and the error to tell is the first one.
        let _ = tokio::fs::remove_file(&partial).await;
    }
    result
}

async fn write_file(
    backup: &StoredBackup,
    partial: &Path,
    path: &Path,
    advance: &(dyn Fn(u64) + Sync),
) -> Result<u64, Error> {
    let failed = |error: std::io::Error| Error::failed(format!("{}: {error}; nothing was left there", path.display()));
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(partial).await.map_err(failed)?;
    let bytes = to_writer(backup, &mut file, advance).await?;
    file.sync_all().await.map_err(failed)?;
    tokio::fs::rename(partial, path).await.map_err(failed)?;
    Ok(bytes)
}

/// Writes the archive to `out`.
pub async fn to_writer(
    backup: &StoredBackup,
    out: &mut (impl AsyncWrite + Unpin),
    advance: &(dyn Fn(u64) + Sync),
) -> Result<u64, Error> {
    let failed = |error: std::io::Error| Error::failed(format!("the archive could not be written: {error}"));
    let mut archive = backup.archive();
    let mut bytes = 0;
    while let Some(piece) = archive.try_next().await? {
        out.write_all(&piece).await.map_err(failed)?;
        bytes += piece.len() as u64;
        advance(piece.len() as u64);
    }
    out.flush().await.map_err(failed)?;
    Ok(bytes)
}
