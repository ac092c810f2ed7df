//! Arguments of `principals`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::domain::principal::Role;
use crate::domain::time::Time;

/// How long a token counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// So many seconds from now.
    In(i64),
    /// Until then.
    At(Time),
    /// Until it is revoked.
    Never,
}

impl Expiry {
    /// The instant that it means, now.
    pub(crate) fn from(self, now: Time) -> Option<Time> {
        match self {
            Self::In(seconds) => Some(now.plus_seconds(seconds).floor_to_seconds(1)),
            Self::At(time) => Some(time),
            Self::Never => None,
        }
    }
}

impl std::str::FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let unit_seconds = match text.as_bytes().last() {
            Some(b'd') => 86_400,
            Some(b'h') => 3_600,
            Some(b'm') => 60,
            _ => 0,
        };
        let count = text.get(..text.len().saturating_sub(1)).and_then(|count| count.parse::<u32>().ok());
        match count.filter(|count| unit_seconds > 0 && *count > 0) {
            Some(count) => Ok(Self::In(i64::from(count) * unit_seconds)),
            None => text.parse().map(Self::At).map_err(|_error| {
                format!("{text:?} is no length of time (90d, 12h, 30m), no time (2027-01-01T00:00:00Z) and not `never`")
            }),
        }
    }
}

/// `principals`.
#[derive(Debug, Subcommand)]
pub(crate) enum PrincipalTask {
    /// All of them, with their tokens, and the trusted providers
    List,
    /// Give a principal roles, and a token or an identity (admin)
    Add {
        /// Who
        name: String,
        /// What they may do from here: replaces what they had; may be given more than once
        #[arg(long, required = true)]
        role: Vec<Role>,
        /// How long the token counts: 90d, 12h, a time, or never
        #[arg(long, value_name = "LENGTH|TIME", default_value = "90d")]
        expires: Expiry,
        /// What the token is for
        #[arg(long)]
        label: Option<String>,
        /// Known by this provider instead of a token (its `iss`)
        #[arg(long, value_name = "URL", requires = "subject", conflicts_with_all = ["label", "out"])]
        issuer: Option<String>,
        /// Who they are there (`sub`)
        #[arg(long, requires = "issuer")]
        subject: Option<String>,
        /// Write the token to this file (0600) instead of the terminal
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Take all roles, tokens and identities from a principal; bar somebody whom only a provider knows (admin)
    Remove {
        /// Who
        name: String,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Give a principal one more token (admin)
    AddToken {
        /// Who
        name: String,
        /// How long it counts: 90d, 12h, a time, or never
        #[arg(long, value_name = "LENGTH|TIME", default_value = "90d")]
        expires: Expiry,
        /// What it is for
        #[arg(long)]
        label: Option<String>,
        /// Write the token to this file (0600) instead of the terminal
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Take one token from a principal (admin)
    RevokeToken {
        /// Who
        name: String,
        /// The token's SHA-256, or enough of its beginning
        token: String,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Trust an identity provider to know people, and to confer these roles (admin)
    Trust {
        /// What it calls itself (`iss`)
        issuer: String,
        /// Whom only it knows is called ALIAS:NAME here
        #[arg(long)]
        alias: String,
        /// A role that its claims may confer; never admin; may be given more than once
        #[arg(long, required = true)]
        role: Vec<Role>,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Trust an identity provider no more (admin)
    Distrust {
        /// What it calls itself (`iss`)
        issuer: String,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_times() {
        let check = |text: &str, expected: Option<Expiry>| assert_eq!(text.parse::<Expiry>().ok(), expected, "{text}");
        check("90d", Some(Expiry::In(7_776_000)));
        check("12h", Some(Expiry::In(43_200)));
        check("never", Some(Expiry::Never));
        check("2027-01-01T00:00:00Z", Some(Expiry::At("2027-01-01T00:00:00Z".parse().unwrap())));
        for wrong in ["", "d", "0d", "90", "-1d", "9w", "soon"] {
            check(wrong, None);
        }
    }
}
