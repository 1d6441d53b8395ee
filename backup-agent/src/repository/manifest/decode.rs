//! Reads manifests strictly.

use super::check::check_consistency;
use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};
use std::str::FromStr;

/// A manifest that unpacks to more is refused.
const MAX_MANIFEST_BYTES: u64 = 2 << 30;

/// Reads a manifest and checks everything that can be checked without the packs.
pub fn decode(gzip: &[u8]) -> Result<Manifest, ManifestError> {
    let bytes = Codec::Gzip.decompress_up_to(gzip, MAX_MANIFEST_BYTES).map_err(|error| damaged(error.to_string()))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| damaged("it is not UTF-8 text"))?;
    let body = check_end(text)?;
    let mut header = HeaderFields::default();
    let mut parts = Parts::default();
    for (number, line) in body.lines().enumerate() {
        let fields: Vec<&str> = line.split('\t').collect();
        let result = match fields.as_slice() {
            ["H", key, value] => header.take(key, unescape(value)?),
            other => parts.take(other),
        };
        result.map_err(|error| match error {
            ManifestError::Damaged(text) => damaged(format!("line {}: {text}", number + 1)),
            future => future,
        })?;
    }
    let manifest = parts.into_manifest(header.into_header()?);
    check_consistency(&manifest)?;
    Ok(manifest)
}

/// Checks the last line (count and checksum of all above) and returns what stands above it.
fn check_end(text: &str) -> Result<&str, ManifestError> {
    let without_newline = text.strip_suffix('\n').ok_or_else(|| damaged("it does not end in a newline"))?;
    let end = without_newline.rfind('\n').map_or(0, |at| at + 1);
    let body = &text[..end];
    // A later version may end otherwise; its number is what the reader must be told.
    if let Some(version) = body.lines().next().and_then(|line| line.strip_prefix("H\tformat\t"))
        && version != FORMAT_VERSION.to_string()
    {
        return Err(ManifestError::Future(version.to_owned()));
    }
    let fields: Vec<&str> = without_newline[end..].split('\t').collect();
    let ["E", count, sum] = fields.as_slice() else { return Err(damaged("the end line is missing")) };
    if body.lines().count().to_string() != **count {
        return Err(damaged("the number of lines is not the one written at its end"));
    }
    if hex::encode(Sha256::digest(body)) != **sum {
        return Err(damaged("its checksum does not match"));
    }
    Ok(body)
}

#[derive(Default)]
struct HeaderFields(Vec<(String, String)>);

impl HeaderFields {
    fn take(&mut self, key: &str, value: String) -> Result<(), ManifestError> {
        self.0.push((key.to_owned(), value));
        Ok(())
    }

    fn text(&self, key: &str) -> Result<&str, ManifestError> {
        self.optional(key).ok_or_else(|| damaged(format!("the header {key} is missing")))
    }

