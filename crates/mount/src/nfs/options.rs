//! What the options of an NFS mount say about who mounts it, and how: as mount.nfs reads them
//! (nfs(5)).
//!
//! Version 4 needs nothing but the kernel. What belongs to version 3 (the server's mountd and
//! portmapper are asked, statd is started), and whatever is unusual, is left to mount.nfs.

use bstr::{BString, ByteSlice};

use crate::options::{Parameter, Split};

/// Which minor versions of NFS 4 are tried, the highest first.
const MINORS: [u8; 3] = [2, 1, 0];

/// A mount that the kernel can do alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Native<'a> {
    /// Minor versions of NFS 4 to be tried in order.
    pub(super) minors: Vec<u8>,
    /// Whether version 3 will do as well, which mount.nfs tries after these.
    pub(super) or_version_3: bool,
    /// The options that are the kernel's, without versions and the server's address.
    pub(super) parameters: Vec<Parameter<'a>>,
    /// Whether `clientaddr=` is among the parameters.
    pub(super) client: bool,
    /// Whether there is a `sec=`.
    pub(super) security: bool,
    /// Whether `sec=` asks for Kerberos.
    pub(super) kerberos: bool,
    /// `retry=`: for how many minutes a server that is not ready is asked again.
    pub(super) retry: Option<u32>,
}

/// What `vers=` and its other names say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// Nothing.
    Any,
    /// Version 4, whichever its minor version.
    Four,
    /// Version 4 of this minor version.
    Minor(u8),
}

/// The mount that `options` describe, if the kernel alone can do it.
pub(super) fn read<'a>(fstype: &[u8], source: &[u8], options: &Split<'a>) -> Option<Native<'a>> {
    if options.needs_helper.is_some() || !is_plain(source) {
        return None;
    }
    let version = version(fstype, &options.parameters)?;
    let mut native = Native {
        minors: match version {
            Version::Any | Version::Four => MINORS.to_vec(),
            Version::Minor(minor) => vec![minor],
        },
        or_version_3: version == Version::Any,
        parameters: Vec::new(),
        client: false,
        security: false,
        kerberos: false,
        retry: None,
    };
    for parameter in &options.parameters {
        let (key, value) = parts(parameter);
        match (key, value) {
            // Said by us, or as we found it out.
            (b"addr" | b"minorversion" | b"sloppy", _) => continue,
            _ if names_version(key) => continue,
            (b"tcp", None) | (b"proto", Some(b"tcp" | b"tcp6")) => {}
            // UDP is version 3's, and RDMA has not been tried.
            (b"udp" | b"rdma", None) | (b"proto", _) => return None,
            _ if key.starts_with(b"mount") => return None,
            (b"clientaddr", Some(_)) => native.client = true,
            (b"sec", flavours) => {
                native.security = true;
                native.kerberos = flavours.is_some_and(|it| it.contains_str("krb5"));
            }
            (b"retry", Some(minutes)) => native.retry = number(minutes),
            _ => {}
        }
        native.parameters.push(*parameter);
    }
    Some(native)
}

/// Whether the source has the form `host:path`.
fn is_plain(source: &[u8]) -> bool {
    let url = source.starts_with(b"nfs://");
    !url && super::host_of(source.as_bstr()).is_some()
}

fn parts<'a>(parameter: &Parameter<'a>) -> (&'a [u8], Option<&'a [u8]>) {
    match *parameter {
        Parameter::Flag(key) => (key, None),
        Parameter::Pair(key, value) => (key, Some(value)),
    }
}

/// Whether an option of this name says which version is wanted: `vers`, `nfsvers`, `v4.1`.
fn names_version(key: &[u8]) -> bool {
    let number = key.strip_prefix(b"v").unwrap_or_default();
    matches!(key, b"vers" | b"nfsvers") || number.first().is_some_and(u8::is_ascii_digit)
}

