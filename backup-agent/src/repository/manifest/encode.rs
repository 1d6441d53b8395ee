//! Writes manifests as text.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};
use std::io::Write as _;

/// Writes a manifest as gzip-compressed text, whatever the codec of the members.
pub fn encode(manifest: &Manifest) -> Vec<u8> {
    let mut lines = Lines::default();
    put_header(&mut lines, &manifest.header);
    for table in &manifest.tables {
        let generated = table.digest_with_generated.as_deref().unwrap_or("-");
        lines.put(&[
            "T",
            &escape(&table.name),
            &table.rows.to_string(),
            &table.bytes.to_string(),
            &table.digest,
            generated,
        ]);
    }
    for (name, state) in &manifest.sequences {
        lines.put(&["S", &escape(name), &state.last_value.to_string(), if state.is_called { "t" } else { "f" }]);
    }
    for pack in &manifest.packs {
        lines.put(&["P", &pack.uuid, &pack.bytes.to_string(), &pack.sha256]);
    }
    for range in &manifest.ranges {
        let (first, last) = range.blocks.map_or(("-".into(), "-".into()), |(a, b)| (a.to_string(), b.to_string()));
        lines.put(&["R", &range.file.to_string(), &escape(&range.relation), &first, &last, &range.rows.to_string()]);
    }
    for file in &manifest.files {
        let kind = if file.is_data { "data" } else { "text" };
        lines.put(&["F", &escape(&file.path), &file.bytes.to_string(), &ordinal(file.table), kind]);
    }
    for member in &manifest.stream {
        match member {
            Member::File(file) => lines.put(&["B", &file.to_string()]),
            Member::Inline(bytes) => lines.put(&["I", &BASE64.encode(bytes)]),
            Member::Chunk(c) => lines.put(&[
                "C",
                &c.pack.to_string(),
                &c.offset.to_string(),
                &c.length.to_string(),
                &c.raw_length.to_string(),
                &BASE64.encode(c.id.0),
                &ordinal(c.range),
                if c.continues { "+" } else { "-" },
            ]),
        }
    }
    lines.finish()
}

fn put_header(lines: &mut Lines, header: &Header) {
    let mut put = |key: &str, value: &str| lines.put(&["H", key, &escape(value)]);
    put("format", &FORMAT_VERSION.to_string());
    put("id", header.id.as_str());
    put("database", header.database.as_str());
    put("identity", &serde_json::json!(header.identity).to_string());
    put("engine", &header.engine.to_string());
    put("server_version", &header.server_version);
    if let Some(version) = &header.client_version {
        put("client_version", version);
    }
    put("writer", &header.writer);
    put("codec", header.codec.name());
    put("created_at", &header.created_at.to_string());
    put("finished_at", &header.finished_at.to_string());
    for parent in &header.parents {
        put("parent", parent.as_str());
    }
    put("schema_digest", &header.schema_digest);
    for defect in &header.defects {
        put("defect", defect);
    }
    put("facts", &header.facts.to_string());
    put("raw_bytes", &header.raw_bytes.to_string());
    put("stored_bytes", &header.stored_bytes.to_string());
    put("new_bytes", &header.new_bytes.to_string());
    put("epoch", "0");
}

fn ordinal(value: Option<u32>) -> String {
    value.map_or("-".into(), |value| value.to_string())
}

/// Lines being gathered, counted and summed.
#[derive(Default)]
pub(super) struct Lines {
    text: Vec<u8>,
    count: u64,
}

impl Lines {
    pub(super) fn put(&mut self, fields: &[&str]) {
        self.text.extend_from_slice(fields.join("\t").as_bytes());
        self.text.push(b'\n');
        self.count += 1;
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let sum = hex::encode(Sha256::digest(&self.text));
        let count = self.count;
        self.put(&["E", &count.to_string(), &sum]);
        let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::new(6));
        encoder.write_all(&self.text).and_then(|()| encoder.finish()).expect("writing to memory does not fail")
    }
}

/// Escapes what would break a line: backslash, tab, newline, carriage return.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}
