//! A worker and how it is asked: by a command, or by a message through a broker.

use serde_json::{Value, json};
use shared::model::JobId;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tests::agent::{Agent, Run, Running};
use tests::amqp::{self, Message};
use tests::rabbitmq;

/// How a migration is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `migrate-worker apply`
    Command,
    /// A message that a worker takes in.
    Message,
}

/// A worker with a home, a store and a record of its own.
pub struct Desk {
    pub agent: Agent,
    pub door: Door,
    worker: Option<Running>,
    /// The queue's group, of this worker alone.
    group: String,
}

/// How a job ended, as the record has it.
#[derive(Debug, Clone)]
pub struct Ended {
    pub job: Value,
    /// Message, hint, what its tool printed, and what the command said where there was one.
    pub said: String,
}

impl Ended {
    #[track_caller]
    pub fn says(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(self.said.contains(word), "{word:?} is missing:\n{}\n{:#}", self.said, self.job);
        }
        self
    }

    #[track_caller]
    pub fn is(&self, state: &str) -> &Self {
        assert_eq!(self.job["state"], state, "{}\n{:#}", self.said, self.job);
        self
    }

    /// `<database>/<id>` of the backup made for it.
    #[track_caller]
    pub fn backup(&self) -> String {
        self.job["backup_id"].as_str().unwrap_or_else(|| panic!("no backup: {:#}", self.job)).to_owned()
    }

    /// What was found by a check of this name, as the record keeps it.
    #[track_caller]
    pub fn check(&self, name: &str) -> &Value {
        let checks = self.job["result"]["checks"].as_array();
        let found = checks.and_then(|checks| checks.iter().find(|check| check["name"] == name));
        found.unwrap_or_else(|| panic!("the record has no check {name:?}: {:#}", self.job["result"]))
    }
}

/// Job states of which more is to come.
const OPEN: [&str; 5] = ["scheduled", "queued", "running", "recovering", "unknown"];

impl Desk {
    /// A worker that is asked by `door`. It has no configuration yet.
    pub fn new(door: Door) -> Self {
        let group = JobId::random().to_string()[..13].to_owned();
        Desk { agent: Agent::worker(), door, worker: None, group }
    }

    /// Writes the configuration: databases, what they need, and nothing else.
    pub fn configure(&mut self, databases: &str) {
        self.close();
        let queue = match self.door {
            Door::Command => String::new(),
            Door::Message => {
                format!("[queue]\nurl = {:?}\ngroup = {:?}\nheartbeat = \"2s\"\n\n", rabbitmq::shared_url(), self.group)
            }
        };
        let file = self.file("holdfast.toml");
        std::fs::write(&file, format!("[state]\nlease = \"3s\"\n\n{queue}{databases}")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Sets a variable of the worker's environment from now on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.close();
        self.agent.set_env(name, value);
    }

    /// A file of the working folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.agent.home().join(name)
    }

    /// Asks for a migration and asserts how it ends. `spec` has the fields of a message.
    #[track_caller]
    pub fn migrate(&mut self, database: &str, spec: Value, state: &str) -> Ended {
        let ended = match self.door {
            Door::Command => self.by_command(database, &spec, state),
            Door::Message => {
                self.open();
                let id = self.send(database, spec);
                self.end_of(&id)
            }
        };
        ended.is(state);
        let door = if self.door == Door::Command { "command" } else { "amqp" };
        assert_eq!(ended.job["door"], door);
        ended
    }

    /// Migrates to the newest revision and asserts how it ends.
    #[track_caller]
    pub fn upgrade(&mut self, database: &str, state: &str) -> Ended {
        self.migrate(database, json!({}), state)
    }

    fn by_command(&self, database: &str, spec: &Value, state: &str) -> Ended {
        let mut arguments = vec!["apply".to_owned(), database.to_owned()];
        for (name, value) in spec.as_object().unwrap() {
            let flag = format!("--{}", name.replace('_', "-"));
            match value {
                Value::Bool(true) => arguments.push(flag),
                Value::Array(list) => {
                    list.iter().for_each(|one| arguments.extend([flag.clone(), one.as_str().unwrap().to_owned()]));
                }
                other => arguments.extend([flag, other.as_str().unwrap().to_owned()]),
            }
        }
        let codes = [("succeeded", 0), ("refused", 3), ("restored", 4), ("stuck", 5)];
        let code = codes.iter().find(|(name, _)| *name == state).unwrap().1;
        let run = self.agent.run(&arguments).expect_code(code);
        self.ended(&self.newest(database), &run.stdout)
    }

    /// The newest job of a database.
    #[track_caller]
    pub fn newest(&self, database: &str) -> String {
        self.agent.json(&["history", database])[0]["job_id"].as_str().unwrap().to_owned()
    }

    /// Sends a wish for a migration and returns the job's id. Its queue must be there.
    #[track_caller]
    pub fn send(&self, database: &str, spec: Value) -> String {
        let id = JobId::random().to_string();
        let wish = json!({"id": id, "kind": "migrate", "target": database, "spec": spec});
        self.publish("migrate", &wish);
        id
    }

    /// Sends a message to this worker's queue, which must be there.
    #[track_caller]
    pub fn publish(&self, kind: &str, wish: &Value) {
        assert!(self.door == Door::Message, "this worker is asked by commands only");
        let message = Message { key: format!("{}.{kind}", self.group), ..Message::json(kind, wish) };
        amqp::publish(&rabbitmq::shared_url(), &[message]);
    }

    /// Waits until a job has ended.
    #[track_caller]
    pub fn end_of(&mut self, id: &str) -> Ended {
        self.until(&format!("job {id} ends"), |desk| {
            let jobs = desk.agent.json(&["history", "--all", "--limit", "0"]);
            let job = jobs.as_array().unwrap().iter().find(|job| job["job_id"] == id);
            job.is_some_and(|job| !OPEN.contains(&job["state"].as_str().unwrap()))
        });
        self.ended(id, "")
    }

    /// What the record has of a job.
    #[track_caller]
    pub fn ended(&self, id: &str, stdout: &str) -> Ended {
        let job = self.agent.json(&["show", id]);
        let output = self.agent.ok(&["output", id]).stdout;
        let word = |name: &str| job["result"][name].as_str().unwrap_or_default().to_owned();
        Ended { said: format!("{}\nhint: {}\n{output}\n{stdout}", word("message"), word("hint")), job }
    }

    /// Starts the worker that takes messages in, unless it runs, and waits for its queue.
    #[track_caller]
    pub fn open(&mut self) {
        if self.worker.is_none() {
            self.worker = Some(self.agent.start(&["run"]));
            let (url, queue) = (rabbitmq::shared_url(), format!("holdfast.jobs.{}", self.group));
            self.until("the queue is there", |_| amqp::depth(&url, &queue).is_some());
        }
    }

    /// Ends that worker.
    #[track_caller]
    pub fn close(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.signal("TERM");
            worker.wait().expect_code(0);
        }
    }

    /// Runs `backup-agent` in the same home.
    #[track_caller]
    pub fn backup_agent(&self, arguments: &[&str]) -> Run {
        self.agent.run_program("backup-agent", arguments)
    }

    /// Polls for at most 180 s.
    #[track_caller]
    pub fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < Duration::from_secs(180), "{what}: not within 180 s");
            if let Some(ended) = self.worker.take_if(|worker| !worker.is_running()) {
                panic!("{what}: the worker has ended: {:?}", ended.wait());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.kill();
        }
    }
}
