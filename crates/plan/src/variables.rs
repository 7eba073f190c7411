//! What `$NAME` stands for on this host, for this requester.
//!
//! The first that has the name wins: the requester, the map's own definitions (`-D` in the
//! master map), those of the command line, the host, and environment variables that the
//! administrator allows. Values are made when they are asked for: most entries ask for none.

use alloc::borrow::{Cow, ToOwned};
use alloc::string::ToString;
use alloc::vec::Vec;

use bstr::{BStr, BString, ByteSlice};
use piton_map::expand::Variables;
use piton_map::options::PointOptions;
use piton_map::requester::Requester;

use crate::facts::HostFacts;

/// The variables of one access.
pub(crate) struct HostVariables<'a> {
    pub(crate) point: &'a PointOptions,
    pub(crate) facts: &'a HostFacts,
    /// `None` where the dialect has no variables of the requester.
    pub(crate) requester: Option<&'a Requester>,
}

/// Names of host variables: those of the founding documents, those that autofs
/// adds, and those of amd's maps.
const HOST_NAMES: [&str; 23] = [
    "HOST", "OSNAME", "OSREL", "OSVERS", "OS", "ARCH", "CPU", "arch", "karch", "os", "osver",
    "full_os", "vendor", "cluster", "autodir", "domain", "host", "hostd", "xhost", "byte",
    "dollar", "true", "false",
];

const REQUESTER_NAMES: [&str; 6] = ["USER", "UID", "GROUP", "GID", "HOME", "SHOST"];

impl Variables for HostVariables<'_> {
    fn value(&self, name: &BStr) -> Option<Cow<'_, BStr>> {
        if let Some(value) = name.to_str().ok().and_then(|name| self.requester(name)) {
            return Some(value);
        }
        let defined = |list: &'_ [(BString, BString)]| -> Option<usize> {
            list.iter().rposition(|(defined, _)| defined == name)
        };
        if let Some(at) = defined(&self.point.defines) {
            return Some(Cow::Borrowed(self.point.defines[at].1.as_ref()));
        }
        if let Some(at) = defined(&self.facts.defines) {
            return Some(Cow::Borrowed(self.facts.defines[at].1.as_ref()));
        }
        if let Some(value) = name.to_str().ok().and_then(|name| self.host(name)) {
            return Some(value);
        }
        let at = defined(&self.facts.environment)?;
        Some(Cow::Borrowed(self.facts.environment[at].1.as_ref()))
    }

    fn names(&self) -> Vec<Cow<'_, BStr>> {
        let lists = [
            &self.point.defines,
            &self.facts.defines,
            &self.facts.environment,
        ];
        let defined = lists.into_iter().flatten().map(|(name, _)| name.as_bstr());
        let built_in = HOST_NAMES
            .iter()
            .chain(&REQUESTER_NAMES)
            .map(|name| BStr::new(*name));
        let has_value = |name: &&BStr| self.value(name).is_some();
        built_in
            .filter(has_value)
            .chain(defined)
            .map(Cow::Borrowed)
            .collect()
    }
}

impl HostVariables<'_> {
    fn host(&self, name: &str) -> Option<Cow<'_, BStr>> {
        let facts = self.facts;
        let (short, domain) = split_host(facts.hostname.as_ref());
        Some(Cow::Borrowed(match name {
            "HOST" | "hostd" => facts.hostname.as_ref(),
            "OSNAME" | "OS" | "full_os" => facts.os_name.as_ref(),
            "OSREL" | "osver" => facts.os_release.as_ref(),
            "OSVERS" => facts.os_version.as_ref(),
            "ARCH" | "CPU" | "arch" | "karch" => facts.machine.as_ref(),
            "os" => return Some(Cow::Owned(facts.os_name.to_ascii_lowercase().into())),
            "host" | "xhost" => short,
            "domain" | "cluster" => domain,
            "vendor" => "unknown".into(),
            "autodir" => "/a".into(),
            "byte" if cfg!(target_endian = "big") => "big".into(),
            "byte" => "little".into(),
            "dollar" => "$".into(),
            "true" => "1".into(),
            "false" => "0".into(),
            _ => return None,
        }))
    }

    fn requester(&self, name: &str) -> Option<Cow<'_, BStr>> {
        let requester = self.requester?;
        let number = |id: u32| Some(Cow::Owned(id.to_string().into()));
        match name {
            "UID" => return number(requester.uid),
            "GID" => return number(requester.gid),
            "SHOST" => return Some(Cow::Borrowed(split_host(self.facts.hostname.as_ref()).0)),
            _ => {}
        }
        let names = requester.names.as_deref()?;
        let value = match name {
            "USER" => &names.user,
            "GROUP" => &names.group,
            "HOME" => &names.home,
            _ => return None,
        };
        // A user without a name has no USER, rather than an empty one.
        (!value.is_empty()).then(|| Cow::Borrowed(value.as_ref()))
    }
}

