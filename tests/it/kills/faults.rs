//! What the kills and the sweeps found once, each on its own: the sweeps pass over these, so that they find what else
//! there is.

use crate::kills::common::{names, shop};
use crate::kills::syscalls::calls::{Call, read};
use std::path::Path;
use std::time::Duration;
use tests::agent::Agent;
use tests::postgres::{TestDatabase, literal, on_server};
use tests::sqlite::{TestFile, sqlite_differences, sqlite_dump_text, sqlite3};
use tests::strace::{Tracer, traced};

/// A program whose store has one backup of this file.
#[track_caller]
fn stored(source: &TestFile) -> (Agent, String) {
    let agent = Agent::new();
    let id = agent.ok(&["backup", &source.url()]).stdout.trim().to_owned();
    (agent, id)
}

/// Asserts that the last flush of a folder did its work, whatever came of those before it.
#[track_caller]
fn assert_flushed_in_the_end(folder: &Path, traces: &[&Path]) {
    let calls: Vec<_> = traces.iter().flat_map(|trace| read(trace)).collect();
    let mut flushes = calls.iter().filter(|call| call.name == "fsync" && call.path().as_deref() == Some(folder));
    let last = flushes.next_back().unwrap_or_else(|| panic!("{} was never flushed", folder.display()));
    assert!(last.is_done(), "{} holds a new name, and its last flush failed: {last:?}", folder.display());
}

/// A flush of a folder fails after an object was given its name there. The store tries again, finds its own object, and
/// must flush the folder before it says that the object is stored.
#[test]
fn an_object_counts_as_stored_only_when_its_folder_was_flushed() {
    let source = shop(4096, 100);
    let (agent, id) = stored(&source);
    let folder = agent.store_dir().join("marks").join(&id);
    let (first, second) = (agent.home().join("first"), agent.home().join("second"));
    let mut running =
        agent.start_and_stop_at("mark: before it is written", &["restore", &id, "--into", "sqlite:new.db"]);
    let only_the_folder = ["-P", folder.to_str().unwrap(), "-e", "trace=fsync"];
    let mut options = only_the_folder.to_vec();
    options.extend(["-e", "inject=fsync:error=EIO:when=1"]);
    let mut tracer = Tracer::attach(running.pid(), &first, &options);
    running.signal("CONT");
    while !tracer.so_far().contains("(INJECTED)") {
        assert!(running.is_running(), "it ended without a flush of {}", folder.display());
        std::thread::sleep(Duration::from_millis(1));
    }
    // From here on nothing fails any more. Until it has stopped, a second try may fail as the first one did.
    running.signal("STOP");
    tracer.detach();
    let tracer = Tracer::attach(running.pid(), &second, &only_the_folder);
    running.signal("CONT");
    let run = running.wait().expect_code(0);
    drop(tracer);
    if !run.stderr.contains("the store could not be told") {
        assert_flushed_in_the_end(&folder, &[&first, &second]);
    }
}

/// The folder cannot be flushed after the target got its name: what is said must fit what is there.
#[test]
fn a_restore_does_not_say_that_its_target_has_no_name_when_it_has() {
    let source = shop(4096, 100);
    let (agent, id) = stored(&source);
    let folder = agent.home().join("out");
    std::fs::create_dir(&folder).unwrap();
    let arguments = ["restore", &id, "--into", "sqlite:out/new.db"];
    let options = ["-P", folder.to_str().unwrap(), "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1"];
    let run = traced(&agent.command(&arguments), &agent.home().join("calls"), &options).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{said}");
    let target = folder.join("new.db");
    assert_eq!(sqlite_differences(&source.dump_text(), &sqlite_dump_text(&target)), Vec::<String>::new());
    assert_eq!(names(&folder, ""), ["new.db"]);
    assert!(!said.contains("could not be given its name"), "{said}");
}

