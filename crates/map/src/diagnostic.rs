//! What is wrong with a text, where, and what to do about it.

use alloc::string::String;
use alloc::vec::Vec;

use crate::text::{Fragment, Origin, Span};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing is lost.
    Note,
    /// Works, but probably not as meant.
    Warning,
    /// This line, or this part of it, is not used.
    Error,
}

/// One finding in a text. Rendering (caret art, colour, JSON) is the caller's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Stable name in kebab-case, such as `unterminated-quote`; listed in docs/diagnostics.md.
    pub code: &'static str,
    /// What is wrong, one sentence without a final stop.
    pub message: String,
    /// The lines to show: the fragment the spans refer to.
    pub fragment: Fragment,
    /// The place to underline, with a few words to put beside it (may be empty).
    pub primary: (Span, String),
    /// Other places that explain the first.
    pub related: Vec<(Span, String)>,
    /// Places in other texts, such as the line that came first.
    pub elsewhere: Vec<(Origin, String)>,
    /// What to do, if that can be said.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A finding of `severity` at `span` of `fragment`.
    pub fn new(
        severity: Severity,
        code: &'static str,
        message: impl Into<String>,
        fragment: &Fragment,
        span: Span,
    ) -> Self {
        Self {
            severity,
            code,
            message: message.into(),
            fragment: fragment.clone(),
            primary: (span, String::new()),
            related: Vec::new(),
            elsewhere: Vec::new(),
            help: None,
        }
    }

    /// The same with a few words beside the underlined place.
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.primary.1 = text.into();
        self
    }

    /// The same with advice.
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// File, line and column of the underlined place.
    pub fn origin(&self) -> Origin {
        self.fragment.origin(self.primary.0)
    }
}
