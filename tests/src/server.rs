//! A private PostgreSQL server, made for one command and gone with it.

use crate::install;
use anyhow::{Context, Result, bail, ensure};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The password of `scram_user`, the one role the server asks for a password.
pub const SCRAM_PASSWORD: &str = "open sesame";

/// Role and group a process runs as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A running server. Dropping it stops the server and removes its folder.
#[derive(Debug)]
pub struct PrivateServer {
    dir: PathBuf,
    port: u16,
    server: Child,
    watchdog: Child,
    clients: PathBuf,
    bin: PathBuf,
    account: Option<Account>,
}

impl PrivateServer {
    /// Makes a cluster in a private folder and starts a server on a free port of 127.0.0.1.
    ///
    /// `settings` are further lines of postgresql.conf, separated by `;` or newlines; they win over the fast defaults.
    /// Run by root, everything runs as the user `postgres`. Fails by name where software is missing.
    pub fn start(settings: &str) -> Result<Self> {
        let clients = install::server_programs()?;
        let account = account()?;
        let dir = private_folder(account)?;
        // Until the server owns the folder, an error must not leave it behind.
        let unfinished = Unfinished(Some(dir.clone()));
        let extensions = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/extension");
        let bin = install::mirror(&clients, &dir.join("install"), &extensions).unwrap_or_else(|error| {
            eprintln!("with-servers: the test extension is not available: {error:#}");
            clients.clone()
        });
        make_cluster(&bin, &dir, account)?;
        let mut last = None;
        // Between asking for a free port and using it somebody else may take it.
        for _ in 0..5 {
            let port = free_port()?;
            configure(&dir, port, settings)?;
            let watchdog = watchdog(&dir)?;
            match launch(&bin, &dir, account) {
                Ok(server) => {
                    unfinished.keep();
                    let started = Self { dir, port, server, watchdog, clients, bin, account };
                    started.create_scram_user()?;
                    return Ok(started);
                }
                Err(error) if error.to_string().contains("could not bind") => last = Some(error),
                Err(error) => {
                    end(watchdog);
                    return Err(error);
                }
            }
            end(watchdog);
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no port was free")))
    }

    /// What a command needs to find the server: `HOLDFAST_TEST_PG`, `_PID`, `_DATA` and `_BIN`.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("HOLDFAST_TEST_PG", format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)),
            ("HOLDFAST_TEST_PG_PID", self.server.id().to_string()),
            ("HOLDFAST_TEST_PG_DATA", self.dir.join("data").display().to_string()),
            ("HOLDFAST_TEST_PG_BIN", self.clients.display().to_string()),
        ]
    }

    /// The port it listens on, on 127.0.0.1; the same after [`PrivateServer::start_again`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops the server as a power cut would: sessions end at once, nothing is written any more.
    pub fn stop_immediately(&mut self) {
        stop(&mut self.server);
    }

    /// Starts a server that was stopped again, on the same data and port.
    pub fn start_again(&mut self) -> Result<()> {
        // What the stopped one left would be taken for the state of the new one.
        let _ = std::fs::remove_file(self.dir.join("data/postmaster.pid"));
        self.server = launch(&self.bin, &self.dir, self.account)?;
        Ok(())
    }

    fn create_scram_user(&self) -> Result<()> {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.port);
        let sql = format!("CREATE ROLE scram_user LOGIN PASSWORD '{SCRAM_PASSWORD}'");
        let mut command = Command::new(self.clients.join("psql"));
        without_libpq_settings(&mut command);
        let answer = command
            .args(["-Xq", "-d", &url, "-c", &sql])
            .output()
            .context("cannot start psql: install the package postgresql-client (apt-get install postgresql-client)")?;
        ensure!(answer.status.success(), "psql: {}", String::from_utf8_lossy(&answer.stderr).trim());
        Ok(())
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        // The watchdog first: it must not look for a process id that may be somebody else's by then.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        stop(&mut self.server);
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("with-servers: {} could not be removed: {error}", self.dir.display());
        }
    }
}

/// Takes the settings a person may have for libpq away from a command, so that only its arguments count.
pub fn without_libpq_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
}

struct Unfinished(Option<PathBuf>);

