//! What must hold between a manifest's lines.

use super::decode::damaged;
use super::*;
use crate::repository::codec::MAX_CHUNK_BYTES;

/// Every reference must lead somewhere and every sum must come out, so that readers need not check again.
pub(super) fn check_consistency(manifest: &Manifest) -> Result<(), ManifestError> {
    let below = |value: Option<u32>, len: usize| value.is_none_or(|value| (value as usize) < len);
    if manifest.files.iter().any(|file| !below(file.table, manifest.tables.len())) {
        return Err(damaged("a file names a table that does not exist"));
    }
    if manifest.ranges.iter().any(|range| !below(Some(range.file), manifest.files.len())) {
        return Err(damaged("a range names a file that does not exist"));
    }
    let mut next_file = 0;
    let mut chunk_bytes = vec![None::<u64>; manifest.files.len()];
    for member in &manifest.stream {
        match member {
            Member::File(file) if *file == next_file && (*file as usize) < manifest.files.len() => next_file += 1,
            Member::File(_) => return Err(damaged("the files do not stand in order")),
            Member::Inline(_) => {}
            Member::Chunk(chunk) => {
                check_chunk(manifest, chunk)?;
                let file = next_file.checked_sub(1).ok_or_else(|| damaged("a chunk stands before the first file"))?;
                let sum = &mut chunk_bytes[file as usize];
                *sum = Some(sum.unwrap_or(0) + u64::from(chunk.raw_length));
            }
        }
    }
    if next_file as usize != manifest.files.len() {
        return Err(damaged("files are missing from its stream"));
    }
    for (file, sum) in manifest.files.iter().zip(chunk_bytes) {
        let wrong = match sum {
            Some(sum) => sum != file.bytes,
            None => file.is_data && file.bytes != 0,
        };
        if wrong {
            return Err(damaged(format!("the chunks of {} do not add up to its length", file.path)));
        }
    }
    Ok(())
}

fn check_chunk(manifest: &Manifest, chunk: &Chunk) -> Result<(), ManifestError> {
    let pack =
        manifest.packs.get(chunk.pack as usize).ok_or_else(|| damaged("a chunk names a pack that does not exist"))?;
    let end = chunk.offset.checked_add(chunk.length.into());
    if end.is_none_or(|end| end > pack.bytes) || chunk.length == 0 {
        return Err(damaged("a chunk reaches over the end of its pack"));
    }
    if chunk.raw_length as usize > MAX_CHUNK_BYTES || chunk.raw_length == 0 {
        return Err(damaged("a chunk has an impossible length"));
    }
    if chunk.range.is_some_and(|range| range as usize >= manifest.ranges.len()) {
        return Err(damaged("a chunk names a range that does not exist"));
    }
    Ok(())
}
