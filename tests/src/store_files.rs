//! A directory store as a stranger sees it: its files, read without any code of the product.

use crate::plain_tools::PlainTools;
use crate::sqlite::sqlite_dump_text;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The folder of a directory store.
#[derive(Debug, Clone)]
pub struct StoreFiles(PathBuf);

/// A manifest, as far as these tests need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainManifest {
    /// `<database>/<id>`.
    pub id: String,
    /// Names of the packs it needs.
    pub packs: BTreeSet<String>,
    /// Ids of the backups it builds on, without the database.
    pub parents: Vec<String>,
}

impl StoreFiles {
    /// Looks into this folder, which need not exist.
    pub fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Paths of all files below the folder, also unfinished ones, sorted.
    pub fn all(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![self.0.clone()];
        while let Some(folder) = waiting.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    waiting.push(path);
                } else {
                    found.push(path.strip_prefix(&self.0).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// The files that have a public name, and begin with `prefix`.
    pub fn public(&self, prefix: &str) -> Vec<String> {
        let unfinished = |key: &String| key.rsplit('/').next().unwrap().starts_with(".tmp-");
        self.all().into_iter().filter(|key| key.starts_with(prefix) && !unfinished(key)).collect()
    }

    /// Bytes of a file.
    #[track_caller]
    pub fn read(&self, key: &str) -> Vec<u8> {
        std::fs::read(self.0.join(key)).unwrap_or_else(|error| panic!("{key}: {error}"))
    }

    /// `<database>/<id>` of every listed manifest, oldest first within a database.
    pub fn ids(&self) -> Vec<String> {
        let id = |key: &String| Some(key.strip_prefix("backups/")?.strip_suffix("/manifest.tsv.gz")?.to_owned());
        self.public("backups/").iter().filter_map(id).collect()
    }

    /// Names of all packs.
    pub fn packs(&self) -> BTreeSet<String> {
        self.public("packs/").iter().map(|key| key.rsplit('/').next().unwrap().to_owned()).collect()
    }

    /// Reads a manifest and checks its last line: the number of lines and the SHA-256 of all before it.
    #[track_caller]
    pub fn manifest(&self, id: &str) -> PlainManifest {
        self.manifest_at(id, &format!("backups/{id}/manifest.tsv.gz"))
    }

    #[track_caller]
    fn manifest_at(&self, id: &str, key: &str) -> PlainManifest {
        let text = String::from_utf8(unzipped(key, &self.read(key))).unwrap();
        let (body, end) = text.trim_end_matches('\n').rsplit_once('\n').unwrap_or_else(|| panic!("{key} has one line"));
        let sum = hex::encode(Sha256::digest(format!("{body}\n")));
        assert_eq!(end, format!("E\t{}\t{sum}", body.lines().count()), "the end of {key}");
        let mut manifest = PlainManifest { id: id.to_owned(), packs: BTreeSet::new(), parents: Vec::new() };
        for line in body.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["P", uuid, bytes, sum] => {
                    let pack = self.read(&pack_key(uuid));
                    assert_eq!(pack.len().to_string(), bytes, "length of a pack of {id}");
                    assert_eq!(hex::encode(Sha256::digest(&pack)), sum, "SHA-256 of a pack of {id}");
                    manifest.packs.insert(uuid.to_owned());
                }
                ["H", "parent", parent] => manifest.parents.push(parent.to_owned()),
                _ => {}
            }
        }
        manifest
    }

    /// Every manifest in the trash, checked as [`StoreFiles::manifest`] does, so that all its packs are there.
    #[track_caller]
    pub fn trashed(&self) -> Vec<PlainManifest> {
        let id = |key: &str| key.strip_prefix("trash/").unwrap().rsplit_once('/').unwrap().0.to_owned();
        self.public("trash/").iter().map(|key| self.manifest_at(&id(key), key)).collect()
    }

    /// Packs that no listed manifest and none in the trash names.
    #[track_caller]
    pub fn orphans(&self) -> BTreeSet<String> {
        let listed = self.ids().into_iter().map(|id| self.manifest(&id));
        let named: BTreeSet<String> = listed.chain(self.trashed()).flat_map(|manifest| manifest.packs).collect();
        self.packs().difference(&named).cloned().collect()
    }

