//! Properties of the entry language, for any bytes: nothing panics, spans lie in the text, what
//! is printed reads as the same entry, and the key is data wherever `&` stands.

use std::borrow::Cow;

use bstr::{BStr, BString, ByteSlice};
use piton_map::dialect::Dialect;
use piton_map::entry::{Entry, EntryRequest, Reading, What, read};
use piton_map::expand::{Variables, needs_requester};
use piton_map::limits::{ENTRY_LIMIT, FINDINGS_LIMIT, WRITTEN_LIMIT};
use piton_map::lookup::{Found, Matched};
use piton_map::options::PointOptions;
use piton_map::text::{Fragment, Span};
use proptest::prelude::*;

/// Lines that people write, to be broken at random.
const LINES: [&str; 16] = [
    "amy rowboatserver:/home/&",
    "man -ro alpha,bravo,charlie(1),delta(4):/usr/share/man",
    "beta -ro / svr1,svr2:/export/src/beta /1.0 svr1:/x /1.0/man -rw svr2:/y",
    "cdrom -fstype=hsfs,ro :/dev/sr0",
    "src -fstype=autofs,timeout=5,nobrowse file:/etc/auto_src",
    "* -fstype=nfs4,rw,soft,sec=krb5 &.example.org:/export/home/&",
    "win -fstype=cifs,credentials=/etc/c,uid=$UID ://server/share",
    "v6 [fd00::1%eth0](3),[fd00::2]:/export",
    "q -fstype=fake,password=\"a,b\" \":/a b\" # comment",
    "m -fstype=bind,private,ro :/srv/\\ data",
    "sub host:/path:sub/dir",
    "/usr/local \\\n / -ro,intr a:/usr/local \\\n /bin $HOST:/${ARCH}/bin",
    "img -fstype=squashfs,loop :/images/&.sqsh",
    "net -strict,nobind,symlink,use-weight-only h1(2):/p h2:/q",
    "ov -fstype=overlay,lowerdir=/a:/b,upperdir=/c,workdir=/d :overlay",
    "x -fstype=none,rbind :/srv",
];

/// Every variable is its own name, except those that begin with N.
struct Names;

impl Variables for Names {
    fn value(&self, name: &BStr) -> Option<Cow<'_, BStr>> {
        let known = !name.is_empty() && !name.starts_with(b"N");
        known.then(|| Cow::Owned(BString::from(name)))
    }

    fn names(&self) -> Vec<Cow<'_, BStr>> {
        vec![Cow::Borrowed("HOST".into())]
    }
}

fn found(text: &[u8]) -> Found {
    Found {
        fragment: Fragment::whole("m", text),
        key: Span::default(),
        value: Span::new(0, text.len()),
        matched: Matched::Exact,
        map: "m".into(),
        via: Vec::new(),
    }
}

fn read_with(text: &[u8], key: &[u8], dialect: &Dialect, variables: &dyn Variables) -> Reading {
    read(&EntryRequest {
        found: &found(text),
        key: key.as_bstr(),
        variables,
        point: &PointOptions::default(),
        global: &[],
        append: true,
        dialect,
    })
}

fn entry(text: &[u8], key: &[u8]) -> Option<Entry> {
    read_with(text, key, &Dialect::LINUX, &()).entry
}

/// Spans of all that was found lie in the fragment, and there are not too many.
fn check_diagnostics(text: &[u8], reading: &Reading) {
    assert!(reading.diagnostics.len() <= FINDINGS_LIMIT);
    for finding in &reading.diagnostics {
        let related = finding.related.iter().map(|(span, _)| *span);
        for span in related.chain([finding.primary.0]) {
            assert!(
                span.start <= span.end && span.end as usize <= text.len(),
                "{finding:?}"
            );
        }
        finding.origin();
    }
    for replacement in &reading.replacements {
        assert!(replacement.span.end as usize <= text.len());
    }
}

/// An entry's paths stay below its key, and nothing of it looks like an option of mount's.
fn check_entry(entry: &Entry) {
    assert!(!entry.mounts.is_empty());
    for mount in &entry.mounts {
        assert!(mount.offset.starts_with(b"/"));
        assert!(
            !mount
                .offset
                .split_str("/")
                .any(|part| part == b".." || part == b".")
        );
        match &mount.what {
            What::Servers { servers, .. } => {
                assert!(!servers.is_empty());
                for server in servers {
                    assert!(server.path.starts_with(b"/"));
                    let host = server.host.clone().unwrap_or("h".into());
                    assert!(!host.is_empty() && !host.starts_with(b"-"));
                }
            }
            What::Bind { source, .. } | What::Link { to: source } | What::Source { source, .. } => {
                assert!(!source.starts_with(b"-"));
            }
            What::Map { map, .. } => assert!(!map.name.is_empty()),
        }
        let options = mount.options.iter();
        assert!(
            !options
                .clone()
                .any(|option| option.contains(&0) || option.contains(&b'\n'))
        );
        assert!(!options.clone().any(|option| option.starts_with(b"fstype=")));
    }
}

/// The same without the places where things were written.
fn without_places(mut entry: Entry) -> Entry {
    for mount in &mut entry.mounts {
        mount.span = Span::default();
        if let What::Map { map, .. } = &mut mount.what {
            map.origin = None;
        }
    }
    entry
}

fn everything(text: &[u8], key: &[u8]) {
    for dialect in [Dialect::LINUX, Dialect::SUN] {
        let reading = read_with(text, key, &dialect, &Names);
        check_diagnostics(text, &reading);
        if let Some(entry) = reading.entry {
            check_entry(&entry);
        } else {
            assert!(!reading.diagnostics.is_empty(), "refused without a word");
        }
    }
    needs_requester(&found(text));
}

