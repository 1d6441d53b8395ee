//! Everybody who is to be told of a task hears of it, in the form they know, and nobody else hears a secret.

use async_trait::async_trait;
use backup_agent::notify::{Limits, Notifier, Tally};
use jiff::{SignedDuration, Timestamp};
use shared::clock::Clock;
use shared::config::Config;
use shared::model::{JobId, NewTask, StepNote, Task, TaskDoor, TaskEvent, TaskKind, TaskReport, TaskState};
use shared::task_log::{
    Approval, Claimed, Delivered, Delivery, Ending, Renewal, StepLog, Submitted, TaskFilter, TaskLease, TaskLog,
    TaskLogError, TaskOutput, TaskProgress, Wanted, Worker,
};
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tests::fake_clock::FakeClock;
use tests::scripted_http::{Request, ScriptedHttp, reply};

/// The outbox of a TaskLog, and nothing else of it.
struct Outbox {
    clock: FakeClock,
    rows: Mutex<Vec<Row>>,
}

struct Row {
    delivery: Delivery,
    due: Timestamp,
    outcomes: Vec<Delivered>,
    is_settled: bool,
}

impl Outbox {
    fn new(clock: &FakeClock) -> Self {
        Outbox { clock: clock.clone(), rows: Mutex::default() }
    }

    fn put(&self, channel: &str, task: &Task, event: &TaskEvent) {
        let mut rows = self.rows.lock().unwrap();
        let (channel, event, task) = (channel.to_owned(), event.clone(), task.clone());
        let delivery = Delivery { id: rows.len() as i64, channel, event, task, attempts: 0 };
        rows.push(Row { delivery, due: self.clock.now(), outcomes: Vec::new(), is_settled: false });
    }

    fn outcomes(&self, id: usize) -> Vec<Delivered> {
        self.rows.lock().unwrap()[id].outcomes.clone()
    }

    /// Turns the clock to when the delivery is due next.
    fn wait_for(&self, id: usize) {
        let due = self.rows.lock().unwrap()[id].due;
        self.clock.advance_to(due);
    }
}

#[async_trait]
impl StepLog for Outbox {
    async fn note_step(&self, _: &TaskLease, _: &StepNote) -> Result<(), TaskLogError> {
        unreachable!()
    }
    async fn steps(&self, _: &JobId) -> Result<Vec<StepNote>, TaskLogError> {
        unreachable!()
    }
    async fn put_output(&self, _: &TaskLease, _: &str, _: &str) -> Result<(), TaskLogError> {
        unreachable!()
    }
    async fn outputs(&self, _: &JobId) -> Result<Vec<TaskOutput>, TaskLogError> {
        unreachable!()
    }
    async fn holder(&self, _: &JobId) -> Result<Option<(Worker, bool)>, TaskLogError> {
        unreachable!()
    }
    async fn take_stuck(&self, _: &JobId, _: &Worker, _: Duration) -> Result<Claimed, TaskLogError> {
        unreachable!()
    }
}

#[async_trait]
impl TaskLog for Outbox {
    async fn take_deliveries(&self, limit: u32, hold: Duration) -> Result<Vec<Delivery>, TaskLogError> {
        let now = self.clock.now();
        let mut rows = self.rows.lock().unwrap();
        let due = rows.iter_mut().filter(|row| !row.is_settled && row.due <= now).take(limit as usize);
        let taken = due.map(|row| {
            row.due = now + SignedDuration::try_from(hold).unwrap();
            // As the real one does: counted when taken, told as it was before.
            let taken = row.delivery.clone();
            row.delivery.attempts += 1;
            taken
        });
        Ok(taken.collect())
    }

    async fn delivered(&self, id: i64, outcome: &Delivered) -> Result<(), TaskLogError> {
        let mut rows = self.rows.lock().unwrap();
        let row = &mut rows[id as usize];
        assert!(!row.is_settled, "delivery {id} was settled before");
        row.outcomes.push(outcome.clone());
        match outcome {
            Delivered::Again { at, .. } => row.due = *at,
            _ => row.is_settled = true,
        }
        Ok(())
    }