impl Unfinished {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(dir) = &self.0 {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

/// The account the server must run as: PostgreSQL refuses root.
fn account() -> Result<Option<Account>> {
    account_of("postgres", "postgresql")
}

/// The account of `name`, which `package` makes, for whoever must not run as root; none where we are not root.
pub(crate) fn account_of(name: &str, package: &str) -> Result<Option<Account>> {
    if std::fs::metadata("/proc/self").context("reading /proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    for line in users.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [user, _, uid, gid, ..] = fields[..]
            && user == name
        {
            return Ok(Some(Account { uid: uid.parse()?, gid: gid.parse()? }));
        }
    }
    bail!("a server is not run as root and there is no user {name}: install the package {package}")
}

fn private_folder(account: Option<Account>) -> Result<PathBuf> {
    // A socket's path may have 107 bytes, so a long TMPDIR is not used.
    let base = Some(std::env::temp_dir()).filter(|dir| dir.as_os_str().len() < 60).unwrap_or_else(|| "/tmp".into());
    let mut random = [0; 6];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let dir = base.join(format!("holdfast-pg-{}", hex::encode(random)));
    std::fs::create_dir(&dir).with_context(|| format!("creating {}", dir.display()))?;
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
    std::fs::create_dir(dir.join("socket"))?;
    if let Some(Account { uid, gid }) = account {
        chown(dir.join("socket"), Some(uid), Some(gid))?;
        chown(&dir, Some(uid), Some(gid))?;
    }
    Ok(dir)
}

fn server_command(program: &Path, dir: &Path, account: Option<Account>) -> Result<Command> {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("server.log"))?;
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C.UTF-8");
    command.current_dir(dir).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // A group of its own: Ctrl-C is for the command, the server is stopped afterwards and in order.
    command.process_group(0);
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
    Ok(command)
}

fn make_cluster(bin: &Path, dir: &Path, account: Option<Account>) -> Result<()> {
    let status = server_command(&bin.join("initdb"), dir, account)?
        .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
        .arg("--no-instructions")
        .arg("--pgdata")
        .arg(dir.join("data"))
        .status()
        .context("starting initdb")?;
    ensure!(status.success(), "initdb failed: {}", log_tail(dir));
    let hba = "local all scram_user scram-sha-256\n\
               host all scram_user 127.0.0.1/32 scram-sha-256\n\
               local all all trust\n\
               host all all 127.0.0.1/32 trust\n";
    std::fs::write(dir.join("data/pg_hba.conf"), hba).context("writing pg_hba.conf")
}

fn configure(dir: &Path, port: u16, settings: &str) -> Result<()> {
    let path = dir.join("data/postgresql.auto.conf");
    let mut file = std::fs::File::options().write(true).truncate(true).open(&path)?;
    writeln!(file, "listen_addresses = '127.0.0.1'\nport = {port}")?;
    writeln!(file, "unix_socket_directories = '{}'", dir.join("socket").display())?;
    // Nobody needs these data after a power cut.
    writeln!(file, "fsync = off\nfull_page_writes = off\nsynchronous_commit = off")?;
    writeln!(file, "wal_level = minimal\nmax_wal_senders = 0\nmax_wal_size = 2GB")?;
    writeln!(file, "max_connections = 200\nmax_locks_per_transaction = 1024\nmax_prepared_transactions = 10")?;
    for setting in settings.split([';', '\n']).map(str::trim).filter(|setting| !setting.is_empty()) {
        writeln!(file, "{setting}")?;
    }
    Ok(())
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn launch(bin: &Path, dir: &Path, account: Option<Account>) -> Result<Child> {
    let mut server = server_command(&bin.join("postgres"), dir, account)?
        .arg("-D")
        .arg(dir.join("data"))
        .spawn()
        .context("starting postgres")?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if let Some(status) = server.try_wait()? {
            bail!("postgres ended at once ({status}): {}", log_tail(dir));
        }
        let state = std::fs::read_to_string(dir.join("data/postmaster.pid")).unwrap_or_default();
        if state.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
            return Ok(server);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    stop(&mut server);
    bail!("postgres was not ready within 60 s: {}", log_tail(dir))
}

/// Starts a small process that ends the server and removes its folder should we be killed with no time to do so.
fn watchdog(dir: &Path) -> Result<Child> {
    // Its input is a pipe we hold: it ends when we do, however that happens.
    let script = "while read -r line; do :; done; pid=$(head -n 1 \"$1/data/postmaster.pid\") || exit 0; \
                  kill -s QUIT \"$pid\"; sleep 1; rm -rf \"$1\"";
    Command::new("sh")
        .args(["-c", script, "watchdog"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("starting sh")
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Asks the server to stop at once, and insists after ten seconds.
fn stop(server: &mut Child) {
    if matches!(server.try_wait(), Ok(None)) {
        signal(server.id(), "QUIT");
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if !matches!(server.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = server.kill();
    let _ = server.wait();
}

/// Sends the signal called `name` to a process of ours that has not been waited for yet.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("sh").args(["-c", "kill -s \"$1\" \"$2\"", "kill", name, &pid.to_string()]).status();
}

fn log_tail(dir: &Path) -> String {
    let log = std::fs::read(dir.join("server.log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join(" | ")
}
