//! The table of a map's keys: from a key to the offset at which it is written, and from an
//! offset to its line number. Neither stores text.

use alloc::vec::Vec;
use core::hash::BuildHasher;

use bstr::{BStr, ByteSlice};
use hashbrown::{DefaultHashBuilder, HashTable};

/// Offsets of keys by hash. The caller, who has the text, says which offsets hold equal keys.
#[derive(Clone, Debug)]
pub(crate) struct KeyTable {
    offsets: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl KeyTable {
    /// A table with room for `keys` keys.
    pub(crate) fn with_room_for(keys: usize) -> Self {
        Self {
            offsets: HashTable::with_capacity(keys),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// The number of keys.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// The offset at which `key` stands, where `is_key` tells whether an offset holds it.
    pub(crate) fn find(&self, key: &BStr, is_key: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = self.hasher.hash_one(key.as_bytes());
        self.offsets.find(hash, |offset| is_key(*offset)).copied()
    }

    /// Adds `key` at `offset`, or returns the offset at which it stood before. The table must
    /// have room ([`KeyTable::with_room_for`]).
    pub(crate) fn insert(
        &mut self,
        key: &BStr,
        offset: u32,
        is_key: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let hash = self.hasher.hash_one(key.as_bytes());
        if let Some(first) = self.offsets.find(hash, |offset| is_key(*offset)) {
            return Some(*first);
        }
        // Never called: the room was reserved. A wrong hash would only lose keys.
        self.offsets.insert_unique(hash, offset, |_| hash);
        None
    }
}

/// Bytes of text for which one number is kept, so that the line number of an offset costs a
/// look at no more than this many bytes.
const BLOCK: usize = 4096;

/// Line numbers by offset, in 1/1000 of the text's memory.
#[derive(Clone, Debug)]
pub(crate) struct LineNumbers {
    /// For each block, the number of line breaks before it.
    blocks: Vec<u32>,
    /// The number of line breaks in the text.
    breaks: u32,
}

impl LineNumbers {
    /// Counts the lines of `text`.
    pub(crate) fn new(text: &[u8]) -> Self {
        let mut blocks = Vec::with_capacity(text.len().div_ceil(BLOCK));
        let mut breaks = 0;
        for block in text.chunks(BLOCK) {
            blocks.push(breaks);
            breaks += count_breaks(block);
        }
        Self { blocks, breaks }
    }

    /// The number of physical lines, the last perhaps without a line break.
    pub(crate) fn lines(&self) -> usize {
        self.breaks as usize + 1
    }

    /// The number of line breaks in `text` before `offset`.
    pub(crate) fn before(&self, text: &[u8], offset: u32) -> u32 {
        let offset = (offset as usize).min(text.len());
        let block = offset / BLOCK;
        let counted = self.blocks.get(block).copied().unwrap_or(self.breaks);
        counted + count_breaks(&text[(block * BLOCK).min(offset)..offset])
    }
}

/// The number of line breaks in `text`.
fn count_breaks(text: &[u8]) -> u32 {
    text.iter().filter(|byte| **byte == b'\n').count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_numbers_agree_with_counting() {
        let text: Vec<u8> = b"some line\n\nx\n"
            .iter()
            .copied()
            .cycle()
            .take(3 * BLOCK + 7)
            .collect();
        let numbers = LineNumbers::new(&text);
        for offset in (0..=text.len())
            .step_by(97)
            .chain([0, BLOCK, 2 * BLOCK, text.len()])
        {
            assert_eq!(
                numbers.before(&text, offset as u32),
                count_breaks(&text[..offset])
            );
        }
        assert_eq!(numbers.lines() as u32, count_breaks(&text) + 1);
        assert_eq!(LineNumbers::new(b"").before(b"", 0), 0);
    }
}
