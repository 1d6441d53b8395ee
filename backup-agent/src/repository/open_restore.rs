//! How to restore without Holdfast: two texts kept in every store, tested with Holdfast's binaries off PATH.

/// For people.
pub const RESTORE_MD: &str = include_str!("open_restore/RESTORE.md");

/// For a shell: rebuilds one backup's archive from manifest and packs, unpacks it and runs the restore.sh inside.
pub const RESTORE_SH: &str = include_str!("open_restore/restore.sh");
