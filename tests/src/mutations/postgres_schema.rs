//! Changes to everything but rows.

use super::postgres::Catalogue;
use super::{Kind, Mutation};
use crate::postgres::{TestDatabase, literal};

/// All of them.
pub(super) fn all(catalogue: &Catalogue, database: &TestDatabase) -> Vec<Mutation> {
    let mut found: Vec<Mutation> =
        FIXED.iter().map(|(kind, sql)| Mutation::new(*kind, (*sql).replace('\n', " "), *sql)).collect();
    columns(catalogue, &mut found);
    tables(catalogue, &mut found);
    constraints_and_indexes(database, &mut found);
    found
}

fn push(found: &mut Vec<Mutation>, kind: Kind, sql: String) {
    found.push(Mutation::new(kind, sql.clone(), sql));
}

fn columns(catalogue: &Catalogue, found: &mut Vec<Mutation>) {
    for table in &catalogue.tables {
        let t = &table.name;
        // Partitions and children follow their parents.
        let own = !t.contains("parted_") && !t.contains("derived");
        for column in &table.columns {
            let c = &column.name;
            let default = match column.type_name.as_str() {
                "int2" | "int4" | "int8" | "numeric" | "float8" => "77",
                "text" | "varchar" => "'a default'",
                _ => "NULL",
            };
            if default != "NULL" && !column.is_identity {
                push(found, Kind::Default, format!("ALTER TABLE {t} ALTER {c} SET DEFAULT {default}"));
            }
            if column.has_default {
                push(found, Kind::Default, format!("ALTER TABLE {t} ALTER {c} DROP DEFAULT"));
            }
            if own && !column.not_null && column.filled == table.rows {
                push(found, Kind::Column, format!("ALTER TABLE {t} ALTER {c} SET NOT NULL"));
            }
            if own && column.not_null && !column.in_unique_index {
                push(found, Kind::Column, format!("ALTER TABLE {t} ALTER {c} DROP NOT NULL"));
            }
            if own && t.starts_with("public.") | !t.contains('.') {
                push(found, Kind::Column, format!("ALTER TABLE {t} RENAME {c} TO renamed"));
                if column.full_type.starts_with("character varying") {
                    push(found, Kind::Column, format!("ALTER TABLE {t} ALTER {c} TYPE text"));
                }
                if column.full_type == "integer" && !column.in_unique_index {
                    push(found, Kind::Column, format!("ALTER TABLE {t} ALTER {c} TYPE bigint"));
                }
            }
            push(found, Kind::Index, format!("CREATE INDEX an_index ON {t} ({c} DESC)"));
            push(found, Kind::Column, format!("ALTER TABLE {t} ALTER {c} SET STATISTICS 77"));
            push(found, Kind::Grant, format!("GRANT UPDATE ({c}) ON {t} TO awkward_owner"));
            push(found, Kind::Comment, format!("COMMENT ON COLUMN {t}.{c} IS 'said'"));
        }
    }
}

fn tables(catalogue: &Catalogue, found: &mut Vec<Mutation>) {
    for table in &catalogue.tables {
        let t = &table.name;
        for right in ["INSERT", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"] {
            push(found, Kind::Grant, format!("GRANT {right} ON {t} TO awkward_reader"));
            push(found, Kind::Grant, format!("REVOKE {right} ON {t} FROM postgres"));
        }
        push(found, Kind::Grant, format!("GRANT UPDATE ON {t} TO PUBLIC"));
        push(found, Kind::Grant, format!("GRANT UPDATE ON {t} TO awkward_owner WITH GRANT OPTION"));
        push(found, Kind::Owner, format!("ALTER TABLE {t} OWNER TO awkward_owner"));
        push(found, Kind::Table, format!("ALTER TABLE {t} SET (fillfactor = 77)"));
        push(found, Kind::Table, format!("ALTER TABLE {t} REPLICA IDENTITY FULL"));
        push(found, Kind::Policy, format!("ALTER TABLE {t} FORCE ROW LEVEL SECURITY"));
        push(found, Kind::Comment, format!("COMMENT ON TABLE {t} IS 'said of it'"));
        if !t.contains("parted_") {
            push(found, Kind::Column, format!("ALTER TABLE {t} ADD COLUMN one_more int"));
        }
    }
}

