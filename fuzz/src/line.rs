//! What keeper and daemon say to each other, possibly of two versions.

use piton_control::line::{Letter, Word};

/// A letter or a word that can be read is written as one that reads the same.
pub fn line(data: &[u8]) {
    if let Some(letter) = Letter::read(data) {
        assert_eq!(Letter::read(&letter.write()), Some(letter));
    }
    if let Some(word) = Word::read(data) {
        assert_eq!(Word::read(&word.write()), Some(word));
    }
}
