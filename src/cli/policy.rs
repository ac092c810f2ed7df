//! `policy`: what the rules go by. Read from the ledger itself; a file is put in force by `serve`, by its revision.

use serde_json::json;

use super::args::{Options, PolicyTask};
use super::error::{CliError, Exit, Outcome, file_error};
use super::out;
use super::source::Place;
use crate::domain::policy::{Policy, Rule, StackPolicy};

pub(crate) fn run(place: &Place, options: &Options, task: PolicyTask) -> Outcome {
    match task {
        PolicyTask::Check { file } => {
            let text = std::fs::read_to_string(&file).map_err(file_error(&file))?;
            let policy = Policy::from_toml(&text)
                .map_err(|error| CliError::new(Exit::No, format!("{}: {error}", file.display())))?;
            out::line(format!("{}: revision {} can be put in force", file.display(), policy.revision));
        }
        PolicyTask::Show { stack, past } => {
            let files = place.open_files()?;
            let governance = files.fold(files.size(past.as_of)?, false)?.governance;
            let resolved = governance.policy.for_stack(&stack);
            if options.json {
                let position = governance.policy_position;
                out::json(&json!({ "position": position, "policy": governance.policy, "rules": rules(&resolved) }));
            } else {
                let from = governance
                    .policy_position
                    .map_or_else(|| "as built in".to_owned(), |position| format!("in force since entry {position}"));
                out::line(format!("revision {}, {from}", resolved.revision));
                show(&resolved);
            }
        }
    }
    Ok(Exit::Fine)
}

fn rules(policy: &StackPolicy) -> serde_json::Value {
    Rule::ALL.into_iter().map(|rule| (rule.as_str().to_owned(), json!(policy.rule(rule)))).collect()
}

fn show(policy: &StackPolicy) {
    let rows = Rule::ALL.into_iter().map(|rule| {
        let settings = policy.rule(rule);
        let threshold = settings.threshold.map_or_else(|| "-".to_owned(), |amount| amount.0.to_string());
        vec![
            rule.as_str().to_owned(),
            if settings.enabled { "on" } else { "off" }.to_owned(),
            format!("{threshold} {}", rule.unit()),
            format!("{} s", settings.window_s),
            format!("{} s", settings.for_s),
            format!("{} s", settings.keep_firing_for_s),
            settings.severity.to_string(),
        ]
    });
    let header = ["rule", "judged", "threshold", "window", "for", "keep firing for", "severity"];
    out::table(&header, rows, "no rule");
    out::line(format!(
        "at least {} samples, windows widen to {} s; a request may cost {} USD and wait {} µs",
        policy.min_samples, policy.widen_s, policy.max_cost_usd.0, policy.max_queue_delay_us.0
    ));
}
