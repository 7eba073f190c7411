//! What a server exports: the MOUNT protocol's EXPORT (RFC 1813, appendix I), and the root of all
//! exports where only NFSv4 is served.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};

use crate::error::Error;
use crate::exchange::{Exchange, Protocol, call, wait};
use crate::message::Procedure;
use crate::xdr::Reader;
use crate::{MOUNT, NFS, NFS_PORT, limits, portmap};

/// EXPORT, in all versions of MOUNT.
const EXPORT: u32 = 5;

/// How long a mount daemon that is not reached is still waited for when NFSv4 has answered: a server
/// behind a firewall that lets port 2049 through and nothing else is common.
const PATIENCE: Duration = Duration::from_secs(2);

/// What may be mounted from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exports {
    /// In the server's order; every path once. A path begins with `/`, has no empty part, none that
    /// is `.` or `..`, and no control character; `/` itself may be exported.
    pub list: Vec<Export>,
    /// Who told.
    pub origin: Origin,
    /// Lines that are not in the list as they came: bad ones, and those past the limits.
    pub lost: usize,
    /// The first of those, for people: the path and what is wrong.
    pub faults: Vec<String>,
}

/// One export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its path on the server.
    pub path: BString,
    /// Who may mount it, as the server writes it (hosts, networks, net groups); nobody is named:
    /// everybody may.
    pub groups: Vec<BString>,
}

/// Who told what a server exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The mount daemon, which knows each export.
    Mountd,
    /// Nobody: the server speaks NFSv4, where all exports are found below `/`.
    PseudoRoot,
}

impl Exports {
    /// An empty list.
    pub fn new(origin: Origin) -> Self {
        Self {
            list: Vec::new(),
            origin,
            lost: 0,
            faults: Vec::new(),
        }
    }

    /// Counts a line that is not in the list as it came.
    fn fault(&mut self, path: &[u8], why: &str) {
        self.lost += 1;
        if self.faults.len() < limits::FAULTS {
            // A path is named as far as it could be one, and so that a terminal is not harmed.
            let shown = String::from_utf8_lossy(&path[..path.len().min(limits::PATH)]);
            let mut text = String::from("`");
            for character in shown.chars() {
                if character.is_control() {
                    text.extend(character.escape_default());
                } else {
                    text.push(character);
                }
            }
            text.push_str("`: ");
            text.push_str(why);
            self.faults.push(text);
        }
    }
}

/// Collects exports, and leaves out what is none.
#[derive(Debug)]
pub struct Collector {
    exports: Exports,
    /// Where in the list a path stands.
    places: HashMap<BString, usize>,
    groups: usize,
}

impl Collector {
    /// Nothing collected yet.
    pub fn new(origin: Origin) -> Self {
        Self {
            exports: Exports::new(origin),
            places: HashMap::new(),
            groups: 0,
        }
    }

    /// A line: what a server calls a path, and its groups. An export that is named twice has the
    /// groups of both; nothing else of a bad line is kept.
    pub fn line<'a>(&mut self, path: &[u8], groups: impl IntoIterator<Item = &'a [u8]>) {
        let clean = match clean(path) {
            Ok(clean) => clean,
            Err(why) => return self.exports.fault(path, why),
        };
        let mut names: Vec<BString> = Vec::new();
        for group in groups {
            if group.is_empty() {
                continue;
            }
            if group.len() > limits::GROUP || group.iter().any(u8::is_ascii_control) {
                return self.exports.fault(path, "one of its groups is no name");
            }
            if names.len() == limits::GROUPS {
                return self.exports.fault(path, "it has too many groups");
            }
            names.push(group.into());
        }
        if let Some(place) = self.places.get(&clean) {
            let first = &mut self.exports.list[*place].groups;
            let room = (limits::GROUPS - first.len()).min(limits::ALL_GROUPS - self.groups);
            if names.is_empty() {
                // Everybody may.
                self.groups -= first.len();
                first.clear();
            } else if !first.is_empty() && names.len() <= room {
                self.groups += names.len();
                first.append(&mut names);
            }
            return self.exports.fault(path, "it is listed twice");
        }
        if self.exports.list.len() == limits::EXPORTS {
            return self.exports.fault(path, "the list is too long");
        }
        if self.groups + names.len() > limits::ALL_GROUPS {
            return self
                .exports
                .fault(path, "all exports together have too many groups");
        }
        self.groups += names.len();
        self.places.insert(clean.clone(), self.exports.list.len());
        self.exports.list.push(Export {
            path: clean,
            groups: names,
        });
    }

    /// The list ended where it should not: what follows is lost, as one line.
    pub fn broken(&mut self, error: Error) {
        let last = self.exports.list.last().map(|export| export.path.clone());
        let last = last.unwrap_or_default();
        self.exports
            .fault(&last, &format!("the list is broken after it: {error}"));
    }

    /// What was collected.
    pub fn done(self) -> Exports {
        self.exports
    }
}

