//! Stopping the application before it would be in the way, and starting it again whatever became of the migration.

use crate::runner::{RunnerError, find_program, last_words};
use reqwest::{Client, Url};
use serde::Serialize;
use shared::config::HooksConfig;
use shared::subprocess::Subprocess;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long one question after the application's health may take.
const HEALTH_DEADLINE: Duration = Duration::from_secs(5);

/// How long until the application is asked again.
const HEALTH_PAUSE: Duration = Duration::from_millis(500);

/// The hooks of a database's application.
#[derive(Debug, Clone)]
pub struct Hooks {
    stop: Vec<Hook>,
    start: Vec<Hook>,
    health: Option<Health>,
    base: PathBuf,
    deadline: Duration,
}

#[derive(Debug, Clone)]
struct Hook {
    name: &'static str,
    program: PathBuf,
    args: Vec<String>,
}

#[derive(Debug, Clone)]
struct Health {
    url: Url,
    timeout: Duration,
}

/// What became of a hook, or of the question after the application's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HookRun {
    /// `stop`, `pause`, `resume`, `start`, `health`.
    pub hook: &'static str,
    /// Whether it did well.
    pub succeeded: bool,
    /// What it said, on one line.
    pub said: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl Hooks {
    /// Reads the configuration; programs are looked up now, paths count from `base`, where they are started.
    pub fn of(config: &HooksConfig, base: &Path) -> Result<Self, RunnerError> {
        let hook = |name: &'static str, argv: &Option<Vec<String>>| -> Result<Option<Hook>, RunnerError> {
            let Some(argv) = argv else { return Ok(None) };
            let [first, args @ ..] = &argv[..] else { return Err(RunnerError::new(format!("{name} is empty"))) };
            let wrong = |error: RunnerError| RunnerError::new(format!("{name}: {}", error.message));
            Ok(Some(Hook { name, program: find_program(first, base, first).map_err(wrong)?, args: args.to_vec() }))
        };
        let health = config.health_url.as_deref().map(|text| {
            let url: Url = text.parse().map_err(|error| RunnerError::new(format!("health_url: {error}")))?;
            match url.scheme() {
                "http" | "https" => Ok(Health { url, timeout: config.health_timeout.0 }),
                _ => Err(RunnerError::new("health_url begins with http:// or https://")),
            }
        });
        Ok(Hooks {
            stop: [hook("stop", &config.stop)?, hook("pause", &config.pause)?].into_iter().flatten().collect(),
            start: [hook("resume", &config.resume)?, hook("start", &config.start)?].into_iter().flatten().collect(),
            health: health.transpose()?,
            base: base.to_owned(),
            deadline: config.deadline.0,
        })
    }

    /// Whether there is nothing to do around a migration.
    pub fn is_empty(&self) -> bool {
        self.stop.is_empty() && self.start.is_empty() && self.health.is_none()
    }

    /// Stops the application; the first hook that fails is the last one run.
    pub async fn stop(&self) -> Vec<HookRun> {
        let mut runs = Vec::new();
        for hook in &self.stop {
            runs.push(self.run(hook).await);
            if runs.last().is_some_and(|run| !run.succeeded) {
                break;
            }
        }
        runs
    }

    /// Starts the application, and waits until it is well. All hooks are run, whatever becomes of one.
    pub async fn start(&self) -> Vec<HookRun> {
        let mut runs = Vec::new();
        for hook in &self.start {
            runs.push(self.run(hook).await);
        }
        if let Some(health) = &self.health {
            runs.push(health.wait().await);
        }
        runs
    }

    async fn run(&self, hook: &Hook) -> HookRun {
        let begun = Instant::now();
        let program = Subprocess::new(&hook.program).args(&hook.args).workdir(&self.base).deadline(self.deadline);
        let (succeeded, said) = match program.leave().await {
            Ok(done) => {
                let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), done.stderr);
                match done.status.code() {
                    Some(0) => (true, "done".to_owned()),
                    Some(code) => (false, format!("exit code {code}: {}", last_words(&text))),
                    None => (false, format!("ended by a signal: {}", last_words(&text))),
                }
            }
            Err(error) => (false, error.to_string()),
        };
        HookRun { hook: hook.name, succeeded, said, took_ms: millis(begun) }
    }
}

impl Health {
    /// Asks until the answer is 200, or the time is over.
    async fn wait(&self) -> HookRun {
        let begun = Instant::now();
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(HEALTH_DEADLINE).build();
        let client = match client {
            Ok(client) => client,
            Err(error) => return self.told(begun, false, error.to_string()),
        };
        loop {
            let said = match client.get(self.url.clone()).send().await {
                Ok(answer) if answer.status() == 200 => return self.told(begun, true, "the answer was 200".into()),
                Ok(answer) => format!("the answer was {}", answer.status()),
                Err(error) => format!("no answer: {}", error.without_url()),
            };
            if begun.elapsed() + HEALTH_PAUSE > self.timeout {
                let seconds = self.timeout.as_secs();
                return self.told(begun, false, format!("not well within {seconds} s: {said}"));
            }
            tokio::time::sleep(HEALTH_PAUSE).await;
        }
    }

    fn told(&self, begun: Instant, succeeded: bool, said: String) -> HookRun {
        HookRun { hook: "health", succeeded, said, took_ms: millis(begun) }
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