    async fn submit(&self, _: &NewTask) -> Result<Submitted, TaskLogError> {
        unreachable!()
    }
    async fn submit_claimed(&self, _: &NewTask, _: &Worker, _: Duration) -> Result<Claimed, TaskLogError> {
        unreachable!()
    }
    async fn claim(&self, _: &Worker, _: &Wanted, _: Duration) -> Result<Option<Claimed>, TaskLogError> {
        unreachable!()
    }
    async fn renew(&self, _: &TaskLease, _: Duration, _: &TaskProgress) -> Result<Renewal, TaskLogError> {
        unreachable!()
    }
    async fn finish(&self, _: &TaskLease, _: &Ending) -> Result<(), TaskLogError> {
        unreachable!()
    }
    async fn wait_for_approval(&self, _: &TaskLease, _: &str, _: &TaskReport) -> Result<TaskState, TaskLogError> {
        unreachable!()
    }
    async fn approve(&self, _: &JobId, _: &Approval) -> Result<(), TaskLogError> {
        unreachable!()
    }
    async fn cancel(&self, _: &JobId, _: &str) -> Result<TaskState, TaskLogError> {
        unreachable!()
    }
    async fn tasks(&self, _: &TaskFilter) -> Result<Vec<Task>, TaskLogError> {
        unreachable!()
    }
    async fn events(&self, _: &JobId) -> Result<Vec<TaskEvent>, TaskLogError> {
        unreachable!()
    }
    async fn last_slot(&self, _: &str) -> Result<Option<Timestamp>, TaskLogError> {
        unreachable!()
    }
    async fn tidy(&self) -> Result<u64, TaskLogError> {
        unreachable!()
    }
    fn describe(&self) -> String {
        unreachable!()
    }
}

fn clock() -> FakeClock {
    FakeClock::at("2025-01-31T02:00:00Z".parse().unwrap())
}

fn task(kind: TaskKind, state: TaskState, clock: &FakeClock) -> Task {
    let error = (state != TaskState::Succeeded).then(|| "the disk of\nthe store is full".to_owned());
    Task {
        job_id: "01948f1c-0000-7000-8000-00000000002a".parse().unwrap(),
        kind,
        target: (kind != TaskKind::Prune).then(|| "shop".parse().unwrap()),
        state,
        step: None,
        spec: serde_json::json!({}),
        run_at: None,
        deadline_s: Some(43_200),
        priority: 4,
        attempt: 1,
        max_attempts: 3,
        door: TaskDoor::Schedule,
        requested_by: "schedule".into(),
        stuck_job: None,
        reply: None,
        plan: None,
        worker: None,
        is_lapsed: false,
        cancel_requested: false,
        created_at: clock.now(),
        started_at: Some(clock.now()),
        finished_at: state.is_terminal().then(|| clock.now()),
        report: TaskReport { error_message: error, rows: Some(7), ..TaskReport::default() },
    }
}

fn event(state: TaskState, clock: &FakeClock) -> TaskEvent {
    let seq = if state == TaskState::Running { 2 } else { 3 };
    TaskEvent { seq, at: clock.now(), what: state.to_string(), detail: String::new() }
}

fn notifier_in(folder: &Path, notify: &str) -> Result<Notifier, String> {
    let path = folder.join("holdfast.toml");
    let text = format!("[database.shop]\nurl = \"sqlite:shop.db\"\n[database.shop.notify]\n{notify}\n");
    std::fs::write(&path, text).unwrap();
    Notifier::new(&Config::load(Some(&path)).unwrap()).map_err(|error| error.to_string())
}

fn notifier(notify: &str) -> Notifier {
    let folder = tempfile::tempdir().unwrap();
    notifier_in(folder.path(), notify).unwrap()
}