/// A path as it is kept: without slashes that mean nothing.
fn clean(path: &[u8]) -> Result<BString, &'static str> {
    if path.len() > limits::PATH {
        return Err("the path is too long");
    }
    if path.first() != Some(&b'/') {
        return Err("the path does not begin with a slash");
    }
    if path.iter().any(u8::is_ascii_control) {
        return Err("the path has a control character");
    }
    let mut clean = BString::default();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" => continue,
            b"." | b".." => return Err("the path leads elsewhere than it says"),
            _ if part.len() > limits::PART => return Err("a part of the path is too long"),
            _ => {}
        }
        clean.push(b'/');
        clean.extend_from_slice(part);
    }
    if clean.is_empty() {
        clean.push(b'/');
    }
    Ok(clean)
}

/// Reads the results of EXPORT. A list that breaks off keeps what came before.
pub fn parse(results: &[u8]) -> Exports {
    let mut collector = Collector::new(Origin::Mountd);
    let mut reader = Reader::new(results);
    loop {
        match one(&mut reader) {
            Ok(Some((path, groups))) => collector.line(path, groups),
            Ok(None) => return collector.done(),
            Err(error) => {
                collector.broken(error);
                return collector.done();
            }
        }
    }
}

type Line<'a> = (&'a [u8], Vec<&'a [u8]>);

fn one<'a>(reader: &mut Reader<'a>) -> Result<Option<Line<'a>>, Error> {
    if !reader.follows()? {
        return Ok(None);
    }
    let path = reader.bytes()?;
    let mut groups = Vec::new();
    while reader.follows()? {
        let group = reader.bytes()?;
        // One more than there may be, so that it is seen that there are too many.
        if groups.len() <= limits::GROUPS {
            groups.push(group);
        }
    }
    Ok(Some((path, groups)))
}

/// Asks the server at an address (whose port is not looked at) what it exports: the mount daemon,
/// and if there is none, whether NFSv4 is served.
///
/// # Errors
/// There is neither, nobody answers in time, or the mount daemon says what cannot be understood.
pub fn of(server: SocketAddr, until: Instant) -> Result<Exports, Error> {
    enum Heard {
        /// There is a mount daemon, and it has been asked: a long list takes its time.
        Asked,
        Mountd(Result<Exports, Error>),
        Nfs(Result<(), Error>),
    }
    let (tell, heard) = mpsc::channel();
    let told = tell.clone();
    // They end by `until`, and nobody waits for the one that was not needed.
    in_thread(move || drop(told.send(Heard::Nfs(v4_answers(server, until)))))?;
    in_thread(move || {
        let asked = || drop(tell.send(Heard::Asked));
        let _ = tell.send(Heard::Mountd(by_mountd(server, until, &asked)));
    })?;
    let (mut mountd, mut nfs, mut asked) = (None, None, false);
    let mut patience = until;
    while mountd.is_none() || nfs.is_none() {
        let left = patience.saturating_duration_since(Instant::now());
        match heard.recv_timeout(left) {
            Ok(Heard::Asked) => {
                asked = true;
                patience = until;
            }
            Ok(Heard::Mountd(Ok(exports))) => return Ok(exports),
            Ok(Heard::Mountd(Err(error))) => mountd = Some(error),
            Ok(Heard::Nfs(answer)) => {
                if answer.is_ok() && !asked {
                    patience = until.min(Instant::now() + PATIENCE);
                }
                nfs = Some(answer);
            }
            Err(_) => break,
        }
    }
    let absent = match mountd {
        // One that was asked is there: it only did not answer in time.
        None | Some(Error::Late) => !asked,
        Some(error) => is_absence(error),
    };
    if nfs == Some(Ok(())) && absent {
        let mut collector = Collector::new(Origin::PseudoRoot);
        collector.line(b"/", []);
        return Ok(collector.done());
    }
    Err(mountd.unwrap_or(Error::Late))
}

