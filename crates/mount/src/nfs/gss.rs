//! Spares the kernel what it would do in vain: of a mount without `sec=` it takes the flavours that
//! the server's root lists one by one, and starts modprobe for each that is Kerberos, whether its module is
//! loaded or not (`gss_mech_get_by_OID` in net/sunrpc/auth_gss/gss_mech_switch.c; Linux 3.10 and later). That is most of the time of a mount.
//!
//! Kerberos comes to nothing where no rpc.gssd runs (`gss_create_new` in auth_gss.c). What is left of
//! the flavours that Linux has is AUTH_SYS and AUTH_NONE; if the server does not take the latter
//! ([`piton_plan::step::Attempt::no_guests`]), AUTH_SYS is what the kernel comes to, or nothing.

use std::fs;
use std::path::Path;

/// The value of `sec=` that says what the kernel would come to: AUTH_SYS is tried first, and all
/// flavours are allowed. If the root does not take it, or anything below, the kernel goes on as
/// without `sec=`.
pub(super) const SYS_FIRST: &[u8] = b"sys:krb5:krb5i:krb5p:none";

/// The first namespace of processes, as the kernel names it (`PROC_PID_INIT_INO`).
const FIRST_NAMESPACE: &str = "pid:[4026531836]";

/// Whether there may be somebody who gets tickets for the kernel: rpc.gssd runs, or it cannot be
/// told.
pub(super) fn may_be_used() -> bool {
    let namespace = fs::read_link("/proc/self/ns/pid");
    let sees_all = namespace.is_ok_and(|it| it == Path::new(FIRST_NAMESPACE));
    !sees_all || is_any_called(Path::new("/proc"), b"gssd").unwrap_or(true)
}

/// Whether any process has a name that ends so.
fn is_any_called(proc: &Path, end: &[u8]) -> Option<bool> {
    for entry in fs::read_dir(proc).ok()? {
        let entry = entry.ok()?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // It may have ended meanwhile.
        let called = fs::read(entry.path().join("comm")).unwrap_or_default();
        if called.trim_ascii_end().ends_with(end) {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_known_by_their_names() {
        let proc = tempfile::tempdir().unwrap();
        let put = |pid: &str, name: &str| {
            fs::create_dir(proc.path().join(pid)).unwrap();
            fs::write(proc.path().join(pid).join("comm"), name).unwrap();
        };
        put("1", "systemd\n");
        put("self", "rpc.gssd\n");
        fs::create_dir(proc.path().join("17")).unwrap();
        assert_eq!(is_any_called(proc.path(), b"gssd"), Some(false));
        put("200", "rpc.gssd\n");
        assert_eq!(is_any_called(proc.path(), b"gssd"), Some(true));
        assert_eq!(is_any_called(&proc.path().join("none"), b"gssd"), None);
    }
}