/// Puts one event into the outbox and lets it be delivered.
async fn deliver(notifier: &Notifier, channel: &str, kind: TaskKind, state: TaskState) -> Vec<Delivered> {
    let clock = clock();
    let outbox = Outbox::new(&clock);
    outbox.put(channel, &task(kind, state, &clock), &event(state, &clock));
    assert_eq!(notifier.deliver_due(&outbox, &clock).await.unwrap(), 1);
    outbox.outcomes(0)
}

fn accepting() -> ScriptedHttp {
    ScriptedHttp::start(|_, _| reply("200 OK", "", "OK"))
}

/// A port at which connections are made and never answered.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

fn short() -> Limits {
    Limits { request: Duration::from_secs(1), command: Duration::from_secs(1) }
}

/// HMAC-SHA256 and base64 by another program's code.
fn signature(key_base64: &str, signed: &str) -> String {
    let script = "import sys,hmac,base64;\
        print('v1,'+base64.b64encode(hmac.digest(base64.b64decode(sys.argv[1]),sys.argv[2].encode(),'sha256')).decode())";
    let output = Command::new("python3").args(["-c", script, key_base64, signed]).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

const RID: &str = "rid=01948f1c-0000-7000-8000-00000000002a";

#[tokio::test]
async fn a_check_hears_start_success_and_failure_as_healthchecks_wants_them() {
    let server = accepting();
    let notifier = notifier(&format!("ping_url = \"{}/ping/1b2a/?create=1\"", server.endpoint()));
    for state in [TaskState::Running, TaskState::Succeeded, TaskState::Failed, TaskState::Refused, TaskState::Cancelled]
    {
        assert_eq!(deliver(&notifier, "ping", TaskKind::Backup, state).await, [Delivered::Done], "{state}");
    }
    let requests = server.requests();
    let lines: Vec<&str> = requests.iter().map(|request| request.line.as_str()).collect();
    let fail = format!("POST /ping/1b2a/fail?create=1&{RID} HTTP/1.1");
    let start = format!("GET /ping/1b2a/start?create=1&{RID} HTTP/1.1");
    let success = format!("GET /ping/1b2a/?create=1&{RID} HTTP/1.1");
    assert_eq!(lines, [&start, &success, &fail, &fail, &fail]);
    let body = String::from_utf8(requests[2].body.clone()).unwrap();
    assert_eq!(body, "backup of shop failed: the disk of the store is full");
    assert!(requests[0].header("user-agent").unwrap().starts_with("holdfast/"));
}

#[tokio::test]
async fn a_check_is_told_of_no_success_but_backups_and_of_every_failure() {
    let server = accepting();
    let notifier = notifier(&format!("ping_url = \"{}/p\"", server.endpoint()));
    for kind in [TaskKind::Drill, TaskKind::Verify] {
        for state in [TaskState::Running, TaskState::Succeeded, TaskState::Failed] {
            assert_eq!(deliver(&notifier, "ping", kind, state).await, [Delivered::Done]);
        }
    }
    let lines: Vec<String> = server.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(lines, [format!("POST /p/fail?{RID} HTTP/1.1"), format!("POST /p/fail?{RID} HTTP/1.1")]);
}

#[tokio::test]
async fn addresses_of_their_own_go_before_the_checks_and_stay_as_they_are() {
    let server = accepting();
    let base = server.endpoint();
    let own = format!(
        "start_url = \"{base}/s?a=1\"\nsuccess_url = \"{base}/ok\"\nfailure_url = \"{base}/no\"\nping_url = \"{base}/p\""
    );
    let notifier = notifier(&own);
    for state in [TaskState::Running, TaskState::Succeeded, TaskState::Failed] {
        deliver(&notifier, "ping", TaskKind::Backup, state).await;
    }
    let lines: Vec<String> = server.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(lines, ["GET /s?a=1 HTTP/1.1", "GET /ok HTTP/1.1", "POST /no HTTP/1.1"]);
}

#[tokio::test]
async fn a_webhook_gets_a_cloud_event_that_others_can_verify() {
    let server = accepting();
    let key = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let notifier =
        notifier(&format!("webhook_url = \"{}/hook?k=1\"\nwebhook_secret = \"whsec_{key}\"", server.endpoint()));
    for state in [TaskState::Running, TaskState::Failed] {
        assert_eq!(deliver(&notifier, "webhook", TaskKind::Backup, state).await, [Delivered::Done]);
    }
    // The start is not among what a webhook is told without being asked for.
    let [request]: [Request; 1] = server.requests().try_into().unwrap();
    assert_eq!(request.line, "POST /hook?k=1 HTTP/1.1");
    assert_eq!(request.header("content-type"), Some("application/cloudevents+json; charset=utf-8"));
    let (id, time) = (request.header("webhook-id").unwrap(), request.header("webhook-timestamp").unwrap());
    assert_eq!((id, time), ("01948f1c-0000-7000-8000-00000000002a-3", "1738288800"));
    let body = String::from_utf8(request.body.clone()).unwrap();
    // Headers are kept in lower case by the server of the tests, so both sides are.
    let expected = signature(key, &format!("{id}.{time}.{body}")).to_lowercase();
    assert_eq!(request.header("webhook-signature"), Some(expected.as_str()));
    let message: serde_json::Value = serde_json::from_str(&body).unwrap();
    let mut expected = serde_json::json!({
        "specversion": "1.0", "id": id, "source": "urn:holdfast:backup-agent", "type": "job.failed.shop",
        "subject": "shop", "time": "2025-01-31T02:00:00Z", "datacontenttype": "application/json",
    });
    expected["data"] = message["data"].clone();
    assert_eq!(message, expected);
    let data = &message["data"];
    assert_eq!((&data["job_id"], &data["kind"]), (&"01948f1c-0000-7000-8000-00000000002a".into(), &"backup".into()));
    assert_eq!((&data["report"]["rows"], &data["event"]["what"]), (&7.into(), &"failed".into()));
}

#[tokio::test]
async fn on_chooses_what_a_webhook_is_told() {
    let server = accepting();
    let notifier = notifier(&format!("webhook_url = \"{}\"\non = [\"start\"]", server.endpoint()));
    for state in [TaskState::Queued, TaskState::Running, TaskState::Succeeded, TaskState::Failed] {
        deliver(&notifier, "webhook", TaskKind::Backup, state).await;
    }
    let types: Vec<String> =
        server.requests().iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    assert!(types.len() == 1 && types[0].contains("job.running.shop"), "{types:?}");
    assert!(server.requests()[0].header("webhook-signature").is_none());
}

#[tokio::test]
async fn prune_tells_those_of_its_own_section() {
    let server = accepting();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holdfast.toml");
    std::fs::write(&path, format!("[prune.notify]\nping_url = \"{}/prune\"\n", server.endpoint())).unwrap();
    let notifier = Notifier::new(&Config::load(Some(&path)).unwrap()).unwrap();
    assert_eq!(notifier.channels(None, TaskKind::Prune), ["ping"]);
    assert!(notifier.channels(Some(&"shop".parse().unwrap()), TaskKind::Backup).is_empty());
    assert_eq!(deliver(&notifier, "ping", TaskKind::Prune, TaskState::Succeeded).await, [Delivered::Done]);
    assert_eq!(server.requests()[0].line, format!("GET /prune?{RID} HTTP/1.1"));
}

#[tokio::test]
async fn a_command_gets_the_message_on_standard_input_and_no_shell_looks_at_its_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    std::fs::write(folder.path().join("tell.sh"), "#!/bin/sh\n{ echo \"$2\"; env; cat; } >\"$1\"\n").unwrap();
    set_executable(&folder.path().join("tell.sh"));
    let notify = format!("command = [\"./tell.sh\", {:?}, \"$(id); `id` *\"]", seen.display().to_string());
    let notifier = notifier_in(folder.path(), &notify).unwrap();
    assert_eq!(deliver(&notifier, "command", TaskKind::Drill, TaskState::Succeeded).await, [Delivered::Done]);
    let text = std::fs::read_to_string(seen).unwrap();
    assert_eq!(text.lines().next(), Some("$(id); `id` *"));
    assert!(text.contains("\"type\":\"job.succeeded.shop\"") && !text.contains("CARGO"), "{text}");
}

