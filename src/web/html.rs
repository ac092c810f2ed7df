//! HTML, escaped by construction: text goes in through [`Page`]'s methods only.

use std::fmt::Write as _;

use serde_json::Value;

use super::STYLE;

/// What a document that stands alone may do: show itself.
pub(super) const ALONE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// A page under way.
#[derive(Debug)]
pub(super) struct Page {
    title: String,
    body: String,
    needs_token: bool,
}

/// Escapes text for elements and quoted attributes.
pub(super) fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Control characters would garble the page, and direction marks could make a hash read as another.
            other if other.is_control() && other != '\n' => escaped.push('\u{fffd}'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
        escaped
    })
}

/// Text as one segment of a path.
pub(crate) fn path_segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// A JSON value as a person reads it.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "—".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Markup that is safe as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Markup(pub(super) String);

impl Markup {
    /// Escaped text.
    pub(super) fn text(text: &str) -> Self {
        Self(escape(text))
    }

    /// A link.
    pub(super) fn link(href: &str, text: &str) -> Self {
        Self(format!("<a href=\"{}\">{}</a>", escape(href), escape(text)))
    }

    /// A state with a colour that never stands alone: the word says it too.
    pub(super) fn state(class: &str, text: &str) -> Self {
        Self(format!("<span class=\"state {}\">{}</span>", escape(class), escape(text)))
    }

    /// A hash, cut for the eye, whole in its title.
    pub(super) fn hash(hash: &str) -> Self {
        let digits: String = hash.strip_prefix("sha256:").unwrap_or(hash).chars().take(12).collect();
        Self(format!("<code title=\"{}\">{}</code>", escape(hash), escape(&digits)))
    }

    /// An instant.
    pub(super) fn time(value: &Value) -> Self {
        match value.as_str() {
            Some(text) => Self(format!("<time datetime=\"{0}\">{0}</time>", escape(text))),
            None => Self::text("—"),
        }
    }
}

impl Page {
    pub(super) fn new(title: &str) -> Self {
        Self { title: title.to_owned(), body: format!("<h1>{}</h1>\n", escape(title)), needs_token: false }
    }

    /// The script is to load this page again with the token it has.
    pub(super) fn needs_token(mut self) -> Self {
        self.needs_token = true;
        self
    }

    pub(super) fn raw(&mut self, markup: &str) -> &mut Self {
        self.body.push_str(markup);
        self
    }

    pub(super) fn heading(&mut self, text: &str) -> &mut Self {
        let _ = writeln!(self.body, "<h2>{}</h2>", escape(text));
        self
    }

    pub(super) fn paragraph(&mut self, text: &str) -> &mut Self {
        let _ = writeln!(self.body, "<p>{}</p>", escape(text));
        self
    }

    /// Names and values.
    pub(super) fn facts(&mut self, facts: &[(&str, Markup)]) -> &mut Self {
        self.body.push_str("<dl>\n");
        for (name, value) in facts {
            let _ = writeln!(self.body, "<dt>{}</dt><dd>{}</dd>", escape(name), value.0);
        }
        self.body.push_str("</dl>\n");
        self
    }

    /// A table; a sentence where it has no rows.
    pub(super) fn table(&mut self, caption: &str, columns: &[&str], rows: &[Vec<Markup>], empty: &str) -> &mut Self {
        if rows.is_empty() {
            return self.paragraph(empty);
        }
        let _ = write!(
            self.body,
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table><caption>{0}</caption><thead><tr>",
            escape(caption)
        );
        for column in columns {
            let _ = write!(self.body, "<th scope=\"col\">{}</th>", escape(column));
        }
        self.body.push_str("</tr></thead><tbody>\n");
        for row in rows {
            self.body.push_str("<tr>");
            for cell in row {
                let _ = write!(self.body, "<td>{}</td>", cell.0);
            }
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</tbody></table></div>\n");
        self
    }

    /// What the page was made from.
    pub(super) fn source(&mut self, answer: &Value) -> &mut Self {
        let as_of = &answer["as_of"];
        let through = text_of(&answer["evaluated_through"]);
        let line = format!(
            "Governance ledger at {} entries, root {}; figures evaluated through {through}.",
            text_of(&as_of["size"]),
            text_of(&as_of["root"])
        );
        let _ = writeln!(self.body, "<p class=\"source\">{}</p>", escape(&line));
        self
    }

    /// A document that stands alone: its style is in it, and it neither runs nor loads anything.
    pub(super) fn finish_alone(&self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{ALONE_POLICY}\">\n<title>{title} – govledger</title>\n<style>\n{STYLE}</style>\n</head>\n\
             <body>\n<main id=\"main\">\n{body}</main>\n</body>\n</html>\n",
            title = escape(&self.title),
            body = self.body,
        )
    }

    /// The whole document.
    pub(super) fn finish(&self) -> String {
        let needs = if self.needs_token { " data-needs-token" } else { "" };
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title} – govledger</title>\n<link rel=\"stylesheet\" href=\"/assets/govledger.css\">\n<script src=\"/assets/govledger.js\" defer></script>\n</head>\n\
             <body{needs}>\n<a class=\"skip\" href=\"#main\">Skip to content</a>\n<header><nav aria-label=\"Pages\"><a href=\"/\">Stacks</a> <a href=\"/incidents\">Incidents</a> <a href=\"/waivers\">Waivers</a> <a href=\"/docs\">API</a></nav></header>\n\
             <main id=\"main\">\n{body}</main>\n</body>\n</html>\n",
            title = escape(&self.title),
            body = self.body,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let mut page = Page::new("<script>alert(1)</script>");
        page.paragraph("\"><img src=x onerror=alert(1)>\u{202e}")
            .facts(&[("a", Markup::link("javascript:'\"", "<b>"))]);
        let html = page.finish();
        assert!(
            !html.contains("<script>alert")
                && !html.contains("<img")
                && !html.contains("<b>")
                && !html.contains('\u{202e}'),
            "{html}"
        );
        assert_eq!(path_segment("a/b c?d"), "a%2Fb%20c%3Fd");
    }
}
