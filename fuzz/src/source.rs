//! What is read besides maps: output of programs, nsswitch.conf, autofs.conf.

use std::borrow::Cow;
use std::fmt::Write;

use bstr::ByteSlice;
use piton_map::dialect::Dialect;
use piton_map::entry::{EntryRequest, read};
use piton_map::key::{self, MapKind};
use piton_map::options::PointOptions;
use piton_map::text::Fragment;
use piton_source::conf::{self as autofs_conf, Conf};
use piton_source::program::ProgramSource;
use piton_source::switch::{Action, Status, Switch};

use crate::{check_spans, first_line, lies_in};

/// What a program printed: no more than it printed, one line of it, read like any entry. Input: a
/// line with the key, then the output.
pub fn program(data: &[u8]) {
    let (key, output) = first_line(data);
    if key::check(MapKind::Indirect, key.as_bstr()).is_err() {
        return;
    }
    let source = ProgramSource::new("/etc/auto.prog".into(), "auto.prog".into());
    let found = source.found(key.as_bstr(), output.to_vec());
    assert!(found.fragment.text.len() <= output.len());
    assert!(lies_in(found.value, found.fragment.text.len()));
    let value = found.fragment.slice(found.value);
    assert!(!value.contains(&b'\n'), "{value:?}");
    let reading = read(&EntryRequest {
        found: &found,
        key: key.as_bstr(),
        variables: &(),
        point: &PointOptions::default(),
        global: &[],
        append: true,
        dialect: &Dialect::LINUX,
    });
    check_spans(&reading.diagnostics);
    assert!(reading.entry.is_some() || !reading.diagnostics.is_empty());
    assert_eq!(source.found(key.as_bstr(), output.to_vec()), found);
}

/// nsswitch.conf: some service is always asked, other databases do not matter, and what is
/// written from what was read reads the same.
pub fn nsswitch(data: &[u8]) {
    let (switch, said) = Switch::parse(&Fragment::whole("nsswitch.conf", data));
    check_spans(&said);
    assert!(!switch.services.is_empty());
    assert!(
        switch
            .services
            .iter()
            .all(|service| !service.name.is_empty())
    );
    let behind = [b"passwd: files [NOTFOUND=return]\n# automount: x\n", data].concat();
    assert_eq!(Switch::parse(&Fragment::whole("n", behind)).0, switch);
    let mut text = "automount:".to_owned();
    for service in &switch.services {
        let _ = write!(text, " {} [", service.name);
        for (status, name) in [
            (Status::Success, "SUCCESS"),
            (Status::NotFound, "notfound"),
            (Status::Unavailable, "UNAVAIL"),
            (Status::TryAgain, "TryAgain"),
        ] {
            let action = match service.action(status) {
                Action::Return => "return",
                Action::Continue => "CONTINUE",
            };
            let _ = write!(text, " {name}={action}");
        }
        text.push(']');
    }
    assert_eq!(Switch::parse(&Fragment::whole("n", text)).0, switch);
}

/// autofs.conf and its old form: whatever stands before it, a good line is read.
pub fn conf(data: &[u8]) {
    type Read = fn(&Fragment, &mut Conf) -> Vec<piton_map::diagnostic::Diagnostic>;
    let readers: [Read; 2] = [autofs_conf::parse, autofs_conf::parse_defaults];
    for read in readers {
        let mut before = Conf::default();
        check_spans(&read(&Fragment::whole("autofs.conf", data), &mut before));
        let text: Cow<'_, [u8]> = [data, b"\n[ autofs ]\ntimeout = 77\n"].concat().into();
        let mut after = Conf::default();
        read(
            &Fragment::whole("autofs.conf", text.into_owned()),
            &mut after,
        );
        assert_eq!(after.timeout, Some(77));
        after.timeout = before.timeout;
        assert_eq!(after, before);
    }
}
