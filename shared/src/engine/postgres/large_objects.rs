//! Large objects: `pg_dump` is not asked for them, because its archive would mix their content into the schema.

use super::facts::LargeObjectFact;
use super::quote::{ident, literal};
use super::session::{Doing, rows};
use super::tools::Leave;
use crate::engine::EngineError;
use serde::Deserialize;
use sqlx::PgConnection;

/// Lists all large objects by OID. Refused where the role may not read one.
pub(crate) async fn list(conn: &mut PgConnection) -> Result<Vec<LargeObjectFact>, EngineError> {
    #[derive(Deserialize)]
    struct Listed {
        readable: bool,
        #[serde(flatten)]
        fact: LargeObjectFact,
    }
    let list: Vec<Listed> = rows(
        conn,
        "SELECT m.oid::int8 AS oid, pg_get_userbyid(m.lomowner) AS owner,
            coalesce((SELECT json_agg(line ORDER BY line COLLATE \"C\") FROM (
                SELECT format('GRANT %s ON LARGE OBJECT %s TO %s%s', a.privilege_type, m.oid,
                    CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                    CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS line
                FROM aclexplode(m.lomacl) a) g), '[]') AS grants,
            m.lomacl IS NOT NULL AS has_acl,
            obj_description(m.oid, 'pg_largeobject') AS comment,
            pg_has_role(m.lomowner, 'USAGE') OR current_setting('lo_compat_privileges')::bool
                OR EXISTS (SELECT FROM aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
                    AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE'))) AS readable
         FROM pg_largeobject_metadata m ORDER BY m.oid",
    )
    .await
    .doing("the large objects could not be listed")?;
    let closed: Vec<String> = list.iter().filter(|o| !o.readable).take(10).map(|o| o.fact.oid.to_string()).collect();
    if !closed.is_empty() {
        let message = format!("the role may not read large objects {}", closed.join(", "));
        return Err(
            EngineError::refused(message).with_hint("back up as their owner or as a superuser: no other role can")
        );
    }
    Ok(list.into_iter().map(|listed| listed.fact).collect())
}

/// Owner, grants and comment of an object that exists already.
pub(crate) fn statements(object: &LargeObjectFact, leave: Leave) -> Vec<String> {
    let (oid, owner) = (object.oid, ident(&object.owner));
    let mut list = Vec::new();
    if !leave.owner {
        list.push(format!("ALTER LARGE OBJECT {oid} OWNER TO {owner}"));
    }
    if object.has_acl && !leave.acl {
        list.push(format!("REVOKE ALL ON LARGE OBJECT {oid} FROM {owner}"));
        list.extend(object.grants.iter().cloned());
    }
    if let Some(comment) = &object.comment {
        list.push(format!("COMMENT ON LARGE OBJECT {oid} IS {}", literal(comment)));
    }
    list
}