fn set_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_command_that_fails_or_hangs_is_run_again_and_one_that_prints_much_is_fine() {
    for (script, expected) in [
        ("echo words >&2; exit 3", Some("the command ended with exit status: 3")),
        ("sleep 600", Some("sh did not end within 1 s and was killed")),
        ("head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2", None),
        ("exit 0", None),
    ] {
        let notifier = notifier(&format!("command = [\"sh\", \"-c\", {script:?}]"));
        let limits =
            Limits { command: Duration::from_secs(if script.starts_with("sleep") { 1 } else { 60 }), ..short() };
        let notifier = notifier.with_limits(limits);
        let outcomes = deliver(&notifier, "command", TaskKind::Backup, TaskState::Failed).await;
        let at = clock().now() + SignedDuration::from_secs(30);
        let expected = expected.map_or(Delivered::Done, |error| Delivered::Again { at, error: error.into() });
        assert_eq!(outcomes, [expected], "{script}");
    }
    let missing = notifier("command = [\"no-such-program\"]");
    let outcomes = deliver(&missing, "command", TaskKind::Backup, TaskState::Failed).await;
    assert!(matches!(&outcomes[..], [Delivered::Again { error, .. }] if error.contains("could not be started")));
}

#[tokio::test]
async fn a_message_is_tried_with_growing_pauses_until_it_arrives() {
    let server = ScriptedHttp::start(|number, _| match number {
        0 => reply("500 Internal Server Error", "", ""),
        1 => reply("429 Too Many Requests", "", ""),
        2 => String::new(),
        _ => reply("204 No Content", "", ""),
    });
    let notifier = notifier(&format!("webhook_url = \"{}\"", server.endpoint()));
    let clock = clock();
    let outbox = Outbox::new(&clock);
    outbox.put("webhook", &task(TaskKind::Backup, TaskState::Failed, &clock), &event(TaskState::Failed, &clock));
    let mut waits = Vec::new();
    for _ in 0..4 {
        assert_eq!(notifier.deliver_due(&outbox, &clock).await.unwrap(), 1);
        assert_eq!(notifier.deliver_due(&outbox, &clock).await.unwrap(), 0, "it is not due yet, or done");
        let before = clock.now();
        outbox.wait_for(0);
        waits.push(clock.now().duration_since(before).as_secs());
    }
    assert_eq!(waits[..3], [30, 60, 120]);
    assert_eq!(outbox.outcomes(0).last(), Some(&Delivered::Done));
    assert_eq!(notifier.tally(), Tally { done: 1, again: 3, given_up: 0 });
    let ids: Vec<_> = server.requests().iter().map(|request| request.header("webhook-id").map(str::to_owned)).collect();
    assert!(ids.len() == 4 && ids.windows(2).all(|pair| pair[0] == pair[1]), "{ids:?}");
}

