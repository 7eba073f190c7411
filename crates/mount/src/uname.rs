//! What uname(2) says of this host.

use bstr::BString;
use piton_plan::facts::HostFacts;

/// Facts about this host, its interfaces left out: see [`crate::hosts::interfaces`].
pub fn facts() -> HostFacts {
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| BString::from(text.to_bytes());
    HostFacts {
        hostname: text(uname.nodename()),
        os_name: text(uname.sysname()),
        os_release: text(uname.release()),
        os_version: text(uname.version()),
        machine: text(uname.machine()),
        ..HostFacts::default()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_is_linux() {
        let facts = super::facts();
        assert_eq!(facts.os_name, "Linux");
        assert!(!facts.machine.is_empty() && !facts.os_release.is_empty());
    }
}
