//! Bytes to submissions: HTTP bodies, files, Kafka records, scrapes of Triton.
//!
//! In scope: splitting what arrives into entries and saying where each came from. Out of scope: what they mean, which is read
//! from the ledger afterwards.

pub mod file;
pub mod http;
pub mod kafka;
pub mod triton;
