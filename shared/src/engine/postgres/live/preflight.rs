//! What would keep a database from being changed in place, found out beforehand without touching anything.

use super::names::scratch_name;
use super::{PostgresLive, left_over, rights};
use crate::engine::EngineError;
use crate::engine::postgres::quote::{ident, literal};
use crate::engine::postgres::session::{self, Doing, one, rows, sqlstate, words};
use crate::model::PostgresUrl;
use serde::Deserialize;
use sqlx::PgConnection;

/// Something that keeps a database from being changed in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Facts.
    pub what: String,
    /// What a person can do, as a statement where one helps.
    pub hint: Option<String>,
}

impl Obstacle {
    pub(super) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Obstacle { what: what.into(), hint: Some(hint.into()) }
    }
}

#[derive(Debug, Deserialize)]
struct Database {
    oid: u32,
    template: bool,
    open: bool,
    connection_limit: i32,
}

impl PostgresLive {
    /// Everything that would keep the database from being fenced, changed and given back. Reads only.
    ///
    /// An error means that the question could not be asked, because the server is not there for instance.
    pub async fn preflight(&self) -> Result<Vec<Obstacle>, EngineError> {
        let name = self.public();
        let postgres = self.admin.with_database("postgres");
        if let Err(error) = session::connect_plain(&postgres).await {
            if sqlstate(&error).as_deref() != Some("42501") {
                return Err(session::connect_error(&postgres, error));
            }
            let role = self.admin.user.as_deref().map_or("the role".to_owned(), ident);
            let hint = format!("GRANT CONNECT ON DATABASE postgres TO {role}");
            return Ok(vec![Obstacle::new("the role may not connect to the database postgres", hint)]);
        }
        let mut conn = self.maintenance().await?;
        let query = format!(
            "SELECT oid::bigint AS oid, datistemplate AS template, datallowconn AS open,
                    datconnlimit AS connection_limit FROM pg_database WHERE datname = {}",
            literal(name)
        );
        let found: Vec<Database> = rows(&mut conn, &query).await.doing("the databases could not be listed")?;
        let Some(database) = found.into_iter().next() else {
            let hint = "check the name; a migration that was interrupted may have left it fenced";
            return Ok(vec![Obstacle::new(format!("the database {name} does not exist"), hint)]);
        };
        let mut list = about(name, &database);
        if database.connection_limit == -2 || !database.open {
            return Ok(list);
        }
        list.extend(rights::missing(&mut conn, database.oid, name, self.url.user.as_deref()).await?);
        list.extend(attached(&mut conn, database.oid, name).await?);
        session::close(conn).await;
        list.extend(self.inside().await?);
        for url in [&self.url, &self.admin] {
            list.extend(other_names(url, name).await?);
        }
        list.dedup();
        Ok(list)
    }

    /// What is in the way inside the database.
    async fn inside(&self) -> Result<Vec<Obstacle>, EngineError> {
        let mut conn = session::connect(&self.admin.with_database(self.public())).await?;
        let mut list: Vec<Obstacle> = left_over::invalid_indexes(&mut conn)
            .await?
            .into_iter()
            .map(|index| {
                Obstacle::new(format!("index {index} is invalid"), format!("REINDEX INDEX {index}, or drop it"))
            })
            .collect();
        list.extend(left_over::detaching(&mut conn).await?.into_iter().map(|(parent, partition)| {
            let hint = format!("ALTER TABLE {parent} DETACH PARTITION {partition} FINALIZE");
            Obstacle::new(format!("a detach of partition {partition} was begun and not finished"), hint)
        }));
        session::close(conn).await;
        Ok(list)
    }
}

fn about(name: &str, database: &Database) -> Vec<Obstacle> {
    let mut list = Vec::new();
    if matches!(name, "postgres" | "template0" | "template1") {
        list.push(Obstacle::new(format!("{name} belongs to the server itself"), "use a database of its own"));
    } else if database.template {
        let hint = format!("ALTER DATABASE {} IS_TEMPLATE false", ident(name));
        list.push(Obstacle::new(format!("{name} is a template database"), hint));
    }
    if database.connection_limit == -2 {
        let hint = format!("only DROP DATABASE {} is possible; restore it from a backup", ident(name));
        list.push(Obstacle::new(format!("{name} is invalid: dropping it was begun and not finished"), hint));
    }
    if !database.open {
        let hint = format!(
            "ALTER DATABASE {} ALLOW_CONNECTIONS true, unless a migration was interrupted and is to be recovered",
            ident(name)
        );
        list.push(Obstacle::new(format!("{name} accepts no connections"), hint));
    }
    list
}

/// What hangs on a database and would not follow a change of names, or forbids it.
async fn attached(conn: &mut PgConnection, oid: u32, name: &str) -> Result<Vec<Obstacle>, EngineError> {
    #[derive(Deserialize)]
    struct Attached {
        prepared: Vec<String>,
        slots: Vec<String>,
        subscriptions: Vec<String>,
    }
    let query = format!(
        "SELECT ARRAY (SELECT gid FROM pg_prepared_xacts WHERE database = {name} ORDER BY 1) AS prepared,
                ARRAY (SELECT slot_name::text FROM pg_replication_slots WHERE database = {name} ORDER BY 1) AS slots,
                ARRAY (SELECT subname::text FROM pg_subscription WHERE subdbid = {oid} ORDER BY 1) AS subscriptions",
        name = literal(name)
    );
    let found: Attached = one(conn, &query).await.doing("what hangs on the database could not be read")?;
    let prepared = found.prepared.iter().map(|gid| {
        let hint = format!("in {name}: COMMIT PREPARED {0} or ROLLBACK PREPARED {0}", literal(gid));
        Obstacle::new(format!("transaction {gid:?} is prepared and keeps {name} from being renamed"), hint)
    });
    let slots = found.slots.iter().map(|slot| {
        let hint = format!("SELECT pg_drop_replication_slot({})", literal(slot));
        Obstacle::new(format!("replication slot {slot} follows the database, not its name"), hint)
    });
    let subscriptions = found.subscriptions.iter().map(|subscription| {
        let hint = format!("in {name}: DROP SUBSCRIPTION {}", ident(subscription));
        Obstacle::new(format!("subscription {subscription} writes into {name} while it is changed"), hint)
    });
    Ok(prepared.chain(slots).chain(subscriptions).collect())
}

/// Whether the role may log in to databases of other names: `pg_hba.conf` and poolers may know the public one only.
///
/// The server looks for the database after it has let the role in, so a name that nobody bears tells.
async fn other_names(url: &PostgresUrl, name: &str) -> Result<Option<Obstacle>, EngineError> {
    let other = url.with_database(&scratch_name(name, "__reh_")?);
    let Err(error) = session::connect_plain(&other).await else { return Ok(None) };
    if sqlstate(&error).as_deref() == Some("3D000") {
        return Ok(None);
    }
    let role = url.user.as_deref().unwrap_or("the role");
    let what = format!("{role} cannot reach databases called like {}: {}", other.database, words(&error));
    Ok(Some(Obstacle::new(what, "let pg_hba.conf name \"all\" databases for it, and give the server's own address")))
}
