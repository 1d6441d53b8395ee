//! A RabbitMQ broker of a test's own: the real one, on free ports, in a folder that goes with it.

use crate::server::{Account, account_of, free_port};
use anyhow::{Context, Result};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where Debian keeps the programs without their wrapper, which insists on its own user and folders.
const PROGRAMS: &str = "/usr/lib/rabbitmq/lib";

/// A running broker with nobody else on it. Dropping it ends it and removes its folder.
#[derive(Debug)]
pub struct PrivateRabbit {
    dir: PathBuf,
    port: u16,
    dist_port: u16,
    epmd_port: u16,
    programs: PathBuf,
    account: Option<Account>,
    epmd: Child,
    server: Child,
    watchdog: Child,
}

/// The address of the broker that all tests of a run share; each uses queues of its own.
///
/// Panics where there is none: see `ops/test`.
#[track_caller]
pub fn shared_url() -> String {
    std::env::var("HOLDFAST_TEST_AMQP")
        .unwrap_or_else(|_| panic!("HOLDFAST_TEST_AMQP is not set: run the tests by ops/test"))
}

impl PrivateRabbit {
    /// Starts a broker, which takes about 6 s; user and password are `guest`.
    #[track_caller]
    pub fn start() -> Self {
        Self::with_settings("")
    }

    /// The same with further lines of rabbitmq.conf.
    #[track_caller]
    pub fn with_settings(settings: &str) -> Self {
        // Between asking for a free port and using it somebody else may take it.
        let is_taken =
            |error: &anyhow::Error| ["already_used", "eaddrinuse"].iter().any(|word| error.to_string().contains(word));
        let begun = (0..5).map(|_| Self::begin(settings)).find(|begun| !begun.as_ref().is_err_and(is_taken));
        begun.expect("a free port in five tries").unwrap_or_else(|error| panic!("no private broker: {error:#}"))
    }

    fn begin(settings: &str) -> Result<Self> {
        let programs = programs()?;
        let account = account_of("rabbitmq", "rabbitmq-server")?;
        let dir = private_folder(account)?;
        let [port, dist_port, epmd_port] = [free_port()?, free_port()?, free_port()?];
        let conf = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nvm_memory_high_watermark.absolute = 1GB\ndisk_free_limit.absolute = 1MB\n{settings}\n"
        );
        std::fs::write(dir.join("rabbitmq.conf"), conf)?;
        std::fs::write(dir.join("plugins"), "[].\n")?;
        // How often it looks whether a consumer takes too long; a minute otherwise.
        std::fs::write(dir.join("advanced.config"), "[{rabbit, [{channel_tick_interval, 1000}]}].\n")?;
        let mut command = Command::new("epmd");
        command.args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"]);
        as_account(&mut command, account);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let epmd = command.spawn().context("starting epmd: install the package rabbitmq-server")?;
        let watchdog = watchdog(&dir, epmd.id())?;
        let server = spawn(&programs, &dir, dist_port, epmd_port, account)?;
        let mut broker = Self { dir, port, dist_port, epmd_port, programs, account, epmd, server, watchdog };
        broker.wait_until_ready()?;
        Ok(broker)
    }

    /// The address of a virtual host, as its administrator.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Runs `rabbitmqctl` and returns what it printed; takes a second or two.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.programs.join("rabbitmqctl"));
        environment(&mut command, &self.dir, self.dist_port, self.epmd_port);
        as_account(&mut command, self.account);
        let done = command.arg("--quiet").args(arguments).output().expect("rabbitmqctl starts");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let complained = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "rabbitmqctl {arguments:?}: {said} {complained}");
        said
    }

    /// Has the broker write down what it keeps in memory for minutes otherwise: which quorum queues it has. RabbitMQ 3.10
    /// that is killed before makes such a queue anew, empty and with nobody to lead it, and answers nothing about it.
    pub fn write_down_queues(&self) {
        self.ctl(&["eval", "[ok = dets:sync(Table) || Table <- dets:all()]."]);
    }

    /// Ends the broker as a power cut would.
    pub fn kill(&mut self) {
        signal_group(self.server.id(), "KILL");
        let _ = self.server.wait();
    }

    /// Starts the ended broker again, with what it had on its disk.
    ///
    /// While it was away somebody's outgoing connection may have got its port: that one is waited for, a minute at most.
    #[track_caller]
    pub fn start_again(&mut self) {
        let begun = Instant::now();
        loop {
            let spawned = spawn(&self.programs, &self.dir, self.dist_port, self.epmd_port, self.account);
            self.server = spawned.expect("starts");
            match self.wait_until_ready() {
                Ok(()) => return,
                Err(error) if error.to_string().contains("eaddrinuse") && begun.elapsed() < Duration::from_secs(60) => {
                    std::thread::sleep(Duration::from_millis(500));
                }
                Err(error) => panic!("the private broker does not start: {error:#}"),
            }
        }
    }

    /// Lets the broker stand still: its connections stay, and nothing comes from it any more.
    pub fn pause(&self) {
        signal_group(self.server.id(), "STOP");
    }

    /// Lets a paused broker go on.
    pub fn go_on(&self) {
        signal_group(self.server.id(), "CONT");
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(90);
        while Instant::now() < deadline {
            if let Some(status) = self.server.try_wait()? {
                anyhow::bail!("the broker ended at once ({status}): {}", self.log());
            }
            // Its listener is the last thing it starts.
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        anyhow::bail!("the broker was not ready within 90 s: {}", self.log())
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join(" | ")
    }
}

