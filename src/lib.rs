//! govledger: a governance ledger for LLM serving stacks.
//!
//! Floors, each using only those before it: [`domain`], [`projection`], [`sequencer`], then the edges.

pub mod api;
pub mod backup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod identity;
pub mod ingest;
pub mod notify;
pub mod projection;
pub mod sequencer;
mod web;
