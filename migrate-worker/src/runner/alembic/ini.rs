//! The generated `alembic.ini`: the project's own, with another address.

use crate::runner::RunnerError;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The key that holds the address.
const KEY: &str = "sqlalchemy.url";

/// A project's `alembic.ini`.
pub(super) struct Ini {
    text: String,
}

/// A file that only this user can read, in a directory of its own; removed with the value.
pub(super) struct Generated {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Generated {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Ini {
    pub(super) fn read(path: &Path) -> Result<Self, RunnerError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| RunnerError::new(format!("{} cannot be read: {error}", path.display())))?;
        Ok(Ini { text })
    }

    /// What stands before `://` in the project's own address, `postgresql+psycopg` for example.
    pub(super) fn driver(&self) -> Option<String> {
        let value = self.text.lines().find_map(address_in)?;
        let (driver, _) = value.split_once("://")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '_';
        driver.chars().all(plain).then(|| driver.to_owned())
    }

    /// Writes the file for one database. `here` is the directory of the project's own file.
    pub(super) fn write(&self, here: &Path, address: &str) -> Result<Generated, RunnerError> {
        let failed =
            |error: std::io::Error| RunnerError::new(format!("a private alembic.ini cannot be written: {error}"));
        let here = here.to_str().ok_or_else(|| RunnerError::new("the directory's name is no UTF-8 text"))?;
        let folder = tempfile::Builder::new().prefix("holdfast-alembic-").tempdir().map_err(failed)?;
        let path = folder.path().join("alembic.ini");
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        file.write_all(self.with(here, address).as_bytes()).map_err(failed)?;
        Ok(Generated { path, _folder: folder })
    }

    fn with(&self, here: &str, address: &str) -> String {
        let ours = format!("{KEY} = {}\n", address.replace('%', "%%"));
        let here = here.replace('%', "%%");
        let mut text = String::new();
        // In the value we replaced, so that the lines it goes on in are left out too.
        let mut skipping = false;
        let mut in_alembic = false;
        let mut told = false;
        for line in self.text.lines() {
            if skipping && line.starts_with([' ', '\t']) && !line.trim().is_empty() {
                continue;
            }
            skipping = address_in(line).is_some();
            if line.starts_with('[') {
                if in_alembic && !told {
                    text.push_str(&ours);
                }
                in_alembic = line.trim_end() == "[alembic]";
                told &= !in_alembic;
            }
            if skipping {
                text.push_str(&ours);
                told |= in_alembic;
            } else {
                text.push_str(&with_here(line, &here));
                text.push('\n');
            }
        }
        if in_alembic && !told {
            text.push_str(&ours);
        } else if !self.text.lines().any(|line| line.trim_end() == "[alembic]") {
            text.push_str(&format!("[alembic]\n{ours}"));
        }
        text
    }
}

/// The value of a line that holds the address.
fn address_in(line: &str) -> Option<&str> {
    let rest = line.get(..KEY.len()).filter(|key| key.eq_ignore_ascii_case(KEY)).and_then(|_| line.get(KEY.len()..))?;
    rest.trim_start().strip_prefix(['=', ':']).map(str::trim)
}

/// Puts the original directory in the place of `%(here)s`, which would be that of the generated file; `%%(here)s` is text.
fn with_here(line: &str, here: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (taken, put) = if rest.starts_with("%%") {
            (2, "%%")
        } else if rest.starts_with("%(here)s") {
            ("%(here)s".len(), here)
        } else {
            (1, "%")
        };
        out.push_str(put);
        rest = &rest[taken..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> String {
        Ini { text: text.to_owned() }.with("/srv/a%b", "postgresql://u:p%40@h/d")
    }

    #[test]
    fn every_address_is_replaced_and_the_rest_stays() {
        let own = "[DEFAULT]\nx = %%(here)s %(here)s/y\n[alembic]\nscript_location = %(here)s/m\nfile_template = %%(rev)s\n\
                   SQLAlchemy.URL=postgresql+psycopg://x\n   /more\n# sqlalchemy.url = old\n[two]\nsqlalchemy.url : z\n";
        let expected = "[DEFAULT]\nx = %%(here)s /srv/a%%b/y\n[alembic]\nscript_location = /srv/a%%b/m\n\
                        file_template = %%(rev)s\nsqlalchemy.url = postgresql://u:p%%40@h/d\n# sqlalchemy.url = old\n[two]\n\
                        sqlalchemy.url = postgresql://u:p%%40@h/d\n";
        assert_eq!(made(own), expected);
        assert_eq!(Ini { text: own.to_owned() }.driver().as_deref(), Some("postgresql+psycopg"));
    }

    #[test]
    fn a_missing_address_is_added() {
        let url = "sqlalchemy.url = postgresql://u:p%%40@h/d\n";
        assert_eq!(made("[alembic]\na = b\n[x]\nc = d"), format!("[alembic]\na = b\n{url}[x]\nc = d\n"));
        assert_eq!(made("[alembic]\na = b"), format!("[alembic]\na = b\n{url}"));
        assert_eq!(made("[x]\nc = d\n"), format!("[x]\nc = d\n[alembic]\n{url}"));
    }
}