/// A real line with a few bytes changed, put in or taken out.
fn broken_line() -> impl Strategy<Value = Vec<u8>> {
    let special = prop::sample::select(b" \t\n\r\"\\#$&,:;=()[]{}*+-/.'%@\0\x7f\xffaZ0".to_vec());
    let change = (any::<prop::sample::Index>(), 0..3u8, special);
    (
        prop::sample::select(LINES.to_vec()),
        prop::collection::vec(change, 0..6),
    )
        .prop_map(|(line, changes)| {
            let mut text = line.as_bytes().to_vec();
            for (at, kind, byte) in changes {
                let at = at
                    .index(text.len().max(1))
                    .min(text.len().saturating_sub(1));
                match kind {
                    0 if !text.is_empty() => text[at] = byte,
                    1 if !text.is_empty() => {
                        text.remove(at);
                    }
                    _ => text.insert(at, byte),
                }
            }
            text
        })
}

/// Keys as the front end can deliver them: names without slashes and control characters.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..12).prop_map(|mut key| {
        for byte in &mut key {
            if *byte == b'/' || byte.is_ascii_control() {
                *byte = b'\\';
            }
        }
        key
    })
}

/// The text after the key of a line.
fn value(line: &str) -> &[u8] {
    let at = line.find([' ', '\t']).unwrap_or(0);
    &line.as_bytes()[at..]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(text in prop::collection::vec(any::<u8>(), 0..200), key in key()) {
        everything(&text, &key);
    }

    #[test]
    fn any_broken_line(text in broken_line(), key in key()) {
        everything(&text, &key);
    }

    #[test]
    fn what_is_printed_reads_as_the_same(text in broken_line()) {
        for dialect in [Dialect::LINUX, Dialect::SUN] {
            if let Some(entry) = read_with(&text, b"key", &dialect, &Names).entry {
                let printed = entry.to_text();
                let again = read_with(&printed, b"other", &dialect, &()).entry;
                let again = again.map(without_places);
                prop_assert_eq!(again, Some(without_places(entry)), "{}", printed);
            }
        }
    }

    #[test]
    fn the_key_is_data_in_a_path(key in key()) {
        prop_assume!(key != b"." && key != b"..");
        let entry = entry(b"-fstype=fake,o=& :/x/&/end /& srv:/&", &key).unwrap();
        let root = entry.mounts.iter().find(|mount| mount.offset == "/").unwrap();
        prop_assert_eq!(&root.options, &[BString::from([b"o=", &key[..]].concat())]);
        let source = BString::from([b"/x/", &key[..], b"/end"].concat());
        let expected = What::Source { fstype: "fake".into(), source };
        prop_assert_eq!(&root.what, &expected);
        if entry.mounts.len() > 1 {
            let offset = BString::from([b"/", &key[..]].concat());
            prop_assert!(entry.mounts.iter().any(|mount| mount.offset == offset));
        }
    }

    #[test]
    fn the_key_as_a_host_is_one_host_or_refused(key in key()) {
        if let Some(entry) = entry(b"&:/export/&", &key) {
            let What::Servers { servers, .. } = &entry.mounts[0].what else { panic!() };
            prop_assert_eq!(servers.len(), 1);
            prop_assert_eq!(servers[0].host.as_ref(), Some(&BString::from(key)));
            prop_assert_eq!(servers[0].weight, 0);
        }
    }

    #[test]
    fn a_word_that_is_the_key_is_a_source_or_refused(key in key()) {
        if let Some(entry) = entry(b"-fstype=fake &", &key) {
            prop_assert_eq!(entry.mounts.len(), 1);
            prop_assert_eq!(&entry.mounts[0].options, &Vec::<BString>::new());
            let source = BString::from(key);
            let expected = What::Source { fstype: "fake".into(), source };
            prop_assert_eq!(&entry.mounts[0].what, &expected);
        }
    }

    #[test]
    fn a_variable_is_not_expanded_again(value in "[a-z$&{}]{0,8}") {
        struct One(BString);
        impl Variables for One {
            fn value(&self, name: &BStr) -> Option<Cow<'_, BStr>> {
                (name == "V").then(|| Cow::Borrowed(self.0.as_ref()))
            }
            fn names(&self) -> Vec<Cow<'_, BStr>> {
                Vec::new()
            }
        }
        let one = One(value.clone().into());
        let reading = read_with(b"-fstype=fake :/$V/x", b"key", &Dialect::LINUX, &one);
        let source = BString::from(format!("/{value}/x"));
        let What::Source { source: ours, .. } = &reading.entry.unwrap().mounts[0].what else {
            panic!()
        };
        prop_assert_eq!(ours, &source);
    }
}

#[test]
fn real_lines_are_understood() {
    for line in LINES {
        let reading = read_with(value(line), b"key", &Dialect::SUN, &Names);
        assert!(reading.entry.is_some(), "{line}: {:?}", reading.diagnostics);
    }
}

#[test]
fn an_entry_may_be_as_long_as_the_limit() {
    let entry_of = |length: usize| {
        let mut text = b"-fstype=fake :/".to_vec();
        text.resize(length, b'x');
        entry(&text, b"k")
    };
    assert!(entry_of(ENTRY_LIMIT).is_some());
    assert!(entry_of(ENTRY_LIMIT + 1).is_none());
}

#[test]
fn an_entry_may_shrink_from_as_much_as_was_written() {
    let entry_of = |length: usize| {
        let mut text = b"-fstype=fake :/x".to_vec();
        text.extend(b"$N".iter().cycle().take(length - text.len() - 1));
        text.push(b'x');
        entry(&text, b"k")
    };
    assert!(entry_of(WRITTEN_LIMIT).is_some());
    assert!(entry_of(WRITTEN_LIMIT + 1).is_none());
}
