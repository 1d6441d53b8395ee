//! A manifest as lines that can be changed, by the rules of FORMAT.md alone: nothing of the product is used here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};

const BLOCK: usize = 512;

/// All lines but the last, each as its fields; the fields are as written, with their escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines(pub Vec<Vec<String>>);

/// The raw bytes of gzip members.
pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut raw).unwrap();
    raw
}

/// One gzip member.
pub fn gzip(raw: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(raw).unwrap();
    encoder.finish().unwrap()
}

/// Bytes from `length` to the next block of a tar.
fn padding(length: usize) -> usize {
    length.next_multiple_of(BLOCK) - length
}

impl Lines {
    /// Reads a manifest object.
    pub fn of(object: &Bytes) -> Lines {
        let text = String::from_utf8(gunzip(object)).unwrap();
        let mut lines: Vec<Vec<String>> =
            text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
        assert_eq!(lines.pop().unwrap()[0], "E");
        Lines(lines)
    }

    /// The text above the end line.
    pub fn body(&self) -> String {
        self.0.iter().map(|fields| fields.join("\t") + "\n").collect()
    }

    /// The object, with the right end line.
    pub fn object(&self) -> Bytes {
        let body = self.body();
        self.object_ended(self.0.len(), &hex::encode(Sha256::digest(&body)))
    }

    /// The object with an end line that says this.
    pub fn object_ended(&self, count: usize, sum: &str) -> Bytes {
        gzip(format!("{}E\t{count}\t{sum}\n", self.body()).as_bytes(), 6).into()
    }

    /// The value of a header that is there.
    #[track_caller]
    pub fn header(&self, key: &str) -> &str {
        let found = self.0.iter().find(|fields| fields[0] == "H" && fields[1] == key);
        &found.unwrap_or_else(|| panic!("there is no header {key}"))[2]
    }

    /// Gives a header that is there another value.
    #[track_caller]
    pub fn set_header(&mut self, key: &str, value: &str) {
        let found = self.0.iter_mut().find(|fields| fields[0] == "H" && fields[1] == key);
        found.unwrap_or_else(|| panic!("there is no header {key}"))[2] = value.to_owned();
    }

    /// Where the lines of a kind stand.
    pub fn places(&self, kind: &str) -> Vec<usize> {
        (0..self.0.len()).filter(|at| self.0[*at][0] == kind).collect()
    }

    /// The lines of a kind.
    pub fn of_kind(&self, kind: &str) -> Vec<Vec<String>> {
        self.0.iter().filter(|fields| fields[0] == kind).cloned().collect()
    }

    /// Puts these lines in the place of all of the kind, of which there must be some.
    #[track_caller]
    pub fn replace(&mut self, kind: &str, with: Vec<Vec<String>>) {
        let at = *self.places(kind).first().unwrap_or_else(|| panic!("there is no line {kind}"));
        self.0.retain(|fields| fields[0] != kind);
        self.0.splice(at..at, with);
    }

    /// Ordinal of a file of the archive.
    #[track_caller]
    pub fn file(&self, path: &str) -> usize {
        let found = self.of_kind("F").iter().position(|fields| fields[1] == path);
        found.unwrap_or_else(|| panic!("there is no file {path}"))
    }

    /// Where the inline member stands that a text's header is in, and a small text's body and padding.
    fn inline_of(&self, path: &str) -> usize {
        let begins = self.places("B")[self.file(path)];
        assert_eq!(self.0[begins + 1][0], "I", "{path}");
        begins + 1
    }

    /// The raw bytes of an inline member.
    pub fn inline(&self, at: usize) -> Vec<u8> {
        gunzip(&BASE64.decode(&self.0[at][1]).unwrap())
    }

    /// Gives an inline member other raw bytes.
    pub fn set_inline(&mut self, at: usize, raw: &[u8]) {
        self.0[at][1] = BASE64.encode(gzip(raw, 3));
    }

    /// A small text of the archive.
    pub fn text(&self, path: &str) -> Vec<u8> {
        assert_ne!(self.0[self.inline_of(path) + 1][0], "C", "{path} lies in chunks");
        let (raw, length) = (self.inline(self.inline_of(path)), self.length(path));
        let end = raw.len() - padding(length);
        raw[end - length..end].to_vec()
    }

