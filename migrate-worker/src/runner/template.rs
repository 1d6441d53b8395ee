//! Values of environment variables in which `{url}` and the like stand for the database.

use super::{RunnerError, address};
use shared::model::DatabaseUrl;

/// What may stand between braces.
const NAMES: [&str; 8] = ["url", "sqlalchemy_url", "path", "host", "port", "user", "password", "dbname"];

/// A value with placeholders; `{{` and `}}` stand for the braces themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Name(&'static str),
}

impl Template {
    /// Reads a template; `what` is named where it is wrong.
    pub(super) fn parse(what: &str, text: &str) -> Result<Self, RunnerError> {
        let wrong = |message: String| {
            let names: Vec<String> = NAMES.iter().map(|name| format!("{{{name}}}")).collect();
            RunnerError::new(format!("{what}: {message}"))
                .hint(format!("known are {}; {{{{ and }}}} stand for braces", names.join(", ")))
        };
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let (brace, behind) = rest[at..].split_at(1);
            if let Some(behind) = behind.strip_prefix(brace) {
                plain.push_str(brace);
                rest = behind;
                continue;
            }
            let named = (brace == "{").then(|| behind.split_once('}')).flatten();
            let (name, behind) = named.ok_or_else(|| wrong("a brace stands alone".into()))?;
            let known = NAMES.iter().find(|known| **known == name);
            let known = known.ok_or_else(|| wrong(format!("unknown placeholder {{{name}}}")))?;
            parts.extend([Part::Text(std::mem::take(&mut plain)), Part::Name(known)]);
            rest = behind;
        }
        plain.push_str(rest);
        parts.push(Part::Text(plain));
        Ok(Template(parts))
    }

    /// The value for one database. Parts a PostgreSQL URL does not have are empty.
    pub(super) fn fill(&self, url: &DatabaseUrl) -> Result<String, RunnerError> {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => Ok(text.clone()),
                Part::Name(name) => value(name, url),
            })
            .collect()
    }
}

fn value(name: &str, url: &DatabaseUrl) -> Result<String, RunnerError> {
    let text = |value: &Option<String>| Ok(value.clone().unwrap_or_default());
    match (name, url) {
        ("url", url) => address::plain(url),
        ("sqlalchemy_url", url) => address::for_sqlalchemy(url, None),
        ("path", DatabaseUrl::Sqlite(path)) => address::text(path).map(str::to_owned),
        ("host", DatabaseUrl::Postgres(url)) => text(&url.host),
        ("port", DatabaseUrl::Postgres(url)) => text(&url.port.map(|port| port.to_string())),
        ("user", DatabaseUrl::Postgres(url)) => text(&url.user),
        ("password", DatabaseUrl::Postgres(url)) => text(&url.password),
        ("dbname", DatabaseUrl::Postgres(url)) => Ok(url.database.clone()),
        (name, url) => Err(RunnerError::new(format!("{{{name}}} means nothing for a database of {}", url.kind()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, url: &str) -> Result<String, RunnerError> {
        Template::parse("env", text)?.fill(&url.parse().expect("valid"))
    }

    #[test]
    fn placeholders_are_filled_once_and_unknown_ones_refused() {
        let url = "postgres://u:%7Burl%7D%25@h:5433/shop";
        for (text, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("{user}@{host}:{port}/{dbname}", "u@h:5433/shop"),
            // A password is no template.
            ("{password}", "{url}%"),
            ("{{{user}}} {{url}}", "{u} {url}"),
            ("{url}", "postgresql://u:%7Burl%7D%25@h:5433/shop"),
        ] {
            assert_eq!(filled(text, url).expect(text), expected);
        }
        for (text, expected) in
            [("{pasword}", "{pasword}"), ("{url", "alone"), ("x}", "alone"), ("{path}", "means nothing")]
        {
            let error = filled(text, url).expect_err(text).to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(filled("{path}", "sqlite:/srv/a.db").expect("text"), "/srv/a.db");
    }
}