/// Killed between the link that gives the name and the end of the other name.
#[test]
fn a_restore_killed_when_its_target_had_its_name_leaves_no_second_name_for_ever() {
    let source = shop(4096, 100);
    let (agent, id) = stored(&source);
    let arguments = ["restore", &id, "--into", "sqlite:new.db"];
    let options = ["-e", "trace=unlink", "-e", "inject=unlink:signal=SIGKILL:when=1"];
    let run = traced(&agent.command(&arguments), &agent.home().join("calls"), &options).output().unwrap();
    assert_eq!(run.status.code(), None);
    let left = names(agent.home(), "new.db");
    assert!(left.len() == 2 && left[0] == "new.db", "it was killed elsewhere: {left:?}");
    agent.run(&arguments).expect_code(3);
    assert_eq!(names(agent.home(), "new.db"), ["new.db"]);
}

/// A restore in place keeps what it replaces; a power cut after it must find that on the disk.
#[test]
fn what_a_restore_in_place_replaces_is_flushed_before_it_is_replaced() {
    let agent = Agent::new().with_config("[database.shop]\nurl = \"sqlite:shop.db\"\n");
    std::fs::copy(shop(4096, 100).path(), agent.home().join("shop.db")).unwrap();
    agent.ok(&["backup", "shop"]);
    sqlite3(&agent.home().join("shop.db"), "DELETE FROM t WHERE id > 50").unwrap();
    let arguments = ["restore", "shop", "--at", "latest", "--in-place", "--yes"];
    let output = agent.home().join("calls");
    let run = traced(&agent.command(&arguments), &output, &["-e", "trace=fsync,fdatasync,pwrite64"]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let calls = read(&output);
    let is_of = |call: &Call, name: &str| call.path().is_some_and(|path| path.display().to_string().contains(name));
    let database = agent.home().join("shop.db");
    let replaced = calls.iter().position(|call| call.name == "pwrite64" && call.path().as_ref() == Some(&database));
    let before = &calls[..replaced.expect("the database is written")];
    let copied = before.iter().filter(|call| is_of(call, "shop.db.replaced-") && call.name == "pwrite64").count();
    assert!(copied > 0, "the copy is not written by pwrite64 any more");
    let is_flush = |call: &&Call| is_of(call, "shop.db.replaced-") && call.name.ends_with("sync") && call.is_done();
    assert!(before.iter().any(|call| is_flush(&call)), "{copied} writes of the copy, and no flush");
}

/// Killed while the server makes the database beside the target, which is then never marked as an unfinished restore.
#[test]
fn a_restore_killed_while_the_server_makes_its_database_leaves_it_to_the_next_one() {
    let source = TestDatabase::new();
    source.psql("CREATE TABLE t (id int)");
    let agent = Agent::new();
    let id = agent.ok(&["backup", &source.url(), "--name", "shop"]).stdout.trim().to_owned();
    let target = TestDatabase::reserved();
    let url = target.url();
    let arguments = ["restore", &id, "--into", &url];
    let beside = format!(
        "SELECT datname FROM pg_database WHERE starts_with(datname, {} || '__restoring_') ORDER BY 1",
        literal(target.name())
    );
    let mut running = agent.start_and_stop_at("task log: after a task is submitted and claimed", &arguments);
    // Whatever it asks the server for is asked a moment later, so that the database is seen before it is marked.
    let slowly = ["-e", "trace=sendto", "-e", "inject=sendto:delay_enter=200000"];
    let tracer = Tracer::attach(running.pid(), &agent.home().join("calls"), &slowly);
    running.signal("CONT");
    while on_server(&beside).is_empty() {
        assert!(running.is_running(), "it ended without a database beside its target");
    }
    running.kill();
    drop(tracer);
    let marked = beside.replace("WHERE", "WHERE shobj_description(oid, 'pg_database') IS NOT NULL AND");
    assert_eq!(on_server(&marked), "", "it was killed too late");
    agent.ok(&arguments);
    let left: Vec<String> = on_server(&beside).lines().map(str::to_owned).collect();
    for name in &left {
        on_server(&format!("DROP DATABASE \"{name}\""));
    }
    assert_eq!(left, Vec::<String>::new(), "left for ever");
}
