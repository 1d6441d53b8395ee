//! The sample application of docker-compose.yml, deployed as there: its commands, its configuration, its Alembic project.

use super::{strings, text, top, yaml};
use std::path::Path;
use std::process::{Command, Output};
use tests::agent::Agent;
use tests::alembic::alembic;
use tests::postgres::TestDatabase;
use tests::rabbitmq::PrivateRabbit;

/// Runs a program of the application; only the environment that the compose file gives it.
fn of_shop(python: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(python);
    command.args(arguments).current_dir(top().join("ops/compose/shop")).env_clear();
    command.env("PYTHONDONTWRITEBYTECODE", "1").envs(environment.iter().copied());
    command.env("PATH", std::env::var_os("PATH").unwrap()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_sample_application_asks_for_its_migration_and_takes_orders() {
    let (broker, shop, record) = (PrivateRabbit::start(), TestDatabase::new(), TestDatabase::new());
    // The shipped configuration, with the addresses of this test.
    let mut config = text("ops/compose/holdfast.toml");
    for (there, here) in [
        ("postgres://shop@database:5432/holdfast", record.url()),
        ("postgres://shop@database:5432/shop", shop.url()),
        ("/srv/shop", top().join("ops/compose/shop").display().to_string()),
        ("/var/lib/holdfast/spool", "spool".into()),
        ("0.0.0.0:9187", "127.0.0.1:0".into()),
    ] {
        assert!(config.contains(there), "{there}");
        config = config.replace(there, &here);
    }
    let tool_folder = alembic().parent().unwrap().to_owned();
    let path = format!("{}:{}", tool_folder.display(), std::env::var("PATH").unwrap());
    let url = broker.url();
    // The store of the compose file is another service; here it is a folder.
    let worker = Agent::worker().with_config(&config).with_env("AMQP_URL", &url).with_env("PATH", &path);
    let compose = yaml("docker-compose.yml");
    assert_eq!(strings(&compose["services"]["worker"]["command"])[0], "run");
    let running = worker.start(&["run"]);

    let start = text("ops/compose/shop/Dockerfile");
    assert!(start.contains("python deploy.py && exec python serve.py"), "{start}");
    let pika = tests::amqp::python();
    let deployed = of_shop(&pika, &["deploy.py"], &[("AMQP_URL", &url)]);
    assert!(deployed.status.success(), "{}{}", said(&deployed), running.stderr_so_far());
    assert_eq!(said(&deployed), "succeeded it stands at 0002_customer\n");

    let address = shop.url().replacen("postgres://", "postgresql://", 1);
    // The driver is where Alembic is: in a folder of its own, or in the system.
    let beside = tool_folder.join("python");
    let with_driver = if beside.is_file() { beside } else { "python3".into() };
    let served = of_shop(&with_driver, &["serve.py", "1"], &[("DATABASE_URL", &address)]);
    assert_eq!(said(&served), "order 1\n");
    assert_eq!(shop.query_value("SELECT item || ' ' || customer FROM orders"), "bread somebody");
    // As a second deployment does: nothing is left to be done.
    let again = of_shop(&pika, &["deploy.py"], &[("AMQP_URL", &url)]);
    assert!(again.status.success(), "{}", said(&again));
    running.signal("TERM");
    running.wait().expect_code(0);
}
