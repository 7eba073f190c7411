//! What was probably meant by a location that cannot be used.

use alloc::format;
use alloc::string::String;

use bstr::{BStr, ByteSlice};

use crate::fstype;

/// Words that begin lists of options, where somebody forgot the dash.
const OPTIONS: [&[u8]; 9] = [
    b"ro", b"rw", b"soft", b"hard", b"intr", b"nosuid", b"nodev", b"bg", b"fstype",
];

/// Advice on options that a blank divides.
pub(crate) const SPLIT_OPTIONS: &str =
    "options are one word: write no blank before or after a comma";

/// Dashes that are no hyphens: editors and web pages put them in a hyphen's place.
const DASHES: [&str; 5] = ["\u{2010}", "\u{2011}", "\u{2013}", "\u{2014}", "\u{2212}"];

/// What follows a dash that is no hyphen, if the word begins with one.
pub(crate) fn after_odd_dash(word: &[u8]) -> Option<&[u8]> {
    DASHES
        .iter()
        .find_map(|dash| word.strip_prefix(dash.as_bytes()))
}

/// Advice on a word that has a colon, but no slash behind it.
pub(crate) fn relative_path(word: &BStr) -> String {
    let plain = |(host, path): &(&[u8], &[u8])| {
        !host.is_empty() && !path.is_empty() && !host.contains(&b'[') && !path.contains(&b':')
    };
    if let Some((address, path)) = word.split_once_str("]/") {
        return format!("write {}]:/{}", address.as_bstr(), path.as_bstr());
    }
    if word.starts_with(b"[") && !word.contains(&b']') {
        return "close the bracket of the address: [address]:/path".into();
    }
    if word.contains_str(":=") {
        return "this looks like a map of amd, which is another language; write host:/path".into();
    }
    match word.split_once_str(":").filter(plain) {
        Some((host, path)) => format!("write {}:/{}", host.as_bstr(), path.as_bstr()),
        None => "write host:/path, or :/path for a directory of this host".into(),
    }
}

/// Advice on a word that has no colon. `before`: there is a location before it; `next`: the word
/// after it, if that is one of the same list; `rest`: what is written behind it.
pub(crate) fn no_path(word: &BStr, before: bool, next: Option<&BStr>, rest: &BStr) -> String {
    let first = word.split(|byte| matches!(byte, b',' | b'=')).next();
    if let Some(text) = after_odd_dash(word) {
        return format!("this dash is no hyphen: write -{}", text.as_bstr());
    }
    if word.ends_with(b"'") {
        return "single quotes do not quote: write double quotes".into();
    }
    if word.starts_with(b",") {
        return SPLIT_OPTIONS.into();
    }
    if fstype::is_known(word) {
        return format!("a type is written as an option: -fstype={word}");
    }
    if word.contains(&b'=') || first.is_some_and(|first| OPTIONS.contains(&first)) {
        return format!("options are one word and begin with a dash: -{word}");
    }
    if let Some(next) = next {
        if next.starts_with(b"(") {
            return format!("write no blank before the weight: {word}{next}");
        }
        if word.ends_with(b",") {
            return format!("write no blank after the comma: {word}{next}");
        }
        if next.contains(&b':') && before {
            return format!("an offset begins with a slash: /{word} {next}");
        }
        if next.contains(&b':') {
            return format!(
                "separate hosts by commas without blanks: {word},{next}; a key that has a blank in \
                 it is quoted"
            );
        }
    }
    if before {
        return "quote a path that has blanks in it: \"host:/a b\"".into();
    }
    let slash = word.split_once_str("/");
    if let Some((name, path)) = slash.filter(|(name, _)| !name.is_empty()) {
        let name = name.trim_end_with(|c| matches!(c, ';' | '.' | ','));
        return format!("write {}:/{}", name.as_bstr(), path.as_bstr());
    }
    let path = rest
        .trim_ascii_start()
        .split(u8::is_ascii_whitespace)
        .next();
    match path.filter(|path| path.starts_with(b"/")) {
        Some(path) => format!("write {word}:{}", path.as_bstr()),
        None => format!("write {word}:/path"),
    }
}

