//! What can be wrong with a token. Each is answered with its own permanent code.

use crate::domain::time::Time;

/// Why a token counts for nothing here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is no JWT, or lacks what one must say.
    #[error("the token cannot be read: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// More bytes than taken.
    #[error("the token has {bytes} bytes; at most {max} are read")]
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// How many are read.
        max: usize,
    },
    /// `none`, a symmetric algorithm, one that the configuration does not name, or not the key's own.
    #[error("the token is signed with {found:?}, which is not taken")]
    Algorithm {
        /// What its header says.
        found: String,
    },
    /// The issuer is no configured provider.
    #[error("the token is by {found:?}, which is no provider configured here")]
    WrongIssuer {
        /// What it says.
        found: String,
    },
    /// The provider has no such key, as far as known; it was asked again no longer than the retry interval ago.
    #[error("the provider has no key {kid:?}")]
    UnknownKey {
        /// What the header says.
        kid: String,
    },
    /// The signature does not verify.
    #[error("the token's signature does not verify")]
    BadSignature,
    /// It is for somebody else.
    #[error("the token is for {found:?}, not for this service")]
    WrongAudience {
        /// Whom it is for.
        found: Vec<String>,
    },
    /// Not before that.
    #[error("the token counts from {from} on")]
    NotYetValid {
        /// Since when.
        from: Time,
    },
    /// It is over.
    #[error("the token expired at {expired}")]
    Expired {
        /// When.
        expired: Time,
    },
    /// The provider's keys could not be had, and those kept are too old or none.
    #[error("the provider's keys are not to be had: {reason}")]
    KeysUnavailable {
        /// Why.
        reason: String,
    },
}

impl Fault {
    pub(super) fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed { reason: reason.into() }
    }
}
