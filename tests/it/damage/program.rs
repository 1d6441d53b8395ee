//! What the program says about a damaged store, and how the next backup heals it.

use super::small;
use std::path::{Path, PathBuf};
use tests::agent::Agent;
use tests::sqlite::{sqlite_differences, sqlite_dump_text};

/// The files below a folder of a directory store.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn verify_names_every_backup_that_needs_a_damaged_pack_and_the_next_backup_heals() {
    let agent = Agent::new();
    let source = small("shop", "(1, 'one')");
    let ids: Vec<String> = (0..2).map(|_| agent.ok(&["backup", &source.url()]).stdout.trim().to_owned()).collect();
    let packs = files(&agent.store_dir().join("packs"));
    assert_eq!(packs.len(), 1, "an unchanged database stores nothing twice");
    agent.ok(&["verify"]);
    flip(&packs[0]);

    let verified = agent.run(&["verify", "--json"]).expect_code(6);
    let found = verified.json();
    for (backup, id) in found["backups"].as_array().unwrap().iter().zip(&ids) {
        assert_eq!(backup["id"], id.as_str());
        assert_eq!(backup["damage"].as_array().unwrap().len(), 1, "{found}");
    }
    assert!(verified.stderr.contains("hint: make a new backup"), "{}", verified.stderr);
    assert_eq!(files(&agent.store_dir().join("damaged")).len(), 1);
    for backup in agent.json(&["list"]).as_array().unwrap() {
        assert_eq!((&backup["complete"], &backup["damaged_packs"]), (&false.into(), &1.into()), "{backup}");
    }
    for id in &ids {
        assert!(agent.ok(&["list"]).stdout.lines().any(|line| line.contains(id) && line.contains("DAMAGED")));
        assert!(agent.ok(&["show", id]).stdout.contains("DAMAGED (1 pack)"));
        let target = agent.home().join("damaged.db");
        let run = agent.run(&["restore", id, "--into", &format!("sqlite:{}", target.display())]).expect_code(6);
        assert!(run.stderr.contains("is damaged") && !target.exists(), "{}", run.stderr);
    }

    let healed = agent.json(&["backup", &source.url()]);
    assert!(healed["new_bytes"].as_u64().unwrap() > 0, "{healed}");
    let id = healed["id"].as_str().unwrap();
    let target = agent.home().join("healed.db");
    let restored = agent.json(&["restore", id, "--into", &format!("sqlite:{}", target.display())]);
    assert_eq!(restored["proven"], true);
    assert_eq!(sqlite_differences(&source.dump_text(), &sqlite_dump_text(&target)), Vec::<String>::new());
    agent.ok(&["verify", id]);
    agent.run(&["verify"]).expect_code(6);
}

#[test]
fn a_damaged_manifest_hides_nothing_else() {
    let agent = Agent::new();
    let source = small("shop", "(1, 'one')");
    let ids: Vec<String> = (0..2).map(|_| agent.ok(&["backup", &source.url()]).stdout.trim().to_owned()).collect();
    flip(&agent.store_dir().join("backups").join(&ids[1]).join("manifest.tsv.gz"));
    let listed = agent.json(&["list"]);
    assert_eq!(listed[0]["complete"], true);
    assert_eq!((&listed[1]["complete"], &listed[1]["id"]), (&false.into(), &ids[1].as_str().into()));
    assert!(listed[1]["error"].as_str().unwrap().contains("damaged"), "{listed}");
    agent.run(&["show", &ids[1]]).expect_code(6);
    agent.run(&["export", &ids[1], "-o", "x.tar.gz"]).expect_code(6);
    assert!(!agent.home().join("x.tar.gz").exists());
    let verified = agent.run(&["verify"]).expect_code(6);
    assert!(verified.stderr.contains(&format!("damaged: {}", ids[1])), "{}", verified.stderr);
    assert!(!verified.stderr.contains(&format!("damaged: {}", ids[0])), "{}", verified.stderr);
    agent.run(&["verify", &ids[1]]).expect_code(6);
    agent.ok(&["verify", &ids[0]]);
    agent.ok(&["restore", &ids[0], "--into", "sqlite:first.db"]);
    let third = agent.ok(&["backup", &source.url()]).stdout.trim().to_owned();
    agent.ok(&["restore", &third, "--into", "sqlite:third.db"]);
}

#[test]
fn a_manifest_under_another_key_is_refused() {
    let agent = Agent::new();
    let (a, b) = (small("a", "(1, 'one')"), small("b", "(1, 'uno')"));
    let a_id = agent.ok(&["backup", &a.url()]).stdout.trim().to_owned();
    let b_id = agent.ok(&["backup", &b.url()]).stdout.trim().to_owned();
    let manifest = |id: &str| agent.store_dir().join("backups").join(id).join("manifest.tsv.gz");
    std::fs::copy(manifest(&a_id), manifest(&b_id)).unwrap();
    let moved = a_id.replace("a/", "b/");
    std::fs::create_dir_all(manifest(&moved).parent().unwrap()).unwrap();
    std::fs::copy(manifest(&a_id), manifest(&moved)).unwrap();
    for id in [&b_id, &moved] {
        let run = agent.run(&["restore", id, "--into", "sqlite:new.db"]).expect_code(6);
        assert!(run.stderr.contains(&format!("it is the manifest of {a_id}")), "{}", run.stderr);
        assert!(!agent.home().join("new.db").exists());
    }
    agent.run(&["verify"]).expect_code(6);
}

#[test]
fn what_a_later_version_wrote_is_refused_by_its_number() {
    let agent = Agent::new();
    let source = small("shop", "(1, 'one')");
    let id = agent.ok(&["backup", &source.url()]).stdout.trim().to_owned();
    let manifest = agent.store_dir().join("backups").join(&id).join("manifest.tsv.gz");
    let bytes = std::fs::read(&manifest).unwrap();
    let text = std::io::read_to_string(flate2::read::MultiGzDecoder::new(&bytes[..])).unwrap();
    let later = text.replacen("H\tformat\t1\n", "H\tformat\t7\nX\tunknown\n", 1);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, later.as_bytes()).unwrap();
    std::fs::write(&manifest, encoder.finish().unwrap()).unwrap();
    for arguments in [vec!["restore", &id, "--into", "sqlite:new.db"], vec!["show", &id], vec!["export", &id]] {
        let run = agent.run(&arguments).expect_code(3);
        assert!(run.stderr.contains("format version 7"), "{}", run.stderr);
        assert!(run.stderr.contains("hint: use the version of Holdfast that wrote it"), "{}", run.stderr);
    }
    assert!(agent.json(&["list"])[0]["error"].as_str().unwrap().contains("format version 7"));
    assert!(!agent.home().join("new.db").exists());

    let config = agent.store_dir().join("holdfast.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let later = text.replacen("\"format\": 1", "\"format\": 2", 1);
    assert_ne!(later, text);
    std::fs::write(&config, &later).unwrap();
    for arguments in [vec!["list"], vec!["backup", &source.url()], vec!["verify"], vec!["init"]] {
        let run = agent.run(&arguments).expect_code(3);
        assert!(run.stderr.contains("repository format 2"), "{}", run.stderr);
    }
    assert_eq!(std::fs::read_to_string(&config).unwrap(), later);
}
