//! Calls of the system as `strace -f -y` writes them down.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The calls that write local files.
pub const WRITING: &[&str] = &[
    "openat",
    "write",
    "pwrite64",
    "ftruncate",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "chmod",
    "fchmod",
    "chown",
    "fchown",
];

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub thread: u32,
    pub name: String,
    /// All that stands between the brackets.
    pub arguments: String,
    /// What stands behind the equals sign; `?` where the thread was killed in the call.
    pub result: String,
}

impl Call {
    /// Whether `strace` made it fail.
    pub fn is_injected(&self) -> bool {
        self.result.ends_with("(INJECTED)")
    }

    /// Whether it did what it should.
    pub fn is_done(&self) -> bool {
        !self.result.starts_with('-') && !self.result.starts_with('?')
    }

    /// The file it is about: by the path given, or by the descriptor.
    pub fn path(&self) -> Option<PathBuf> {
        let descriptor = self
            .arguments
            .split_once('<')
            .filter(|(before, _)| before.bytes().all(|byte| byte.is_ascii_digit()) || *before == "AT_FDCWD");
        let folder = descriptor.and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path);
        let takes_path =
            !["write", "pwrite64", "ftruncate", "fsync", "fdatasync", "fchmod", "fchown"].contains(&self.name.as_str());
        let path = match (folder, takes_path.then(|| self.quoted(0)).flatten()) {
            (folder, Some(name)) => Path::new(folder.unwrap_or_default()).join(name),
            (Some(path), None) => path.into(),
            (None, None) => return None,
        };
        path.is_absolute().then_some(path)
    }

    /// The second path of a link or a rename.
    pub fn new_name(&self) -> Option<&str> {
        self.quoted(1)
    }

    /// Whether the call can change a file: an open that only reads does not.
    pub fn writes(&self) -> bool {
        self.name != "openat" || ["O_CREAT", "O_WRONLY", "O_RDWR"].iter().any(|flag| self.arguments.contains(flag))
    }

    /// The n-th text in quotes. Paths of these tests hold no quotes.
    fn quoted(&self, number: usize) -> Option<&str> {
        self.arguments.split('"').nth(2 * number + 1)
    }
}

/// Reads the calls in the order in which they were begun.
pub fn read(file: &Path) -> Vec<Call> {
    let text = String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned();
    let mut calls: Vec<Call> = Vec::new();
    let mut unfinished: HashMap<u32, usize> = HashMap::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let (Ok(thread), rest) = (thread.parse(), rest.trim_start()) else { continue };
        if let Some((_, end)) = rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            if let Some(at) = unfinished.remove(&thread) {
                let (more, result) = end.rsplit_once(") ").map_or((end, ""), |(more, result)| (more, result));
                calls[at].arguments.push_str(more);
                calls[at].result = result.trim_start().trim_start_matches("= ").to_owned();
            }
            continue;
        }
        let Some((name, rest)) = rest.split_once('(') else { continue };
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let (arguments, result) = match rest.strip_suffix(" <unfinished ...>") {
            Some(arguments) => {
                unfinished.insert(thread, calls.len());
                // One that is never resumed belongs to a thread that was killed.
                (arguments, "?".to_owned())
            }
            None => match rest.rsplit_once(" = ") {
                Some((arguments, result)) => (arguments.trim_end().trim_end_matches(')'), result.to_owned()),
                None => continue,
            },
        };
        calls.push(Call { thread, name: name.to_owned(), arguments: arguments.to_owned(), result });
    }
    calls
}

#[test]
fn calls_are_read_whether_or_not_others_came_between() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls");
    let text = "\
12 openat(AT_FDCWD</h>, \"/h/a\", O_RDWR|O_CREAT, 0600) = 9</h/a>
12 write(9</h/a>, \"x = \\\"1\\\"\", 7 <unfinished ...>
13 unlinkat(15</h/jobs>, \"b\", 0)        = -1 EIO (Input/output error) (INJECTED)
12 <... write resumed>)              = 7
12 linkat(AT_FDCWD</h>, \"/h/a\", AT_FDCWD</h>, \"/h/c\", 0) = 0
13 fsync(9</h/a>)                       = ?
13 write(3<socket:[7]>, \"y\", 1)         = 1
12 +++ exited with 0 +++
";
    std::fs::write(&file, text).unwrap();
    let calls = read(&file);
    let paths: Vec<_> = calls.iter().map(|call| (call.name.as_str(), call.path())).collect();
    let expected = [
        ("openat", Some("/h/a")),
        ("write", Some("/h/a")),
        ("unlinkat", Some("/h/jobs/b")),
        ("linkat", Some("/h/a")),
        ("fsync", Some("/h/a")),
        ("write", None),
    ];
    assert_eq!(paths, expected.map(|(name, path)| (name, path.map(PathBuf::from))));
    assert!(calls[1].is_done() && calls[1].result == "7", "{:?}", calls[1]);
    assert!(calls[2].is_injected() && !calls[2].is_done());
    assert_eq!(calls[3].new_name(), Some("/h/c"));
    assert!(!calls[4].is_done());
}