fn constraints_and_indexes(database: &TestDatabase, found: &mut Vec<Mutation>) {
    let schemas = "('public'::regnamespace, 'extra'::regnamespace)";
    let constraints = database.query_rows(&format!(
        "SELECT conrelid::regclass, quote_ident(conname), contype, pg_get_constraintdef(oid) FROM pg_constraint
         WHERE connamespace IN {schemas} AND contype IN ('f', 'c', 'p', 'u') AND conrelid <> 0 ORDER BY 1, 2"
    ));
    for row in constraints {
        let [table, name, kind, definition] = &row[..] else { continue };
        push(found, Kind::Constraint, format!("ALTER TABLE {table} DROP CONSTRAINT {name} CASCADE"));
        push(found, Kind::Constraint, format!("ALTER TABLE {table} RENAME CONSTRAINT {name} TO renamed"));
        if kind == "f" {
            let again = format!("ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {definition}");
            push(found, Kind::Constraint, format!("{again} NOT VALID"));
            push(found, Kind::Constraint, format!("ALTER TABLE {table} ALTER CONSTRAINT {name} DEFERRABLE"));
        }
    }
    let indexes = database.query_rows(&format!(
        "SELECT indexrelid::regclass FROM pg_index JOIN pg_class ON oid = indexrelid
         WHERE relnamespace IN {schemas} AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid) ORDER BY 1"
    ));
    for index in indexes.iter().flatten() {
        push(found, Kind::Index, format!("DROP INDEX {index}"));
        push(found, Kind::Index, format!("ALTER INDEX {index} SET (fillfactor = 55)"));
        push(found, Kind::Comment, format!("COMMENT ON INDEX {index} IS {}", literal("said")));
    }
}

