use super::*;

fn shell(script: &str) -> Subprocess {
    Subprocess::new(Path::new("/bin/sh")).arg("-c").arg(script)
}

#[tokio::test]
async fn output_is_kept_up_to_the_limit_and_the_rest_is_drained() {
    let done = shell("head -c 300000 /dev/zero; echo oops >&2; exit 3").keep(10).run().await.expect("runs");
    assert_eq!((done.status.code(), done.stdout.len(), done.stderr.as_str()), (Some(3), 10, "oops\n"));
}

#[tokio::test]
async fn input_reaches_the_program_however_much_it_is_and_whether_or_not_it_is_read() {
    let much = vec![b'x'; 3_000_000];
    let echoed = shell("cat").stdin(much.clone()).keep(4_000_000).run().await.expect("runs");
    assert!(echoed.stdout == much, "{} bytes came back", echoed.stdout.len());
    let unread = shell("exit 7").stdin(much).run().await.expect("runs");
    assert_eq!(unread.status.code(), Some(7));
    let nothing = shell("cat; echo end").run().await.expect("runs");
    assert_eq!(nothing.stdout, b"end\n");
    assert!(!format!("{:?}", shell("cat").stdin(b"s3cret".to_vec())).contains("s3cret"));
}

#[tokio::test]
async fn the_environment_holds_only_what_was_given() {
    let done = shell("env").envs([("PGPASSWORD", "s3cret")]).run().await.expect("runs");
    let text = String::from_utf8(done.stdout).expect("text");
    assert!(text.contains("PGPASSWORD=s3cret") && !text.contains("CARGO"), "{text}");
    assert!(!format!("{:?}", shell("env").envs([("PGPASSWORD", "s3cret")])).contains("s3cret"));
}

#[tokio::test]
async fn the_deadline_ends_grandchildren_too() {
    let folder = tempfile::tempdir().expect("folder");
    let pid = folder.path().join("pid");
    let script = format!("sleep 600 & echo $! > '{}'; wait", pid.display());
    let error = shell(&script).deadline(Duration::from_secs(2)).run().await.expect_err("too slow");
    assert!(matches!(error, SubprocessError::Deadline { .. }), "{error}");
    let pid = std::fs::read_to_string(pid).expect("pid");
    let gone = async {
        // Signals are delivered in their own time.
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the grandchild still runs");
}

fn watch(job: &str) -> Watch {
    Watch {
        job: job.to_owned(),
        cap_bytes: 1000,
        scrubber: Scrubber::default(),
        begun: Box::new(|_, _| {}),
        stop: Box::pin(std::future::pending()),
    }
}

/// A value nobody else bears.
fn job(test: &str) -> String {
    format!("{test}-{}", std::process::id())
}

/// Whether a process runs; one that nobody waited for yet does not.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z")
}

#[tokio::test]
async fn a_daemon_that_left_its_session_and_holds_the_pipes_is_ended() {
    let script = "echo begin; setsid sh -c 'echo $$; exec sleep 600' & wait_for=$!; sleep 0.2; exit 3";
    let (heard, begun) = std::sync::mpsc::channel();
    let watch =
        Watch { begun: Box::new(move |pid, ticks| heard.send((pid, ticks)).expect("heard")), ..watch(&job("daemon")) };
    let done = shell(script).watch(watch).await.expect("runs");
    assert_eq!((done.status.code(), done.strays, done.ended_early.as_deref()), (Some(3), 1, None));
    let pid = done.log.lines().nth(1).expect("the daemon's id").to_owned();
    // A signal that was sent arrives in its own time.
    let asked = std::time::Instant::now();
    while runs(&pid) {
        assert!(asked.elapsed() < Duration::from_secs(20), "{pid} still runs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(done.duration < Duration::from_secs(60), "{:?}", done.duration);
    let (pid, ticks) = begun.recv().expect("told");
    assert!(pid > 1 && ticks > 0);
    assert_eq!(end_tagged(&job("daemon")).expect("looked"), 0);
}

#[tokio::test]
async fn who_does_not_end_when_asked_is_killed() {
    let stop = Box::pin(async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "asked to".to_owned()
    });
    let script = "trap 'echo no' TERM; echo begin; while true; do sleep 0.1; done";
    let done = shell(script).watch(Watch { stop, ..watch(&job("stubborn")) }).await.expect("runs");
    assert_eq!((done.status.code(), done.ended_early.as_deref()), (None, Some("asked to")));
    assert!(done.log.starts_with("begin\n") && done.log.contains("no\n"), "{}", done.log);
    let late = shell("sleep 600").deadline(Duration::from_millis(200)).watch(watch(&job("late"))).await.expect("runs");
    assert_eq!(late.ended_early.as_deref(), Some("stopped: it did not end within 0 s"));
}

#[tokio::test]
async fn dropping_the_watch_ends_everything_at_once() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("pid");
    let script = format!("setsid sh -c 'echo $$ > {}; exec sleep 600' & wait", file.display());
    let program = shell(&script).watch(watch(&job("dropped")));
    let written = async {
        while !std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n')) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        done = program => panic!("it ended: {done:?}"),
        () = written => {}
    }
    let pid = std::fs::read_to_string(&file).expect("pid");
    assert!(!runs(&pid), "{pid}");
}

#[tokio::test]
async fn a_gibibyte_of_output_is_cut_in_the_middle() {
    let script = "echo first; head -c 1073741824 /dev/zero; echo; echo last";
    let done = shell(script).watch(watch(&job("much"))).await.expect("runs");
    assert!(done.log.starts_with("first\n") && done.log.ends_with("last\n"), "{:?}", &done.log[..20]);
    assert!(done.log.len() < 10_000 && !done.log.contains('\0'), "{} bytes", done.log.len());
    assert!(done.log.contains(&format!("… {} bytes left out …", 1_073_741_824u64 + 12 - 2000)), "{}", done.log.len());
}
