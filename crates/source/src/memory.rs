//! Maps held in memory: for tests, and for `explain` of a text that is in no file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bstr::BString;
use piton_map::lookup::Miss;
use piton_map::text::Fragment;

use crate::source::{MapSource, MapText};

/// Texts that stand in for files, by absolute path.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    texts: HashMap<PathBuf, MemorySource>,
}

/// A map held in memory.
#[derive(Clone, Debug)]
pub struct MemorySource {
    text: Fragment,
}

impl Overlay {
    /// No text.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with `text` in place of the file at `path`.
    pub fn with(mut self, path: impl Into<PathBuf>, text: impl Into<BString>) -> Self {
        let path = path.into();
        let name: Arc<str> = path.to_string_lossy().into();
        self.texts.insert(
            path,
            MemorySource {
                text: Fragment::whole(name, text),
            },
        );
        self
    }

    /// The text in place of the file at `path`.
    pub fn get(&self, path: &Path) -> Option<&MemorySource> {
        self.texts.get(path)
    }

    /// Returns true if and only if no file is replaced.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

impl MapSource for MemorySource {
    fn name(&self) -> Arc<str> {
        self.text.name.clone()
    }

    fn read(&self) -> Result<MapText, Miss> {
        Ok(MapText {
            fragment: self.text.clone(),
            stamp: None,
            local: true,
        })
    }
}
