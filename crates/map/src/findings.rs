//! A place to put findings while one entry is read.

use alloc::string::String;
use alloc::vec::Vec;

use crate::diagnostic::{Diagnostic, Severity};
use crate::limits::FINDINGS_LIMIT;
use crate::text::{Fragment, Span};

/// The findings about one entry, all in the same fragment.
#[derive(Debug)]
pub struct Findings<'f> {
    fragment: &'f Fragment,
    found: Vec<Diagnostic>,
}

impl<'f> Findings<'f> {
    /// Nothing found yet in `fragment`.
    pub fn new(fragment: &'f Fragment) -> Self {
        Self {
            fragment,
            found: Vec::new(),
        }
    }

    /// The fragment that is read.
    pub fn fragment(&self) -> &'f Fragment {
        self.fragment
    }

    /// Puts a finding down, unless it stands there already: options of an entry are read once
    /// for each of its mounts. Beyond [`FINDINGS_LIMIT`] only errors are kept, one of them.
    pub fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
    ) -> Option<&mut Diagnostic> {
        let room = match severity {
            Severity::Error => FINDINGS_LIMIT,
            Severity::Warning | Severity::Note => FINDINGS_LIMIT - 1,
        };
        let same = |other: &Diagnostic| other.code == code && other.primary.0 == span;
        if self.found.len() >= room || self.found.iter().any(same) {
            return None;
        }
        self.found.push(Diagnostic::new(
            severity,
            code,
            message,
            self.fragment,
            span,
        ));
        self.found.last_mut()
    }

    /// The entry, or this part of it, is not used.
    pub fn error(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        help: &str,
    ) {
        self.put(Severity::Error, code, message, span, help);
    }

    /// It works, but probably not as meant.
    pub fn warn(&mut self, code: &'static str, message: impl Into<String>, span: Span, help: &str) {
        self.put(Severity::Warning, code, message, span, help);
    }

    /// Worth knowing.
    pub fn note(&mut self, code: &'static str, message: impl Into<String>, span: Span, help: &str) {
        self.put(Severity::Note, code, message, span, help);
    }

    /// All of them, in the order found.
    pub fn into_vec(self) -> Vec<Diagnostic> {
        self.found
    }

    fn put(
        &mut self,
        severity: Severity,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        help: &str,
    ) {
        if let Some(finding) = self.add(severity, code, message, span) {
            finding.help = (!help.is_empty()).then(|| help.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_is_kept_for_an_error() {
        let fragment = Fragment::whole("m", "x");
        let mut findings = Findings::new(&fragment);
        for at in 0..FINDINGS_LIMIT + 1 {
            findings.warn("w", "w", Span::new(at, at + 1), "");
        }
        findings.error("e", "e", Span::new(0, 1), "do");
        findings.error("e", "e", Span::new(1, 2), "do");
        let found = findings.into_vec();
        assert_eq!(found.len(), FINDINGS_LIMIT);
        assert_eq!(found[FINDINGS_LIMIT - 1].code, "e");
        assert_eq!(found[FINDINGS_LIMIT - 2].code, "w");
    }
}