#[tokio::test]
async fn what_cannot_be_delivered_is_given_up_after_a_day() {
    let server = ScriptedHttp::start(|_, _| reply("503 Service Unavailable", "", ""));
    let notifier = notifier(&format!("webhook_url = \"{}\"", server.endpoint()));
    let clock = clock();
    let outbox = Outbox::new(&clock);
    outbox.put("webhook", &task(TaskKind::Backup, TaskState::Failed, &clock), &event(TaskState::Failed, &clock));
    let began = clock.now();
    while notifier.deliver_due(&outbox, &clock).await.unwrap() > 0 {
        outbox.wait_for(0);
    }
    let outcomes = outbox.outcomes(0);
    assert_eq!(outcomes.last(), Some(&Delivered::GivenUp { error: "the answer was 503 Service Unavailable".into() }));
    let hours = clock.now().duration_since(began).as_hours();
    assert!((24..26).contains(&hours) && outcomes.len() > 24, "{hours} h, {} tries", outcomes.len());
}

#[tokio::test]
async fn a_receiver_that_turns_a_message_down_or_redirects_it_is_not_asked_for_ever() {
    let elsewhere = accepting();
    let target = elsewhere.endpoint();
    for (status, headers) in
        [("404 Not Found", String::new()), ("307 Temporary Redirect", format!("Location: {target}/x\r\n"))]
    {
        let server = ScriptedHttp::start(move |_, _| reply(status, &headers, ""));
        for channel in ["webhook", "ping"] {
            let notifier = notifier(&format!("webhook_url = \"{0}\"\nping_url = \"{0}\"", server.endpoint()));
            let clock = clock();
            let outbox = Outbox::new(&clock);
            outbox.put(
                channel,
                &task(TaskKind::Backup, TaskState::Succeeded, &clock),
                &event(TaskState::Succeeded, &clock),
            );
            while notifier.deliver_due(&outbox, &clock).await.unwrap() > 0 {
                outbox.wait_for(0);
            }
            assert_eq!(outbox.outcomes(0).len(), 5);
            assert!(matches!(outbox.outcomes(0).last(), Some(Delivered::GivenUp { error }) if error.contains(status)));
        }
    }
    assert!(elsewhere.requests().is_empty(), "a redirect was followed");
}