    fn optional(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    fn parsed<T: FromStr>(&self, key: &str) -> Result<T, ManifestError> {
        self.text(key)?.parse().map_err(|_| damaged(format!("the header {key} cannot be read")))
    }

    fn into_header(self) -> Result<Header, ManifestError> {
        let json = |key: &str| damaged(format!("the header {key} cannot be read"));
        if self.text("format")? != FORMAT_VERSION.to_string() {
            return Err(json("format"));
        }
        Ok(Header {
            id: self.parsed("id")?,
            database: self.parsed("database")?,
            identity: serde_json::from_str::<Identity>(self.text("identity")?).map_err(|_| json("identity"))?,
            engine: self.parsed("engine")?,
            server_version: self.text("server_version")?.to_owned(),
            client_version: self.optional("client_version").map(str::to_owned),
            writer: self.text("writer")?.to_owned(),
            codec: match self.text("codec")? {
                "gzip" => Codec::Gzip,
                "zstd" => Codec::Zstd,
                _ => return Err(json("codec")),
            },
            created_at: self.parsed("created_at")?,
            finished_at: self.parsed("finished_at")?,
            parents: self.all("parent").map(|id| id.parse().map_err(|_| json("parent"))).collect::<Result<_, _>>()?,
            schema_digest: self.text("schema_digest")?.to_owned(),
            defects: self.all("defect").map(str::to_owned).collect(),
            facts: serde_json::from_str(self.text("facts")?).map_err(|_| json("facts"))?,
            raw_bytes: self.parsed("raw_bytes")?,
            stored_bytes: self.parsed("stored_bytes")?,
            new_bytes: self.parsed("new_bytes")?,
        })
    }
}

#[derive(Default)]
struct Parts {
    tables: Vec<Table>,
    sequences: Vec<(String, SequenceState)>,
    packs: Vec<Pack>,
    ranges: Vec<Range>,
    files: Vec<File>,
    stream: Vec<Member>,
}

impl Parts {
    fn take(&mut self, fields: &[&str]) -> Result<(), ManifestError> {
        match *fields {
            ["T", name, rows, bytes, digest, generated] => self.tables.push(Table {
                name: unescape(name)?,
                rows: number(rows)?,
                bytes: number(bytes)?,
                digest: hex_digits(digest, 64)?,
                digest_with_generated: if generated == "-" { None } else { Some(hex_digits(generated, 64)?) },
            }),
            ["S", name, last_value, is_called] => {
                let is_called = match is_called {
                    "t" => true,
                    "f" => false,
                    _ => return Err(damaged("a flag is neither t nor f")),
                };
                self.sequences.push((unescape(name)?, SequenceState { last_value: number(last_value)?, is_called }));
            }
            ["P", uuid, bytes, sha256] => self.packs.push(Pack {
                uuid: hex_digits(uuid, 32)?,
                bytes: number(bytes)?,
                sha256: hex_digits(sha256, 64)?,
            }),
            ["R", file, relation, first, last, rows] => self.ranges.push(Range {
                file: number(file)?,
                relation: unescape(relation)?,
                blocks: if first == "-" { None } else { Some((number(first)?, number(last)?)) },
                rows: number(rows)?,
            }),
            ["F", path, bytes, table, kind @ ("data" | "text")] => self.files.push(File {
                path: unescape(path)?,
                bytes: number(bytes)?,
                table: optional_number(table)?,
                is_data: kind == "data",
            }),
            ["B", file] => self.stream.push(Member::File(number(file)?)),
            ["I", base64] => self.stream.push(Member::Inline(base64_bytes(base64)?)),
            ["C", pack, offset, length, raw_length, id, range, flags @ ("+" | "-")] => {
                let id = base64_bytes(id)?.try_into().map_err(|_| damaged("a chunk id has not 32 bytes"))?;
                self.stream.push(Member::Chunk(Chunk {
                    pack: number(pack)?,
                    offset: number(offset)?,
                    length: number(length)?,
                    raw_length: number(raw_length)?,
                    id: ChunkId(id),
                    range: optional_number(range)?,
                    continues: flags == "+",
                }));
            }
            _ => return Err(damaged("unknown kind of line, or wrong number of fields")),
        }
        Ok(())
    }

    fn into_manifest(self, header: Header) -> Manifest {
        let Parts { tables, sequences, packs, ranges, files, stream } = self;
        Manifest { header, tables, sequences, packs, ranges, files, stream }
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, ManifestError> {
    text.parse().map_err(|_| damaged(format!("{text:?} is no number in range")))
}

fn optional_number(text: &str) -> Result<Option<u32>, ManifestError> {
    if text == "-" { Ok(None) } else { number(text).map(Some) }
}

fn hex_digits(text: &str, length: usize) -> Result<String, ManifestError> {
    let fits = text.len() == length && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    if fits { Ok(text.to_owned()) } else { Err(damaged(format!("{length} hexadecimal digits expected"))) }
}

fn base64_bytes(text: &str) -> Result<Vec<u8>, ManifestError> {
    BASE64.decode(text).map_err(|_| damaged("base64 text cannot be read"))
}

fn unescape(text: &str) -> Result<String, ManifestError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('\\') => '\\',
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                _ => return Err(damaged("a backslash before an unknown letter")),
            },
            c => c,
        });
    }
    Ok(out)
}

pub(super) fn damaged(text: impl Into<String>) -> ManifestError {
    ManifestError::Damaged(text.into())
}
