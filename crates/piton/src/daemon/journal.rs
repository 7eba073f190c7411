//! What the log says: the engine's notes in words, and what is amiss in the maps, each once.

use std::collections::HashSet;

use bstr::ByteSlice;
use piton_engine::cause::Cause;
use piton_engine::command::Note;
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::lookup::Miss;

use super::loader::{Loaded, Reason};
use super::notes;

/// Findings kept in mind so that none is said twice; beyond it they are repeated.
const REMEMBERED: usize = 10_000;

/// The writer of the log.
pub(crate) struct Journal {
    said: HashSet<(String, u32, &'static str)>,
    /// What was amiss when the maps were read last.
    read: HashSet<String>,
    /// `disable_not_found_message` of autofs.conf.
    quiet_misses: bool,
}

impl Journal {
    /// One that has said nothing yet.
    pub(crate) fn new(quiet_misses: bool) -> Self {
        Self {
            said: HashSet::new(),
            read: HashSet::new(),
            quiet_misses,
        }
    }

    /// One note of the engine.
    pub(crate) fn write(&mut self, note: &Note) {
        match note {
            Note::Diagnosed(diagnostic) => self.diagnosed(diagnostic),
            Note::Failed {
                cause: Cause::Lookup(Miss::NoSuchKey),
                ..
            } if self.quiet_misses => {}
            other => notes::write(other),
        }
    }

    /// The maps were read: what is amiss in them, and what is missing, unless the last reading
    /// found the same.
    pub(crate) fn maps_read(&mut self, loaded: &Loaded) {
        if matches!(loaded.reason, Reason::Planned(_)) {
            return;
        }
        tracing::debug!(why = ?loaded.reason, "maps read");
        let before = std::mem::take(&mut self.read);
        self.said.clear();
        for diagnostic in &loaded.diagnostics {
            let found = format!("{} {}", diagnostic.origin(), diagnostic.code);
            if !before.contains(&found) {
                self.diagnosed(diagnostic);
            }
            self.remember(found);
        }
        for (mount_point, map, miss) in &loaded.incomplete {
            let why = Cause::Lookup(miss.clone());
            let found = format!("{mount_point} {map} {why}");
            if !before.contains(&found) {
                tracing::warn!(%mount_point, %map, %why, "a map cannot be used");
            }
            self.remember(found);
        }
        for refused in &loaded.refused {
            let (path, why) = (&refused.path, &refused.why);
            let found = format!("{path} {why}");
            if !before.contains(&found) {
                tracing::warn!(%path, "no mount point: {why}");
            }
            self.remember(found);
        }
    }

    fn remember(&mut self, found: String) {
        if self.read.len() < REMEMBERED {
            self.read.insert(found);
        }
    }

    fn diagnosed(&mut self, diagnostic: &Diagnostic) {
        let origin = diagnostic.origin();
        if self.said.len() >= REMEMBERED {
            self.said.clear();
        }
        let place = (
            origin.file.to_string(),
            origin.position.line,
            diagnostic.code,
        );
        if !self.said.insert(place) {
            return;
        }
        let line = diagnostic.fragment.slice(diagnostic.primary.0);
        let near = line.lines().next().unwrap_or_default().as_bstr();
        let code = diagnostic.code;
        let message = &diagnostic.message;
        let help = diagnostic.help.as_deref().unwrap_or_default();
        match diagnostic.severity {
            Severity::Error => tracing::error!(%origin, code, %near, help, "{message}"),
            Severity::Warning => tracing::warn!(%origin, code, %near, help, "{message}"),
            Severity::Note => tracing::debug!(%origin, code, %near, help, "{message}"),
        }
    }
}