/// The version that is wanted; none if it is not 4, or not said plainly.
fn version(fstype: &[u8], parameters: &[Parameter<'_>]) -> Option<Version> {
    let of = |key: &[u8], value: Option<&[u8]>| value.map_or(key[1..].to_vec(), <[u8]>::to_vec);
    let mut said = parameters
        .iter()
        .map(parts)
        .filter(|(key, _)| names_version(key))
        .map(|(key, value)| of(key, value));
    let version = match (said.next(), said.next()) {
        (None, _) if fstype == b"nfs4" => Version::Four,
        (None, _) => Version::Any,
        (Some(said), None) => match said.as_slice() {
            b"4" => Version::Four,
            b"4.0" => Version::Minor(0),
            b"4.1" => Version::Minor(1),
            b"4.2" => Version::Minor(2),
            _ => return None,
        },
        // mount.nfs refuses it.
        (Some(_), Some(_)) => return None,
    };
    let mut minors = parameters.iter().filter_map(|parameter| match *parameter {
        Parameter::Pair(b"minorversion", minor) => Some(minor),
        _ => None,
    });
    match (version, minors.next(), minors.next()) {
        (version, None, _) => Some(version),
        (Version::Four, Some(minor), None) => match minor {
            b"0" => Some(Version::Minor(0)),
            b"1" => Some(Version::Minor(1)),
            b"2" => Some(Version::Minor(2)),
            _ => None,
        },
        _ => None,
    }
}

fn number(text: &[u8]) -> Option<u32> {
    text.to_str().ok()?.parse().ok()
}

/// Whether the options say how long mount.nfs is to try.
pub(crate) fn says_retry(options: &[BString]) -> bool {
    options.iter().any(|option| option.starts_with(b"retry="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::split;

    fn with<T>(fstype: &str, options: &str, test: impl FnOnce(Option<Native<'_>>) -> T) -> T {
        let options: Vec<BString> = options.split(',').map(BString::from).collect();
        let split = split(&options, false).unwrap();
        test(read(fstype.as_bytes(), b"srv:/x", &split))
    }

    #[track_caller]
    fn check(fstype: &str, options: &str, minors: &[u8], or_version_3: bool) {
        with(fstype, options, |native| {
            let native = native.unwrap_or_else(|| panic!("{options} is mount.nfs's"));
            let found = (native.minors.as_slice(), native.or_version_3);
            assert_eq!(found, (minors, or_version_3), "{fstype} {options}");
        });
    }

    #[test]
    fn versions_are_tried_as_mount_nfs_does() {
        check("nfs", "", &[2, 1, 0], true);
        check("nfs", "rw,hard", &[2, 1, 0], true);
        for four in ["vers=4", "nfsvers=4", "v4"] {
            check("nfs", four, &[2, 1, 0], false);
        }
        check("nfs4", "", &[2, 1, 0], false);
        for (options, minor) in [
            ("vers=4.0", 0),
            ("vers=4.1", 1),
            ("nfsvers=4.2", 2),
            ("v4.1", 1),
            ("vers=4,minorversion=1", 1),
            ("minorversion=0,nfsvers=4", 0),
        ] {
            check("nfs", options, &[minor], false);
            check("nfs4", options, &[minor], false);
        }
        check("nfs4", "minorversion=1", &[1], false);
    }

    #[test]
    fn the_rest_is_left_to_mount_nfs() {
        for options in [
            "vers=3",
            "vers=2",
            "v3",
            "nfsvers=3",
            "vers=4.3",
            "vers=5",
            "vers=",
            "vers",
            "vers=x",
            "v4.9",
            "vers=4,vers=4.1",
            "v4,vers=4",
            "minorversion=1",
            "vers=4.1,minorversion=1",
            "vers=4,minorversion=3",
            "vers=4,minorversion=1,minorversion=2",
            "udp",
            "proto=udp",
            "proto=udp6",
            "rdma",
            "proto=rdma",
            "proto=rdma6",
            "proto=",
            "mountport=1",
            "mounthost=h",
            "mountaddr=1.1.1.1",
            "mountvers=3",
            "mountproto=tcp",
            "remount",
            "X-mount.subdir=a",
        ] {
            with("nfs", options, |native| {
                assert_eq!(native, None, "{options}");
            });
        }
    }

    #[test]
    fn sources_that_mount_nfs_alone_understands() {
        let split = Split::default();
        for (source, plain) in [
            ("h:/x", true),
            ("h:x", true),
            ("[fd00::1]:/x", true),
            ("[fe80::1%eth0]:/x y,z", true),
            ("h", false),
            (":/x", false),
            ("/x", false),
            ("[fd00::1:/x", false),
            ("[fd00::1]/x", false),
            ("nfs://h/x", false),
            ("", false),
        ] {
            let native = read(b"nfs", source.as_bytes(), &split);
            assert_eq!(native.is_some(), plain, "{source}");
        }
    }

    #[test]
    fn the_kernel_gets_its_options_in_order_and_only_those() {
        let options = "rw,bg,_netdev,nofail,x-a=b,comment=c,defaults,soft,timeo=7,addr=1.2.3.4,\
                       vers=4,minorversion=1,sloppy,nosuid,sec=krb5p,noac,port=20049,retry=1,fsc=a=b";
        with("nfs", options, |native| {
            let native = native.unwrap();
            use Parameter::{Flag, Pair};
            assert_eq!(
                native.parameters,
                [
                    Flag(b"bg"),
                    Flag(b"soft"),
                    Pair(b"timeo", b"7"),
                    Pair(b"sec", b"krb5p"),
                    Flag(b"noac"),
                    Pair(b"port", b"20049"),
                    Pair(b"retry", b"1"),
                    Pair(b"fsc", b"a=b"),
                ]
            );
            assert_eq!((native.retry, native.client), (Some(1), false));
            assert!(native.kerberos && native.security);
        });
        with("nfs", "clientaddr=1.2.3.4,retry=x", |native| {
            let native = native.unwrap();
            assert!(native.client && native.retry.is_none() && !native.security);
        });
    }
}
