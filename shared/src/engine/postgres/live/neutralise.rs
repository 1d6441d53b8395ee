//! A copy of a database must not act on the world: no foreign servers, no subscriptions.

use super::PostgresLive;
use crate::engine::EngineError;
use crate::engine::postgres::quote::{ident, literal};
use crate::engine::postgres::session::{self, Doing, exec, rows};
use crate::model::PostgresUrl;
use serde::Deserialize;
use sqlx::PgConnection;

/// Options of foreign servers that say where the server is, whatever the wrapper.
const WHERE: [&str; 8] = ["host", "hostaddr", "address", "server", "servername", "service", "svrname", "url"];

/// Wrappers that take libpq's options.
const LIBPQ: [&str; 2] = ["postgres_fdw", "dblink_fdw"];

/// Extensions and languages whose functions can reach out, with addresses we cannot see.
const REACH_OUT: &str =
    "'dblink', 'http', 'pg_net', 'pgsql-http', 'plpython3u', 'plperlu', 'pltclu', 'plsh', 'pg_cron',
    'postgres_fdw_functions', 'aws_s3', 'aws_lambda'";

#[derive(Debug, Deserialize)]
struct Server {
    name: String,
    wrapper: String,
    options: Vec<String>,
}

impl PostgresLive {
    /// Takes away from a scratch database what acts outward; returns what was done, or could not be, a line each.
    ///
    /// Foreign servers get an address where nobody answers (127.0.0.1, port 1); user mappings of servers whose address
    /// we do not know how to change are dropped; subscriptions are disabled and let go of their slots. Addresses
    /// written in functions cannot be changed: the extensions that could use them are named. Safe to repeat.
    pub async fn neutralise(scratch: &PostgresUrl) -> Result<Vec<String>, EngineError> {
        let mut conn = session::connect(scratch).await?;
        let mut lines = Vec::new();
        for server in servers(&mut conn).await? {
            lines.extend(blind(&mut conn, &server).await?);
        }
        lines.extend(unsubscribe(&mut conn).await?);
        lines.extend(reaching_out(&mut conn).await?);
        session::close(conn).await;
        Ok(lines)
    }
}

async fn servers(conn: &mut PgConnection) -> Result<Vec<Server>, EngineError> {
    let query = "SELECT s.srvname AS name, w.fdwname AS wrapper, coalesce(s.srvoptions, '{}') AS options
        FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw ORDER BY 1";
    rows(conn, query).await.doing("foreign servers could not be listed")
}

/// Points a foreign server to where nobody answers; where its wrapper has no such option, drops its user mappings.
async fn blind(conn: &mut PgConnection, server: &Server) -> Result<Vec<String>, EngineError> {
    let name = ident(&server.name);
    let has = |option: &str| server.options.iter().any(|text| text.split('=').next() == Some(option));
    let mut changes = Vec::new();
    if LIBPQ.contains(&server.wrapper.as_str()) {
        let set = |option: &str, value: &str| format!("{} {option} '{value}'", if has(option) { "SET" } else { "ADD" });
        changes.extend([set("host", "127.0.0.1"), set("port", "1")]);
        // These would win over the host.
        changes.extend(["hostaddr", "service"].into_iter().filter(|option| has(option)).map(|o| format!("DROP {o}")));
    } else {
        let known = WHERE.into_iter().filter(|option| has(option));
        changes.extend(known.map(|option| format!("SET {option} '127.0.0.1'")));
        changes.extend(has("port").then(|| "SET port '1'".to_owned()));
    }
    if !changes.is_empty() {
        let sql = format!("ALTER SERVER {name} OPTIONS ({})", changes.join(", "));
        exec(conn, &sql).await.doing(format!("the foreign server {} could not be cut off", server.name))?;
        return Ok(vec![format!("foreign server {} ({}) points nowhere", server.name, server.wrapper)]);
    }
    drop_mappings(conn, server).await
}

async fn drop_mappings(conn: &mut PgConnection, server: &Server) -> Result<Vec<String>, EngineError> {
    #[derive(Deserialize)]
    struct Mapping {
        role: Option<String>,
    }
    let query = format!(
        "SELECT nullif(usename, 'public')::text AS role FROM pg_user_mappings WHERE srvname = {}",
        literal(&server.name)
    );
    let mappings: Vec<Mapping> = rows(conn, &query).await.doing("user mappings could not be listed")?;
    for mapping in &mappings {
        let role = mapping.role.as_deref().map_or("PUBLIC".to_owned(), ident);
        let sql = format!("DROP USER MAPPING IF EXISTS FOR {role} SERVER {}", ident(&server.name));
        exec(conn, &sql).await.doing(format!("a user mapping of {} could not be dropped", server.name))?;
    }
    let done = format!("{} user mappings dropped, its address could not be changed", mappings.len());
    Ok(vec![format!("foreign server {} ({}): {done}", server.name, server.wrapper)])
}

async fn unsubscribe(conn: &mut PgConnection) -> Result<Vec<String>, EngineError> {
    #[derive(Deserialize)]
    struct Subscription {
        name: String,
    }
    let query = "SELECT s.subname AS name FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
        WHERE d.datname = current_database() ORDER BY 1";
    let list: Vec<Subscription> = rows(conn, query).await.doing("subscriptions could not be listed")?;
    let mut lines = Vec::new();
    for Subscription { name } in list {
        let quoted = ident(&name);
        for sql in [
            format!("ALTER SUBSCRIPTION {quoted} DISABLE"),
            format!("ALTER SUBSCRIPTION {quoted} SET (slot_name = NONE)"),
        ] {
            exec(conn, &sql).await.doing(format!("subscription {name} could not be disabled"))?;
        }
        lines.push(format!("subscription {name} is disabled"));
    }
    Ok(lines)
}

async fn reaching_out(conn: &mut PgConnection) -> Result<Vec<String>, EngineError> {
    #[derive(Deserialize)]
    struct Extension {
        name: String,
    }
    let query = format!("SELECT extname AS name FROM pg_extension WHERE extname IN ({REACH_OUT}) ORDER BY 1");
    let list: Vec<Extension> = rows(conn, &query).await.doing("extensions could not be listed")?;
    Ok(list
        .into_iter()
        .map(|Extension { name }| format!("extension {name} is there: addresses written in functions still work"))
        .collect())
}
