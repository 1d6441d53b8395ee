//! The story as part of the demo's; and the accident that happens in it.

use crate::story::Story;
use backup_agent::cli::put_line;
use rusqlite::{Connection, OpenFlags};
use shared::model::JobId;
use shared::subprocess;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Kills the tool while it is applied.
pub struct Accident {
    /// When this version is in, and before the next one is.
    pub after_version: i64,
}

/// Prints the story, indented.
pub struct Narrator {
    job: JobId,
    /// The copy that the tool works on when it counts.
    copy: PathBuf,
    accident: Option<Accident>,
}

/// How long the tool may take to come to the accident.
const PATIENCE: Duration = Duration::from_secs(30);

impl Narrator {
    /// Tells of `job`, whose folder is `folder`.
    pub fn new(job: JobId, folder: &Path, accident: Option<Accident>) -> Self {
        Narrator { job, copy: folder.join("apply").join(super::files::DATABASE), accident }
    }
}

impl Story for Narrator {
    fn head(&self, line: &str) {
        put_line(&format!("   {line}"));
    }

    fn begins(&self, step: &'static str) {
        if let Some(accident) = self.accident.as_ref().filter(|_| step == "apply") {
            let (job, copy, version) = (self.job, self.copy.clone(), accident.after_version);
            std::thread::spawn(move || kill_half_way(&job, &copy, version));
        }
    }

    fn step(&self, step: &'static str, said: &str, took: Duration) {
        put_line(&format!("   {step:<10} {said:<60} {:>6.2} s", took.as_secs_f64()));
    }

    fn detail(&self, line: &str) {
        put_line(&format!("                {line}"));
    }

    fn end(&self, line: &str) {
        line.lines().for_each(|line| put_line(&format!("   {line}")));
    }

    fn bytes(&self, _bytes: u64) {}
}

/// Waits until the copy shows `version`, then ends the tool the hard way.
fn kill_half_way(job: &JobId, copy: &Path, version: i64) {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if newest(copy).is_ok_and(|newest| newest == version) {
            // Where that fails the tool ends by itself, and the demo says that it ended otherwise than it should.
            if let Ok(1..) = subprocess::end_tagged(&job.to_string()) {
                put_line("   kill -9    the first file was in, the second under way");
            }
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The newest version that is in.
fn newest(copy: &Path) -> rusqlite::Result<i64> {
    let connection = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.query_row("SELECT max(version) FROM _sqlx_migrations WHERE success", [], |row| row.get(0))
}
