//! The API's description (`OpenAPI` 3.1), made from `ROUTES` and the types.

use axum::Json;
use serde_json::{Map, Value, json};

use super::problem::Kind;
use super::routes::{Access, Content, ROUTES, Route};
use super::schemas::api_definitions;

/// `/openapi.json`.
pub(crate) async fn document() -> Json<Value> {
    Json(openapi())
}

/// The document.
pub fn openapi() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        // OpenAPI has no parameter that spans segments; the tile path is one by name.
        let path = route.path.replace("{*", "{");
        if let Some(methods) = paths.entry(path).or_insert_with(|| json!({})).as_object_mut() {
            methods.insert(route.method.to_owned(), operation(route));
        }
    }
    let problems: Vec<Value> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let (status, code, title) = kind.parts();
            json!({ "code": code, "status": status.as_u16(), "title": title })
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "govledger",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A governance ledger for LLM serving stacks. Every answer carries the governance size and root that it was computed at; errors are problem details (RFC 9457).",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" }
        },
        "paths": paths,
        "x-problems": problems,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": api_definitions()
        }
    })
}

fn operation(route: &Route) -> Value {
    let names = |name: &str, place: &str| json!({ "name": name, "in": place, "required": place == "path", "schema": { "type": "string" } });
    let in_path = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| names(name.trim_start_matches('*'), "path"));
    let in_query = route.query.split_whitespace().map(|name| names(name, "query"));
    let mut parameters: Vec<Value> = in_path.chain(in_query).collect();
    if route.is_command {
        parameters.push(json!({ "name": "Idempotency-Key", "in": "header", "required": true, "schema": { "type": "string", "minLength": 1, "maxLength": 255 } }));
        if route.path.starts_with("/v1/waivers/{id}/") {
            parameters.push(json!({ "name": "If-Match", "in": "header", "required": false, "description": "The ETag of the waiver that was seen; 412 where it has changed since", "schema": { "type": "string" } }));
        }
    }
    let problem = |description: &str| json!({ "description": description, "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } } });
    let mut responses = json!({ "200": { "description": "The answer", "content": content(route.response) }, "default": problem("What went wrong") });
    if route.is_command {
        responses["202"] = json!({ "description": "On its way", "content": content(Content::Json("PendingReply")) });
        responses["409"] = problem("Decided against; by_position names the entry that stands in the way");
    }
    if route.is_page {
        // A browser without a token is shown where to sign in.
        responses["default"]["content"]["text/html"] = json!({ "schema": { "type": "string" } });
    }
    if matches!(route.response, Content::Json("HealthAnswer" | "ReadyAnswer")) {
        responses["503"] = json!({ "description": "Not so; the same answer", "content": content(route.response) });
    }
    let roles = match route.access {
        Access::Public => "anybody".to_owned(),
        Access::Read => "any role; anybody where reads are open".to_owned(),
        Access::Roles(roles) => roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", "),
    };
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "parameters": parameters,
        "responses": responses,
        "x-roles": roles,
        "security": if route.access == Access::Public { json!([]) } else { json!([{ "token": [] }]) },
    });
    if route.request != Content::None {
        operation["requestBody"] = json!({ "required": true, "content": content(route.request) });
    }
    operation
}

fn operation_id(route: &Route) -> String {
    let words = route.path.split('/').map(|part| part.trim_matches(['{', '}', '*'])).filter(|part| !part.is_empty());
    std::iter::once(route.method).chain(words).collect::<Vec<_>>().join("_").replace(['-', '.'], "_")
}

fn content(content: Content) -> Value {
    match content {
        Content::None => json!({}),
        Content::Json(name) => {
            json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{name}") } } })
        }
        Content::Other(media_type) => json!({ (media_type): { "schema": { "type": "string" } } }),
    }
}
