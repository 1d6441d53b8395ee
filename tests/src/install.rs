//! A private copy of the PostgreSQL installation, so that a test extension can be added without touching the system.
//!
//! PostgreSQL looks for its files relative to where its own program lies. The programs are copied, everything else is
//! linked, under the same absolute paths below a private root; only the extension folder is a real one of our own.

use crate::tools;
use anyhow::{Context, Result, bail, ensure};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the server programs: where `initdb` on PATH really lies, else the newest of Debian's.
pub(crate) fn server_programs() -> Result<PathBuf> {
    if let Some(found) = tools::on_path("initdb")
        && let Ok(real) = found.canonicalize()
        && let Some(folder) = real.parent()
        && folder.join("postgres").is_file()
    {
        return Ok(folder.to_path_buf());
    }
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").is_file() && bin.join("postgres").is_file())
        .collect();
    versions.sort();
    match versions.pop() {
        Some((_, bin)) => Ok(bin),
        None => bail!(
            "initdb and postgres are neither on PATH nor in /usr/lib/postgresql/*/bin: \
             install the package postgresql (apt-get install postgresql)"
        ),
    }
}

/// Mirrors the installation of `bin` below `root`, adds the extensions of `extensions`, and returns the new program
/// folder.
///
/// Fails where the layout is not understood or `root` does not allow programs; the caller then uses `bin` as it is.
pub(crate) fn mirror(bin: &Path, root: &Path, extensions: &Path) -> Result<PathBuf> {
    let share = asked(bin, "--sharedir")?;
    let libraries = asked(bin, "--pkglibdir")?;
    let new_bin = below(root, bin);
    let new_share = below(root, &share);
    std::fs::create_dir_all(&new_bin)?;
    for program in ["postgres", "initdb"] {
        // A copy, not a link: the programs resolve links before they look around.
        std::fs::copy(bin.join(program), new_bin.join(program)).with_context(|| format!("copying {program}"))?;
    }
    link_all(&share, &new_share, &["extension"])?;
    link_all(&share.join("extension"), &new_share.join("extension"), &[])?;
    for file in std::fs::read_dir(extensions).with_context(|| format!("reading {}", extensions.display()))? {
        let file = file?;
        std::fs::copy(file.path(), new_share.join("extension").join(file.file_name()))?;
    }
    let new_libraries = below(root, &libraries);
    if let Some(parent) = new_libraries.parent() {
        std::fs::create_dir_all(parent)?;
    }
    symlink(&libraries, &new_libraries)?;
    let answer = Command::new(new_bin.join("postgres")).arg("--version").output().context("starting the copy")?;
    ensure!(answer.status.success(), "the copy of postgres does not start");
    Ok(new_bin)
}

/// One line of `pg_config`.
fn asked(bin: &Path, what: &str) -> Result<PathBuf> {
    let answer = Command::new(bin.join("pg_config")).arg(what).output().context("asking pg_config")?;
    ensure!(answer.status.success(), "pg_config {what} failed");
    Ok(PathBuf::from(String::from_utf8(answer.stdout)?.trim()))
}

fn below(root: &Path, absolute: &Path) -> PathBuf {
    root.join(absolute.strip_prefix("/").unwrap_or(absolute))
}

fn link_all(from: &Path, to: &Path, except: &[&str]) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let name = entry?.file_name();
        if !except.iter().any(|skipped| name == **skipped) {
            symlink(from.join(&name), to.join(&name))?;
        }
    }
    Ok(())
}
