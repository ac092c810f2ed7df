//! The HTTP API over a real listener, with a whole embedded node behind it.

#![cfg(test)]

mod support;

#[path = "api/app.rs"]
mod app;
#[path = "api/approvals.rs"]
mod approvals;
#[path = "api/auth.rs"]
mod auth;
#[path = "api/backups.rs"]
mod backups;
#[path = "api/commands.rs"]
mod commands;
#[path = "api/cover.rs"]
mod cover;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "api/incidents.rs"]
mod incidents;
#[path = "api/intake.rs"]
mod intake;
#[path = "api/keys.rs"]
mod keys;
#[path = "api/matrix.rs"]
mod matrix;
#[path = "api/pages.rs"]
mod pages;
#[path = "api/policy.rs"]
mod policy;
#[path = "api/reads.rs"]
mod reads;
#[path = "api/schemas.rs"]
mod schemas;
#[path = "api/spend.rs"]
mod spend;
#[path = "api/tokens.rs"]
mod tokens;
#[path = "api/trail.rs"]
mod trail;
