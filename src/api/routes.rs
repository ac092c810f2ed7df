//! The one table of routes: it builds the router, holds who may use what, and is the API's description.

use axum::routing::{MethodRouter, delete, get, post};

use super::ApiState;
use super::{
    access, backups, commands, entries, files, govern, health, incidents, openapi, people, read, stream, tiles,
    traffic, write,
};
use crate::domain::principal::Role;
use crate::web;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody.
    Public,
    /// Anybody with a role; anybody at all where the configuration opens reads.
    Read,
    /// Those with one of these roles.
    Roles(&'static [Role]),
}

/// How a request is bounded in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// By the request timeout, and counted among those under way.
    Quick,
    /// By the request timeout, and never turned away for being one too many: 503 is an answer here.
    Gate,
    /// By its own rules: a stream or a long upload.
    Long,
}

/// What goes in or comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing.
    None,
    /// JSON by the schema of this name.
    Json(&'static str),
    /// Another media type.
    Other(&'static str),
}

/// A route.
#[expect(clippy::struct_excessive_bools, reason = "a row of a table: each is a column of its own")]
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) pace: Pace,
    /// A page for people: refused with a page too.
    pub(crate) is_page: bool,
    /// Decided by the ledger, under an `Idempotency-Key`.
    pub(crate) is_command: bool,
    /// Raw entries, or principals and their tokens: reading them goes to the access trail.
    pub(crate) is_raw: bool,
    /// An approval: whoever gives it proved who they are a short time ago, where the method can tell.
    pub(crate) asks_fresh: bool,
    pub(crate) summary: &'static str,
    /// Query parameters, separated by spaces.
    pub(crate) query: &'static str,
    pub(crate) request: Content,
    pub(crate) response: Content,
    pub(crate) handler: fn() -> MethodRouter<ApiState>,
}

const PUBLISHER: &[Role] = &[Role::Publisher];
const FINANCE: &[Role] = &[Role::Finance];
const ONCALL: &[Role] = &[Role::Oncall, Role::Admin];
const ADMIN: &[Role] = &[Role::Admin];
const PEOPLE_READERS: &[Role] = &[Role::Auditor, Role::Admin];

type Handler = fn() -> MethodRouter<ApiState>;

const fn base(method: &'static str, path: &'static str, summary: &'static str, handler: Handler) -> Route {
    Route {
        method,
        path,
        access: Access::Read,
        pace: Pace::Quick,
        is_page: false,
        is_command: false,
        is_raw: false,
        asks_fresh: false,
        summary,
        query: "",
        request: Content::None,
        response: Content::None,
        handler,
    }
}

/// A question that the fold answers.
const fn asked(path: &'static str, query: &'static str, response: &'static str, summary: &'static str) -> Route {
    Route { query, response: Content::Json(response), ..base("get", path, summary, || get(read::answer)) }
}

const fn read(
    path: &'static str,
    query: &'static str,
    response: Content,
    summary: &'static str,
    handler: Handler,
) -> Route {
    Route { query, response, ..base("get", path, summary, handler) }
}

/// Raw entries, or as good as those.
const fn raw(
    path: &'static str,
    query: &'static str,
    response: Content,
    summary: &'static str,
    handler: Handler,
) -> Route {
    Route { is_raw: true, ..read(path, query, response, summary, handler) }
}

/// What is kept of who does what.
const fn trail(
    path: &'static str,
    query: &'static str,
    response: Content,
    summary: &'static str,
    handler: Handler,
) -> Route {
    Route { access: Access::Roles(PEOPLE_READERS), ..raw(path, query, response, summary, handler) }
}

const fn public(path: &'static str, response: Content, summary: &'static str, handler: Handler) -> Route {
    Route { access: Access::Public, response, ..base("get", path, summary, handler) }
}

const fn page(path: &'static str, summary: &'static str, handler: Handler) -> Route {
    Route { is_page: true, response: Content::Other("text/html"), ..base("get", path, summary, handler) }
}

