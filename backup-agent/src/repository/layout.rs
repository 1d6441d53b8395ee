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

/// A pack, of epoch 0.
pub fn pack(uuid: &str) -> String {
    format!("packs/0/{}/{uuid}", &uuid[..2])
}

/// A note that a pack is damaged.
pub fn damaged(uuid: &str) -> String {
    format!("{DAMAGED}{uuid}.json")
}

/// A writer at work.
pub fn lease(uuid: &str) -> String {
    format!("leases/{uuid}.json")
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
        for alien in ["backups/Shop/20250131T030000Z-1a2b3c/manifest.tsv.gz", "backups/shop/x/manifest.tsv.gz", "marks"]
        {
            assert_eq!(parse_manifest(alien), None);
        }
        assert_eq!(parse_mark(&database, "marks/shop-1/20250131T030000Z-1a2b3c/x.json"), None);
    }
}
