use super::*;

fn policies(text: &str) -> Result<Policies, InvalidPolicy> {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("holdfast.toml");
    std::fs::write(&path, text).expect("writes");
    Policies::of(&Config::load(Some(&path)).unwrap_or_else(|error| panic!("{error}")))
}

#[test]
fn the_example_and_an_empty_file_can_be_followed() {
    let example = policies(include_str!("../../../ops/holdfast.example.toml")).expect("the example");
    let empty = policies("").expect("nothing");
    for policies in [example, empty] {
        assert_eq!(policies.prune.schedule.to_string(), "30 4 * * 0 (UTC, up to 1h later)");
        assert_eq!((policies.parallel, policies.prune.grace), (2, Duration::from_secs(72 * 3600)));
        assert_eq!(policies.listen.map(|listen| listen.to_string()).as_deref(), Some("127.0.0.1:9187"));
    }
}

#[test]
fn everything_a_database_can_have_is_understood() {
    let policies = policies(
        "[agent]\nlisten = \"off\"\n[database.shop]\nurl = \"sqlite:x\"\nretention = { daily = 7 }\n
         schedule = { cron = \"0 2 * * *\", timezone = \"Europe/Berlin\" }\ndrill = { cron = \"0 5 * * 0\" }\n
         [database.shop.notify]\nping_url = \"https://hc.example.com/ping/1\"\nwebhook_url = \"http://localhost:8080/\"\n
         webhook_secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\ncommand = [\"/bin/true\"]\n
         [database.old]\nurl = \"sqlite:y\"\ndrill = \"never\"",
    )
    .expect("valid");
    let [(_, old), (_, shop)] = policies.databases.iter().collect::<Vec<_>>()[..] else { panic!("two") };
    assert_eq!(shop.zone().iana_name(), Some("Europe/Berlin"));
    assert_eq!(shop.retention.as_ref().map(ToString::to_string).as_deref(), Some("daily 7, min 1"));
    assert_eq!(shop.drill_schedule().map(ToString::to_string).as_deref(), Some("0 5 * * 0 (UTC)"));
    assert!(old.schedule.is_none() && old.retention.is_none() && old.drill_schedule().is_none());
    assert!(policies.listen.is_none());
}

#[test]
fn what_cannot_be_followed_is_named_with_its_section() {
    let database = "[database.shop]\nurl = \"sqlite:x\"\n";
    let notify = format!("{database}[database.shop.notify]\n");
    for (head, text, expected) in [
        (database, "schedule = { cron = \"60 25 * * *\" }", "[database.shop] schedule: the minute of cron, \"60\""),
        (database, "schedule = { cron = \"0 0 31 2 *\" }", "[database.shop] schedule: cron \"0 0 31 2 *\" never fires"),
        (database, "schedule = { cron = \"@reboot\" }", "[database.shop] schedule: cron \"@reboot\""),
        (database, "schedule = { cron = \"@daily\", timezone = \"Mars/X\" }", "timezone \"Mars/X\" is not known"),
        (database, "schedule = { cron = \"@daily\", jitter = \"2d\" }", "jitter 2d is longer than a day"),
        (database, "drill = { cron = \"* * * * * *\" }", "[database.shop] drill: cron \"* * * * * *\" has 6 fields"),
        (database, "retention = {}", "[database.shop]: retention keeps nothing"),
        (database, "retention = { last = 0 }", "[database.shop]: retention keeps nothing"),
        (database, "retention = { last = 7, min = 0 }", "[database.shop]: retention min is 0"),
        (database, "retention = { daily = 4000000000 }", "retention daily = 4000000000 is more than 100000"),
        (&notify, "ping_url = \"ftp://s3cret/\"", "[database.shop.notify]: ping_url is no http"),
        (&notify, "webhook_url = \"s3cret\"", "webhook_url is no http"),
        (&notify, "command = []", "command names no program"),
        (&notify, "command = [\" \", \"s3cret\"]", "command names no program"),
        (&notify, "webhook_secret_env = \"A\"", "webhook_secret is given, but no webhook_url"),
        (&notify, "on = []", "on is empty"),
        (
            &notify,
            "webhook_url = \"http://h/\"\nwebhook_secret_env = \"A\"\nwebhook_secret_file = \"a\"",
            "give only one of webhook_secret",
        ),
        (&notify, "webhook_url = \"http://h/\"\nwebhook_secret = \"whsec_s3cret\"", "webhook_secret is no key"),
        ("[prune]\n", "grace = \"23h\"", "[prune] grace is 23h; it must be at least 1d"),
        ("[prune]\n", "schedule = { cron = \"\" }", "[prune] schedule: cron \"\" has 0 fields"),
        ("[prune]\n", "notify = { success_url = \"x\" }", "[prune.notify]: success_url is no http"),
        ("[agent]\n", "parallel = 0", "[agent] parallel is 0; it must be 1 to 64"),
        ("[agent]\n", "parallel = 65", "[agent] parallel is 65"),
        ("[agent]\n", "deadline = \"30s\"", "[agent] deadline is 30s; it must be at least 1m"),
        ("[agent]\n", "listen = \"localhost\"", "[agent] listen is \"localhost\"; it must be \"off\" or"),
    ] {
        let error = policies(&format!("{head}{text}")).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}