/// A host's name without its domain, and the domain.
pub(crate) fn split_host(name: &BStr) -> (&BStr, &BStr) {
    match name.split_once_str(b".") {
        Some((short, domain)) => (short.as_bstr(), domain.as_bstr()),
        None => (name, BStr::new("")),
    }
}

/// A copy of what `name` stands for; for tests and `explain`.
pub fn value_of(
    name: &BStr,
    point: &PointOptions,
    facts: &HostFacts,
    requester: &Requester,
) -> Option<BString> {
    let variables = HostVariables {
        point,
        facts,
        requester: Some(requester),
    };
    variables
        .value(name)
        .map(|value| value.into_owned().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::sync::Arc;
    use piton_map::requester::RequesterNames;

    fn facts() -> HostFacts {
        HostFacts {
            hostname: "client1.example.org".into(),
            os_name: "Linux".into(),
            os_release: "6.18.0".into(),
            os_version: "#1 SMP".into(),
            machine: "x86_64".into(),
            defines: [
                ("FOO".into(), "command".into()),
                ("HOST".into(), "cmd".into()),
            ]
            .into(),
            environment: [
                ("PRINTER".into(), "lp".into()),
                ("ARCH".into(), "env".into()),
            ]
            .into(),
            ..HostFacts::default()
        }
    }

    fn requester() -> Requester {
        let names = RequesterNames {
            user: "ann".into(),
            group: "".into(),
            home: "/h/ann".into(),
        };
        Requester {
            uid: 7,
            gid: 8,
            pid: 1,
            names: Some(Arc::new(names)),
            ..Requester::default()
        }
    }

    #[test]
    fn each_source_gives_way_to_the_one_before_it() {
        let mut point = PointOptions::default();
        let of = |name: &str, point: &PointOptions| {
            value_of(name.into(), point, &facts(), &requester()).map(|value| value.to_string())
        };
        assert_eq!(of("FOO", &point).as_deref(), Some("command"));
        assert_eq!(of("HOST", &point).as_deref(), Some("cmd"));
        assert_eq!(of("ARCH", &point).as_deref(), Some("x86_64"));
        assert_eq!(of("PRINTER", &point).as_deref(), Some("lp"));
        assert_eq!(of("PATH", &point), None);
        point.defines.push(("FOO".into(), "first".into()));
        point.defines.push(("FOO".into(), "map".into()));
        assert_eq!(of("FOO", &point).as_deref(), Some("map"));
    }

    #[test]
    fn every_built_in_name_has_its_value() {
        let facts = HostFacts {
            defines: Vec::new(),
            ..facts()
        };
        let of = |name: &str| {
            value_of(name.into(), &PointOptions::default(), &facts, &requester())
                .unwrap()
                .to_string()
        };
        for (name, value) in [
            ("HOST", "client1.example.org"),
            ("OSNAME", "Linux"),
            ("OSREL", "6.18.0"),
            ("OSVERS", "#1 SMP"),
            ("OS", "Linux"),
            ("ARCH", "x86_64"),
            ("CPU", "x86_64"),
            ("os", "linux"),
            ("host", "client1"),
            ("domain", "example.org"),
            ("USER", "ann"),
            ("UID", "7"),
            ("GID", "8"),
            ("HOME", "/h/ann"),
            ("SHOST", "client1"),
            ("vendor", "unknown"),
            ("autodir", "/a"),
            ("dollar", "$"),
            ("true", "1"),
            ("false", "0"),
        ] {
            assert_eq!(of(name), value, "{name}");
        }
        assert!(["little", "big"].contains(&of("byte").as_str()));
    }

    #[test]
    fn who_has_no_name_has_no_user() {
        let nobody = Requester {
            uid: 54_321,
            ..Requester::default()
        };
        let point = PointOptions::default();
        assert_eq!(value_of("USER".into(), &point, &facts(), &nobody), None);
        assert_eq!(
            value_of("GROUP".into(), &point, &facts(), &requester()),
            None
        );
        assert_eq!(
            value_of("UID".into(), &point, &facts(), &nobody).unwrap(),
            "54321"
        );
        let variables = HostVariables {
            point: &point,
            facts: &facts(),
            requester: Some(&nobody),
        };
        assert!(!variables.names().iter().any(|name| **name == "USER"));
        assert!(variables.names().iter().any(|name| **name == "FOO"));
        let without = HostVariables {
            point: &point,
            facts: &facts(),
            requester: None,
        };
        assert!(without.value("UID".into()).is_none());
    }
}