/// Whether that is how it looks when there is no mount daemon. One that says what cannot be
/// understood is there.
fn is_absence(error: Error) -> bool {
    match error {
        Error::System(_)
        | Error::Late
        | Error::NoProgram
        | Error::NotRegistered
        | Error::OtherVersions { .. } => true,
        Error::NoProcedure
        | Error::NotAllowed(_)
        | Error::ServerFailed
        | Error::Malformed(_)
        | Error::TooLong => false,
    }
}

fn in_thread(body: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let thread = std::thread::Builder::new().name("exports".into());
    match thread.stack_size(128 << 10).spawn(body) {
        Ok(_) => Ok(()),
        Err(error) => {
            let errno = rustix::io::Errno::from_io_error(&error);
            Err(errno.unwrap_or(rustix::io::Errno::AGAIN).into())
        }
    }
}

fn v4_answers(mut server: SocketAddr, until: Instant) -> Result<(), Error> {
    server.set_port(NFS_PORT);
    let null = Procedure::null(NFS, 4);
    call(Protocol::Tcp, server, null, &[], limits::SHORT_REPLY, until).map(drop)
}

/// Over TCP, then over UDP, where the list must fit into one datagram.
fn by_mountd(server: SocketAddr, until: Instant, asked: &dyn Fn()) -> Result<Exports, Error> {
    match by_mountd_over(Protocol::Tcp, server, until, asked) {
        Err(error) if is_absence(error) && Instant::now() < until => {
            by_mountd_over(Protocol::Udp, server, until, asked).map_err(|_| error)
        }
        told => told,
    }
}