    fn length(&self, path: &str) -> usize {
        self.of_kind("F")[self.file(path)][2].parse().unwrap()
    }

    /// Where the chunks of the database file stand: those of texts belong to no range.
    pub fn chunks(&self) -> Vec<usize> {
        self.places("C").into_iter().filter(|at| self.0[*at][6] != "-").collect()
    }

    /// Gives a text of the archive another body, kept inline, with its length in the `F` line and in the tar header.
    pub fn set_text(&mut self, path: &str, body: &[u8]) {
        assert!(body.len() <= 4096, "{path} would have to lie in chunks");
        let at = self.inline_of(path);
        let mut raw = self.head_of_text(path);
        let header = raw.len() - BLOCK;
        raw[header + 124..header + 136].copy_from_slice(format!("{:011o}\0", body.len()).as_bytes());
        set_checksum(&mut raw[header..]);
        raw.extend_from_slice(body);
        raw.resize(raw.len() + padding(body.len()), 0);
        self.set_inline(at, &raw);
        let line = self.places("F")[self.file(path)];
        self.0[line][2] = body.len().to_string();
        self.settle();
    }

    /// What stands in front of a text's body, its tar header last. Takes the body's chunks out, if it has some.
    fn head_of_text(&mut self, path: &str) -> Vec<u8> {
        let (at, length) = (self.inline_of(path), self.length(path));
        let mut raw = self.inline(at);
        if self.0[at + 1][0] != "C" {
            raw.truncate(raw.len() - padding(length) - length);
            return raw;
        }
        while self.0[at + 1][0] == "C" {
            self.0.remove(at + 1);
        }
        // The padding of chunks begins the next inline member.
        let next = *self.places("I").iter().find(|next| **next > at).unwrap();
        let behind = self.inline(next).split_off(padding(length));
        self.set_inline(next, &behind);
        raw
    }

    /// Changes every tar header; their checksums are made anew.
    pub fn change_tar_headers(&mut self, change: impl Fn(&mut [u8])) {
        for at in self.places("I") {
            let mut raw = self.inline(at);
            // Padding of the file before stands in front; from the end everything is in blocks.
            let from = raw.len() % BLOCK;
            for block in raw[from..].chunks_exact_mut(BLOCK).filter(|block| block[257..].starts_with(b"ustar")) {
                change(block);
                set_checksum(block);
            }
            self.set_inline(at, &raw);
        }
    }

    /// Makes the sums in the header right.
    pub fn settle(&mut self) {
        let sum = |field: usize| -> u64 {
            self.of_kind("C").iter().map(|fields| fields[field].parse::<u64>().unwrap()).sum()
        };
        let inline: usize = self.places("I").into_iter().map(|at| self.inline(at).len()).sum();
        let (stored, raw) = (sum(3), sum(4) + inline as u64);
        self.set_header("stored_bytes", &stored.to_string());
        self.set_header("raw_bytes", &raw.to_string());
    }

    /// Puts the digest of what `fingerprint.json` holds into the header.
    pub fn settle_schema(&mut self) {
        let fingerprint: serde_json::Value = serde_json::from_slice(&self.text("fingerprint.json")).unwrap();
        let mut hash = Sha256::new();
        for statement in fingerprint["schema"].as_array().unwrap() {
            let statement = statement.as_str().unwrap();
            hash.update((statement.len() as u64).to_le_bytes());
            hash.update(statement.as_bytes());
        }
        self.set_header("schema_digest", &hex::encode(hash.finalize()));
    }
}

/// The sum of a tar header's bytes, with its own field as spaces.
fn set_checksum(header: &mut [u8]) {
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
}

#[test]
fn the_tamperer_s_own_checksums_are_those_of_the_product() {
    let scene = super::scene::Scene::new();
    for victim in 0..scene.backups.len() {
        let lines = scene.lines(victim);
        let mut settled = lines.clone();
        settled.settle();
        settled.settle_schema();
        settled.change_tar_headers(|_| {});
        settled.set_text("README", &lines.text("README"));
        assert_eq!(gunzip(&lines.object()), gunzip(&scene.objects[&scene.manifest_key(victim)]));
        assert_eq!(settled.of_kind("H"), lines.of_kind("H"));
        for at in lines.places("I") {
            assert!(lines.inline(at) == settled.inline(at), "inline member {at} of {victim}");
        }
    }
}
