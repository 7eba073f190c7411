//! Rust text without its comments and strings, so that rules see code only.

/// The same text, with comments and the insides of literals replaced by blanks; lines stay.
pub(super) fn without_words(text: &str) -> String {
    let mut scanner = Scanner {
        bytes: text.as_bytes(),
        at: 0,
        out: Vec::with_capacity(text.len()),
    };
    while scanner.at < scanner.bytes.len() {
        scanner.step();
    }
    String::from_utf8_lossy(&scanner.out).into_owned()
}

struct Scanner<'text> {
    bytes: &'text [u8],
    at: usize,
    out: Vec<u8>,
}

impl Scanner<'_> {
    fn step(&mut self) {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(b"//") {
            let end = rest
                .iter()
                .position(|byte| *byte == b'\n')
                .unwrap_or(rest.len());
            self.blank(end);
        } else if rest.starts_with(b"/*") {
            self.blank(length_of_block_comment(rest));
        } else if let Some(length) = length_of_raw_string(rest).filter(|_| !self.in_word()) {
            self.blank(length);
        } else if rest[0] == b'"' {
            self.blank(length_of_string(rest));
        } else if let Some(length) = length_of_character(rest) {
            self.blank(length);
        } else {
            self.out.push(rest[0]);
            self.at += 1;
        }
    }

    /// Whether the byte before belongs to a name, so that an `r` here does not begin a string.
    fn in_word(&self) -> bool {
        self.at > 0 && is_word(self.bytes[self.at - 1])
    }

    fn blank(&mut self, length: usize) {
        for byte in &self.bytes[self.at..self.at + length] {
            self.out.push(if *byte == b'\n' { b'\n' } else { b' ' });
        }
        self.at += length;
    }
}

/// Whether a byte may stand in a name.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn length_of_block_comment(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at.min(text.len())
}

fn length_of_string(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// `r"..."`, `r#"..."#`, `br"..."` and so on.
fn length_of_raw_string(text: &[u8]) -> Option<usize> {
    let prefix = match text {
        [b'b' | b'c', b'r', ..] => 2,
        [b'r', ..] => 1,
        _ => return None,
    };
    let hashes = text[prefix..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let open = prefix + hashes;
    if text.get(open) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let inside = text[open + 1..]
        .windows(close.len())
        .position(|part| part == close);
    Some(inside.map_or(text.len(), |at| open + 1 + at + close.len()))
}

/// `'x'`, `'\n'`, `'\u{7f}'`; not a lifetime.
fn length_of_character(text: &[u8]) -> Option<usize> {
    if text[0] != b'\'' {
        return None;
    }
    if text.get(1) == Some(&b'\\') {
        let end = text.iter().skip(3).position(|byte| *byte == b'\'')?;
        return Some(end + 4);
    }
    let first = std::str::from_utf8(&text[1..text.len().min(5)])
        .or_else(|error| std::str::from_utf8(&text[1..1 + error.valid_up_to()]))
        .ok()?;
    let length = first.chars().next()?.len_utf8();
    (text.get(1 + length) == Some(&b'\'')).then_some(length + 2)
}

/// A function of the text: its name, its line, and how many lines it has.
#[derive(Debug, PartialEq)]
pub(super) struct Function {
    /// What follows `fn`.
    pub(super) name: String,
    /// The line of its `fn`, from 1.
    pub(super) line: usize,
    /// From its `fn` to its closing brace.
    pub(super) lines: usize,
}

/// All functions with bodies, of text that has been through [`without_words`].
pub(super) fn functions(code: &str) -> Vec<Function> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if at > 0 && is_word(bytes[at - 1]) {
            continue;
        }
        let name: String = code[at + 3..]
            .chars()
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect();
        if let Some(end) = end_of_body(bytes, at).filter(|_| !name.is_empty()) {
            let line = code[..at].matches('\n').count() + 1;
            let lines = code[at..end].matches('\n').count() + 1;
            found.push(Function { name, line, lines });
        }
    }
    found
}

/// Where the body of the function that begins at `from` ends; none when it has no body.
fn end_of_body(bytes: &[u8], from: usize) -> Option<usize> {
    let (mut depth, mut brackets) = (0_usize, 0_usize);
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets = brackets.saturating_sub(1),
            b';' if depth == 0 && brackets == 0 => return None,
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_become_blanks() {
        let code = without_words("a /* unsafe /* x */ */ b // unsafe\n\"unsafe \\\" x\" c 'u' d");
        assert!(!code.contains("unsafe"));
        assert_eq!(
            code.split_whitespace().collect::<Vec<_>>(),
            ["a", "b", "c", "d"]
        );
        assert_eq!(code.lines().count(), 2);
    }

    #[test]
    fn raw_strings_end_where_they_should() {
        let code = without_words("x(r#\"unsafe \" \"#, br\"unsafe\", r\"\") y");
        assert_eq!(code.split_whitespace().collect::<String>(), "x(,,)y");
    }

    #[test]
    fn lifetimes_are_no_characters() {
        let code = without_words("fn f<'a>(x: &'a str) -> char { '\\'' }");
        assert!(code.contains("<'a>"));
        assert!(code.trim_end().ends_with('}'));
    }

    #[test]
    fn an_r_within_a_name_begins_no_string() {
        assert_eq!(without_words("bar\"x\"").trim_end(), "bar");
    }

    #[test]
    fn characters_beyond_ascii_are_literals() {
        assert_eq!(
            without_words("a'é'b")
                .split_whitespace()
                .collect::<String>(),
            "ab"
        );
    }

    #[test]
    fn functions_are_measured() {
        let found =
            functions("trait T { fn none(&self, x: [u8; 3]); }\nfn two() {\n  if x { }\n}\n");
        let two = Function {
            name: "two".to_owned(),
            line: 2,
            lines: 3,
        };
        assert_eq!(found, [two]);
    }
}
