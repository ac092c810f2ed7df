//! Who is asking: what a node knows of its callers beside the ledger, and how it knows people of an identity provider.
//!
//! In scope: bounds on how often somebody asks, when a token was last used, tokens of `OpenID` Connect providers and the keys
//! that check them, and the trail of who was let in and who was not. Out of scope: who may do what, which the governance
//! ledger says, and answering, which is the API's.
//!
//! Invariants: nothing here reaches a governance entry but the name, roles and authentication of a caller; no secret is kept
//! or logged; everything kept is bounded.

pub mod last_use;
pub mod oidc;
pub mod rate;
pub mod trail;
