//! Makes the golden repositories of `tests/golden`; run by `ops/make-golden`, once for each version of the format.

use std::path::Path;
use tests::agent::Agent;
use tests::golden::{STATES, advance_postgres, advance_sqlite, golden, postgres_text, sqlite_text};
use tests::postgres::TestDatabase;
use tests::sqlite::TestFile;

/// The format's version, as in the names of the folders.
const VERSION: u32 = 1;

fn main() {
    for codec in ["gzip", "zstd"] {
        let folder = golden(&format!("v{VERSION}-{codec}"));
        assert!(!folder.exists(), "{} exists: a golden repository is never written again", folder.display());
        make(codec, &folder);
        println!("made {}", folder.display());
    }
}

fn make(codec: &str, folder: &Path) {
    let store = format!("file:{}", folder.display());
    let agent = Agent::new().with_store(Some(&store));
    agent.ok(&["init", "--codec", codec]);
    let (sqlite, postgres) = (TestFile::named("golden.sqlite"), TestDatabase::new());
    let expected = golden(&format!("expected-v{VERSION}"));
    std::fs::create_dir_all(&expected).expect("the folder of expected texts can be made");
    let write = |name: String, text: String| {
        std::fs::write(expected.join(name), text).expect("an expected text can be written");
    };
    for state in STATES {
        advance_sqlite(&sqlite, state);
        advance_postgres(&postgres, state);
        agent.ok(&["backup", &sqlite.url(), "--name", "lite"]);
        agent.ok(&["backup", &postgres.url(), "--name", "big"]);
        write(format!("sqlite-{state}.txt"), sqlite_text(&sqlite.path()));
        write(format!("postgres-{state}.txt"), postgres_text(&postgres));
    }
    // The newest of each is proven, the first is not.
    agent.ok(&["drill", "lite"]);
    agent.ok(&["drill", "big", "--scratch", &TestDatabase::reserved().url()]);
    agent.ok(&["verify"]);
}
