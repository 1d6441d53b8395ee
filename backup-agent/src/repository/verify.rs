//! Reads every stored byte of backups and checks it.

use super::chunk::ChunkId;
use super::manifest::{Chunk, Manifest, Pack};
use super::trash::{MIN_GRACE, later};
use super::{Codec, Listed, MarkKind, Repository, layout};
use crate::error::Error;
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use shared::model::{BackupId, Class, DatabaseName};
use shared::store::StoreError;
use std::collections::BTreeMap;

/// What a verification found, over all backups it looked at.
#[derive(Debug, Default)]
pub struct Verification {
    /// One line a backup.
    pub backups: Vec<Verified>,
    /// Bytes read.
    pub bytes: u64,
}

/// What a verification found about one backup.
#[derive(Debug)]
pub struct Verified {
    /// Database it is of.
    pub database: DatabaseName,
    /// Its id.
    pub id: BackupId,
    /// Everything that is wrong; empty = every byte is as it was written.
    pub damage: Vec<String>,
    /// Why it stays incomplete though nothing is damaged.
    pub note: Option<String>,
}

impl Verification {
    /// Whether anything is wrong.
    pub fn is_clean(&self) -> bool {
        self.backups.iter().all(|backup| backup.damage.is_empty())
    }
}

/// Packs read at once.
const PARALLEL: usize = 2;

impl Repository {
    /// Reads the packs of these backups whole, each once, and checks every bit; marks damaged packs.
    /// `advance` hears the number of bytes read.
    pub async fn verify(&self, backups: &[Listed], advance: &(dyn Fn(u64) + Sync)) -> Result<Verification, Error> {
        let mut needed: BTreeMap<&str, (&Pack, Vec<Chunk>, Codec)> = BTreeMap::new();
        for manifest in backups.iter().filter_map(|backup| backup.manifest.as_ref().ok()) {
            collect_chunks(manifest, &mut needed);
        }
        for (_, chunks, _) in needed.values_mut() {
            chunks.sort_by_key(|chunk| (chunk.offset, chunk.id));
            chunks.dedup_by_key(|chunk| (chunk.offset, chunk.id));
        }
        let checks: Vec<_> = needed
            .into_values()
            .map(|(pack, chunks, codec)| self.check_and_mark(pack, chunks, codec, advance))
            .collect();
        let mut damage: BTreeMap<&str, String> = BTreeMap::new();
        let mut result = Verification::default();
        let mut checks = std::pin::pin!(stream::iter(checks).buffer_unordered(PARALLEL));
        while let Some(check) = checks.next().await {
            let (uuid, bytes, found) = check?;
            result.bytes += bytes;
            damage.extend(found.map(|what| (uuid, what)));
        }
        for backup in backups {
            let verified = judge(backup, &damage)?;
            // Whoever first finds everything a manifest names makes the backup complete; its writer may have died.
            if verified.damage.is_empty() && verified.note.is_none() && !backup.marks.has(MarkKind::Verified) {
                self.mark(&backup.database, &backup.id, MarkKind::Verified, "every byte read by verify").await?;
            }
            result.backups.push(verified);
        }
        Ok(result)
    }

    /// Name, size and damage of a pack; damage is marked.
    async fn check_and_mark<'a>(
        &self,
        pack: &'a Pack,
        chunks: Vec<Chunk>,
        codec: Codec,
        advance: &(dyn Fn(u64) + Sync),
    ) -> Result<(&'a str, u64, Option<String>), Error> {
        let found = self.verify_pack(pack, chunks, codec).await?;
        advance(pack.bytes);
        if let Some(what) = &found {
            self.mark_damaged(&pack.uuid, what).await?;
        }
        Ok((&pack.uuid, pack.bytes, found))
    }

    async fn verify_pack(&self, pack: &Pack, chunks: Vec<Chunk>, codec: Codec) -> Result<Option<String>, Error> {
        let bytes = match self.store().get(&layout::pack(&pack.uuid)).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(Some("it is missing".into())),
            Err(error) => return Err(error.into()),
        };
        let expected = pack.clone();
        tokio::task::spawn_blocking(move || check_pack(&bytes, &expected, &chunks, codec))
            .await
            .map_err(|error| Error::failed(format!("verifying was interrupted: {error}")))
    }
}

fn collect_chunks<'a>(manifest: &'a Manifest, needed: &mut BTreeMap<&'a str, (&'a Pack, Vec<Chunk>, Codec)>) {
    for chunk in manifest.chunks() {
        let pack = &manifest.packs[chunk.pack as usize];
        let entry = needed.entry(&pack.uuid).or_insert_with(|| (pack, Vec::new(), manifest.header.codec));
        entry.1.push(*chunk);
    }
}

fn check_pack(bytes: &[u8], pack: &Pack, chunks: &[Chunk], codec: Codec) -> Option<String> {
    if bytes.len() as u64 != pack.bytes {
        return Some(format!("it has {} bytes instead of {}", bytes.len(), pack.bytes));
    }
    if hex::encode(Sha256::digest(bytes)) != pack.sha256 {
        return Some("its bytes are not those that were written".into());
    }
    // A pack may be intact and yet not hold what a manifest says it holds.
    chunks.iter().find_map(|chunk| {
        let from = chunk.offset as usize;
        let member = bytes.get(from..from + chunk.length as usize)?;
        match codec.decompress(member, chunk.raw_length as usize) {
            Ok(raw) if ChunkId::of(&raw) == chunk.id => None,
            _ => Some(format!("the member at offset {from} holds other bytes than the manifest says")),
        }
    })
}

fn judge(backup: &Listed, damage: &BTreeMap<&str, String>) -> Result<Verified, Error> {
    let found = match &backup.manifest {
        Err(error) if error.class() == Class::Corrupt => vec![error.to_string()],
        // A store that did not answer, or a version to come, says nothing about damage.
        Err(error) => return Err(Error::failed(format!("{}/{}: {error}", backup.database, backup.id))),
        Ok(manifest) => manifest
            .packs
            .iter()
            .filter_map(|pack| damage.get(pack.uuid.as_str()).map(|what| format!("pack {}: {what}", pack.uuid)))
            .collect(),
    };
    let note = if backup.marks.has(MarkKind::Verified) { None } else { too_late(backup) };
    Ok(Verified { database: backup.database.clone(), id: backup.id.clone(), damage: found, note })
}

/// Whether a manifest was put so long after its backup began that a prune which has not seen it may still be removing
/// packs it names: then nobody may call it complete.
fn too_late(backup: &Listed) -> Option<String> {
    let limit = later(backup.id.second(), MIN_GRACE / 2);
    (backup.written_at >= limit)
        .then(|| format!("it stays incomplete: it was written at {}, too long after it began", backup.written_at))
}
