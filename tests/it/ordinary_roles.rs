//! Roles that are no superuser: what they may back up and restore, and what they are refused.

use tests::agent::Agent;
use tests::postgres::{self, TestDatabase, dump_differences, on_server, pg_dump_with_settings, url_as};

/// A role of a test's own. Declared before the databases in which it owns anything, so that it goes after them.
struct Role(String);

impl Role {
    #[track_caller]
    fn new(attributes: &str) -> Self {
        let name = TestDatabase::named_later("r_").name().to_owned();
        on_server(&format!("CREATE ROLE {name} LOGIN {attributes}"));
        Role(name)
    }

    /// The database's address with this role.
    fn at(&self, database: &TestDatabase) -> String {
        url_as(&database.url(), &self.0, None)
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        on_server(&format!("DROP OWNED BY {0}; DROP ROLE {0}", self.0));
    }
}

/// What an application's owner makes without anybody's help.
const APPLICATION: &str = "
    CREATE EXTENSION citext; CREATE EXTENSION pgcrypto;
    CREATE TABLE customer (id serial PRIMARY KEY, email citext UNIQUE);
    INSERT INTO customer (email) SELECT i || '@Example.com' FROM generate_series(1, 50) i;
    CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY, customer int REFERENCES customer, day date, total numeric,
        PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE orders_old PARTITION OF orders FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
    CREATE TABLE orders_rest PARTITION OF orders DEFAULT;
    INSERT INTO orders (customer, day, total) SELECT 1 + i % 50, '2020-10-01'::date + i, i FROM generate_series(1, 200) i;
    CREATE MATERIALIZED VIEW sums AS SELECT sum(total) FROM orders;
    CREATE TABLE log (t text); CREATE TABLE seen (t text);
    CREATE RULE noted AS ON INSERT TO log DO ALSO INSERT INTO seen VALUES (NEW.t);
    INSERT INTO log VALUES ('a'), ('b');
    CREATE STATISTICS together ON customer, day FROM orders;
    CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent SELECT generate_series(1, 30);
    CREATE TABLE child (id int REFERENCES parent); INSERT INTO child SELECT generate_series(1, 30);
    REVOKE INSERT ON orders FROM CURRENT_USER; GRANT SELECT ON orders TO PUBLIC;
    ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
    SELECT lo_from_bytea(4711, 'abc'); COMMENT ON LARGE OBJECT 4711 IS 'a letter'";

/// Rows are hidden from the owner, too.
const FORCED: &str = "
    ALTER TABLE parent ENABLE ROW LEVEL SECURITY; ALTER TABLE parent FORCE ROW LEVEL SECURITY;
    ALTER TABLE child ENABLE ROW LEVEL SECURITY; ALTER TABLE child FORCE ROW LEVEL SECURITY;
    CREATE POLICY nobody ON parent USING (false); CREATE POLICY few ON child USING (id < 3)";

/// An application database that belongs to `owner`.
#[track_caller]
fn application(owner: &Role) -> TestDatabase {
    let database = TestDatabase::new();
    on_server(&format!("ALTER DATABASE {} OWNER TO {}", database.name(), owner.0));
    postgres::psql(&owner.at(&database), APPLICATION).unwrap();
    database
}

#[track_caller]
fn are_equal(source: &TestDatabase, copy: &TestDatabase) {
    let differences = dump_differences(&pg_dump_with_settings(&source.url()), &pg_dump_with_settings(&copy.url()));
    assert_eq!(differences, Vec::<String>::new());
}

#[track_caller]
fn backed_up(agent: &Agent, url: &str) -> String {
    agent.ok(&["backup", url, "--name", "shop"]).stdout.trim().to_owned()
}

#[test]
fn the_owner_of_an_application_database_backs_it_up_and_restores_it() {
    let owner = Role::new("CREATEDB");
    let (source, copy, agent) = (application(&owner), TestDatabase::reserved(), Agent::new());
    let id = backed_up(&agent, &owner.at(&source));
    let restored = agent.ok(&["restore", &id, "--into", &owner.at(&copy)]);
    assert!(restored.stderr.contains("proven: read anew"), "{}", restored.stderr);
    are_equal(&source, &copy);
}

