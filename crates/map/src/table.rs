//! The table of a map's keys: from a key to the offset at which it is written, and from an
//! offset to its line number. Neither stores text.
//!
//! The table is built once and never changed, so it is no ordinary hash table: the offsets
//! stand sorted by the hashes of their keys, with one byte of each hash beside them and the
//! start of each small group of hashes. That takes five and a half bytes for each key, and
//! building it is a sort, which goes through memory in order where inserting a million keys
//! would miss the cache a million times.

use alloc::vec::Vec;
use core::hash::BuildHasher;

use bstr::{BStr, ByteSlice};
use hashbrown::DefaultHashBuilder;

/// Hashes keys; each table has its own, so that nobody can choose keys that collide.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyHasher(DefaultHashBuilder);

/// A key while a table is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hashed {
    hash: u32,
    /// Where the key is written.
    pub(crate) offset: u32,
}

/// Offsets of keys by hash. The caller, who has the text, says which offsets hold equal keys.
#[derive(Clone, Debug)]
pub(crate) struct KeyTable {
    hasher: KeyHasher,
    /// The number of leading bits of a hash that tell its group.
    group_bits: u32,
    /// For each group the index of its first key; one more at the end.
    starts: Vec<u32>,
    /// The last byte of each key's hash.
    tags: Vec<u8>,
    offsets: Vec<u32>,
}

/// A second key equal to an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Duplicate {
    /// Where it is written.
    pub(crate) offset: u32,
    /// Where the first one is written.
    pub(crate) first: u32,
}

impl KeyHasher {
    /// The key with its hash.
    pub(crate) fn hashed(&self, key: &BStr, offset: u32) -> Hashed {
        Hashed {
            hash: self.hash(key),
            offset,
        }
    }

    /// The upper half of the hash: its bits are the better mixed ones.
    fn hash(&self, key: &BStr) -> u32 {
        (self.0.hash_one(key.as_bytes()) >> 32) as u32
    }
}

/// Keys in a group, on average: a look-up compares that many tags.
const GROUP: usize = 8;

impl KeyTable {
    /// The table of `keys`, which stand in reading order. Of equal keys (`same` compares the
    /// keys at two offsets) the first is kept; the others are returned in reading order.
    pub(crate) fn build(
        hasher: KeyHasher,
        mut keys: Vec<Hashed>,
        same: impl Fn(u32, u32) -> bool,
    ) -> (Self, Vec<Duplicate>) {
        // By hash, equal hashes in reading order, as one number: in place, without more memory.
        keys.sort_unstable_by_key(|key| u64::from(key.hash) << 32 | u64::from(key.offset));
        let duplicates = remove_duplicates(&mut keys, same);
        let groups = (keys.len() / GROUP).next_power_of_two();
        let group_bits = groups.trailing_zeros();
        let mut table = Self {
            hasher,
            group_bits,
            starts: Vec::with_capacity(groups + 1),
            tags: keys.iter().map(|key| key.hash as u8).collect(),
            offsets: keys.iter().map(|key| key.offset).collect(),
        };
        for (index, key) in keys.iter().enumerate() {
            while table.starts.len() <= table.group(key.hash) {
                table.starts.push(index as u32);
            }
        }
        table.starts.resize(groups + 1, keys.len() as u32);
        (table, duplicates)
    }

    /// The number of keys.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// The offset at which `key` stands, where `is_key` tells whether an offset holds it.
    pub(crate) fn find(&self, key: &BStr, is_key: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = self.hasher.hash(key);
        let group = self.group(hash);
        let (start, end) = (self.starts[group] as usize, self.starts[group + 1] as usize);
        let candidates = self.tags[start..end].iter().zip(&self.offsets[start..end]);
        candidates
            .filter(|(tag, _)| **tag == hash as u8)
            .map(|(_, offset)| *offset)
            .find(|offset| is_key(*offset))
    }

    /// The group of a hash.
    fn group(&self, hash: u32) -> usize {
        hash.checked_shr(u32::BITS - self.group_bits).unwrap_or(0) as usize
    }
}

/// Removes keys equal to an earlier one and returns them in reading order.
fn remove_duplicates(keys: &mut Vec<Hashed>, same: impl Fn(u32, u32) -> bool) -> Vec<Duplicate> {
    let mut duplicates = Vec::new();
    let mut kept = 0;
    for index in 0..keys.len() {
        let key = keys[index];
        // Keys of this hash that were kept: hardly ever more than one.
        let rivals = keys[..kept]
            .iter()
            .rev()
            .take_while(|rival| rival.hash == key.hash);
        match rivals
            .into_iter()
            .find(|rival| same(rival.offset, key.offset))
        {
            Some(first) => {
                duplicates.push(Duplicate {
                    offset: key.offset,
                    first: first.offset,
                });
            }
            None => {
                keys[kept] = key;
                kept += 1;
            }
        }
    }
    keys.truncate(kept);
    duplicates.sort_unstable();
    duplicates
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

/// The number of line breaks in `text`. Counted in bytes over short pieces: the compiler makes
/// vector instructions of that, eight times as fast as counting in a wider number.
fn count_breaks(text: &[u8]) -> u32 {
    const PIECE: usize = 128;
    let in_piece = |piece: &[u8]| {
        piece
            .iter()
            .map(|byte| u8::from(*byte == b'\n'))
            .sum::<u8>()
    };
    text.chunks(PIECE)
        .map(|piece| u32::from(in_piece(piece)))
        .sum()
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::*;

    /// A table of words; their offsets are their indices.
    fn table(words: &[String]) -> (KeyTable, Vec<Duplicate>) {
        let hasher = KeyHasher::default();
        let keys = words.iter().enumerate();
        let keys = keys
            .map(|(at, word)| hasher.hashed(word.as_str().into(), at as u32))
            .collect();
        KeyTable::build(hasher, keys, |one, other| {
            words[one as usize] == words[other as usize]
        })
    }

    fn find(table: &KeyTable, words: &[String], word: &str) -> Option<u32> {
        table.find(word.into(), |at| words[at as usize] == word)
    }

    #[test]
    fn every_key_is_found_and_no_other() {
        for count in [0, 1, 2, 7, 8, 9, 63, 64, 65, 1000, 30_000] {
            let words: Vec<String> = (0..count).map(|number| format!("k{number}")).collect();
            let (table, duplicates) = table(&words);
            assert_eq!((table.len(), duplicates.len()), (count, 0));
            for (at, word) in words.iter().enumerate() {
                assert_eq!(find(&table, &words, word), Some(at as u32));
            }
            assert_eq!(find(&table, &words, "other"), None);
        }
    }

    #[test]
    fn the_first_of_equal_keys_is_kept() {
        let words: Vec<String> = (0..5000)
            .map(|number| format!("k{}", number % 1000))
            .collect();
        let (table, duplicates) = table(&words);
        assert_eq!((table.len(), duplicates.len()), (1000, 4000));
        assert_eq!(
            duplicates[0],
            Duplicate {
                offset: 1000,
                first: 0
            }
        );
        assert_eq!(
            duplicates[3999],
            Duplicate {
                offset: 4999,
                first: 999
            }
        );
        assert_eq!(find(&table, &words, "k7"), Some(7));
    }

    #[test]
    fn a_million_equal_keys_take_one_pass() {
        let words: Vec<String> = (0..1_000_000).map(|_| "k".into()).collect();
        assert_eq!(table(&words).0.len(), 1);
    }

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
