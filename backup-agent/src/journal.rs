//! The local journal of a task that must be finished or taken back, never left half done.
//!
//! One file a task, a note a line, flushed to the disk before the step it announces. It needs neither store nor record,
//! so the way back does not either; the record gets a copy ([`ledger`]), so that another machine can go on too.

pub mod ledger;

use jiff::Timestamp;
use serde_json::Value;
use shared::model::{JobId, Phase, StepNote};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Folder of the journals in the spool.
const FOLDER: &str = "journal";

/// The journal of one task.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    notes: Vec<StepNote>,
}

impl Journal {
    /// Opens the journal of `job` in `spool`, or begins it. A last line that a crash cut off is taken away: what it
    /// announced was not begun.
    pub fn open(spool: &Path, job: &JobId) -> io::Result<Self> {
        let folder = spool.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let path = file_of(&folder, job);
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
        let (notes, whole) = parse(&fs::read(&path)?)?;
        file.set_len(whole)?;
        file.sync_all()?;
        File::open(&folder)?.sync_all()?;
        Ok(Journal { path, file, notes })
    }

    /// Everything noted, in order.
    pub fn notes(&self) -> &[StepNote] {
        &self.notes
    }

    /// Adds a note; it is on the disk when this returns.
    pub fn append(
        &mut self,
        epoch: u64,
        at: Timestamp,
        step: &str,
        phase: Phase,
        data: Value,
    ) -> io::Result<&StepNote> {
        let seq = self.notes.last().map_or(1, |note| note.seq + 1);
        self.add(StepNote { seq, epoch, at, step: step.to_owned(), phase, data })
    }

    /// Takes over notes that another machine made of the same task and this one does not have.
    pub fn adopt(&mut self, noted: Vec<StepNote>) -> io::Result<()> {
        let known = self.notes.last().map_or(0, |note| note.seq);
        for note in noted.into_iter().filter(|note| note.seq > known) {
            self.add(note)?;
        }
        Ok(())
    }

    fn add(&mut self, note: StepNote) -> io::Result<&StepNote> {
        let mut line = serde_json::to_vec(&note)?;
        line.push(b'\n');
        // One write: a crash leaves a beginning of the line, or all of it.
        self.file.write_all(&line)?;
        self.file.sync_all()?;
        let at = self.notes.len();
        self.notes.push(note);
        Ok(&self.notes[at])
    }

    /// Removes the file: the record knows all there is to know. Nothing may be added afterwards.
    pub fn unlink(&self) -> io::Result<()> {
        gone(fs::remove_file(&self.path))
    }
}

/// Removes the journal of a task whose end the record knows, where its worker was lost before it could.
pub fn discard(spool: &Path, job: &JobId) -> io::Result<()> {
    gone(fs::remove_file(file_of(&spool.join(FOLDER), job)))
}

/// That a file is not there is what was wanted.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The folder in `spool` for everything else a task makes besides databases.
pub fn folder_of(spool: &Path, job: &JobId) -> PathBuf {
    spool.join("jobs").join(job.to_string())
}

/// The tasks that have a journal in `spool`.
pub fn open_jobs(spool: &Path) -> io::Result<Vec<JobId>> {
    let entries = match fs::read_dir(spool.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut jobs = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        jobs.extend(name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.parse::<JobId>().ok()));
    }
    jobs.sort();
    Ok(jobs)
}

fn file_of(folder: &Path, job: &JobId) -> PathBuf {
    folder.join(format!("{job}.jsonl"))
}

/// The notes and the length of what could be read. Only the last line may be incomplete; anything else is damage.
fn parse(bytes: &[u8]) -> io::Result<(Vec<StepNote>, u64)> {
    let mut notes: Vec<StepNote> = Vec::new();
    let mut whole = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        let note: StepNote = serde_json::from_slice(line).map_err(|error| {
            io::Error::other(format!("line {} of the journal is damaged: {error}", notes.len() + 1))
        })?;
        if notes.last().is_some_and(|last| note.seq <= last.seq) {
            return Err(io::Error::other(format!("line {} of the journal is out of order", notes.len() + 1)));
        }
        notes.push(note);
        whole += line.len() as u64;
    }
    Ok((notes, whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn notes_are_read_back_and_a_line_that_was_cut_off_is_forgotten() {
        let spool = tempfile::tempdir().expect("folder");
        let job = JobId::random();
        let mut journal = Journal::open(spool.path(), &job).expect("opens");
        journal.append(1, Timestamp::UNIX_EPOCH, "apply", Phase::Intent, json!({"backup": "x"})).expect("writes");
        journal.append(1, Timestamp::UNIX_EPOCH, "apply", Phase::Done, json!(null)).expect("writes");
        let path = file_of(&spool.path().join(FOLDER), &job);
        let whole = fs::read(&path).expect("there");
        for cut in 1..whole.len() {
            fs::write(&path, &whole[..cut]).expect("writes");
            let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            let mut again = Journal::open(spool.path(), &job).expect("a cut end is no damage");
            assert_eq!(again.notes().len(), lines, "{cut}");
            let seq = again.append(2, Timestamp::UNIX_EPOCH, "next", Phase::Intent, json!(null)).expect("writes").seq;
            assert_eq!(seq, lines as u64 + 1);
            assert_eq!(Journal::open(spool.path(), &job).expect("opens").notes().len(), lines + 1);
        }
        assert_eq!(open_jobs(spool.path()).expect("lists"), [job]);
        let mut torn = whole.clone();
        torn[3] = b'#';
        fs::write(&path, torn).expect("writes");
        assert!(Journal::open(spool.path(), &job).is_err(), "damage in the middle is not passed over");
    }

    #[test]
    fn notes_of_another_machine_are_taken_over_once() {
        let spool = tempfile::tempdir().expect("folder");
        let mut journal = Journal::open(spool.path(), &JobId::random()).expect("opens");
        let note = |seq| StepNote {
            seq,
            epoch: 1,
            at: Timestamp::UNIX_EPOCH,
            step: "fence".into(),
            phase: Phase::Done,
            data: json!({}),
        };
        journal.adopt(vec![note(1), note(2)]).expect("writes");
        journal.adopt(vec![note(1), note(2), note(3)]).expect("writes");
        assert_eq!(journal.notes().iter().map(|note| note.seq).collect::<Vec<_>>(), [1, 2, 3]);
    }
}