#[test]
fn rows_hidden_from_their_owner_are_not_backed_up_by_him_but_restored_by_him() {
    let owner = Role::new("CREATEDB");
    let (source, copy, agent) = (application(&owner), TestDatabase::reserved(), Agent::new());
    postgres::psql(&owner.at(&source), FORCED).unwrap();
    let refused = agent.run(&["backup", &owner.at(&source), "--name", "shop"]).expect_code(3);
    assert!(refused.stderr.contains("row-level security hides rows of 2 tables"), "{}", refused.stderr);
    let id = backed_up(&agent, &source.url());
    let restored = agent.ok(&["restore", &id, "--into", &owner.at(&copy)]);
    assert!(restored.stderr.contains("read anew"), "{}", restored.stderr);
    are_equal(&source, &copy);
}

#[test]
fn a_role_that_may_read_everything_backs_up_all_but_large_objects() {
    let (owner, reader) = (Role::new("CREATEDB"), Role::new("BYPASSRLS IN ROLE pg_read_all_data"));
    let (source, copy, agent) = (application(&owner), TestDatabase::reserved(), Agent::new());
    postgres::psql(&owner.at(&source), FORCED).unwrap();
    let refused = agent.run(&["backup", &reader.at(&source), "--name", "shop"]).expect_code(3);
    assert!(refused.stderr.contains("large object"), "{}", refused.stderr);
    source.psql(&format!("GRANT SELECT ON LARGE OBJECT 4711 TO {}", reader.0));
    let id = backed_up(&agent, &reader.at(&source));
    agent.ok(&["restore", &id, "--into", &copy.url()]);
    are_equal(&source, &copy);
}

#[test]
fn what_belongs_to_others_is_named_to_an_ordinary_role_and_left_to_it_on_request() {
    let (owner, other) = (Role::new("CREATEDB"), Role::new(""));
    let (source, copy, agent) = (application(&owner), TestDatabase::reserved(), Agent::new());
    source.psql(&format!(
        "CREATE TABLE foreigner (n int); INSERT INTO foreigner VALUES (7);
                          ALTER TABLE foreigner OWNER TO {}",
        other.0
    ));
    let id = backed_up(&agent, &source.url());
    let named = agent.run(&["restore", &id, "--into", &owner.at(&copy)]).expect_code(1);
    let said = format!("could not be created: TABLE public foreigner {0}: must be member of role \"{0}\"", other.0);
    assert!(named.stderr.contains(&said), "{}", named.stderr);
    assert_eq!(copy.query_value("SELECT n FROM foreigner"), "7");
    let copy = TestDatabase::reserved();
    agent.ok(&["restore", &id, "--into", &owner.at(&copy), "--no-owner", "--no-acl"]);
    assert_eq!(copy.query_value("SELECT n FROM foreigner"), "7");
    assert_eq!(copy.query_value("SELECT tableowner FROM pg_tables WHERE tablename = 'foreigner'"), owner.0);
}

#[test]
fn what_only_a_superuser_can_make_is_named_to_an_ordinary_role() {
    let owner = Role::new("CREATEDB");
    let (source, copy, agent) = (application(&owner), TestDatabase::reserved(), Agent::new());
    source.psql(
        "CREATE EXTENSION file_fdw; CREATE PUBLICATION all_of_them FOR ALL TABLES;
         CREATE FUNCTION looks() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
         CREATE EVENT TRIGGER watcher ON ddl_command_end EXECUTE FUNCTION looks()",
    );
    let id = backed_up(&agent, &source.url());
    let named = agent.run(&["restore", &id, "--into", &owner.at(&copy)]).expect_code(1);
    for said in [
        "EXTENSION - file_fdw: permission denied to create extension",
        "PUBLICATION - all_of_them postgres: must be superuser to create FOR ALL TABLES publication",
        "permission denied to create event trigger \"watcher\"",
        "error: all rows are in, but ",
    ] {
        assert!(named.stderr.contains(said), "{said}: {}", named.stderr);
    }
    assert_eq!(copy.query_value("SELECT count(*) FROM orders"), "200");
}
