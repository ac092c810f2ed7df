//! The API's description as a page, made from the same document that `/openapi.json` serves.

use serde_json::Value;

use super::html::{Page, escape, text_of};

/// The page.
pub(super) fn page(document: &Value) -> Page {
    let mut page = Page::new("API");
    page.paragraph(&text_of(&document["info"]["description"]));
    page.raw("<p><a href=\"/openapi.json\">The same as OpenAPI 3.1</a></p>\n");
    let paths = document["paths"].as_object();
    for (path, methods) in paths.into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            operation_section(&mut page, path, method, operation);
        }
    }
    page.heading("Schemas");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let json = serde_json::to_string_pretty(schema).unwrap_or_default();
        page.raw(&format!(
            "<details id=\"{0}\"><summary>{0}</summary><pre tabindex=\"0\">{1}</pre></details>\n",
            escape(name),
            escape(&json)
        ));
    }
    page
}

fn operation_section(page: &mut Page, path: &str, method: &str, operation: &Value) {
    page.heading(&format!("{} {path}", method.to_uppercase()));
    page.paragraph(&text_of(&operation["summary"]));
    page.paragraph(&format!("Who: {}", text_of(&operation["x-roles"])));
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        page.raw(&format!(
            "<p><code>{}</code> in {}</p>\n",
            escape(&text_of(&parameter["name"])),
            escape(&text_of(&parameter["in"]))
        ));
    }
    let content = |value: &Value| {
        value["content"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(media, body)| {
                (
                    media.clone(),
                    body["schema"]["$ref"]
                        .as_str()
                        .and_then(|reference| reference.rsplit('/').next())
                        .map(str::to_owned),
                )
            })
            .collect::<Vec<_>>()
    };
    for (label, value) in [("Takes", &operation["requestBody"]), ("Answers", &operation["responses"]["200"])] {
        for (media, schema) in content(value) {
            let link = schema.map(|name| format!(": <a href=\"#{0}\">{0}</a>", escape(&name))).unwrap_or_default();
            page.raw(&format!("<p>{label} <code>{}</code>{link}</p>\n", escape(&media)));
        }
    }
}