#[tokio::test]
async fn one_that_never_answers_holds_up_nobody_and_costs_one_time_limit() {
    let (_kept, hangs) = silent();
    let server = accepting();
    let notify = format!("webhook_url = \"{hangs}\"\nping_url = \"{}/p\"", server.endpoint());
    let notifier = notifier(&notify).with_limits(short());
    let clock = clock();
    let outbox = Outbox::new(&clock);
    let task = task(TaskKind::Backup, TaskState::Failed, &clock);
    for channel in ["webhook", "webhook", "webhook", "ping"] {
        outbox.put(channel, &task, &event(TaskState::Failed, &clock));
    }
    let began = std::time::Instant::now();
    let delivering = notifier.deliver_due(&outbox, &clock);
    let arrived = async {
        while server.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        began.elapsed()
    };
    let (count, ping) = tokio::join!(delivering, arrived);
    assert_eq!(count.unwrap(), 4);
    assert!(ping < Duration::from_secs(1), "the ping waited {ping:?} for the webhook");
    assert!(began.elapsed() < Duration::from_secs(3), "each message waited for itself");
    let errors: Vec<_> = (0..3).map(|id| outbox.outcomes(id)).collect();
    assert!(
        matches!(&errors[0][..], [Delivered::Again { error, .. }] if error == "no answer within 1 s"),
        "{errors:?}"
    );
    for later in &errors[1..] {
        assert!(
            matches!(&later[..], [Delivered::Again { error, .. }] if error.starts_with("waits behind")),
            "{errors:?}"
        );
    }
}

#[tokio::test]
async fn an_old_ping_does_not_hide_what_came_after_it() {
    let server = ScriptedHttp::start(|number, _| match number {
        0 => reply("500 Internal Server Error", "", ""),
        _ => reply("200 OK", "", ""),
    });
    let notifier = notifier(&format!("ping_url = \"{}/p\"", server.endpoint()));
    let clock = clock();
    let outbox = Outbox::new(&clock);
    // The success of one night cannot be told; the failure of the next can, before the success is tried again.
    outbox.put("ping", &task(TaskKind::Backup, TaskState::Succeeded, &clock), &event(TaskState::Succeeded, &clock));
    notifier.deliver_due(&outbox, &clock).await.unwrap();
    clock.advance(Duration::from_secs(10));
    outbox.put("ping", &task(TaskKind::Backup, TaskState::Failed, &clock), &event(TaskState::Failed, &clock));
    notifier.deliver_due(&outbox, &clock).await.unwrap();
    outbox.wait_for(0);
    notifier.deliver_due(&outbox, &clock).await.unwrap();
    assert!(matches!(outbox.outcomes(0).last(), Some(Delivered::GivenUp { error }) if error.contains("newer")));
    assert_eq!(server.requests().len(), 2);
    // Nor is yesterday's success told as if it were today's; a failure is told however old.
    let (success, failure) = (event(TaskState::Succeeded, &clock), event(TaskState::Failed, &clock));
    clock.advance(Duration::from_secs(13 * 3600));
    outbox.put("ping", &task(TaskKind::Backup, TaskState::Succeeded, &clock), &success);
    outbox.put("ping", &task(TaskKind::Backup, TaskState::Failed, &clock), &failure);
    notifier.deliver_due(&outbox, &clock).await.unwrap();
    assert!(matches!(&outbox.outcomes(2)[..], [Delivered::GivenUp { error }] if error.contains("12 hours")));
    assert_eq!(outbox.outcomes(3), [Delivered::Done]);
}

