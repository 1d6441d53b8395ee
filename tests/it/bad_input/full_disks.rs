//! No space left: in the store, in the spool, at the target.

use super::*;

/// About a MiB that does not compress.
fn incompressible() -> TestFile {
    let file = TestFile::named("big.db");
    file.sqlite3("CREATE TABLE t (b BLOB); INSERT INTO t VALUES (randomblob(1000000));");
    file
}

#[test]
fn a_full_store_is_told_and_the_next_backup_with_space_is_complete() {
    let source = incompressible();
    let agent = Agent::new().with_store(Some("file:small/store"));
    let url = source.url();
    let run = on_a_small_disk(
        &agent,
        500,
        &format!(
            "\"$@\" backup {url} --spool spool; echo code $?
             echo left $(find small/store -name 'manifest*' -o -path '*leases/*' -o -name '.tmp-*' | wc -l)
             \"$@\" list --json | tr -d '\\n'; echo
             mount -o remount,size=10m small
             id=$(\"$@\" backup {url} --spool spool); echo code $?
             \"$@\" verify && \"$@\" restore $id --into sqlite:restored.db; echo code $?"
        ),
    );
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines, ["code 1", "left 0", "[]", "code 0", "code 0"], "{}", run.stderr);
    says(&run, "no space left");
    says(&run, "hint: free space in the store, then run the same command again");
    assert_eq!(files(&agent.home().join("spool")).len(), 0);
    assert!(agent.home().join("restored.db").exists());
}

#[test]
fn a_full_target_is_told_and_nothing_is_left_there() {
    let source = incompressible();
    let agent = Agent::new();
    let id = agent.ok(&["backup", &source.url()]).stdout.trim().to_owned();
    let run = on_a_small_disk(
        &agent,
        500,
        &format!("\"$@\" restore {id} --into sqlite:small/new.db; echo code $?; echo left $(ls -A small)"),
    );
    assert_eq!(run.stdout, "code 1\nleft\n", "{}", run.stderr);
    says(&run, "no space left");
    says(&run, "the target was not touched");
    says(&run, "hint: free ");
}

#[test]
fn a_full_spool_is_told_and_nothing_is_left_there() {
    let source = incompressible();
    let agent = Agent::new();
    let run = on_a_small_disk(
        &agent,
        500,
        &format!("\"$@\" backup {} --spool small/spool; echo code $?; find small -type f", source.url()),
    );
    assert!(run.stdout == "code 1\n" || run.stdout == "code 3\n", "{}{}", run.stdout, run.stderr);
    says(&run, "no space left in the spool directory");
    assert_eq!(agent.json(&["list"]), serde_json::json!([]));
}

#[test]
fn a_full_disk_under_an_export_is_told_and_nothing_is_left_there() {
    let source = incompressible();
    let agent = Agent::new();
    let id = agent.ok(&["backup", &source.url()]).stdout.trim().to_owned();
    let run = on_a_small_disk(
        &agent,
        500,
        &format!("\"$@\" export {id} -o small/new.tar.gz; echo code $?; echo left $(ls -A small)"),
    );
    assert_eq!(run.stdout, "code 1\nleft\n", "{}", run.stderr);
    says(&run, "No space left");
}
