//! What `check` prints: text, JSON, SARIF.

use piton_map::diagnostic::Severity;
use serde_json::{Value, json};

use super::Findings;
use crate::render::{self, JsonDiagnostic};

/// For people.
pub(crate) fn text(findings: &Findings) -> String {
    let mut text = String::new();
    for one in &findings.kept {
        text.push_str(&render::diagnostic(one));
        text.push('\n');
    }
    for (code, more) in &findings.more {
        text.push_str(&format!(
            "{more} more like the {code} above are not shown\n"
        ));
    }
    text.push_str(&summary(findings));
    text
}

/// The last line.
fn summary(findings: &Findings) -> String {
    let amount = |severity, word| match findings.count(severity) {
        0 => None,
        1 => Some(format!("1 {word}")),
        many => Some(format!("{many} {word}s")),
    };
    let amounts = [
        amount(Severity::Error, "error"),
        amount(Severity::Warning, "warning"),
        amount(Severity::Note, "note"),
    ];
    match amounts
        .iter()
        .flatten()
        .cloned()
        .collect::<Vec<_>>()
        .join(", ")
    {
        nothing if nothing.is_empty() => "nothing found\n".into(),
        found => format!("{found}\n"),
    }
}

/// For programs: `{"errors","warnings","notes","more","findings"}`.
pub(crate) fn json(findings: &Findings) -> String {
    let all: Vec<JsonDiagnostic> = findings.kept.iter().map(JsonDiagnostic::from).collect();
    pretty(&json!({
        "errors": findings.count(Severity::Error),
        "warnings": findings.count(Severity::Warning),
        "notes": findings.count(Severity::Note),
        "more": findings.more,
        "findings": all,
    }))
}

/// SARIF 2.1.0, as little of it as code hosts need.
pub(crate) fn sarif(findings: &Findings) -> String {
    let rules: Vec<Value> = findings
        .counts
        .keys()
        .map(|code| json!({"id": code}))
        .collect();
    let results: Vec<Value> = findings
        .kept
        .iter()
        .map(|one| result(&one.into()))
        .collect();
    pretty(&json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "piton check",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    }))
}

/// One finding as SARIF has it.
fn result(one: &JsonDiagnostic) -> Value {
    let text = match &one.help {
        Some(help) => format!("{}; {help}", one.message),
        None => one.message.clone(),
    };
    json!({
        "ruleId": one.code,
        "level": one.severity,
        "message": {"text": text},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": uri(&one.file)},
            "region": {
                "startLine": one.line,
                "startColumn": one.column,
                "endLine": one.end_line,
                "endColumn": one.end_column,
            },
        }}],
    })
}

/// A path as a URI.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                uri.push(byte.into())
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}

fn pretty(value: &Value) -> String {
    // Only strings and numbers: cannot fail.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uris() {
        assert_eq!(uri("/etc/auto home"), "file:///etc/auto%20home");
        assert_eq!(uri("k\u{e4}se"), "k%C3%A4se");
    }
}
