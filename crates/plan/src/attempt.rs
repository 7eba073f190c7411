//! The ways to get one file system, best first.

use alloc::vec::Vec;

use bstr::{BStr, BString, ByteSlice};

use crate::plan::{MountPlan, source_of};
use crate::proximity::Proximity;
use crate::select::{Ranked, is_nfs};
use crate::step::{Attempt, What};

/// Ways to mount `mount` at `target`: from each of `servers` in turn, where servers are chosen.
///
/// A path of this host is bind-mounted. Where that comes first and the whole depends on it
/// (`alone`), nothing else is tried with it: if it fails the servers are asked, with
/// [`MountPlan::nobind`], for paths that are exported under other names than they have here. Else
/// the real mount comes after it.
///
/// When some servers answered, those that did not, or refused, are not tried. When none did, those
/// that refused in words of their own are: the mount has better words than the question. Who was
/// silent is never tried: it would use up the time of those who wait.
pub(crate) fn attempts(
    mount: &MountPlan,
    target: &BStr,
    servers: &[Ranked],
    alone: bool,
) -> Vec<Attempt> {
    if !is_nfs(&mount.what) {
        return mount
            .replicas
            .iter()
            .map(|replica| as_written(mount, replica.path.clone()))
            .collect();
    }
    let may_serve = |ranked: &&Ranked| ranked.verdict.may_serve();
    let refused = |ranked: &&Ranked| ranked.verdict.may_be_tried();
    let mut tried: Vec<&Ranked> = servers.iter().filter(may_serve).collect();
    if tried.is_empty() {
        tried.extend(servers.iter().filter(refused));
    }
    let mut attempts = Vec::new();
    for ranked in tried {
        let candidate = &ranked.candidate;
        let path = mount.replicas[candidate.replica].path.as_bstr();
        let own = candidate.proximity == Proximity::Own;
        if own && !mount.nobind && !is_within(path, target) {
            attempts.push(bind(mount, path));
            if alone && attempts.len() == 1 {
                break;
            }
        }
        attempts.extend(network(mount, ranked, path));
    }
    attempts
}

/// What mount is given as it stands in the map.
fn as_written(mount: &MountPlan, source: BString) -> Attempt {
    let host = server_of(source.as_ref()).filter(|_| mount.network);
    Attempt {
        what: mount.what.clone(),
        source,
        options: mount.options.clone(),
        host,
        address: None,
        no_guests: false,
        by_helper: mount.by_helper,
    }
}

fn bind(mount: &MountPlan, path: &BStr) -> Attempt {
    Attempt {
        what: What::Bind { recursive: false },
        source: path.into(),
        options: bind_options(&mount.options),
        host: None,
        address: None,
        no_guests: false,
        by_helper: false,
    }
}

/// The mount over the network; none for a location that names no server.
fn network(mount: &MountPlan, ranked: &Ranked, path: &BStr) -> Option<Attempt> {
    let candidate = &ranked.candidate;
    let host = candidate.host.as_ref()?;
    Some(Attempt {
        what: mount.what.clone(),
        source: source_of(host.as_ref(), path),
        options: mount.options.clone(),
        host: mount.replicas[candidate.replica].host.clone(),
        address: ranked.address,
        no_guests: ranked.no_guests,
        by_helper: mount.by_helper,
    })
}

/// The options of a network mount that mean something for a bind mount in its place: those
/// that restrict, if the last word of each pair does.
fn bind_options(options: &[BString]) -> Vec<BString> {
    const PAIRS: [(&str, &str); 7] = [
        ("ro", "rw"),
        ("nosuid", "suid"),
        ("nodev", "dev"),
        ("noexec", "exec"),
        ("noatime", "atime"),
        ("nodiratime", "diratime"),
        ("nosymfollow", "symfollow"),
    ];
    let restricts = |(strict, lax): &(&str, &str)| {
        let last = options
            .iter()
            .rev()
            .find(|option| *option == strict || *option == lax);
        last.filter(|option| *option == strict).cloned()
    };
    PAIRS.iter().filter_map(restricts).collect()
}

/// The server of a source that is handed to mount as it is: `//host/share`, `host:/path`,
/// `https://host/path`.
fn server_of(source: &BStr) -> Option<BString> {
    let host = match source.split_once_str(b"//") {
        Some((b"", rest)) => rest.split_str("/").next()?,
        Some((scheme, rest)) if scheme.ends_with(b":") => rest.split_str("/").next()?,
        _ => source.split_once_str(b":/")?.0,
    };
    let host = host
        .rsplit_once_str(b"@")
        .map_or(host, |(_user, host)| host);
    (!host.is_empty()).then(|| host.into())
}

/// Returns true if and only if `path`, as a map has it, is `directory` or below it.
pub(crate) fn is_within(path: &BStr, directory: &BStr) -> bool {
    piton_path::is_within(&*piton_path::normalize(path), directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<BString> {
        list.iter().map(|word| BString::from(*word)).collect()
    }

    #[test]
    fn a_bind_mount_keeps_the_restrictions() {
        for (options, kept) in [
            (&["ro"][..], &["ro"][..]),
            (&["ro", "rw"], &[]),
            (&["rw", "ro", "vers=4", "soft"], &["ro"]),
            (&["rw", "nosuid", "a=1"], &["nosuid"]),
            (&["nodev", "nosuid", "suid"], &["nodev"]),
            (&["noexec", "hard"], &["noexec"]),
        ] {
            assert_eq!(bind_options(&words(options)), words(kept), "{options:?}");
        }
    }

    #[test]
    fn servers_of_other_types() {
        for (source, host) in [
            ("//win/share", Some("win")),
            ("u@h:/d", Some("h")),
            ("/dev/sr0", None),
            ("https://u@h/x", Some("h")),
            ("h:/a//b", Some("h")),
            ("tmpfs", None),
            (":/x", None),
        ] {
            assert_eq!(
                server_of(source.into()),
                host.map(BString::from),
                "{source}"
            );
        }
    }

    #[test]
    fn within_means_the_same_path_or_below() {
        assert!(is_within("/d/a".into(), "/d/a".into()));
        assert!(is_within("/d//a/x".into(), "/d/a".into()));
        assert!(!is_within("/d/ab".into(), "/d/a".into()));
        assert!(!is_within("/d".into(), "/d/a".into()));
    }
}
