//! What a task of mode wrap asks for, as the record keeps it: nothing of the command that could be a secret.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The mode of a migration that is somebody's own command; no message may ask for it.
pub const WRAP: &str = "wrap";

/// A wrapped command without its arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WrapSpec {
    mode: String,
    /// File name of the program.
    pub program: String,
    /// How many arguments it has.
    pub arguments: usize,
    /// SHA-256 over program and arguments, each behind its length, hexadecimal.
    pub argv_sha256: String,
}

impl WrapSpec {
    /// That of a command.
    pub fn new(program: &OsStr, args: &[OsString]) -> Self {
        let mut hasher = Sha256::new();
        for word in std::iter::once(program).chain(args.iter().map(OsString::as_os_str)) {
            hasher.update((word.len() as u64).to_le_bytes());
            hasher.update(word.as_bytes());
        }
        let file = Path::new(program).file_name().unwrap_or(program);
        WrapSpec {
            mode: WRAP.to_owned(),
            program: file.to_string_lossy().into_owned(),
            arguments: args.len(),
            argv_sha256: hex::encode(hasher.finalize()),
        }
    }

    /// What a task's spec asks for, where it is of mode wrap; whatever else it says.
    pub fn of(spec: &Value) -> Option<Self> {
        let is_wrap = spec.get("mode").and_then(Value::as_str) == Some(WRAP);
        is_wrap.then(|| serde_json::from_value(spec.clone()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::MigrateSpec;
    use serde_json::json;

    #[test]
    fn the_record_gets_no_argument_and_tells_commands_apart() {
        let spec = |program: &str, args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            WrapSpec::new(OsStr::new(program), &args)
        };
        let one = spec("/venv/bin/alembic", &["upgrade", "--password=s3cret"]);
        let value = serde_json::to_value(&one).expect("serializes");
        assert!(!value.to_string().contains("s3cret"), "{value}");
        assert_eq!((one.program.as_str(), one.arguments), ("alembic", 2));
        assert_eq!(WrapSpec::of(&value), Some(one.clone()));
        assert_ne!(one.argv_sha256, spec("/venv/bin/alembic", &["upgrade--password", "=s3cret"]).argv_sha256);
        assert_eq!(one, spec("/venv/bin/alembic", &["upgrade", "--password=s3cret"]));
    }

    #[test]
    fn only_mode_wrap_is_a_wrapped_command_and_no_migration() {
        for spec in [json!({}), json!({"to": "head", "mode": null}), json!({"mode": "in-place"}), json!(null)] {
            assert_eq!(WrapSpec::of(&spec), None, "{spec}");
        }
        // Whoever wrote that: no saga runs it.
        for spec in [json!({"to": "head", "mode": "wrap"}), json!({"mode": "wrap", "arguments": "many"})] {
            assert!(WrapSpec::of(&spec).is_some(), "{spec}");
        }
        let value = serde_json::to_value(WrapSpec::new(OsStr::new("alembic"), &[])).expect("serializes");
        assert!(serde_json::from_value::<MigrateSpec>(value).is_err(), "a saga would understand it");
    }
}
