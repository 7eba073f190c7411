//! One line of the table.

use std::borrow::Cow;

use bstr::{BStr, ByteSlice};

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// The mount's number; numbers are used again.
    pub id: u64,
    /// The mount it is in (or its own number, at the top of the table).
    pub parent: u64,
    /// Device number of its file system, major and minor.
    pub device: (u32, u32),
    /// What part of its file system is mounted.
    pub root: Cow<'a, BStr>,
    /// Where, as this process sees it.
    pub point: Cow<'a, BStr>,
    /// Options of the mount.
    pub options: &'a BStr,
    /// Number of its peer group, if it is shared.
    pub shared: Option<u64>,
    /// The peer group it receives from, if it is a slave.
    pub master: Option<u64>,
    /// It cannot be bind-mounted.
    pub unbindable: bool,
    /// File system type, with its subtype after a dot.
    pub fstype: Cow<'a, BStr>,
    /// Source text.
    pub source: Cow<'a, BStr>,
    /// Options of the file system.
    pub super_options: Cow<'a, BStr>,
}

impl<'a> Mount<'a> {
    /// Reads one line, without its newline. `None` when it has not the form of proc(5).
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let mut next = || fields.next();
        let (id, parent) = (number(next()?)?, number(next()?)?);
        let (major, minor) = next()?.split_once_str(":")?;
        let (root, point, options) = (next()?, next()?, next()?);
        let mut mount = Self {
            id,
            parent,
            device: (number32(major)?, number32(minor)?),
            root: unescaped(root),
            point: unescaped(point),
            options: options.as_bstr(),
            shared: None,
            master: None,
            unbindable: false,
            fstype: Cow::Borrowed(b"".as_bstr()),
            source: Cow::Borrowed(b"".as_bstr()),
            super_options: Cow::Borrowed(b"".as_bstr()),
        };
        loop {
            match next()? {
                b"-" => break,
                field => mount.optional(field),
            }
        }
        mount.fstype = unescaped(next()?);
        mount.source = unescaped(next()?);
        // A source of no characters leaves two blanks; options may then be missing as well.
        mount.super_options = next().map_or(mount.super_options, unescaped);
        Some(mount)
    }

    /// Optional fields are there in any number; unknown ones are passed over (proc(5)).
    fn optional(&mut self, field: &[u8]) {
        match field.split_once_str(":") {
            Some((b"shared", group)) => self.shared = number(group),
            Some((b"master", group)) => self.master = number(group),
            None if field == b"unbindable" => self.unbindable = true,
            _ => {}
        }
    }
}

fn number(text: &[u8]) -> Option<u64> {
    text.to_str().ok()?.parse().ok()
}

fn number32(text: &[u8]) -> Option<u32> {
    text.to_str().ok()?.parse().ok()
}

/// Turns the kernel's `\040` and the like (blank, tab, newline, backslash, hash) back into bytes. A
/// backslash before anything else stands for itself.
pub fn unescaped(text: &[u8]) -> Cow<'_, BStr> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text.as_bstr());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        match rest {
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    Cow::Owned(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_text_and_broken_escapes_stand_for_themselves() {
        let mount =
            Mount::parse(b"1 2 0:1 / /\xff\\0\\08\\400\\\\101 rw shared:x y - t s o").unwrap();
        assert_eq!(&*mount.point, b"/\xff\\0\\08\\400\\A".as_bstr());
        assert_eq!(mount.shared, None);
    }

    #[test]
    fn what_the_kernel_escapes_is_turned_back() {
        for (escaped, plain) in [
            (r"\040\134c\011\012\043", &b" \\c\t\n#"[..]),
            (r"\", br"\"),
            (r"\04", br"\04"),
            (r"\777", br"\777"),
            (r"\0400", b" 0"),
            (r"\377", b"\xff"),
        ] {
            assert_eq!(*unescaped(escaped.as_bytes()), *plain, "{escaped}");
        }
    }
}
