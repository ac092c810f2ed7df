//! A real browser over a page: a list of steps, done by `tests/parts/browser/drive.cjs` in one Chromium.
//!
//! A step is an object with one action: `{"goto": URL}`, `{"click": SELECTOR}`, `{"fill": [SELECTOR, TEXT]}`,
//! `{"press": [SELECTOR, KEY]}`, `{"wait_for": SELECTOR}`, `{"text": SELECTOR}`, `{"count": SELECTOR}`, `{"eval": JS}`,
//! `{"size": [WIDTH, HEIGHT]}`, `{"headers": {…}}`, `{"screenshot": FILE}`, `{"axe": true}`. The answer has one value a step.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::parts::BrowserParts;
use super::process::finish;

/// What came of the steps.
#[derive(Debug, Clone)]
pub(crate) struct Driven {
    /// One value a step: text, number, axe's violations; null where the step answers nothing.
    pub(crate) results: Vec<Value>,
    /// What the page wrote to its console as errors, its uncaught exceptions, and its failed requests.
    pub(crate) errors: Vec<String>,
}

/// Does the steps in a new browser; panics with the step that failed.
pub(crate) fn drive(parts: &BrowserParts, steps: &[Value]) -> Driven {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parts/browser/drive.cjs");
    let mut node = Command::new("node");
    node.arg(script).arg(json!(steps).to_string());
    node.env("NODE_PATH", &parts.node_modules).env("CHROMIUM", &parts.chromium);
    let answer = finish(&mut node).expect(0).json();
    let errors = answer["errors"].as_array().cloned().unwrap_or_default();
    Driven {
        results: answer["results"].as_array().cloned().unwrap_or_default(),
        errors: errors.iter().map(|error| error.as_str().unwrap_or_default().to_owned()).collect(),
    }
}