    /// Asserts that every file with a public name is whole, and that everything a manifest names is there.
    #[track_caller]
    pub fn are_whole(&self) {
        for key in self.public("") {
            let (folder, name) = key.split_once('/').unwrap_or(("", &key));
            // Of deletions that go on side by side one may fail while another is still on its way.
            if folder == "packs" && !self.0.join(&key).exists() {
                continue;
            }
            let bytes = self.read(&key);
            match folder {
                "" if name == "restore.sh" || name == "RESTORE.md" => {
                    let text = String::from_utf8(bytes).unwrap();
                    let product = Path::new(env!("CARGO_MANIFEST_DIR")).join("../backup-agent/src/repository");
                    assert_eq!(
                        text,
                        std::fs::read_to_string(product.join("open_restore").join(name)).unwrap(),
                        "{key}"
                    );
                }
                "packs" => drop(unzipped(&key, &bytes)),
                "backups" => drop(self.manifest(name.strip_suffix("/manifest.tsv.gz").unwrap())),
                _ if name.ends_with(".gz") => drop(unzipped(&key, &bytes)),
                _ => {
                    let read = serde_json::from_slice::<serde_json::Value>(&bytes);
                    // What a probe of the store writes while a repository is made is a word, and has no meaning.
                    assert!(read.is_ok() || key.starts_with("leases/probe-"), "{key} is neither whole nor known");
                }
            }
        }
    }

    /// Whether a backup has a mark of this kind.
    pub fn is_marked(&self, id: &str, kind: &str) -> bool {
        !self.public(&format!("marks/{id}/{kind}-")).is_empty()
    }

    /// Dump texts of all listed SQLite backups, each brought back by the store's own `restore.sh` with plain tools.
    #[track_caller]
    pub fn sqlite_dumps(&self) -> BTreeMap<String, String> {
        self.ids().into_iter().map(|id| (id.clone(), self.sqlite_dump(&id))).collect()
    }

    /// The dump text of one SQLite backup, brought back the same way.
    #[track_caller]
    pub fn sqlite_dump(&self, id: &str) -> String {
        let (place, tools) = (tempfile::tempdir().unwrap(), PlainTools::with(&["sqlite3"]));
        let script = self.0.join("restore.sh").display().to_string();
        let target = place.path().join("plain.db");
        tools.ok(place.path(), "sh", &[&script, id, &format!("sqlite:{}", target.display())]);
        sqlite_dump_text(&target)
    }

    /// Makes every file below `prefix` look as if it had been written so long ago.
    pub fn age(&self, prefix: &str, by: Duration) {
        let then = SystemTime::now() - by;
        for key in self.public(prefix) {
            let file = std::fs::File::options().write(true).open(self.0.join(&key)).unwrap();
            file.set_modified(then).unwrap();
        }
    }

    /// Flips the bit in the middle of a file.
    #[track_caller]
    pub fn flip(&self, key: &str) {
        let mut bytes = self.read(key);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(self.0.join(key), bytes).unwrap();
    }

    /// Copies the whole store to a folder that does not exist yet, with all times, by `cp -a`.
    #[track_caller]
    pub fn copy_to(&self, folder: &Path) {
        let done = std::process::Command::new("cp").arg("-a").arg(&self.0).arg(folder).status().unwrap();
        assert!(done.success(), "cp -a {} {}", self.0.display(), folder.display());
    }
}

/// Where a pack lies.
pub fn pack_key(uuid: &str) -> String {
    format!("packs/0/{}/{uuid}", &uuid[..2])
}

/// The content of a gzip file of one or more members; nothing may stand behind them.
#[track_caller]
fn unzipped(key: &str, bytes: &[u8]) -> Vec<u8> {
    assert!(!bytes.is_empty(), "{key} is empty");
    let mut content = Vec::new();
    let read = flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut content);
    read.unwrap_or_else(|error| panic!("{key} is not whole: {error}"));
    content
}
