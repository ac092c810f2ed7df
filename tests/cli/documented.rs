//! What `docs/CLI.md` shows is what the program prints: every `$ govledger …` of it is run over one demo, in its order.
//!
//! Compared is what does not change from run to run: times, hashes and seconds are masked, and the width of columns is nothing. The
//! document as it would be goes to the build's temporary directory; whoever changed an output reads it and takes it over.

use std::fmt::Write as _;
use std::path::Path;

use crate::bench::Bench;

/// A word that the next run prints otherwise, by what it stands for.
fn masked(before: &str, word: &str) -> String {
    let bare = word.trim_matches(|character: char| !character.is_ascii_alphanumeric());
    let digits = bare.bytes().filter(u8::is_ascii_digit).count();
    let is_date = bare.len() >= 10 && bare.as_bytes()[4] == b'-' && bare.as_bytes()[7] == b'-' && digits >= 8;
    let is_time = bare.len() == 8 && bare.as_bytes()[2] == b':' && bare.as_bytes()[5] == b':';
    let what = match before {
        "root" | "slo" => "HASH",
        "in" if bare.parse::<f64>().is_ok() => "SECONDS",
        "seconds" => "SECONDS",
        _ if is_date => "DATE",
        _ if is_time => "TIME",
        _ if bare.len() >= 40 => "HASH",
        _ if digits >= 13 && digits == bare.len() => "MICROS",
        _ => return word.to_owned(),
    };
    what.to_owned()
}

/// The lines of a block, as far as they are the same in every run.
fn normal(lines: &[String]) -> Vec<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "+/=_:.-…".contains(character);
    let mut words: Vec<String> = Vec::new();
    let mut before = String::new();
    for line in lines.iter().filter(|line| !line.starts_with('═')) {
        for piece in line.split_whitespace() {
            let mut rest = piece;
            while !rest.is_empty() {
                let inside = rest.starts_with(is_part);
                let end = rest.find(|character| is_part(character) != inside).unwrap_or(rest.len());
                let (word, left) = rest.split_at(end);
                rest = left;
                if inside {
                    words.push(masked(&before, word.trim_end_matches([':', '.'])));
                    // A colon by itself stands between a name and its value.
                    if word != ":" {
                        word.trim_end_matches(':').clone_into(&mut before);
                    }
                } else {
                    words.push(word.to_owned());
                }
            }
        }
    }
    words
}

/// What the document does beside the commands, before the one that needs it.
fn prepare(bench: &Bench, command: &str) {
    if command.starts_with("govledger check-answer answer.json") {
        bench.shell(
            "govledger last-good engine-qwen3 --json > answer.json && sed s/1.4.0/1.3.9/ answer.json > forged.json",
        );
    }
}

#[test]
fn the_command_line_prints_what_its_document_shows() {
    let bench = Bench::demo();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CLI.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (mut actual, mut different, mut run) = (String::new(), Vec::new(), 0);
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        writeln!(actual, "{line}").unwrap();
        let Some(command) = line.strip_prefix("$ ").filter(|command| command.starts_with("govledger ")) else {
            continue;
        };
        let shown: Vec<String> = lines.by_ref().take_while(|line| *line != "```").map(str::to_owned).collect();
        prepare(&bench, command);
        let (code, out) = bench.shell(command);
        let mut printed: Vec<String> = out.lines().map(|line| line.trim_end().to_owned()).collect();
        while printed.last().is_some_and(String::is_empty) {
            printed.pop();
        }
        // A long answer is shown up to a point.
        if shown.last().is_some_and(|line| line == "…") && printed.len() >= shown.len() {
            printed.truncate(shown.len() - 1);
            printed.push("…".to_owned());
        }
        if code != 0 {
            printed.push(format!("[exit {code}]"));
        }
        if normal(&shown) != normal(&printed) {
            different.push(format!("$ {command}\n{}", printed.join("\n")));
        }
        for line in printed {
            writeln!(actual, "{line}").unwrap();
        }
        actual.push_str("```\n");
        run += 1;
    }
    let taken = Path::new(env!("CARGO_TARGET_TMPDIR")).join("CLI.md");
    std::fs::write(&taken, actual).unwrap();
    assert!(run > 30, "{run} commands");
    assert!(different.is_empty(), "{} has it as it is now:\n{}", taken.display(), different.join("\n\n"));
}
