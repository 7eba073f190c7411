//! "Did you mean": the known word that a misspelt one is nearest to.

use alloc::vec::Vec;

/// The one of `known` that `word` is probably meant to be: at most one slip away in short
/// words, two in longer ones, letters' case left aside.
pub fn suggest<'k>(word: &[u8], known: impl Iterator<Item = &'k [u8]>) -> Option<&'k [u8]> {
    let most = if word.len() < 5 { 1 } else { 2 };
    let lower = word.to_ascii_lowercase();
    known
        .filter(|candidate| candidate.len().abs_diff(lower.len()) <= most)
        .map(|candidate| (distance(&lower, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(slips, _)| *slips <= most)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// The one of `known` that is a single slip away from `word`.
pub(crate) fn nearest<'k>(
    word: &[u8],
    mut known: impl Iterator<Item = &'k [u8]>,
) -> Option<&'k [u8]> {
    known.find(|candidate| distance(word, candidate) == 1)
}

/// The number of slips between two words: a letter missing, added, wrong, or two exchanged.
fn distance(left: &[u8], right: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, letter) in left.iter().enumerate() {
        let mut line = Vec::with_capacity(right.len() + 1);
        line.push(row + 1);
        for (column, other) in right.iter().enumerate() {
            let change = above[column] + usize::from(letter != other);
            let mut least = change.min(above[column + 1] + 1).min(line[column] + 1);
            let exchanged =
                row > 0 && column > 0 && *letter == right[column - 1] && left[row - 1] == *other;
            if exchanged {
                least = least.min(before[column - 1] + 1);
            }
            line.push(least);
        }
        before = core::mem::replace(&mut above, line);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        for (left, right, slips) in [
            ("", "", 0),
            ("a", "", 1),
            ("fstype", "fstpye", 1),
            ("host", "hsot", 1),
            ("ab", "xy", 2),
        ] {
            assert_eq!(
                distance(left.as_bytes(), right.as_bytes()),
                slips,
                "{left} {right}"
            );
        }
    }

    #[test]
    fn the_nearest_known_word_is_suggested() {
        let known = [b"HOST".as_slice(), b"OSREL", b"OSNAME"];
        let of = |word: &str| suggest(word.as_bytes(), known.iter().copied());
        assert_eq!(of("HOTS"), Some(b"HOST".as_slice()));
        assert_eq!(of("hostx"), Some(b"HOST".as_slice()));
        assert_eq!(of("OSNAM"), Some(b"OSNAME".as_slice()));
        assert_eq!(of("PRINTER"), None);
        assert_eq!(of(""), None);
    }
}