impl Drop for PrivateRabbit {
    fn drop(&mut self) {
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        self.kill();
        let _ = self.epmd.kill();
        let _ = self.epmd.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn programs() -> Result<PathBuf> {
    let folders = std::fs::read_dir(PROGRAMS).into_iter().flatten().flatten().map(|entry| entry.path().join("sbin"));
    let mut found: Vec<PathBuf> = folders.filter(|folder| folder.join("rabbitmq-server").is_file()).collect();
    found.sort();
    found.pop().context("the broker is not below /usr/lib/rabbitmq/lib: install the package rabbitmq-server")
}

fn private_folder(account: Option<Account>) -> Result<PathBuf> {
    let mut random = [0; 6];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let dir = std::env::temp_dir().join(format!("holdfast-mq-{}", hex::encode(random)));
    std::fs::create_dir(&dir).with_context(|| format!("creating {}", dir.display()))?;
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))?;
    for inner in ["home", "mnesia", "log"] {
        std::fs::create_dir(dir.join(inner))?;
        if let Some(Account { uid, gid }) = account {
            chown(dir.join(inner), Some(uid), Some(gid))?;
        }
    }
    if let Some(Account { uid, gid }) = account {
        chown(&dir, Some(uid), Some(gid))?;
    }
    Ok(dir)
}

fn environment(command: &mut Command, dir: &Path, dist_port: u16, epmd_port: u16) {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C.UTF-8");
    command.current_dir(dir).env("HOME", dir.join("home"));
    let name = format!("hf{dist_port}@localhost");
    for (key, value) in [
        ("RABBITMQ_NODENAME", name),
        ("RABBITMQ_DIST_PORT", dist_port.to_string()),
        ("RABBITMQ_MNESIA_BASE", dir.join("mnesia").display().to_string()),
        ("RABBITMQ_LOG_BASE", dir.join("log").display().to_string()),
        ("RABBITMQ_PID_FILE", dir.join("pid").display().to_string()),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("plugins").display().to_string()),
        ("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq").display().to_string()),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", dir.join("advanced.config").display().to_string()),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
        ("ERL_EPMD_PORT", epmd_port.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
    ] {
        command.env(key, value);
    }
}

fn as_account(command: &mut Command, account: Option<Account>) {
    command.process_group(0);
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
}

fn spawn(programs: &Path, dir: &Path, dist_port: u16, epmd_port: u16, account: Option<Account>) -> Result<Child> {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("server.log"))?;
    let mut command = Command::new(programs.join("rabbitmq-server"));
    environment(&mut command, dir, dist_port, epmd_port);
    as_account(&mut command, account);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("starting rabbitmq-server")
}

/// Ends broker and epmd and removes the folder should we be killed with no time to do so.
fn watchdog(dir: &Path, epmd: u32) -> Result<Child> {
    let script = "while read -r line; do :; done; kill -s KILL \"$2\"; pkill -KILL -f \"$1\"; sleep 1; rm -rf \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "watchdog"]).arg(dir).arg(epmd.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().context("starting sh")
}

fn signal_group(leader: u32, name: &str) {
    let _ = Command::new("sh").args(["-c", "kill -s \"$1\" -- \"-$2\"", "kill", name, &leader.to_string()]).status();
}
