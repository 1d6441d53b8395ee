//! The forms in which tools want to be told where a database is. All of them may hold a password.

use super::RunnerError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use shared::model::{DatabaseUrl, PostgresUrl};
use std::path::Path;

/// What URLs leave as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same in a path.
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

fn encode(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// The usual URL, as libpq, sqlx and most tools read it.
pub(super) fn plain(url: &DatabaseUrl) -> Result<String, RunnerError> {
    match url {
        DatabaseUrl::Sqlite(path) => Ok(format!("sqlite://{}", utf8_percent_encode(text(path)?, PATH))),
        DatabaseUrl::Postgres(url) => {
            let host = match &url.host {
                Some(host) if host.contains(':') => format!("[{host}]"),
                // A socket directory stands in the host's place, percent-encoded.
                host => host.as_deref().map(encode).unwrap_or_default(),
            };
            let port = url.port.map_or(String::new(), |port| format!(":{port}"));
            let server = format!("{}{host}{port}", user_part(url));
            let ssl = [("sslmode", &url.ssl_mode), ("sslrootcert", &url.ssl_root_cert)];
            Ok(format!("postgresql://{server}/{}{}", encode(&url.database), query(&ssl)))
        }
    }
}

/// The URL by which sqlx connects in our own child: parts with odd characters stand in the query.
pub(super) fn for_sqlx(url: &DatabaseUrl) -> Result<String, RunnerError> {
    let DatabaseUrl::Postgres(url) = url else { return plain(url) };
    let port = url.port.map(|port| port.to_string());
    let parts = [
        ("dbname", &Some(url.database.clone())),
        ("host", &url.host),
        ("port", &port),
        ("user", &url.user),
        ("password", &url.password),
        ("sslmode", &url.ssl_mode),
        ("sslrootcert", &url.ssl_root_cert),
    ];
    Ok(format!("postgres:///{}", query(&parts)))
}

/// SQLAlchemy's URL; `driver` is what stands before `://` in the project's own, if that is of the same product.
pub(super) fn for_sqlalchemy(url: &DatabaseUrl, driver: Option<&str>) -> Result<String, RunnerError> {
    match url {
        DatabaseUrl::Sqlite(path) => {
            let path = text(path)?;
            if path.contains('?') {
                return Err(RunnerError::new(format!("SQLAlchemy cannot be told the path {path:?}, because of its ?")));
            }
            // SQLAlchemy takes the path as it stands: a percent sign is a percent sign.
            let scheme = driver.filter(|driver| driver.starts_with("sqlite")).unwrap_or("sqlite");
            Ok(format!("{scheme}:///{path}"))
        }
        DatabaseUrl::Postgres(url) => {
            let scheme = driver.filter(|driver| driver.starts_with("postgres")).unwrap_or("postgresql");
            let socket = url.host.clone().filter(|host| host.starts_with('/'));
            let host = match &url.host {
                Some(host) if host.starts_with('/') => String::new(),
                Some(host) if host.contains(':') => format!("[{host}]"),
                host => host.clone().unwrap_or_default(),
            };
            let port = url.port.map(|port| port.to_string());
            // Without a host there is no place for a port.
            let (beside, port) = if host.is_empty() {
                (String::new(), port)
            } else {
                (port.map_or(String::new(), |port| format!(":{port}")), None)
            };
            // The database's name is taken as it stands too, up to a question mark.
            let odd = url.database.contains('?');
            let (path, name) = if odd { ("", Some(url.database.clone())) } else { (url.database.as_str(), None) };
            let rest = [
                ("host", &socket),
                ("port", &port),
                ("dbname", &name),
                ("sslmode", &url.ssl_mode),
                ("sslrootcert", &url.ssl_root_cert),
            ];
            Ok(format!("{scheme}://{}{host}{beside}/{path}{}", user_part(url), query(&rest)))
        }
    }
}

/// The path as text; tools are told it by URLs and variables.
pub(super) fn text(path: &Path) -> Result<&str, RunnerError> {
    path.to_str().ok_or_else(|| RunnerError::new(format!("the path {} is no UTF-8 text", path.display())))
}

fn user_part(url: &PostgresUrl) -> String {
    match (&url.user, &url.password) {
        (Some(user), Some(password)) => format!("{}:{}@", encode(user), encode(password)),
        (Some(user), None) => format!("{}@", encode(user)),
        (None, Some(password)) => format!(":{}@", encode(password)),
        (None, None) => String::new(),
    }
}

fn query(parts: &[(&str, &Option<String>)]) -> String {
    let given = parts.iter().filter_map(|(name, value)| Some(format!("{name}={}", encode(value.as_ref()?))));
    let given: Vec<String> = given.collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_for_tools_and_back() {
        let url = |text: &str| text.parse::<DatabaseUrl>().expect("valid");
        let odd = url("postgres://a%40b:p%40%3A%2F%3F%23%25%20%22%27@db.example:5433/sh%20op?sslmode=require");
        let socket = url("postgres:///shop?host=/run/pg&port=5433&user=u&password=p%25w");
        for form in [plain(&odd), for_sqlx(&odd)] {
            assert!(form.expect("text").parse::<DatabaseUrl>().expect("valid") == odd);
        }
        for form in [plain(&socket), for_sqlx(&socket)] {
            assert!(form.expect("text").parse::<DatabaseUrl>().expect("valid") == socket);
        }
        let alchemy = |url: &DatabaseUrl, driver| for_sqlalchemy(url, driver).expect("text");
        assert_eq!(
            alchemy(&odd, Some("postgresql+psycopg")),
            "postgresql+psycopg://a%40b:p%40%3A%2F%3F%23%25%20%22%27@db.example:5433/sh op?sslmode=require"
        );
        assert_eq!(alchemy(&socket, Some("driver")), "postgresql://u:p%25w@/shop?host=%2Frun%2Fpg&port=5433");
        assert_eq!(alchemy(&url("sqlite:/srv/a b%.db"), None), "sqlite:////srv/a b%.db");
        assert_eq!(plain(&url("sqlite:/srv/a b%.db")).expect("text"), "sqlite:///srv/a%20b%25.db");
        assert!(for_sqlalchemy(&url("sqlite:/srv/a?.db"), None).is_err());
    }
}
