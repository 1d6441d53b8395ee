//! Tells systemd that the agent is ready, what it does, and that it lives (`Type=notify`, `WatchdogSec=`).
//!
//! Without `$NOTIFY_SOCKET` every call does nothing.

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to systemd.
#[derive(Debug)]
pub struct Systemd {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

/// What systemd puts into a service's environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    pub notify_socket: Option<OsString>,
    /// `WATCHDOG_USEC`: microseconds after which silence counts as death.
    pub watchdog_usec: Option<String>,
    /// `WATCHDOG_PID`: the process that is meant.
    pub watchdog_pid: Option<String>,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        Environment {
            notify_socket: std::env::var_os("NOTIFY_SOCKET"),
            watchdog_usec: std::env::var("WATCHDOG_USEC").ok(),
            watchdog_pid: std::env::var("WATCHDOG_PID").ok(),
        }
    }
}

impl Systemd {
    /// Connects to the socket that is named; one that cannot be reached is logged and then ignored.
    pub fn connect(environment: &Environment) -> Self {
        let name = environment.notify_socket.as_deref().filter(|name| !name.is_empty());
        let socket = name.and_then(|name| match open(name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, "the socket of NOTIFY_SOCKET cannot be reached");
                None
            }
        });
        let is_meant = environment.watchdog_pid.as_ref().is_none_or(|pid| *pid == std::process::id().to_string());
        let time = environment.watchdog_usec.as_ref().filter(|_| is_meant).and_then(|text| text.parse().ok());
        let watchdog = time.filter(|time| *time > 0 && socket.is_some()).map(Duration::from_micros);
        Systemd { socket, watchdog }
    }

    /// How often [`Systemd::alive`] is to be called, where a watchdog waits for it: half its time.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog.map(|time| time / 2)
    }

    /// The agent can work.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// What the agent does, for `systemctl status`.
    pub fn status(&self, text: &str) {
        // A line feed would begin another assignment.
        self.send(&format!("STATUS={}", text.replace(['\n', '\r'], " ")));
    }

    /// The agent lives.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// The agent ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::debug!(%error, "systemd did not take a message");
        }
    }
}

fn open(name: &OsStr) -> std::io::Result<UnixDatagram> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // The agent must not hang because systemd does not read.
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut text = [0; 512];
        let length = socket.recv(&mut text).expect("a message");
        String::from_utf8_lossy(&text[..length]).into_owned()
    }

    fn tells_everything(socket: &UnixDatagram, name: &OsStr) {
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
        let environment = Environment { notify_socket: Some(name.to_owned()), ..Environment::default() };
        let systemd = Systemd::connect(&environment);
        systemd.ready();
        systemd.status("backing up shop\nMAINPID=1");
        systemd.alive();
        systemd.stopping();
        let all: Vec<String> = (0..4).map(|_| heard(socket)).collect();
        assert_eq!(all, ["READY=1", "STATUS=backing up shop MAINPID=1", "WATCHDOG=1", "STOPPING=1"]);
    }

    #[test]
    fn systemd_hears_everything_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("notify");
        tells_everything(&UnixDatagram::bind(&path).expect("binds"), path.as_os_str());
        let name = format!("holdfast-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("binds");
        tells_everything(&socket, OsStr::new(&format!("@{name}")));
    }

    #[test]
    fn the_watchdog_is_asked_for_in_half_its_time_and_only_of_the_process_that_is_meant() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("notify");
        let _socket = UnixDatagram::bind(&path).expect("binds");
        let own = std::process::id().to_string();
        for (usec, pid, expected) in [
            (Some("30000000"), Some(own.as_str()), Some(15)),
            (Some("30000000"), None, Some(15)),
            (Some("30000000"), Some("1"), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
            (None, None, None),
        ] {
            let environment = Environment {
                notify_socket: Some(path.clone().into_os_string()),
                watchdog_usec: usec.map(str::to_owned),
                watchdog_pid: pid.map(str::to_owned),
            };
            let interval = Systemd::connect(&environment).watchdog();
            assert_eq!(interval, expected.map(Duration::from_secs), "{environment:?}");
        }
    }

    #[test]
    fn without_a_socket_nothing_happens() {
        let watched = Environment { watchdog_usec: Some("1000".into()), ..Environment::default() };
        let systemd = Systemd::connect(&watched);
        systemd.ready();
        assert_eq!(systemd.watchdog(), None);
        let gone = Environment { notify_socket: Some("/nowhere/notify".into()), ..Environment::default() };
        Systemd::connect(&gone).alive();
    }
}
