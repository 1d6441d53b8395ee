//! Runs a command beside a private PostgreSQL server: `cargo run -p tests --bin with-servers -- COMMAND ARGS…`; with
//! `--broker` as the first argument beside a private RabbitMQ broker, too.
//!
//! The command finds the server in `HOLDFAST_TEST_PG` and the broker in `HOLDFAST_TEST_AMQP`. It ends with the command's exit code, and the server is gone
//! then, also after Ctrl-C, SIGTERM, a panic or SIGKILL. `HOLDFAST_TEST_PG_SETTINGS` holds further settings of the
//! server, separated by `;`.

use anyhow::{Context, Result};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::Duration;
use tests::rabbitmq::PrivateRabbit;
use tests::server::{PrivateServer, signal, without_libpq_settings};
use tokio::process::Child;
use tokio::signal::unix::{Signal, SignalKind, signal as listen};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let with_broker = arguments.first().is_some_and(|first| first == "--broker");
    if with_broker {
        arguments.remove(0);
    }
    if arguments.is_empty() {
        eprintln!("usage: with-servers [--broker] COMMAND [ARGUMENT]…");
        return ExitCode::from(2);
    }
    match run(&arguments, with_broker).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("with-servers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[OsString], with_broker: bool) -> Result<u8> {
    // Listen first: a signal during the start is then kept until the server can be stopped.
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let server = PrivateServer::start(&std::env::var("HOLDFAST_TEST_PG_SETTINGS").unwrap_or_default())?;
    let broker = with_broker.then(PrivateRabbit::start);
    let mut command = std::process::Command::new(&arguments[0]);
    if let Some(broker) = &broker {
        command.env("HOLDFAST_TEST_AMQP", broker.url());
    }
    without_libpq_settings(&mut command).args(&arguments[1..]).envs(server.environment());
    let mut child = tokio::process::Command::from(command)
        .spawn()
        .with_context(|| format!("cannot start {}", arguments[0].to_string_lossy()))?;
    let code = wait(&mut child, &mut interrupt, &mut terminate).await?;
    drop(broker);
    drop(server);
    Ok(code)
}

async fn wait(child: &mut Child, interrupt: &mut Signal, terminate: &mut Signal) -> Result<u8> {
    let ended_by = tokio::select! {
        status = child.wait() => {
            let status = status?;
            let code = status.code().or(status.signal().map(|number| 128 + number));
            return Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
        }
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
    };
    if let Some(pid) = child.id() {
        signal(pid, "TERM");
    }
    if tokio::time::timeout(Duration::from_secs(10), child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(128 + ended_by)
}
