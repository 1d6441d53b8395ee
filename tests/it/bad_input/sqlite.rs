//! What is no database, cannot be read, or cannot be restored into.

use super::*;
use tests::sqlite::{sqlite_differences, sqlite_dump_text};

#[test]
fn a_file_that_does_not_exist_is_named_by_its_absolute_path() {
    let agent = Agent::new();
    let run = refuses(&agent, &["backup", "sqlite:absent.db"], "no database file");
    says(&run, &text(agent.home().join("absent.db")));
    refuses(&agent, &["backup", "sqlite:no/such/folder/absent.db"], "no database file");
    misused(&agent, &["backup", "sqlite:."], "--name");
    assert_eq!(left(&agent), Vec::<String>::new());
}

#[test]
fn what_is_not_a_database_is_refused_and_not_touched() {
    let agent = Agent::new();
    let mut random = vec![0; 8192];
    getrandom::fill(&mut random).unwrap();
    let mut wrong_magic = std::fs::read(small().path()).unwrap();
    wrong_magic[3] ^= 1;
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("empty", Vec::new(), "is empty (0 bytes): not an SQLite database"),
        ("one-byte", vec![b'S'], "has 1 bytes only: not an SQLite database"),
        ("text", b"id,name\n1,one\n".repeat(100), "is not an SQLite database"),
        ("wrong-magic", wrong_magic, "is not an SQLite database"),
        ("encrypted", random, "is not an SQLite database, or it is encrypted"),
    ];
    for (name, bytes, why) in &cases {
        let path = agent.home().join(format!("{name}.db"));
        std::fs::write(&path, bytes).unwrap();
        let run = refuses(&agent, &["backup", &format!("sqlite:{name}.db")], why);
        says(&run, &text(&path));
        assert_eq!(&std::fs::read(&path).unwrap(), bytes, "{name}");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(left(&agent), Vec::<String>::new(), "{name}");
    }
    std::fs::create_dir(agent.home().join("folder.db")).unwrap();
    refuses(&agent, &["backup", "sqlite:folder.db"], "is a directory");
    assert_eq!(left(&agent), ["folder.db"]);
}

#[test]
fn a_database_this_user_may_not_read_is_refused() {
    let agent = Agent::new();
    let path = agent.home().join("closed.db");
    std::fs::copy(small().path(), &path).unwrap();
    set_mode(&path, 0o000);
    let run = unprivileged(&agent, &["backup", "sqlite:closed.db"]).expect_code(3);
    says(&run, "cannot be opened");
    says(&run, "mode 000");
    says(&run, "hint: give this user read permission");
    let folder = agent.home().join("closed");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(small().path(), folder.join("in.db")).unwrap();
    set_mode(&folder, 0o000);
    let run = unprivileged(&agent, &["backup", "sqlite:closed/in.db"]).expect_code(3);
    says(&run, "permission denied");
    set_mode(&folder, 0o700);
    assert_eq!(left(&agent), ["closed/in.db", "closed.db"]);
}

#[test]
fn a_target_that_holds_anything_is_refused_and_not_touched() {
    let (agent, source, id) = one_backup();
    let other = small();
    other.sqlite3("INSERT INTO t VALUES (3, 'precious')");
    let before = std::fs::read(other.path()).unwrap();
    let run = refuses(&agent, &["restore", &id, "--into", &other.url()], "it is not empty");
    says(&run, "it was not touched");
    says(&run, &text(other.path()));
    assert_eq!(std::fs::read(other.path()).unwrap(), before);

    // Into itself: the very database that was backed up.
    let before = source.dump_text();
    refuses(&agent, &["restore", &id, "--into", &source.url()], "it is not empty");
    assert_eq!(source.dump_text(), before);

    let folder = tempfile::tempdir().unwrap();
    for (name, why) in [("text.txt", "a file that is not an SQLite database is there"), ("folder", "is a directory")] {
        let path = folder.path().join(name);
        if name == "folder" {
            std::fs::create_dir(&path).unwrap()
        } else {
            std::fs::write(&path, "mine").unwrap()
        }
        refuses(&agent, &["restore", &id, "--into", &format!("sqlite:{}", path.display())], why);
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("text.txt")).unwrap(), "mine");
    refuses(&agent, &["restore", &id, "--into", "sqlite:no/such/new.db"], "its directory does not exist");
    assert_eq!(files(folder.path()).len(), 2);
}

#[test]
fn a_stale_log_beside_the_target_is_refused_and_kept() {
    let (agent, _source, id) = one_backup();
    for suffix in ["-wal", "-journal", "-shm"] {
        let stale = agent.home().join(format!("new.db{suffix}"));
        std::fs::write(&stale, "the last changes of a lost database").unwrap();
        let run = refuses(&agent, &["restore", &id, "--into", "sqlite:new.db"], "SQLite would mix it into");
        says(&run, &text(&stale));
        assert!(!agent.home().join("new.db").exists());
        assert_eq!(std::fs::read_to_string(&stale).unwrap(), "the last changes of a lost database");
        std::fs::remove_file(&stale).unwrap();
    }
    agent.ok(&["restore", &id, "--into", "sqlite:new.db"]);
}

#[test]
fn a_target_folder_that_may_not_be_written_is_refused() {
    let (agent, _source, id) = one_backup();
    let folder = agent.home().join("closed");
    std::fs::create_dir(&folder).unwrap();
    set_mode(&folder, 0o555);
    open_to_all(&agent.store_dir());
    let run = unprivileged(&agent, &["restore", &id, "--into", "sqlite:closed/new.db"]).expect_code(3);
    says(&run, "cannot write beside");
    assert!(files(&folder).is_empty());
}

fn open_to_all(folder: &Path) {
    set_mode(folder, 0o777);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { open_to_all(&path) } else { set_mode(&path, 0o666) }
    }
}

#[test]
fn wal_frames_links_and_a_busy_writer_do_not_disturb() {
    let agent = Agent::new();
    let source = TestFile::named("app.db");
    // A process that is killed leaves its frames in the log, not in the file.
    source.sqlite3("PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);");
    let (wal, kept) = (format!("{}-wal", text(source.path())), agent.home().join("kept-wal"));
    source.sqlite3(&format!(
        "PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES (2);\n.shell cp '{wal}' '{}'",
        kept.display()
    ));
    // Only the main file of before the insert, beside the frames of it.
    let torn = TestFile::named("torn.db");
    std::fs::copy(source.path(), torn.path()).unwrap();
    std::fs::copy(&kept, format!("{}-wal", text(torn.path()))).unwrap();
    std::os::unix::fs::symlink(torn.path(), agent.home().join("link.db")).unwrap();
    let id = agent.ok(&["backup", "sqlite:link.db"]).stdout.trim().to_owned();
    agent.ok(&["restore", &id, "--into", "sqlite:restored.db"]);
    let restored = sqlite_dump_text(&agent.home().join("restored.db"));
    assert_eq!(sqlite_differences(&torn.dump_text(), &restored), Vec::<String>::new());
    assert!(restored.contains("VALUES(2)"), "{restored}");
}