const FIXED: &[(Kind, &str)] = &[
    (Kind::Sequence, "SELECT setval('extra.called', 18)"),
    (Kind::Sequence, "SELECT setval('extra.called', 17, false)"),
    (Kind::Sequence, "SELECT nextval('extra.never_called')"),
    (Kind::Sequence, "SELECT setval('extra.keyed_id_seq', 4711)"),
    (Kind::Sequence, "ALTER SEQUENCE extra.called INCREMENT BY 2"),
    (Kind::Sequence, "ALTER SEQUENCE extra.called INCREMENT BY -1"),
    (Kind::Sequence, "ALTER SEQUENCE extra.called MAXVALUE 1000"),
    (Kind::Sequence, "ALTER SEQUENCE extra.called MINVALUE -5"),
    (Kind::Sequence, "ALTER SEQUENCE extra.called CYCLE"),
    (Kind::Sequence, "ALTER SEQUENCE extra.called CACHE 5"),
    (Kind::Sequence, "ALTER SEQUENCE extra.called START 3"),
    (Kind::Sequence, "ALTER SEQUENCE extra.called AS int"),
    (Kind::Sequence, "ALTER SEQUENCE extra.called OWNED BY extra.plain.a"),
    (Kind::Sequence, "ALTER SEQUENCE extra.never_called RENAME TO seldom_called"),
    (Kind::Sequence, "DROP SEQUENCE extra.never_called"),
    (Kind::Sequence, "CREATE SEQUENCE extra.another"),
    (Kind::LargeObject, "SELECT lo_put(5000001, 3, '\\x04')"),
    (Kind::LargeObject, "SELECT lo_put(5000002, 9999, '\\x00')"),
    (Kind::LargeObject, "SELECT lo_put(5000002, 10000, '\\x00')"),
    (Kind::LargeObject, "SELECT lo_put(5000002, 5000, convert_to('x', 'UTF8'))"),
    (Kind::LargeObject, "SELECT lo_unlink(5000001)"),
    (Kind::LargeObject, "SELECT lo_create(5000003)"),
    (Kind::LargeObject, "SELECT lo_from_bytea(5000003, '\\x01')"),
    (
        Kind::LargeObject,
        "DO $$ DECLARE d int; BEGIN d := lo_open(5000002, 131072); PERFORM lo_truncate(d, 4096); PERFORM lo_close(d); END $$",
    ),
    (Kind::LargeObject, "SELECT lo_from_bytea(5000004, lo_get(5000001)), lo_unlink(5000001)"),
    (Kind::Owner, "ALTER LARGE OBJECT 5000001 OWNER TO awkward_owner"),
    (Kind::Grant, "GRANT SELECT ON LARGE OBJECT 5000001 TO awkward_reader"),
    (Kind::Comment, "COMMENT ON LARGE OBJECT 5000001 IS 'said'"),
    (Kind::ExtensionRow, "UPDATE holdfast_config.unit SET name = 'furlongs' WHERE id = 100"),
    (Kind::ExtensionRow, "DELETE FROM holdfast_config.unit WHERE id = 101"),
    (Kind::ExtensionRow, "INSERT INTO holdfast_config.unit VALUES (102, 'league')"),
    (Kind::ExtensionRow, "UPDATE holdfast_config.setting SET value = NULL WHERE unit_id = 100"),
    (Kind::ExtensionRow, "INSERT INTO holdfast_config.setting (id, unit_id, value) VALUES (777, 2, '')"),
    (Kind::ExtensionRow, "SELECT setval('holdfast_config.setting_id_seq', 500)"),
    (Kind::UnloggedRow, "INSERT INTO extra.fleeting VALUES (3)"),
    (Kind::Default, "ALTER DOMAIN extra.percent SET DEFAULT 51"),
    (Kind::Default, "ALTER DOMAIN extra.percent DROP DEFAULT"),
    (Kind::Default, "ALTER VIEW extra.seen ALTER a SET DEFAULT 1"),
    (Kind::Grant, "REVOKE SELECT ON extra.plain FROM awkward_reader"),
    (Kind::Grant, "REVOKE SELECT (id) ON extra.keyed FROM awkward_reader"),
    (Kind::Grant, "REVOKE USAGE ON SCHEMA extra FROM awkward_reader"),
    (Kind::Grant, "GRANT CREATE ON SCHEMA extra TO awkward_reader"),
    (Kind::Grant, "GRANT CREATE ON SCHEMA public TO PUBLIC"),
    (Kind::Grant, "REVOKE EXECUTE ON FUNCTION extra.answer() FROM PUBLIC"),
    (Kind::Grant, "GRANT EXECUTE ON FUNCTION extra.answer() TO awkward_reader WITH GRANT OPTION"),
    (Kind::Grant, "REVOKE EXECUTE ON PROCEDURE extra.work() FROM PUBLIC"),
    (Kind::Grant, "GRANT USAGE ON SEQUENCE extra.called TO awkward_reader"),
    (Kind::Grant, "GRANT ALL ON SEQUENCE extra.never_called TO PUBLIC"),
    (Kind::Grant, "REVOKE USAGE ON TYPE extra.mood FROM PUBLIC"),
    (Kind::Grant, "REVOKE USAGE ON DOMAIN extra.percent FROM PUBLIC"),
    (Kind::Grant, "GRANT USAGE ON FOREIGN SERVER far TO awkward_reader"),
    (Kind::Grant, "GRANT USAGE ON FOREIGN DATA WRAPPER nowhere TO awkward_reader"),
    (Kind::Grant, "REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC"),
    (Kind::Grant, "GRANT SELECT ON extra.seen TO awkward_reader"),
    (Kind::Grant, "GRANT SELECT ON extra.summed TO PUBLIC"),
    (Kind::Grant, "GRANT SELECT ON holdfast_config.unit TO awkward_reader"),
    (Kind::Grant, "ALTER DEFAULT PRIVILEGES IN SCHEMA extra REVOKE SELECT ON TABLES FROM awkward_reader"),
    (Kind::Grant, "ALTER DEFAULT PRIVILEGES IN SCHEMA extra GRANT INSERT ON TABLES TO awkward_reader"),
    (Kind::Grant, "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC"),
    (Kind::Owner, "ALTER SCHEMA extra OWNER TO awkward_owner"),
    (Kind::Owner, "ALTER FUNCTION extra.answer() OWNER TO awkward_owner"),
    (Kind::Owner, "ALTER PROCEDURE extra.work() OWNER TO awkward_owner"),
    (Kind::Owner, "ALTER AGGREGATE extra.product(numeric) OWNER TO awkward_owner"),
    (Kind::Owner, "ALTER OPERATOR extra.=== (int, int) OWNER TO awkward_owner"),
    (Kind::Owner, "ALTER SEQUENCE extra.called OWNER TO awkward_owner"),
    (Kind::Owner, "ALTER VIEW extra.seen OWNER TO awkward_owner"),
    (Kind::Owner, "ALTER MATERIALIZED VIEW extra.summed OWNER TO awkward_owner"),
    (Kind::Owner, "ALTER TYPE extra.mood OWNER TO awkward_owner"),
    (Kind::Owner, "ALTER DOMAIN extra.percent OWNER TO awkward_owner"),
    (Kind::Owner, "ALTER COLLATION extra.german OWNER TO awkward_owner"),
    (Kind::Owner, "ALTER STATISTICS extra.related OWNER TO awkward_owner"),
    (Kind::Owner, "ALTER PUBLICATION news OWNER TO awkward_owner"),
    (Kind::Owner, "ALTER SERVER far OWNER TO awkward_owner"),
    (Kind::Index, "CREATE UNIQUE INDEX one_more ON extra.referring (id DESC)"),
    (Kind::Index, "CREATE INDEX one_more ON extra.plain USING hash (b)"),
    (Kind::Index, "CREATE INDEX one_more ON extra.plain USING gin (i)"),
    (Kind::Index, "CREATE INDEX one_more ON extra.parted (id)"),
    (Kind::Index, "DROP INDEX extra.plain_a; CREATE INDEX plain_a ON extra.plain (a DESC)"),
    (Kind::Index, "DROP INDEX extra.plain_a; CREATE INDEX plain_a ON extra.plain (a) INCLUDE (b)"),
    (Kind::Index, "DROP INDEX extra.plain_b_part; CREATE INDEX plain_b_part ON extra.plain (lower(b)) WHERE a > 11"),
    (Kind::Index, "ALTER INDEX extra.plain_a RENAME TO plain_aa"),
    (Kind::Index, "ALTER INDEX extra.plain_b_part ALTER COLUMN 1 SET STATISTICS 99"),
    (Kind::Index, "ALTER TABLE extra.plain CLUSTER ON plain_a"),
    (Kind::Constraint, "ALTER TABLE extra.plain ADD CONSTRAINT c CHECK (a IS NOT NULL)"),
    (Kind::Constraint, "ALTER TABLE extra.plain ADD CONSTRAINT c CHECK (a > 100000) NOT VALID"),
    (Kind::Constraint, "ALTER TABLE extra.base ADD CONSTRAINT c CHECK (a > 0) NO INHERIT"),
    (Kind::Constraint, "ALTER TABLE extra.guarded ADD PRIMARY KEY (id)"),
    (Kind::Constraint, "ALTER TABLE extra.guarded ADD UNIQUE (who) DEFERRABLE INITIALLY DEFERRED"),
    (Kind::Constraint, "ALTER TABLE extra.guarded ADD EXCLUDE (id WITH =)"),
    (
        Kind::Constraint,
        "ALTER TABLE extra.keyed DROP CONSTRAINT keyed_note, ADD CONSTRAINT keyed_note CHECK (note <> 'Never')",
    ),
    (
        Kind::Constraint,
        "ALTER TABLE extra.referring DROP CONSTRAINT referring_keyed, ADD CONSTRAINT referring_keyed FOREIGN KEY (keyed_id) REFERENCES extra.keyed ON DELETE SET NULL",
    ),
    (Kind::Column, "ALTER TABLE extra.plain ADD COLUMN q int DEFAULT 5"),
    (Kind::Column, "ALTER TABLE extra.plain DROP COLUMN o"),
    (Kind::Column, "ALTER TABLE extra.plain ALTER d TYPE numeric(50, 3)"),
    (Kind::Column, "ALTER TABLE extra.plain ALTER b SET STORAGE EXTERNAL"),
    (Kind::Column, "ALTER TABLE extra.plain ALTER b SET COMPRESSION pglz"),
    (Kind::Column, "ALTER TABLE extra.single ALTER t TYPE text COLLATE \"C\""),
    (Kind::Column, "ALTER TABLE extra.plain ALTER a SET (n_distinct = 5)"),
    (Kind::Column, "ALTER TABLE extra.keyed ALTER twice DROP EXPRESSION"),
    (Kind::Column, "ALTER TABLE extra.keyed ALTER id SET GENERATED ALWAYS"),
    (Kind::Column, "ALTER TABLE extra.keyed ALTER id DROP IDENTITY"),
    (Kind::Column, "ALTER TABLE extra.keyed ALTER note TYPE varchar(51)"),
    (Kind::Column, "ALTER TABLE extra.no_columns ADD COLUMN first int"),
    (Kind::Row, "INSERT INTO extra.no_columns DEFAULT VALUES"),
    (Kind::Row, "DELETE FROM extra.no_columns WHERE ctid = (SELECT min(ctid) FROM extra.no_columns)"),
    (Kind::Row, "INSERT INTO extra.empty VALUES (NULL, NULL)"),
    (Kind::Row, "INSERT INTO extra.single VALUES (NULL)"),
    (Kind::Row, "INSERT INTO extra.single VALUES ('')"),
    (Kind::Row, "INSERT INTO extra.parted VALUES (1, NULL, NULL)"),
    (Kind::Value, "UPDATE extra.single SET t = '' WHERE t IS NULL"),
    (Kind::Value, "UPDATE extra.parted SET region = 'fr' WHERE id = 3"),
    (Kind::Value, "UPDATE extra.parted SET region = NULL WHERE id = 5"),
    (
        Kind::Row,
        "WITH moved AS (DELETE FROM ONLY extra.base WHERE a = 1 RETURNING *) INSERT INTO extra.derived SELECT *, NULL FROM moved",
    ),
    (Kind::Table, "CREATE TABLE extra.another (a int)"),
    (Kind::Table, "CREATE TABLE extra.another ()"),
    (Kind::Table, "DROP TABLE extra.empty"),
    (Kind::Table, "ALTER TABLE extra.empty RENAME TO still_empty"),
    (Kind::Table, "ALTER TABLE extra.single SET SCHEMA public"),
    (Kind::Table, "ALTER TABLE extra.single SET UNLOGGED"),
    (Kind::Table, "ALTER TABLE extra.fleeting SET LOGGED"),
    (Kind::Table, "ALTER TABLE extra.plain SET (autovacuum_enabled = false)"),
    (Kind::Table, "ALTER TABLE extra.derived NO INHERIT extra.base"),
    (Kind::Table, "ALTER TABLE extra.parted DETACH PARTITION extra.parted_fr"),
    (Kind::Table, "CREATE TABLE extra.parted_us PARTITION OF extra.parted FOR VALUES IN ('at')"),
    (Kind::Table, "ALTER TABLE extra.keyed REPLICA IDENTITY NOTHING"),
    (Kind::View, "CREATE OR REPLACE VIEW extra.seen AS SELECT a, b FROM extra.plain WHERE a < 101"),
    (Kind::View, "CREATE OR REPLACE VIEW extra.seen AS SELECT a, b, c FROM extra.plain WHERE a < 100"),
    (Kind::View, "ALTER VIEW extra.seen SET (security_barrier)"),
    (Kind::View, "ALTER VIEW extra.seen SET (check_option = local)"),
    (Kind::View, "ALTER VIEW extra.seen RENAME COLUMN a TO z"),
    (Kind::View, "DROP VIEW extra.seen"),
    (Kind::View, "CREATE VIEW extra.seen_too AS SELECT 1 AS one"),
    (Kind::View, "CREATE MATERIALIZED VIEW extra.more AS SELECT 1 AS one"),
    (Kind::View, "DROP MATERIALIZED VIEW extra.summed"),
    (Kind::View, "REFRESH MATERIALIZED VIEW extra.summed WITH NO DATA"),
    (
        Kind::View,
        "DROP MATERIALIZED VIEW extra.summed; CREATE MATERIALIZED VIEW extra.summed AS SELECT f, count(a) AS n FROM extra.plain GROUP BY f",
    ),
    (Kind::Function, "CREATE OR REPLACE FUNCTION extra.answer() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 43'"),
    (Kind::Function, "CREATE OR REPLACE FUNCTION extra.answer() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT  42'"),
    (Kind::Function, "ALTER FUNCTION extra.answer() STABLE"),
    (Kind::Function, "ALTER FUNCTION extra.answer() SECURITY DEFINER"),
    (Kind::Function, "ALTER FUNCTION extra.answer() STRICT"),
    (Kind::Function, "ALTER FUNCTION extra.answer() PARALLEL SAFE"),
    (Kind::Function, "ALTER FUNCTION extra.answer() COST 7"),
    (Kind::Function, "ALTER FUNCTION extra.answer() SET search_path = public"),
    (Kind::Function, "ALTER FUNCTION extra.answer() RENAME TO question"),
    (Kind::Function, "DROP FUNCTION extra.answer()"),
    (Kind::Function, "CREATE FUNCTION extra.answer(int) RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    (
        Kind::Function,
        "CREATE OR REPLACE FUNCTION extra.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
    ),
    (Kind::Function, "CREATE OR REPLACE PROCEDURE extra.work() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'"),
    (Kind::Function, "DROP AGGREGATE extra.product(numeric)"),
    (
        Kind::Function,
        "CREATE OR REPLACE AGGREGATE extra.product(numeric) (SFUNC = numeric_mul, STYPE = numeric, INITCOND = '2')",
    ),
    (Kind::Function, "DROP OPERATOR extra.=== (int, int)"),
    (Kind::Function, "ALTER OPERATOR extra.=== (int, int) SET (RESTRICT = eqsel)"),
    (Kind::Trigger, "ALTER TABLE extra.keyed DISABLE TRIGGER noted"),
    (Kind::Trigger, "ALTER TABLE extra.keyed ENABLE ALWAYS TRIGGER noted"),
    (Kind::Trigger, "ALTER TABLE extra.keyed ENABLE REPLICA TRIGGER noted"),
    (Kind::Trigger, "ALTER TABLE extra.keyed ENABLE TRIGGER off"),
    (Kind::Trigger, "DROP TRIGGER noted ON extra.keyed"),
    (
        Kind::Trigger,
        "CREATE OR REPLACE TRIGGER noted AFTER INSERT ON extra.keyed FOR EACH ROW EXECUTE FUNCTION extra.note()",
    ),
    (
        Kind::Trigger,
        "CREATE OR REPLACE TRIGGER noted BEFORE INSERT ON extra.keyed FOR EACH ROW WHEN (NEW.id > 5) EXECUTE FUNCTION extra.note()",
    ),
    (Kind::Trigger, "ALTER TRIGGER noted ON extra.keyed RENAME TO renamed"),
    (Kind::Trigger, "ALTER TABLE extra.empty DISABLE RULE diverted"),
    (Kind::Trigger, "DROP RULE diverted ON extra.empty"),
    (Kind::Trigger, "CREATE OR REPLACE RULE diverted AS ON INSERT TO extra.empty DO INSTEAD NOTHING"),
    (Kind::Trigger, "ALTER EVENT TRIGGER watch DISABLE"),
    (Kind::Trigger, "ALTER EVENT TRIGGER watch ENABLE ALWAYS"),
    (Kind::Trigger, "DROP EVENT TRIGGER watch"),
    (
        Kind::Trigger,
        "DROP EVENT TRIGGER watch; CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION extra.watch()",
    ),
    (Kind::Policy, "ALTER TABLE extra.guarded DISABLE ROW LEVEL SECURITY"),
    (Kind::Policy, "ALTER TABLE extra.plain ENABLE ROW LEVEL SECURITY"),
    (Kind::Policy, "ALTER POLICY own ON extra.guarded USING (true)"),
    (Kind::Policy, "ALTER POLICY own ON extra.guarded TO PUBLIC"),
    (Kind::Policy, "ALTER POLICY own ON extra.guarded RENAME TO mine"),
    (Kind::Policy, "DROP POLICY own ON extra.guarded"),
    (Kind::Policy, "CREATE POLICY more ON extra.guarded AS RESTRICTIVE FOR UPDATE USING (false)"),
    (Kind::Type, "ALTER TYPE extra.mood ADD VALUE 'so so' BEFORE 'happy'"),
    (Kind::Type, "ALTER TYPE extra.mood RENAME VALUE 'sad' TO 'unhappy'"),
    (Kind::Type, "ALTER TYPE extra.mood RENAME TO temper"),
    (Kind::Type, "ALTER TYPE extra.point3 ADD ATTRIBUTE w int"),
    (Kind::Type, "ALTER TYPE extra.point3 ALTER ATTRIBUTE z TYPE bigint"),
    (Kind::Type, "CREATE TYPE extra.more AS ENUM ()"),
    (Kind::Type, "ALTER DOMAIN extra.percent DROP CONSTRAINT in_range"),
    (Kind::Type, "ALTER DOMAIN extra.percent ADD CONSTRAINT even CHECK (VALUE >= 0)"),
    (Kind::Type, "ALTER DOMAIN extra.percent ADD CONSTRAINT even CHECK (VALUE % 2 = 0) NOT VALID"),
    (Kind::Type, "DROP COLLATION extra.german"),
    (Kind::Other, "ALTER PUBLICATION news DROP TABLE extra.plain"),
    (Kind::Other, "ALTER PUBLICATION news ADD TABLE extra.base"),
    (Kind::Other, "ALTER PUBLICATION news SET (publish = 'insert, truncate')"),
    (Kind::Other, "ALTER PUBLICATION news SET TABLE extra.plain WHERE (a > 1), extra.keyed"),
    (Kind::Other, "DROP PUBLICATION news"),
    (Kind::Other, "ALTER STATISTICS extra.related SET STATISTICS 5"),
    (Kind::Other, "DROP STATISTICS extra.related"),
    (Kind::Other, "CREATE STATISTICS extra.more (mcv) ON c, d FROM extra.plain"),
    (Kind::Other, "ALTER SERVER far OPTIONS (SET host 'b')"),
    (Kind::Other, "ALTER SERVER far VERSION '2'"),
    (Kind::Other, "CREATE USER MAPPING FOR PUBLIC SERVER far"),
    (Kind::Other, "ALTER FOREIGN TABLE extra.remote ADD COLUMN t text"),
    (Kind::Other, "DROP FOREIGN TABLE extra.remote"),
    (Kind::Other, "CREATE SCHEMA another"),
    (Kind::Other, "ALTER SCHEMA extra RENAME TO extras"),
    (Kind::Other, "CREATE EXTENSION hstore"),
    (Kind::Other, "DROP EXTENSION holdfast_config"),
    (Kind::Other, "CREATE CAST (extra.point3 AS text) WITH INOUT"),
    (Kind::Other, "CREATE TEXT SEARCH CONFIGURATION extra.words (COPY = pg_catalog.english)"),
    (Kind::Comment, "COMMENT ON TABLE extra.plain IS NULL"),
    (Kind::Comment, "COMMENT ON TABLE extra.plain IS 'A plain one'"),
    (Kind::Comment, "COMMENT ON FUNCTION extra.answer() IS 'said'"),
    (Kind::Comment, "COMMENT ON SCHEMA extra IS 'said'"),
    (
        Kind::DatabaseSetting,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''7MB''', current_database()); END $$",
    ),
    (
        Kind::DatabaseSetting,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = extra, public', current_database()); END $$",
    ),
    (
        Kind::DatabaseSetting,
        "DO $$ BEGIN EXECUTE format('ALTER ROLE awkward_reader IN DATABASE %I SET work_mem = ''7MB''', current_database()); END $$",
    ),
    (
        Kind::DatabaseSetting,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 77', current_database()); END $$",
    ),
    (
        Kind::DatabaseSetting,
        "DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO awkward_reader', current_database()); END $$",
    ),
    (
        Kind::DatabaseSetting,
        "DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END $$",
    ),
    (
        Kind::DatabaseSetting,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO awkward_owner', current_database()); END $$",
    ),
    (
        Kind::DatabaseSetting,
        "DO $$ BEGIN EXECUTE format('COMMENT ON DATABASE %I IS ''said''', current_database()); END $$",
    ),
];
