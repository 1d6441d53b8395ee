//! Keys of the objects in a store.

use shared::model::{BackupId, DatabaseName};

/// The object that makes a store a repository.
pub const CONFIG: &str = "holdfast.json";
/// How to restore without Holdfast, for people.
pub const RESTORE_MD: &str = "RESTORE.md";
/// How to restore without Holdfast, for a shell.
pub const RESTORE_SH: &str = "restore.sh";
/// All manifests.
pub const BACKUPS: &str = "backups/";
/// Notes about damaged packs.
pub const DAMAGED: &str = "damaged/";

/// Facts about backups.
pub const MARKS: &str = "marks/";
/// All packs, of epoch 0.
pub const PACKS: &str = "packs/0/";
/// Writers at work.
pub const LEASES: &str = "leases/";
/// Forgotten manifests.
pub const TRASH: &str = "trash/";

/// All manifests of a database.
pub fn backups_of(database: &DatabaseName) -> String {
    format!("{BACKUPS}{database}/")
}

/// Everything of one backup.
pub fn backup(database: &DatabaseName, id: &BackupId) -> String {
    format!("{BACKUPS}{database}/{id}/")
}

/// A manifest.
pub fn manifest(database: &DatabaseName, id: &BackupId) -> String {
    format!("{}manifest.tsv.gz", backup(database, id))
}

/// Database and id of a manifest's key.
pub fn parse_manifest(key: &str) -> Option<(DatabaseName, BackupId)> {
    let mut parts = key.strip_prefix(BACKUPS)?.split('/');
    let (database, id, file) = (parts.next()?, parts.next()?, parts.next()?);
    if file != "manifest.tsv.gz" || parts.next().is_some() {
        return None;
    }
    Some((database.parse().ok()?, id.parse().ok()?))
}

/// All marks of a database.
pub fn marks_of(database: &DatabaseName) -> String {
    format!("marks/{database}/")
}

/// All marks of one backup.
pub fn marks_of_backup(database: &DatabaseName, id: &BackupId) -> String {
    format!("marks/{database}/{id}/")
}

/// A mark.
pub fn mark(database: &DatabaseName, id: &BackupId, kind: &str, uuid: &str) -> String {
    format!("{}{kind}-{uuid}.json", marks_of_backup(database, id))
}

/// Id and kind of a mark's key.
pub fn parse_mark(database: &DatabaseName, key: &str) -> Option<(BackupId, String)> {
    let (id, file) = key.strip_prefix(&marks_of(database))?.split_once('/')?;
    let (kind, _) = file.strip_suffix(".json")?.split_at_checked(file.len().checked_sub(5 + 1 + 32)?)?;
    Some((id.parse().ok()?, kind.to_owned()))
}

/// Database, id and kind of any mark's key.
pub fn parse_any_mark(key: &str) -> Option<(DatabaseName, BackupId, String)> {
    let database: DatabaseName = key.strip_prefix(MARKS)?.split_once('/')?.0.parse().ok()?;
    let (id, kind) = parse_mark(&database, key)?;
    Some((database, id, kind))
}

/// A pack, of epoch 0.
pub fn pack(uuid: &str) -> String {
    format!("{PACKS}{}/{uuid}", &uuid[..2])
}

/// Name of a pack's key.
pub fn parse_pack(key: &str) -> Option<&str> {
    let (folder, uuid) = key.strip_prefix(PACKS)?.split_once('/')?;
    (is_name(uuid) && uuid.starts_with(folder) && folder.len() == 2).then_some(uuid)
}

/// Forgotten manifests of a database.
pub fn trash_of(database: &DatabaseName) -> String {
    format!("{TRASH}{database}/")
}

/// Forgotten manifests of one backup.
pub fn trash_of_backup(database: &DatabaseName, id: &BackupId) -> String {
    format!("{TRASH}{database}/{id}/")
}

/// A forgotten manifest that is kept for `grace_s` seconds. Every forgetting makes an object of its own, so that removing
/// an old one never hits a new one.
pub fn trash(database: &DatabaseName, id: &BackupId, grace_s: u64, uuid: &str) -> String {
    format!("{}{grace_s}-{uuid}.tsv.gz", trash_of_backup(database, id))
}

/// Database, id and grace time in seconds of a forgotten manifest's key.
pub fn parse_trash(key: &str) -> Option<(DatabaseName, BackupId, u64)> {
    let mut parts = key.strip_prefix(TRASH)?.split('/');
    let (database, id, file) = (parts.next()?, parts.next()?, parts.next()?);
    let (grace_s, uuid) = file.strip_suffix(".tsv.gz")?.split_once('-')?;
    if parts.next().is_some() || !is_name(uuid) {
        return None;
    }
    Some((database.parse().ok()?, id.parse().ok()?, grace_s.parse().ok()?))
}

/// A note that a pack is damaged.
pub fn damaged(uuid: &str) -> String {
    format!("{DAMAGED}{uuid}.json")
}

/// Name of the pack a note is about.
pub fn parse_damaged(key: &str) -> Option<&str> {
    key.strip_prefix(DAMAGED)?.strip_suffix(".json").filter(|uuid| is_name(uuid))
}

/// A writer at work.
pub fn lease(uuid: &str) -> String {
    format!("{LEASES}{uuid}.json")
}

/// Whether a key is that of a writer at work.
pub fn is_lease(key: &str) -> bool {
    key.strip_prefix(LEASES).and_then(|name| name.strip_suffix(".json")).is_some_and(is_name)
}

/// An object by which a store is tried out, or asked for its time.
pub fn probe(uuid: &str) -> String {
    format!("{LEASES}probe-{uuid}.json")
}

/// Whether a key is that of a probe.
pub fn is_probe(key: &str) -> bool {
    key.strip_prefix(LEASES).is_some_and(|name| name.starts_with("probe-"))
}

fn is_name(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

/// 32 random hexadecimal digits, for names.
pub fn random_name() -> String {
    let mut bytes = [0; 16];
    // Without randomness two packs could bear one name; there is nothing sensible to go on with.
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back() {
        let database: DatabaseName = "shop-1".parse().expect("valid");
        let id: BackupId = "20250131T030000Z-1a2b3c".parse().expect("valid");
        assert_eq!(parse_manifest(&manifest(&database, &id)), Some((database.clone(), id.clone())));
        for kind in ["verified", "hold-bob-the-first"] {
            let key = mark(&database, &id, kind, &random_name());
            assert_eq!(parse_mark(&database, &key), Some((id.clone(), kind.to_owned())));
        }
        let name = random_name();
        assert_eq!(parse_trash(&trash(&database, &id, 259_200, &name)), Some((database.clone(), id.clone(), 259_200)));
        assert_eq!(parse_pack(&pack(&name)), Some(&*name));
        assert_eq!(parse_damaged(&damaged(&name)), Some(&*name));
        assert!(is_lease(&lease(&name)) && !is_lease(&probe(&name)) && is_probe(&probe(&name)));
        assert!(parse_any_mark(&mark(&database, &id, "hold-bob", &name)).is_some_and(|found| found.2 == "hold-bob"));
        for alien in ["backups/Shop/20250131T030000Z-1a2b3c/manifest.tsv.gz", "backups/shop/x/manifest.tsv.gz", "marks"]
        {
            assert_eq!(parse_manifest(alien), None);
        }
        assert_eq!(parse_mark(&database, "marks/shop-1/20250131T030000Z-1a2b3c/x.json"), None);
    }
}
