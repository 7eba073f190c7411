//! What a process is called, the service or container it belongs to, and its mount namespace.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bstr::{BStr, BString, ByteSlice};

/// Bytes of a small file of /proc that are read at once.
const PAGE: usize = 4096;

/// Bytes read of such a file beyond that.
const SMALL: u64 = 8192;

/// Hexadecimal digits of a container's number that are shown, as the tools do.
const SHORT_ID: usize = 12;

/// Hexadecimal digits of a whole one.
const WHOLE_ID: usize = 64;

/// The name of a process, cut to 15 bytes by the kernel. None when there is no such process.
pub fn name(pid: u32) -> Option<BString> {
    let text = read_small(Path::new(&format!("/proc/{pid}/comm")));
    let name = text.strip_suffix(b"\n").unwrap_or(&text);
    (!name.is_empty()).then(|| name.into())
}

/// The control group of a process: its path in the unified hierarchy, else in systemd's own.
pub fn cgroup(pid: u32) -> Option<BString> {
    cgroup_in(&read_small(Path::new(&format!("/proc/{pid}/cgroup")))).map(ToOwned::to_owned)
}

fn cgroup_in(text: &[u8]) -> Option<&BStr> {
    let of = |head: &[u8]| {
        text.lines()
            .find_map(|line| line.strip_prefix(head))
            .filter(|path| *path != b"/")
    };
    let systemd = || {
        text.lines()
            .filter_map(|line| line.split_once_str(":name=systemd:"))
            .map(|(_, path)| path)
            .find(|path| *path != b"/")
    };
    Some(of(b"0::").or_else(systemd)?.as_bstr())
}

/// The unit of systemd that a control group belongs to: the last part that is a service or a
/// scope, else a slice.
pub fn unit(cgroup: &BStr) -> Option<&BStr> {
    let last = |ends: &[&[u8]]| {
        let is = |part: &&[u8]| ends.iter().any(|end| part.ends_with(end));
        cgroup.rsplit(|byte| *byte == b'/').find(is).map(BStr::new)
    };
    last(&[b".service", b".scope"]).or_else(|| last(&[b".slice"]))
}

/// The container that a control group belongs to, where its name says so: the short form of a
/// number of 64 hexadecimal digits, or the name that lxc or systemd-nspawn use.
pub fn container(cgroup: &BStr) -> Option<BString> {
    cgroup.rsplit(|byte| *byte == b'/').find_map(|part| {
        let number = part
            .split(|byte| !byte.is_ascii_hexdigit())
            .find(|run| run.len() == WHOLE_ID);
        if let Some(number) = number {
            return Some(number[..SHORT_ID].into());
        }
        let lxc = part.strip_prefix(b"lxc.payload.");
        let nspawn = part
            .strip_prefix(b"systemd-nspawn@")
            .and_then(|rest| rest.strip_suffix(b".service"));
        lxc.or(nspawn).map(BString::from)
    })
}

/// The number of a process's mount namespace. None when it has ended, or is a kernel thread.
pub fn namespace(pid: u32) -> Option<u64> {
    namespace_of(Path::new(&format!("/proc/{pid}")))
}

/// The same, for a directory of /proc.
pub fn namespace_of(base: &Path) -> Option<u64> {
    let link = link_text(&base.join("ns/mnt"));
    let number = link.strip_prefix(b"mnt:[")?.strip_suffix(b"]")?;
    number.to_str().ok()?.parse().ok()
}

/// What a link of /proc says; empty if it cannot be read.
pub fn link_text(path: &Path) -> BString {
    fs::read_link(path).map_or_else(
        |_| BString::default(),
        |to| to.as_os_str().as_bytes().into(),
    )
}

/// The beginning of a small file; empty if it cannot be read. Mostly one read is enough: the kernel
/// gives as much as fits.
pub fn read_small(path: &Path) -> Vec<u8> {
    let mut buffer = [0; PAGE];
    let Ok(mut file) = fs::File::open(path) else {
        return Vec::new();
    };
    let Ok(count) = file.read(&mut buffer) else {
        return Vec::new();
    };
    let mut text = buffer[..count].to_vec();
    if count == PAGE {
        let _ = file.take(SMALL).read_to_end(&mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_control_group_is_found_in_both_hierarchies() {
        let of = |text: &str| cgroup_in(text.as_bytes()).map(ToString::to_string);
        assert_eq!(
            of("0::/a.slice/b.service\n"),
            Some("/a.slice/b.service".into())
        );
        let hybrid = "12:cpu:/\n1:name=systemd:/user.slice/x.scope\n0::/\n";
        assert_eq!(of(hybrid), Some("/user.slice/x.scope".into()));
        assert_eq!(of("0::/\n"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn the_unit_is_the_innermost_service_or_scope() {
        let of = |text: &str| unit(text.into()).map(ToString::to_string);
        assert_eq!(of("/system.slice/ssh.service"), Some("ssh.service".into()));
        assert_eq!(
            of("/user.slice/user-1.slice/user@1.service/app.slice/app-x.scope"),
            Some("app-x.scope".into())
        );
        assert_eq!(of("/user.slice/user-1.slice"), Some("user-1.slice".into()));
        assert_eq!(
            of("/system.slice/a.service/payload"),
            Some("a.service".into())
        );
        assert_eq!(of("/kubepods/burstable"), None);
    }

    #[test]
    fn a_container_is_told_by_its_control_group() {
        let of = |text: &str| container(text.into()).map(|id| id.to_string());
        for path in [
            format!("/system.slice/docker-{NUMBER}.scope"),
            format!("/docker/{NUMBER}"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{NUMBER}.scope"),
            format!("/machine.slice/libpod-{NUMBER}.scope/container"),
        ] {
            assert_eq!(of(&path), Some("0123456789ab".into()), "{path}");
        }
        assert_eq!(of("/lxc.payload.web/init.scope"), Some("web".into()));
        assert_eq!(
            of("/machine.slice/systemd-nspawn@web.service/payload"),
            Some("web".into())
        );
        assert_eq!(of(&format!("/x/{}", &NUMBER[1..])), None);
        assert_eq!(of("/system.slice/ssh.service"), None);
    }

    #[test]
    fn this_process_has_a_name_and_a_namespace() {
        let pid = std::process::id();
        assert!(name(pid).is_some_and(|name| name.len() <= 15));
        assert!(namespace(pid).is_some());
        assert_eq!((name(0), namespace(0)), (None, None));
    }
}