#[tokio::test]
async fn a_start_that_could_not_be_told_in_time_is_not_told_after_the_end() {
    let server = ScriptedHttp::start(|_, _| reply("500 Internal Server Error", "", ""));
    let notifier = notifier(&format!("ping_url = \"{}/p\"", server.endpoint()));
    let clock = clock();
    let outbox = Outbox::new(&clock);
    let (start, ended) = (event(TaskState::Running, &clock), task(TaskKind::Backup, TaskState::Succeeded, &clock));
    outbox.put("ping", &ended, &start);
    notifier.deliver_due(&outbox, &clock).await.unwrap();
    outbox.wait_for(0);
    notifier.deliver_due(&outbox, &clock).await.unwrap();
    assert!(matches!(outbox.outcomes(0).last(), Some(Delivered::GivenUp { .. })), "{:?}", outbox.outcomes(0));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn who_is_not_configured_any_more_is_given_up_and_an_unknown_database_left_to_others() {
    let notifier = notifier("command = [\"true\"]");
    for channel in ["ping", "webhook", "carrier-pigeon"] {
        let outcomes = deliver(&notifier, channel, TaskKind::Backup, TaskState::Succeeded).await;
        assert_eq!(outcomes, [Delivered::GivenUp { error: format!("{channel} is not configured any more") }]);
    }
    let clock = clock();
    let outbox = Outbox::new(&clock);
    let mut other = task(TaskKind::Backup, TaskState::Failed, &clock);
    other.target = Some("stock".parse().unwrap());
    outbox.put("command", &other, &event(TaskState::Failed, &clock));
    notifier.deliver_due(&outbox, &clock).await.unwrap();
    assert!(matches!(&outbox.outcomes(0)[..], [Delivered::Again { .. }]));
}

#[tokio::test]
async fn without_a_record_everybody_is_told_directly_with_a_few_tries() {
    let server = ScriptedHttp::start(|number, _| match number {
        0 | 1 => reply("502 Bad Gateway", "", ""),
        _ => reply("200 OK", "", ""),
    });
    let notifier = notifier(&format!("ping_url = \"{}/p\"", server.endpoint()));
    let clock = clock();
    let (task, event) = (task(TaskKind::Backup, TaskState::Failed, &clock), event(TaskState::Failed, &clock));
    let turn = async {
        while server.requests().len() < 3 {
            clock.advance(Duration::from_secs(2));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::join!(notifier.tell(&task, &event, &clock), turn);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn channels_are_those_of_the_configuration() {
    let all = notifier("ping_url = \"http://h/p\"\nwebhook_url = \"https://h/w\"\ncommand = [\"true\"]");
    let shop = "shop".parse().unwrap();
    assert_eq!(all.channels(Some(&shop), TaskKind::Backup), ["ping", "webhook", "command"]);
    assert!(all.channels(None, TaskKind::Verify).is_empty());
    assert!(all.channels(None, TaskKind::Prune).is_empty());
    assert_eq!(notifier("success_url = \"http://h/p\"").channels(Some(&shop), TaskKind::Drill), ["ping"]);
}

/// All that was logged by this process, libraries too.
static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(|| {
    let log: Arc<Mutex<Vec<u8>>> = Arc::default();
    let writer = log.clone();
    let make = move || Tee(writer.clone());
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(make).init();
    log
});

struct Tee(Arc<Mutex<Vec<u8>>>);

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_of_an_address_is_ever_said() {
    let log = LazyLock::force(&LOG).clone();
    let server = ScriptedHttp::start(|_, _| reply("500 Internal Server Error", "", ""));
    let redirecting =
        ScriptedHttp::start(|_, _| reply("302 Found", "Location: http://127.0.0.1:1/sesame-there\r\n", ""));
    let (_kept, hangs) = silent();
    let plain = server.endpoint().replace("http://", "https://");
    let free = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let mut said = String::new();
    for base in [server.endpoint(), redirecting.endpoint(), hangs, plain, format!("http://{free}")] {
        let base = base.replace("://", "://sesame-user:sesame-word@");
        let key = "c2VzYW1lLWtleS1zZXNhbWUta2V5LXNlc2FtZQ==";
        let notifier = notifier(&format!(
            "ping_url = \"{base}/sesame-path?token=sesame-token\"\nwebhook_url = \"{base}/sesame-hook\"\n\
             webhook_secret = \"whsec_{key}\"\ncommand = [\"sh\", \"-c\", \"exit 1\", \"sesame-argument\"]"
        ))
        .with_limits(short());
        said += &format!("{notifier:?}");
        for channel in ["ping", "webhook", "command"] {
            let outcomes = deliver(&notifier, channel, TaskKind::Backup, TaskState::Failed).await;
            assert!(matches!(&outcomes[..], [Delivered::Again { .. }]), "{base} {outcomes:?}");
            said += &format!("{outcomes:?}");
        }
    }
    said += &String::from_utf8_lossy(&log.lock().unwrap());
    for there in ["nobody was told", "hyper_util::client"] {
        assert!(said.contains(there), "{there} is not logged, so nothing is shown: {said}");
    }
    for secret in ["sesame", "c2VzYW1l"] {
        let found = said.find(secret).map(|at| &said[said.floor_char_boundary(at.saturating_sub(300))..at + 20]);
        assert_eq!(found, None, "{secret} was said");
    }
}

#[test]
fn mistakes_in_a_section_are_named_and_secrets_are_not_repeated() {
    for (notify, expected) in [
        ("ping_url = \"ftp://h/s3cret\"", "ping_url of [database.shop.notify]: not an address that begins with http"),
        ("start_url = \"h/s3cret\"", "start_url of [database.shop.notify]: not an address"),
        ("failure_url = \"http://s3cret:99999999/\"", "failure_url of [database.shop.notify]: not an address"),
        ("webhook_url = \"\"", "webhook_url of [database.shop.notify]: not an address"),
        ("webhook_secret = \"s3cret\"", "webhook_secret of [database.shop.notify]: must be whsec_"),
        ("webhook_secret = \"whsec_s3cret!\"", "must be whsec_ and the base64"),
        ("webhook_secret = \"whsec_czNjcmV0\"", "24 to 64 random bytes"),
        ("webhook_secret_env = \"HOLDFAST_TEST_NO_SUCH\"", "HOLDFAST_TEST_NO_SUCH is not set"),
        ("webhook_secret_file = \"gone\"", "webhook_secret of [database.shop.notify]: "),
        ("webhook_secret = \"s3cret\"\nwebhook_secret_file = \"x\"", "give at most one"),
        ("command = []", "command of [database.shop.notify]: names no program"),
        ("command = [\" \", \"s3cret\"]", "command of [database.shop.notify]: names no program"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let error = notifier_in(folder.path(), notify).expect_err(notify);
        assert!(error.contains(expected), "{notify}: {error}");
        assert!(!error.contains("s3cret") && !error.contains("czNj"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    notifier_in(folder.path(), "webhook_url = \"https://h/\"\nwebhook_secret_file = \"key\"").unwrap();
}
