//! The table of routes and roles for people, from `ROUTES`.

use std::fmt::Write as _;

use super::routes::{Access, ROUTES, Route};
use crate::domain::principal::Role;

const HEAD: &str = "# Routes and roles

Written by `govledger schemas --write` from the table that the service itself goes by; a check fails where the two differ. A test asks every
route as every role, without a token, and with unknown, expired and revoked ones, and compares each status with a list that was
read by hand (`tests/api/roles.txt`).

*anybody*: no token is needed, and a bad one does no harm. *any*: every role, and everybody where `open_reads = true`. *owner* is whoever may read
the data directory's `service.json`. All others get 401 without a token that counts, 403 with one. Commands are decided once more by the ledger, at their own position.
Marks: *fresh*: an approval, see [IDENTITY.md](IDENTITY.md); *trail*: each use goes to the access trail (refused requests of all routes do).

";

/// `docs/ROLES.md`.
pub fn roles_table() -> String {
    let mut text = HEAD.to_owned();
    let names: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
    let _ = writeln!(text, "| | route | {} | owner | |", names.join(" | "));
    let _ = writeln!(text, "| --- | --- |{} --- | --- |", " --- |".repeat(names.len()));
    for route in ROUTES {
        let cells: Vec<&str> = Role::ALL.iter().map(|role| cell(route, *role)).collect();
        let _ = writeln!(
            text,
            "| {} | `{}` | {} | {} | {} |",
            route.method.to_uppercase(),
            route.path,
            cells.join(" | "),
            owner(route),
            marks(route)
        );
    }
    text
}

fn cell(route: &Route, role: Role) -> &'static str {
    match route.access {
        Access::Public => "anybody",
        Access::Read => "any",
        Access::Roles(roles) if roles.contains(&role) => "yes",
        Access::Roles(_) => "",
    }
}

/// The owner has some roles and gives no command.
fn owner(route: &Route) -> &'static str {
    match route.access {
        Access::Public => "anybody",
        Access::Read => "any",
        Access::Roles(roles)
            if !route.is_command && super::guard::LOCAL_ROLES.iter().any(|role| roles.contains(role)) =>
        {
            "yes"
        }
        Access::Roles(_) => "",
    }
}

fn marks(route: &Route) -> String {
    let marks = [(route.asks_fresh, "fresh"), (route.is_command || route.is_raw, "trail")];
    marks.iter().filter(|(holds, _)| *holds).map(|(_, mark)| *mark).collect::<Vec<_>>().join(", ")
}
