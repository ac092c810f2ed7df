//! What the events mean. Pure: no I/O, no clock, no randomness.
//!
//! State, event or command, and time go in; events or a refusal come out. Everything here can be run again by anyone over
//! the same entries and gives the same result.

pub mod authentication;
pub mod backup_import;
pub mod command;
pub mod cut;
pub mod envelope;
pub mod event;
pub mod exposition;
pub mod incident;
pub mod leaf;
pub mod legacy_signature;
pub mod metric;
pub mod offsets;
pub mod policy;
pub mod principal;
pub mod refusal;
pub mod report;
pub mod rollback;
pub mod settings;
pub mod time;
