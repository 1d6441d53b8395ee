//! The archive a backup is: tar headers, padding and small texts as inline members, data as chunks in packs.

use super::codec::Codec;
use super::manifest::{Chunk, File, Member};
use std::io;

const BLOCK: usize = 512;

/// Lays a backup's files down in order and yields its stream of members.
pub struct Archive {
    folder: String,
    mtime: u64,
    codec: Codec,
    /// Raw bytes that become the next inline member.
    pending: Vec<u8>,
    files: Vec<File>,
    stream: Vec<Member>,
    raw_bytes: u64,
}

impl Archive {
    /// Begins an archive of one `folder`; all its files bear `mtime` (seconds since 1970).
    pub fn new(folder: String, mtime: u64, codec: Codec) -> Self {
        Archive { folder, mtime, codec, pending: Vec::new(), files: Vec::new(), stream: Vec::new(), raw_bytes: 0 }
    }

    /// Adds a small text, kept in the manifest.
    pub fn text(&mut self, path: &str, body: &[u8]) -> io::Result<()> {
        self.begin(File { path: path.into(), bytes: body.len() as u64, table: None, is_data: false })?;
        self.pending.extend_from_slice(body);
        self.pending.resize(self.pending.len() + padding(body.len() as u64), 0);
        self.flush()
    }

    /// Adds a file whose bytes lie in packs.
    pub fn chunks(&mut self, file: File, chunks: impl IntoIterator<Item = Chunk>) -> io::Result<()> {
        let bytes = file.bytes;
        self.begin(file)?;
        self.flush()?;
        self.stream.extend(chunks.into_iter().map(Member::Chunk));
        self.raw_bytes += bytes;
        self.pending.resize(padding(bytes), 0);
        Ok(())
    }

    /// Ordinal the next file will have.
    pub fn next_file(&self) -> u32 {
        self.files.len() as u32
    }

    /// Ends the archive: its files, its stream and its raw length in bytes.
    pub fn finish(mut self) -> io::Result<(Vec<File>, Vec<Member>, u64)> {
        self.pending.resize(self.pending.len() + 2 * BLOCK, 0);
        self.flush()?;
        Ok((self.files, self.stream, self.raw_bytes))
    }

    fn begin(&mut self, file: File) -> io::Result<()> {
        self.stream.push(Member::File(self.files.len() as u32));
        let path = format!("{}/{}", self.folder, file.path);
        self.pending.extend_from_slice(&header(&path, file.bytes, self.mtime)?);
        self.files.push(file);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.raw_bytes += self.pending.len() as u64;
        let mut member = Vec::new();
        self.codec.compress_into(&self.pending, &mut member)?;
        self.stream.push(Member::Inline(member));
        self.pending.clear();
        Ok(())
    }
}

/// Bytes from `length` to the next block boundary.
pub fn padding(length: u64) -> usize {
    ((BLOCK as u64 - length % BLOCK as u64) % BLOCK as u64) as usize
}

/// The largest size a ustar header can hold.
const USTAR_MAX_BYTES: u64 = (8 << 30) - 1;

fn header(path: &str, bytes: u64, mtime: u64) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    if bytes > USTAR_MAX_BYTES {
        let record = pax_record("size", &bytes.to_string());
        out.extend_from_slice(
            ustar(&format!("{path}.pax"), record.len() as u64, mtime, tar::EntryType::XHeader)?.as_bytes(),
        );
        out.extend_from_slice(record.as_bytes());
        out.resize(out.len() + padding(record.len() as u64), 0);
    }
    out.extend_from_slice(ustar(path, bytes.min(USTAR_MAX_BYTES), mtime, tar::EntryType::Regular)?.as_bytes());
    Ok(out)
}

fn ustar(path: &str, bytes: u64, mtime: u64, kind: tar::EntryType) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path)?;
    header.set_entry_type(kind);
    header.set_size(bytes);
    header.set_mode(if path.ends_with(".sh") { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(mtime);
    header.set_cksum();
    Ok(header)
}

/// `<length of the whole record> <key>=<value>\n`, the length counting its own digits.
fn pax_record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_concatenation_of_the_members_is_an_archive() {
        let mut archive = Archive::new("shop-1".into(), 1_700_000_000, Codec::Gzip);
        archive.text("README", b"hello").expect("adds");
        archive.text("empty", b"").expect("adds");
        archive.text("restore.sh", &[b'x'; 512]).expect("adds");
        let (files, stream, raw_bytes) = archive.finish().expect("finishes");
        assert_eq!(files.len(), 3);
        let bytes: Vec<u8> =
            stream.iter().flat_map(|m| if let Member::Inline(b) = m { b.clone() } else { vec![] }).collect();
        let mut raw = Vec::new();
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut raw).expect("gzip");
        assert_eq!(raw.len() as u64, raw_bytes);
        let mut found = Vec::new();
        for entry in tar::Archive::new(&raw[..]).entries().expect("tar") {
            let mut entry = entry.expect("entry");
            let mut body = Vec::new();
            entry.read_to_end(&mut body).expect("body");
            found.push((entry.path().expect("path").display().to_string(), body.len()));
        }
        assert_eq!(found, [("shop-1/README".into(), 5), ("shop-1/empty".into(), 0), ("shop-1/restore.sh".into(), 512)]);
    }

    #[test]
    fn files_of_eight_gibibytes_and_more_get_a_pax_size() {
        let bytes = header("x/data/000001.copy", 10 << 30, 0).expect("header");
        assert_eq!(bytes.len(), 3 * BLOCK);
        assert!(bytes[BLOCK..].starts_with(b"20 size=10737418240\n"));
        assert_eq!(header("x", 5, 0).expect("header").len(), BLOCK);
    }
}