fn by_mountd_over(
    over: Protocol,
    mut server: SocketAddr,
    until: Instant,
    asked: &dyn Fn(),
) -> Result<Exports, Error> {
    let mut version = 3;
    loop {
        let export = Procedure {
            program: MOUNT,
            version,
            procedure: EXPORT,
        };
        // A silent portmapper leaves time for another attempt.
        let now = Instant::now();
        let soon = now + until.saturating_duration_since(now) / 2;
        let told = portmap::port(server, export, over, over, soon).and_then(|port| {
            server.set_port(port);
            let exchange = Exchange::begin(over, server, export, &[], limits::EXPORT_REPLY)?;
            wait(exchange, until, asked)
        });
        match told {
            Ok(results) => return Ok(parse(&results)),
            Err(Error::OtherVersions { .. } | Error::NotRegistered | Error::NoProcedure)
                if version == 3 =>
            {
                version = 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// A law for fuzzing: whatever a list says, its paths are clean, and it stays within its limits.
#[doc(hidden)]
pub fn hold_law(bytes: &[u8]) {
    let exports = parse(bytes);
    assert!(exports.list.len() <= limits::EXPORTS && exports.faults.len() <= limits::FAULTS);
    assert!(exports.lost >= exports.faults.len());
    let mut paths: Vec<&BStr> = Vec::new();
    for export in &exports.list {
        assert_eq!(clean(&export.path).as_ref(), Ok(&export.path));
        assert!(export.groups.len() <= limits::GROUPS);
        assert!(
            export
                .groups
                .iter()
                .all(|group| (1..=limits::GROUP).contains(&group.len()))
        );
        paths.push(export.path.as_bstr());
    }
    paths.sort();
    assert!(
        paths.windows(2).all(|two| two[0] != two[1]),
        "a path is there twice"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::Writer;

    fn results(lines: &[(&[u8], &[&[u8]])]) -> Vec<u8> {
        let mut writer = Writer::default();
        let bytes = |writer: &mut Writer, bytes: &[u8]| {
            writer.word(u32::try_from(bytes.len()).unwrap());
            writer.0.extend_from_slice(bytes);
            writer.0.resize(writer.0.len().next_multiple_of(4), 0);
        };
        for (path, groups) in lines {
            writer.word(1);
            bytes(&mut writer, path);
            for group in *groups {
                writer.word(1);
                bytes(&mut writer, group);
            }
            writer.word(0);
        }
        writer.word(0);
        writer.0
    }

    fn paths(exports: &Exports) -> Vec<&[u8]> {
        let paths = exports.list.iter().map(|export| export.path.as_bytes());
        paths.collect()
    }

    #[test]
    fn a_bad_line_costs_that_line() {
        let long = [b"/", &vec![b'x'; limits::PART + 1][..]].concat();
        let group = vec![b'g'; limits::GROUP + 1];
        let exports = parse(&results(&[
            (b"/srv", &[b"192.0.2.0/24", b"", b"@hosts"]),
            (b"/../../victim", &[]),
            (b"/a/./b", &[]),
            (b"relative", &[]),
            (b"", &[]),
            (b"/nul\0byte", &[]),
            (b"/new\nline", &[]),
            (&long, &[]),
            (b"/group", &[&group]),
            (b"//double///slash/", &[]),
            (b"/\xff\xfe blank", &[]),
            (b"/..hidden", &[]),
            (b"/", &[]),
        ]));
        assert_eq!(
            paths(&exports),
            [
                &b"/srv"[..],
                b"/double/slash",
                b"/\xff\xfe blank",
                b"/..hidden",
                b"/"
            ]
        );
        assert_eq!(exports.list[0].groups, ["192.0.2.0/24", "@hosts"]);
        assert_eq!(exports.lost, 8);
        assert_eq!(
            exports.faults[0],
            "`/../../victim`: the path leads elsewhere than it says"
        );
        assert_eq!(
            exports.faults[5],
            "`/new\\nline`: the path has a control character"
        );
    }

    #[test]
    fn an_export_that_is_listed_twice_has_the_groups_of_both() {
        let exports = parse(&results(&[
            (b"/a", &[b"one"]),
            (b"/b", &[b"one"]),
            (b"/a/", &[b"two"]),
            (b"/b", &[]),
            (b"/b", &[b"three"]),
        ]));
        assert_eq!(paths(&exports), [b"/a", b"/b"]);
        assert_eq!(exports.list[0].groups, ["one", "two"]);
        assert!(exports.list[1].groups.is_empty(), "everybody may");
        assert_eq!(exports.lost, 3);
    }

    #[test]
    fn a_list_that_breaks_off_keeps_what_came_before() {
        let whole = results(&[(b"/a", &[]), (b"/b", &[b"group"])]);
        for end in 0..whole.len() {
            let exports = parse(&whole[..end]);
            assert_eq!(exports.lost, 1, "{end}");
            assert!(exports.list.len() <= 2);
        }
        let mut lies = whole.clone();
        lies[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(parse(&lies).list.is_empty());
        assert_eq!(parse(&whole).lost, 0);
    }

    #[test]
    fn each_limit_holds_at_the_limit_and_past_it() {
        let path = |length: usize| {
            let mut path = Vec::new();
            while path.len() < length {
                path.push(if path.len() % 100 == 0 { b'/' } else { b'x' });
            }
            parse(&results(&[(&path, &[])])).list.len()
        };
        assert_eq!((path(limits::PATH), path(limits::PATH + 1)), (1, 0));
        let part = |length: usize| clean(&[&b"/"[..], &vec![b'x'; length]].concat()).is_ok();
        assert!(part(limits::PART) && !part(limits::PART + 1));
        let group = |length: usize| {
            let name = vec![b'x'; length];
            parse(&results(&[(b"/a", &[&name])])).list.len()
        };
        assert_eq!((group(limits::GROUP), group(limits::GROUP + 1)), (1, 0));
        let groups = |count: usize| {
            let names = vec![&b"g"[..]; count];
            let exports = parse(&results(&[(b"/a", &names), (b"/b", &[])]));
            exports.list.len()
        };
        assert_eq!((groups(limits::GROUPS), groups(limits::GROUPS + 1)), (2, 1));
    }

    #[test]
    fn so_many_exports_and_groups_and_no_more() {
        let mut collector = Collector::new(Origin::Mountd);
        for number in 0..limits::EXPORTS {
            collector.line(format!("/{number}").as_bytes(), []);
        }
        assert_eq!(collector.exports.lost, 0);
        for number in 0..=limits::FAULTS {
            collector.line(format!("/more/{number}").as_bytes(), []);
        }
        let exports = collector.done();
        assert_eq!(exports.list.len(), limits::EXPORTS);
        assert_eq!(exports.lost, limits::FAULTS + 1);
        assert_eq!(exports.faults.len(), limits::FAULTS);

        let mut collector = Collector::new(Origin::Mountd);
        let names = vec![&b"g"[..]; limits::GROUPS];
        for number in 0..limits::ALL_GROUPS / limits::GROUPS {
            collector.line(format!("/{number}").as_bytes(), names.iter().copied());
        }
        assert_eq!(collector.exports.lost, 0);
        collector.line(b"/more", [&b"g"[..]]);
        collector.line(b"/all", []);
        assert_eq!(collector.exports.lost, 1);
    }
}