const fn handed_in(
    path: &'static str,
    query: &'static str,
    request: Content,
    response: &'static str,
    summary: &'static str,
    handler: Handler,
) -> Route {
    Route {
        access: Access::Roles(PUBLISHER),
        query,
        request,
        response: Content::Json(response),
        ..base("post", path, summary, handler)
    }
}

const fn command(
    path: &'static str,
    roles: &'static [Role],
    request: &'static str,
    summary: &'static str,
    handler: Handler,
) -> Route {
    Route {
        access: Access::Roles(roles),
        is_command: true,
        request: Content::Json(request),
        response: Content::Json("CommandReply"),
        ..base("post", path, summary, handler)
    }
}

const fn approval(
    path: &'static str,
    roles: &'static [Role],
    request: &'static str,
    summary: &'static str,
    handler: Handler,
) -> Route {
    Route { asks_fresh: true, ..command(path, roles, request, summary, handler) }
}

/// Every route.
pub(crate) static ROUTES: &[Route] = &[
    asked("/v1/stacks", "as_of", "StacksAnswer", "All stacks"),
    asked("/v1/stacks/{stack}", "as_of", "StackAnswer", "One stack with its engines"),
    asked("/v1/stacks/{stack}/manifest", "as_of", "ManifestAnswer", "The current engine and its manifest"),
    asked(
        "/v1/stacks/{stack}/last-good",
        "as_of not_current strict",
        "LastGoodAnswer",
        "The engine that is safe to go back to; 404 in the same shape where there is none, or none as sure as asked for",
    ),
    Route {
        pace: Pace::Gate,
        handler: || get(traffic::traffic),
        ..asked(
            "/v1/stacks/{stack}/traffic",
            "as_of engine",
            "TrafficAnswer",
            "The traffic gate; 503 in the same shape where it is closed. govledger-gate says open, closed or unknown, govledger-gate-basis what that rests on",
        )
    },
    asked("/v1/stacks/{stack}/timeline", "as_of incident", "TimelineAnswer", "What happened"),
    asked(
        "/v1/stacks/{stack}/rollback",
        "as_of",
        "RollbackAnswer",
        "Where a rollback would go, from which backup, and the one under way; 404 in the same shape where there is no engine",
    ),
    asked("/v1/stacks/{stack}/slo", "as_of", "SloAnswer", "The rules with their figures"),
    asked("/v1/stacks/{stack}/capacity", "as_of", "CapacityAnswer", "How much of it is used, and what to do about it"),
    asked("/v1/stacks/{stack}/now", "as_of", "NowAnswer", "One screen for somebody who was just woken"),
    asked("/v1/alerts", "as_of stack state all", "AlertsAnswer", "Alerts, oldest first"),
    asked("/v1/waivers", "as_of stack", "WaiversAnswer", "Waivers, oldest first"),
    asked("/v1/waivers/{id}", "as_of", "WaiverAnswer", "One waiver with its scope"),
    asked("/v1/incidents", "as_of stack", "IncidentsAnswer", "Incidents, oldest first"),
    asked("/v1/incidents/{id}", "as_of", "IncidentAnswer", "One incident with its timeline"),
    read(
        "/v1/incidents/{id}/report",
        "as_of format",
        Content::Json("IncidentReportAnswer"),
        "Its report; with `Accept: text/html` or `text/markdown`, or `format=html` or `md`, as a document",
        || get(incidents::report),
    ),
    asked("/v1/backups", "as_of stack", "BackupsAnswer", "Backups, oldest first"),
    asked("/v1/policy", "as_of stack", "PolicyAnswer", "The policy in force, and what was put forward"),
    asked("/v1/policy/proposals/{id}", "as_of", "ProposalAnswer", "A policy put forward, with what it changes"),
    asked("/v1/maintenance", "as_of stack", "MaintenanceAnswer", "Maintenance windows, oldest first"),
    asked("/v1/keys", "as_of", "KeysAnswer", "Keys of authors and nodes, and what they may sign"),
    asked("/v1/commands/{id}", "as_of", "CommandAnswer", "How a command ended"),
    read(
        "/v1/rejected",
        "as_of ledger after limit",
        Content::Json("RejectedAnswer"),
        "Entries that count for nothing, with the reason",
        || get(read::rejected),
    ),
    read(
        "/v1/deliveries",
        "",
        Content::Json("DeliveriesAnswer"),
        "What this node told Alertmanager, webhooks and witnesses, and what did not arrive",
        || get(read::deliveries),
    ),
    raw(
        "/v1/entries",
        "ledger type stack from to after limit",
        Content::Json("EntriesAnswer"),
        "Raw entries of one ledger",
        || get(entries::list),
    ),
    raw("/v1/entries/{ledger}/{position}", "", Content::Json("EntryAnswer"), "One entry, whole", || get(entries::one)),
    read("/v1/entries/{ledger}/{position}/proof", "size", Content::Other("text/plain"), "Its tlog-proof", || {
        get(entries::proof)
    }),
    raw(
        "/v1/blobs/{sha256}",
        "",
        Content::Other("application/octet-stream"),
        "A record too large for an entry",
        || get(read::blob),
    ),
    Route {
        pace: Pace::Long,
        ..raw(
            "/v1/stream",
            "from",
            Content::Other("text/event-stream"),
            "Governance entries as they come; gap-free after Last-Event-ID",
            || get(stream::open),
        )
    },
    handed_in(
        "/v1/events",
        "",
        Content::Other("application/cloudevents+json"),
        "EventsReply",
        "Hands in governance events: CloudEvents (one or a batch), DSSE, the legacy log, or lines of those",
        || post(write::events),
    ),
    handed_in(
        "/v1/backups",
        "stack engine",
        Content::Other("application/json"),
        "EventsReply",
        "Records a backup by the manifest that another tool wrote",
        || post(backups::import),
    ),
    handed_in(
        "/v1/metrics",
        "",
        Content::Other("application/x-ndjson"),
        "MetricsReply",
        "Hands in provider logs, one a line; gzip is taken",
        || post(write::metrics),
    ),
    handed_in(
        "/v1/files/{first_line_sha256}/lines",
        "name kind from_line",
        Content::Other("application/x-ndjson"),
        "Report",
        "Hands in lines of a file from a line number on",
        || post(files::lines),
    ),
    Route {
        pace: Pace::Long,
        ..handed_in(
            "/v1/backfill",
            "until",
            Content::Other("application/octet-stream"),
            "Report",
            "Hands in whole files with their recorded times",
            || post(files::backfill),
        )
    },
    command(
        "/v1/waivers",
        &[Role::Publisher, Role::Oncall, Role::Finance, Role::Admin],
        "WaiverScope",
        "Asks for a waiver",
        || post(commands::waiver_request),
    ),
    approval(
        "/v1/waivers/{id}/approve",
        FINANCE,
        "DecisionBody",
        "Approves a waiver over the hash of its exact scope",
        || post(commands::waiver_approve),
    ),
    command("/v1/waivers/{id}/refuse", FINANCE, "DecisionBody", "Refuses a waiver", || post(commands::waiver_refuse)),
    command("/v1/waivers/{id}/revoke", FINANCE, "DecisionBody", "Ends a waiver's cover", || {
        post(commands::waiver_revoke)
    }),
    command("/v1/incidents", ONCALL, "IncidentOpen", "Opens an incident by hand", || post(incidents::open)),
    command("/v1/incidents/{id}/acknowledge", ONCALL, "TextBody", "Somebody has seen it", || {
        post(incidents::acknowledge)
    }),
    command("/v1/incidents/{id}/assign", ONCALL, "AssignBody", "Gives somebody a duty", || post(incidents::assign)),
    command("/v1/incidents/{id}/notes", &[Role::Oncall, Role::Finance, Role::Admin], "NoteBody", "Adds a note", || {
        post(incidents::note)
    }),
    command("/v1/incidents/{id}/status", ONCALL, "ProgressBody", "Says how far the work is", || {
        post(incidents::status)
    }),
    command("/v1/incidents/{id}/action-items", ONCALL, "ActionItemBody", "Something to be done afterwards", || {
        post(incidents::action_item)
    }),
    command("/v1/incidents/{id}/action-items/{item}/done", ONCALL, "TextBody", "An action item is done", || {
        post(incidents::action_item_done)
    }),
    command("/v1/incidents/{id}/report", ONCALL, "ReportBody", "Files the report, also after the end", || {
        post(incidents::file_report)
    }),
    command("/v1/incidents/{id}/close", ONCALL, "ReportBody", "Closes it with its report", || post(incidents::close)),
    command("/v1/stacks/{stack}/condemn", ONCALL, "JudgementBody", "This engine is never to be gone back to", || {
        post(commands::condemn)
    }),
    command("/v1/stacks/{stack}/reinstate", ONCALL, "JudgementBody", "Lifts a condemnation", || {
        post(commands::reinstate)
    }),
    command(
        "/v1/stacks/{stack}/rollback",
        &[Role::Publisher, Role::Oncall, Role::Admin],
        "RollbackWork",
        "Claims a rollback, says how far it is, or gives it up",
        || post(commands::rollback),
    ),
    command("/v1/stacks/{stack}/adopt", ADMIN, "AdoptBody", "Records what already runs", || post(commands::adopt)),
    command("/v1/principals", ADMIN, "PrincipalEnroll", "Gives a principal roles and a token", || post(people::enroll)),
    Route {
        method: "delete",
        request: Content::None,
        ..command("/v1/principals/{name}", ADMIN, "", "Takes everything from a principal", || delete(people::revoke))
    },
    trail(
        "/v1/principals",
        "",
        Content::Json("PrincipalsAnswer"),
        "Who may do what, their tokens with their last use at this node, and trusted providers",
        || get(people::list),
    ),
    trail("/v1/access", "after limit", Content::Json("AccessAnswer"), "Who was let in to what at this node", || {
        get(access::list)
    }),
    trail("/v1/access/{position}/proof", "", Content::Other("text/plain"), "The tlog-proof of an entry of it", || {
        get(access::proof)
    }),
    trail(
        "/ledger/access/checkpoint",
        "",
        Content::Other("text/plain"),
        "The signed checkpoint of the access trail",
        || get(access::checkpoint),
    ),
    trail("/ledger/access/vkey", "", Content::Other("text/plain"), "Its verifier key", || get(access::vkey)),
    trail(
        "/ledger/access/tile/{*tile}",
        "",
        Content::Other("application/octet-stream"),
        "A tile or entry bundle of it",
        || get(access::tile),
    ),
    command("/v1/principals/{name}/tokens", ADMIN, "TokenBody", "Gives a principal one more token", || {
        post(people::issue_token)
    }),
    Route {
        method: "delete",
        request: Content::None,
        ..command("/v1/principals/{name}/tokens/{token_sha256}", ADMIN, "", "Takes one token from a principal", || {
            delete(people::revoke_token)
        })
    },
    command("/v1/principals/{name}/limit", ADMIN, "LimitBody", "States up to which cap they may approve", || {
        post(commands::limit_principal)
    }),
    command("/v1/issuers", ADMIN, "IssuerTrust", "Trusts an identity provider", || post(people::trust)),
    command("/v1/issuers/distrust", ADMIN, "IssuerDistrust", "Trusts an identity provider no more", || {
        post(people::distrust)
    }),
    command("/v1/holes", ADMIN, "HoleConfirm", "Accepts that offsets of a source are lost", || post(commands::hole)),
    command("/v1/policy/proposals", ADMIN, "PolicyBody", "Puts a policy forward; another admin approves it", || {
        post(govern::propose)
    }),
    approval(
        "/v1/policy/proposals/{id}/approve",
        ADMIN,
        "PolicyDecisionBody",
        "Puts a proposed policy in force, over its hash and that of the one it replaces; never one's own",
        || post(govern::approve),
    ),
    command("/v1/policy/proposals/{id}/refuse", ADMIN, "PolicyDecisionBody", "Declines a proposed policy", || {
        post(govern::refuse)
    }),
    Route {
        access: Access::Roles(ADMIN),
        pace: Pace::Long,
        request: Content::Json("PolicyBody"),
        response: Content::Json("DryRunAnswer"),
        ..base("post", "/v1/policy/dry-run", "Which alerts of the last 24 h would have been otherwise", || {
            post(govern::dry_run)
        })
    },
    command("/v1/maintenance", ONCALL, "MaintenanceWindow", "Holds telling, not recording, for a time", || {
        post(govern::maintenance)
    }),
    command("/v1/maintenance/{id}/end", ONCALL, "ReasonBody", "Ends a maintenance window before its time", || {
        post(govern::maintenance_end)
    }),
    command("/v1/keys", ADMIN, "KeyEnroll", "Enrols an author's key for event types", || post(govern::enroll)),
    approval("/v1/keys/{id}/confirm", ADMIN, "ConfirmBody", "Another admin's word for a key that waits for it", || {
        post(govern::confirm)
    }),
    command("/v1/nodes", ADMIN, "NodeEnroll", "Enrols the key of a further node, which another admin confirms", || {
        post(govern::enroll_node)
    }),
    command("/v1/keys/{id}/revoke", ADMIN, "ReasonBody", "Takes a key out of force", || post(govern::revoke)),
    Route {
        request: Content::None,
        ..command("/v1/ledger-key/rotate", ADMIN, "", "Rotates the checkpoint key of the node that is asked", || {
            post(govern::rotate_ledger_key)
        })
    },
    Route {
        request: Content::None,
        ..command("/v1/node-key/rotate", ADMIN, "", "Rotates the envelope key of the node that is asked", || {
            post(govern::rotate_node_key)
        })
    },
    read("/ledger/{name}/checkpoint", "", Content::Other("text/plain"), "The signed checkpoint", || {
        get(tiles::checkpoint)
    }),
    read(
        "/ledger/{name}/checkpoint.cosigned",
        "",
        Content::Other("text/plain"),
        "The latest checkpoint with the cosignatures that the policy's quorum needs",
        || get(tiles::cosigned),
    ),
    read(
        "/ledger/{name}/vkey",
        "",
        Content::Other("text/plain"),
        "The verifier keys, the first one first; compare it with the one that you keep",
        || get(tiles::vkey),
    ),
    read(
        "/ledger/{name}/rotations",
        "",
        Content::Other("text/plain"),
        "The notes in which each key of the ledger signed the next; empty where there is one key",
        || get(tiles::rotations),
    ),
    raw(
        "/ledger/{name}/tile/{*tile}",
        "",
        Content::Other("application/octet-stream"),
        "A tile or entry bundle (C2SP tlog-tiles)",
        || get(tiles::tile),
    ),
    public("/healthz", Content::Json("HealthAnswer"), "Whether the process answers and its writer runs", || {
        get(health::health)
    }),
    public("/readyz", Content::Json("ReadyAnswer"), "Whether it has caught up and can serve", || get(health::ready)),
    public("/metrics", Content::Other("text/plain"), "Figures for Prometheus", || get(health::metrics)),
    public("/openapi.json", Content::Other("application/json"), "This description", || get(openapi::document)),
    Route {
        is_page: true,
        ..public("/docs", Content::Other("text/html"), "This description as a page", || get(web::docs))
    },
    public("/assets/{name}", Content::Other("text/css"), "Style and script of the pages", || get(web::asset)),
    page("/", "Overview of all stacks", || get(web::overview)),
    page("/stacks/{stack}", "One stack: gate, last good, timeline, SLOs", || get(web::stack)),
    page("/incidents", "Incidents, with what is overdue", || get(web::incidents)),
    page("/incidents/{id}", "One incident: checklist, figures, timeline, and forms to work it", || get(web::incident)),
    page("/governing", "Policy, what was put forward, maintenance, keys", || get(web::governing)),
    page("/waivers", "Waivers, with forms to decide them", || get(web::waivers)),
];
