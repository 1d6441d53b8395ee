//! What goes in comes out, and nothing else is taken.

use super::encode::Lines;
use super::*;

fn sample() -> Manifest {
    let now: Timestamp = "2025-01-31T03:00:00.123Z".parse().expect("valid");
    let chunk = Chunk {
        pack: 0,
        offset: 10,
        length: 20,
        raw_length: 100,
        id: ChunkId([7; 32]),
        range: Some(0),
        continues: false,
    };
    Manifest {
        header: Header {
            id: "20250131T030000Z-1a2b3c".parse().expect("valid"),
            database: "shop".parse().expect("valid"),
            identity: Identity::Sqlite { machine: "m".into(), path: "/a\tb\n\\".into() },
            engine: EngineKind::Sqlite,
            server_version: "3.51.3".into(),
            client_version: None,
            writer: "0.1.0".into(),
            codec: Codec::Gzip,
            created_at: now,
            finished_at: now,
            parents: vec!["20250130T030000Z-1a2b3c".parse().expect("valid")],
            schema_digest: "0".repeat(64),
            defects: vec!["one\ttab".into()],
            facts: serde_json::json!({"a": [1, "x\ty"]}),
            raw_bytes: 1,
            stored_bytes: 2,
            new_bytes: 3,
        },
        tables: vec![Table {
            name: "\"a.b\".\"c\n\"".into(),
            rows: 3,
            bytes: 100,
            digest: "a".repeat(64),
            digest_with_generated: None,
        }],
        sequences: vec![("s".into(), SequenceState { last_value: -5, is_called: false })],
        packs: vec![Pack { uuid: "b".repeat(32), bytes: 30, sha256: "c".repeat(64) }],
        ranges: vec![Range { file: 0, relation: "t".into(), blocks: Some((0, u32::MAX)), rows: 3 }],
        files: vec![File { path: "data/000001.copy".into(), bytes: 100, table: Some(0), is_data: true }],
        stream: vec![Member::File(0), Member::Inline(vec![1, 2, 3]), Member::Chunk(chunk)],
    }
}

fn recoded(from: &str, to: &str) -> Result<Manifest, ManifestError> {
    let text =
        String::from_utf8(Codec::Gzip.decompress_up_to(&encode(&sample()), 1 << 20).expect("gzip")).expect("text");
    assert!(text.contains(from), "{from:?} stands in the manifest");
    let mut lines = Lines::default();
    for line in text.lines().filter(|line| !line.starts_with("E\t")) {
        lines.put(&[&line.replace(from, to)]);
    }
    decode(&lines.finish())
}

#[test]
fn a_manifest_reads_back_as_it_was_written() {
    assert_eq!(decode(&encode(&sample())).expect("readable"), sample());
}

#[test]
fn a_later_version_is_told_apart_from_damage() {
    assert!(matches!(recoded("H\tformat\t1", "H\tformat\t2"), Err(ManifestError::Future(v)) if v == "2"));
}

#[test]
fn references_that_lead_nowhere_and_sums_that_do_not_come_out_are_damage() {
    for (from, to) in [
        ("C\t0\t10", "C\t1\t10"),
        ("C\t0\t10", "C\t0\t11"),
        ("C\t0\t10\t20", "C\t0\t18446744073709551615\t20"),
        ("\t20\t100\t", "\t20\t99\t"),
        ("\t20\t100\t", "\t20\t4294967295\t"),
        ("\t0\t-", "\t5\t-"),
        ("F\tdata/000001.copy\t100\t0", "F\tdata/000001.copy\t100\t1"),
        ("B\t0", "B\t1"),
        ("P\tbb", "P\t.."),
        ("S\ts\t-5\tf", "S\ts\t-5\tx"),
        ("H\tdatabase\tshop", "H\tdatabase\t../x"),
        ("H\tfacts\t{", "H\tfacts\t("),
        ("H\tformat\t1", "H\tform\t1"),
    ] {
        assert!(matches!(recoded(from, to), Err(ManifestError::Damaged(_))), "{from:?} -> {to:?}");
    }
}

#[test]
fn every_truncation_and_every_flipped_byte_is_noticed() {
    let good = encode(&sample());
    for length in 0..good.len() {
        assert!(decode(&good[..length]).is_err(), "cut at {length}");
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        // Bytes of the gzip header that carry no content (mtime, OS) may change without harm.
        if let Ok(read) = decode(&bad) {
            assert_eq!(read, sample(), "byte {at}");
        }
    }
}
