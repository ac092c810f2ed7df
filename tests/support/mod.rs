//! What the integration tests share: the real parts, processes that die with the test, and small clients to talk to them.
//!
//! Included by each test binary as `#[cfg(test)] mod support;`. A part that the machine does not have makes its tests
//! return early, visibly (see `parts`); with `CI=true` it makes them fail.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of this module")]

pub(crate) mod alertmanager;
pub(crate) mod browser;
pub(crate) mod guarded;
pub(crate) mod http;
pub(crate) mod kafka;
pub(crate) mod node;
pub(crate) mod parts;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod s3;
pub(crate) mod scenario;
pub(crate) mod scratch;
pub(crate) mod verifiers;
pub(crate) mod wait;
