//! What a task of kind migrate or rehearse asks for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Details of a migration. Never a command, an address, a path or SQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrateSpec {
    /// Where to: `head`, a revision, `+n`, `-n`, `base`.
    #[serde(default = "head")]
    pub to: String,
    /// The revision the database must stand at.
    #[serde(default)]
    pub expected_from: Option<String>,
    /// How: only the mode of the database's kind is known.
    #[serde(default)]
    pub mode: Option<String>,
    /// Data that may be lost: `TABLE` or `TABLE:COLUMN`.
    #[serde(default)]
    pub may_drop: Vec<String>,
    /// Going back to base is meant.
    #[serde(default)]
    pub yes: bool,
}

impl Default for MigrateSpec {
    fn default() -> Self {
        MigrateSpec { to: head(), expected_from: None, mode: None, may_drop: Vec::new(), yes: false }
    }
}

fn head() -> String {
    "head".to_owned()
}
