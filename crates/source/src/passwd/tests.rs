//! Homes that name their server, and others.

use std::sync::Arc;

use piton_map::dialect::Dialect;
use piton_map::key::MapKind;
use piton_map::lookup::{MapSpec, MapType};
use piton_map::requester::Requester;

use super::*;
use crate::cache::{Maps, Settings};

/// A user database with these users: name, number, home.
#[derive(Debug)]
struct Users(&'static [(&'static str, u32, &'static str)]);

impl Users {
    fn find(&self, is: impl Fn(&str, u32) -> bool) -> Option<Account> {
        let found = self.0.iter().find(|(name, uid, _)| is(name, *uid));
        found.map(|(name, _, home)| Account {
            name: (*name).into(),
            home: (*home).into(),
        })
    }
}

impl AskUsers for Users {
    fn named(&self, name: &BStr, _: Instant) -> Result<Option<Account>, Miss> {
        match name == "silent" {
            true => Err(Miss::TimedOut("the user database is silent".into())),
            false => Ok(self.find(|known, _| name == known)),
        }
    }

    fn numbered(&self, uid: u32, _: Instant) -> Result<Option<Account>, Miss> {
        Ok(self.find(|_, known| uid == known))
    }
}

const USERS: Users = Users(&[
    ("ann", 7, "/home/hermes/ann"),
    ("bob", 8, "/export/home/[1]/bob"),
    ("cid", 9, "/homes/hermes/cid"),
    ("dot", 10, "/home/../dot"),
    ("eve", 11, "/home/hermes/other"),
    ("fay", 12, "/home/fay"),
    ("gus", 13, "home/hermes/gus"),
    ("hal", 14, "/a/b/c/nas.example.org/hal"),
    ("ida", 15, "/home//ida"),
    ("jo", 16, "/home/-x/jo"),
    ("k y", 17, "/my homes/nas/k y"),
    ("lee", 18, "/a:b/nas/lee"),
]);

fn maps() -> Maps {
    Maps::new(Settings {
        users: Some(Arc::new(USERS)),
        personal: true,
        ..Settings::default()
    })
}

fn spec() -> MapSpec {
    MapSpec {
        kind: Some(MapType::Passwd),
        format: None,
        name: NAME.into(),
        arguments: Vec::new(),
        origin: None,
    }
}

fn context<'c>(dialect: &'c Dialect, requester: &'c Requester) -> LookupContext<'c> {
    LookupContext {
        kind: MapKind::Indirect,
        dialect,
        requester,
        defines: &[],
        mount_point: "/homes".into(),
        deadline: None,
    }
}

fn look(key: &str, uid: u32, dialect: &Dialect) -> Result<String, Miss> {
    let requester = Requester {
        uid,
        ..Requester::default()
    };
    let (maps, spec, context) = (maps(), spec(), context(dialect, &requester));
    // It may be a directory service: nothing is said without asking, and asking may block.
    assert!(
        maps.try_lookup_cached(std::slice::from_ref(&spec), key.into(), &context)
            .is_none()
    );
    let found = maps.lookup(&[spec], key.into(), &context)?;
    Ok(found.fragment.slice(found.value).to_string())
}

#[test]
fn r_248_a_home_names_the_server_that_has_it() {
    let (older, linux) = (Dialect::OLDER, Dialect::LINUX);
    for (user, shared, alone) in [
        ("ann", "hermes:/home/hermes:ann", "hermes:/home/hermes/ann"),
        (
            "hal",
            "nas.example.org:/a/b/c/nas.example.org:hal",
            "nas.example.org:/a/b/c/nas.example.org/hal",
        ),
        (
            "k y",
            "nas:\"/my homes/nas\":\"k y\"",
            "nas:\"/my homes/nas/k y\"",
        ),
        ("lee", "nas:\"/a:b/nas/lee\"", "nas:\"/a:b/nas/lee\""),
    ] {
        assert_eq!(look(user, 0, &older).as_deref(), Ok(shared));
        assert_eq!(look(user, 0, &linux).as_deref(), Ok(alone));
    }
}

#[test]
fn what_is_no_such_home_or_no_such_user_is_not_there() {
    for user in ["bob", "cid", "dot", "eve", "fay", "gus", "ida", "jo"] {
        let miss = look(user, 0, &Dialect::OLDER).unwrap_err();
        assert!(matches!(miss, Miss::BadKey(_)), "{user}: {miss:?}");
    }
    assert_eq!(look("nobody", 0, &Dialect::OLDER), Err(Miss::NoSuchKey));
    let silent = look("silent", 0, &Dialect::OLDER).unwrap_err();
    assert!(matches!(silent, Miss::TimedOut(_)), "it keeps its meaning");
}

#[test]
fn a_tilde_is_the_name_of_whoever_asks() {
    let older = Dialect::OLDER;
    assert_eq!(
        look("~", 7, &older).as_deref(),
        Ok("hermes:/home/hermes:ann")
    );
    assert_eq!(look("~", 99, &older), Err(Miss::NoSuchKey));
    assert!(matches!(look("~", 12, &older), Err(Miss::BadKey(_))));
    // Where a mount would be shown to everybody there is no such key.
    let shared = Maps::new(Settings {
        users: Some(Arc::new(USERS)),
        ..Settings::default()
    });
    let requester = Requester {
        uid: 7,
        ..Requester::default()
    };
    let miss = shared.lookup(&[spec()], MYSELF.into(), &context(&older, &requester));
    assert!(matches!(miss, Err(Miss::BadKey(_))));
}

#[test]
fn the_longest_home_is_read_and_a_longer_one_refused() {
    let home = |length: usize| {
        let end = "/nas/ann";
        let directory = format!("/{}", "d".repeat(length - end.len() - 1));
        Account {
            name: "ann".into(),
            home: format!("{directory}{end}").into(),
        }
    };
    assert!(Home::of(&home(PASSWD_HOME)).is_ok());
    assert!(Home::of(&home(PASSWD_HOME + 1)).is_err());
}

#[test]
fn the_map_is_there_but_has_no_list_and_no_direct_keys() {
    let requester = Requester::default();
    let mut context = context(&Dialect::SUN, &requester);
    let specs = [spec()];
    let listing = maps().keys(&specs, &context);
    assert!(listing.served && listing.keys.is_empty());
    assert!(listing.incomplete.is_empty());
    context.kind = MapKind::Direct;
    assert!(!maps().keys(&specs, &context).served);
    // Without anybody to ask there is no such map.
    let none = Maps::new(Settings::default());
    context.kind = MapKind::Indirect;
    let miss = none.lookup(&specs, "ann".into(), &context);
    assert!(matches!(miss, Err(Miss::NotAvailable(_))));
}
