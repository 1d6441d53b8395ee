//! The name of a backup: `<YYYYMMDDTHHMMSSZ>-<6hex>`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The name of a backup within its database; sorts by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId(String);

/// A text that is not a backup id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a backup id (like 20250131T030000Z-1a2b3c)")]
pub struct InvalidBackupId(pub String);

impl BackupId {
    /// The id of a backup begun at `second` (fractions are dropped) with a random part.
    pub fn new(second: Timestamp, random: [u8; 3]) -> Self {
        BackupId(format!("{}-{}", second.strftime("%Y%m%dT%H%M%SZ"), hex::encode(random)))
    }

    /// The whole second in the id.
    pub fn second(&self) -> Timestamp {
        parse_second(&self.0).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn parse_second(text: &str) -> Option<Timestamp> {
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text.get(..16)?).ok()?;
    time.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

impl FromStr for BackupId {
    type Err = InvalidBackupId;

    fn from_str(text: &str) -> Result<Self, InvalidBackupId> {
        let hex_part = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let fits = text.len() == 23
            && text.is_ascii()
            && text.as_bytes()[16] == b'-'
            && text.bytes().skip(17).all(hex_part)
            && parse_second(text)
                .is_some_and(|second| text.starts_with(&second.strftime("%Y%m%dT%H%M%SZ").to_string()));
        if fits { Ok(BackupId(text.to_owned())) } else { Err(InvalidBackupId(text.to_owned())) }
    }
}

impl TryFrom<String> for BackupId {
    type Error = InvalidBackupId;

    fn try_from(text: String) -> Result<Self, InvalidBackupId> {
        text.parse()
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> String {
        id.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_read_back() {
        let second: Timestamp = "2025-01-31T03:00:00.987Z".parse().expect("valid");
        let id = BackupId::new(second, [0x1a, 0x2b, 0x3c]);
        assert_eq!(id.as_str(), "20250131T030000Z-1a2b3c");
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert_eq!(id.second().to_string(), "2025-01-31T03:00:00Z");
        for bad in [
            "",
            "20250131T030000Z-1a2b3",
            "20250131T030000Z-1A2B3C",
            "20250231T030000Z-1a2b3c",
            "../../../../../../../../",
        ] {
            assert!(bad.parse::<BackupId>().is_err(), "{bad:?}");
        }
    }
}