/// Advice on what cannot be the name of a host.
pub(crate) fn bad_host(name: &BStr) -> &'static str {
    if name.contains(&b'\'') {
        return "single quotes do not quote: write double quotes";
    }
    if name.contains_str("\u{201c}") || name.contains_str("\u{201d}") {
        return "these quotation marks are not the ones that quote: write \"";
    }
    if name.contains_str("\u{a0}") {
        return "there is a no-break space in it: write an ordinary blank";
    }
    if name.contains(&b'@') {
        return "NFS has no users in a location; sshfs is -fstype=fuse.sshfs :user@host:/path";
    }
    "names are made of letters, digits, dots, hyphens and underscores; an IPv6 address stands in \
     brackets"
}

/// Advice on a location that is a URL, where `host` is the part before its colon.
pub(crate) fn url(host: &BStr) -> Option<&'static str> {
    Some(match host.as_bytes() {
        b"http" | b"https" | b"dav" | b"davs" | b"webdav" => {
            "an address of the web is mounted with a type for it, such as -fstype=davfs"
        }
        b"smb" | b"cifs" => "write -fstype=cifs ://server/share",
        b"nfs" => "write server:/path",
        b"ftp" | b"sftp" | b"ssh" | b"s3" => "name the type that mounts it, with -fstype=",
        b"file" => "write :/path for a directory of this host",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_said_with_the_words_that_were_written() {
        let no_path = |word: &str, before, next: Option<&str>, rest: &str| {
            no_path(word.into(), before, next.map(Into::into), rest.into())
        };
        for (word, before, next, rest, advice) in [
            ("srv/export/a", false, None, "", "write srv:/export/a"),
            ("srv;/a", false, None, "", "write srv:/a"),
            ("srv", false, None, " /export/a", "write srv:/export/a"),
            ("srv", false, None, "", "write srv:/path"),
            (
                "a,",
                false,
                Some("b:/x"),
                "",
                "write no blank after the comma: a,b:/x",
            ),
            (
                "a",
                false,
                Some("b:/x"),
                "",
                "separate hosts by commas without blanks: a,b:/x; a key that has a blank in it is \
                 quoted",
            ),
            (
                "a",
                false,
                Some("(2):/x"),
                "",
                "write no blank before the weight: a(2):/x",
            ),
            (
                "src",
                true,
                Some("b:/x"),
                "",
                "an offset begins with a slash: /src b:/x",
            ),
            (
                "rw,soft",
                false,
                Some("a:/x"),
                "",
                "options are one word and begin with a dash: -rw,soft",
            ),
            (
                "\u{2013}rw",
                false,
                Some("a:/x"),
                "",
                "this dash is no hyphen: write -rw",
            ),
            (
                "nfs4",
                false,
                Some("a:/x"),
                "",
                "a type is written as an option: -fstype=nfs4",
            ),
            (
                ",soft",
                false,
                Some("a:/x"),
                "",
                "options are one word: write no blank before or after a comma",
            ),
            (
                "docs",
                true,
                None,
                "",
                "quote a path that has blanks in it: \"host:/a b\"",
            ),
        ] {
            assert_eq!(no_path(word, before, next, rest), advice, "{word}");
        }
        for (word, advice) in [
            ("srv:a/b", "write srv:/a/b"),
            ("[fe80::1]/x", "write [fe80::1]:/x"),
            (
                "[fe80::1:/x",
                "close the bracket of the address: [address]:/path",
            ),
            (
                "a:b:c",
                "write host:/path, or :/path for a directory of this host",
            ),
        ] {
            assert_eq!(relative_path(word.into()), advice, "{word}");
        }
    }
}
