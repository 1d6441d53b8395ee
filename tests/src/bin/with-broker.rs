//! Runs a command beside a private RabbitMQ broker, whose address it finds in `HOLDFAST_TEST_AMQP`:
//! `with-broker COMMAND ARGS…`. Ends with the command's exit code, and the broker is gone then.

use std::process::{Command, ExitCode};
use tests::rabbitmq::PrivateRabbit;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let Some((program, rest)) = arguments.split_first() else {
        eprintln!("usage: with-broker COMMAND [ARGUMENT]…");
        return ExitCode::from(2);
    };
    let broker = PrivateRabbit::start();
    let done = Command::new(program).args(rest).env("HOLDFAST_TEST_AMQP", broker.url()).status();
    drop(broker);
    match done.map(|status| status.code()) {
        Ok(code) => ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("with-broker: {}: {error}", program.display());
            ExitCode::FAILURE
        }
    }
}
