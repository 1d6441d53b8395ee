//! Rights that fencing a database takes, and the statements that grant them.

use super::preflight::Obstacle;
use super::sessions::{self, Session};
use crate::engine::EngineError;
use crate::engine::postgres::quote::{ident, literal};
use crate::engine::postgres::session::{Doing, one};
use serde::Deserialize;
use sqlx::PgConnection;
use std::collections::BTreeSet;

#[derive(Debug, Deserialize)]
struct Rights {
    role: String,
    superuser: bool,
    create_database: bool,
    owner: String,
    owns: bool,
    signals: bool,
    connects: bool,
}

/// Rights the session's role lacks to fence the database and to give it back.
pub(super) async fn missing(
    conn: &mut PgConnection,
    oid: u32,
    name: &str,
    application: Option<&str>,
) -> Result<Vec<Obstacle>, EngineError> {
    let query = format!(
        "SELECT r.rolname AS role, r.rolsuper AS superuser, r.rolcreatedb AS create_database,
                pg_get_userbyid(d.datdba) AS owner, pg_has_role(d.datdba, 'USAGE') AS owns,
                pg_has_role('pg_signal_backend', 'USAGE') AS signals,
                has_database_privilege(d.oid, 'CONNECT') AS connects
         FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.oid = {oid}"
    );
    let rights: Rights = one(conn, &query).await.doing("the role's rights could not be read")?;
    if rights.superuser {
        return Ok(Vec::new());
    }
    let role = ident(&rights.role);
    let mut list = Vec::new();
    if !rights.owns {
        let what = format!("{} does not own the database {name}, so it may not rename it", rights.role);
        list.push(Obstacle::new(what, format!("GRANT {} TO {role}", ident(&rights.owner))));
    }
    if !rights.create_database {
        let what = format!("{} may not create and rename databases", rights.role);
        list.push(Obstacle::new(what, format!("ALTER ROLE {role} CREATEDB")));
    }
    if !rights.connects {
        let what = format!("{} may not connect to the database {name}", rights.role);
        list.push(Obstacle::new(what, format!("GRANT CONNECT ON DATABASE {} TO {role}", ident(name))));
    }
    let connected = sessions::in_database(conn, oid).await?;
    list.extend(out_of_reach(conn, &rights, &connected, application).await?);
    Ok(list)
}

/// Sessions that the role may not end: it must be a member of their role, or of `pg_signal_backend`, which does not
/// reach superusers.
async fn out_of_reach(
    conn: &mut PgConnection,
    rights: &Rights,
    connected: &[Session],
    application: Option<&str>,
) -> Result<Vec<Obstacle>, EngineError> {
    #[derive(Deserialize)]
    struct Reach {
        superusers: Vec<String>,
        strangers: Vec<String>,
    }
    let roles: BTreeSet<&str> =
        connected.iter().filter_map(|session| session.role.as_deref()).chain(application).collect();
    let names: Vec<String> = roles.into_iter().map(literal).collect();
    let names = if names.is_empty() { "NULL".to_owned() } else { names.join(", ") };
    let query = format!(
        "SELECT ARRAY (SELECT rolname::text FROM pg_roles WHERE rolname IN ({names}) AND rolsuper ORDER BY 1) AS superusers,
                ARRAY (SELECT rolname::text FROM pg_roles WHERE rolname IN ({names}) AND NOT rolsuper
                    AND NOT pg_has_role(oid, 'USAGE') ORDER BY 1) AS strangers"
    );
    let reach: Reach = one(conn, &query).await.doing("the roles of sessions could not be looked up")?;
    let mut list = Vec::new();
    if !rights.signals && !reach.strangers.is_empty() {
        let what = format!("{} may not end sessions of {}", rights.role, reach.strangers.join(", "));
        list.push(Obstacle::new(what, format!("GRANT pg_signal_backend TO {}", ident(&rights.role))));
    }
    if !reach.superusers.is_empty() {
        let of_superuser = |s: &&Session| s.role.as_ref().is_some_and(|role| reach.superusers.contains(role));
        let who: Vec<String> = connected.iter().filter(of_superuser).map(Session::in_words).collect();
        let who = if who.is_empty() { format!("sessions of {}", reach.superusers.join(", ")) } else { who.join(", ") };
        let what = format!("{} may not end sessions of superusers: {who}", rights.role);
        list.push(Obstacle::new(what, "end them, or give a superuser's address as admin_url"));
    }
    Ok(list)
}
