//! What becomes of an export list, and when servers are asked.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bstr::ByteSlice;
use piton_map::dialect::Dialect;
use piton_map::entry::{self, EntryRequest, What};
use piton_map::key::MapKind;
use piton_map::limits::HOSTS_MAP;
use piton_map::lookup::MapSpec;
use piton_map::options::PointOptions;
use piton_map::requester::Requester;
use piton_map::spec;

use super::*;
use crate::cache::{Listing, Maps, Settings};
use crate::limits::{EXPORT_DEPTH, EXPORT_LISTS, EXPORT_PATH, EXPORTS};
use crate::source::LookupContext;

/// Servers in memory: all say the same.
#[derive(Debug, Default)]
struct Servers {
    answer: Mutex<Option<Result<Offered, Trouble>>>,
    asked: AtomicUsize,
    takes: Duration,
}

impl AskExports for Servers {
    fn exports(&self, server: &BStr, _until: Instant) -> Result<Offered, Trouble> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(self.takes);
        match server == "nobody" {
            true => Err(Trouble::UnknownHost),
            false => self.answer.lock().unwrap().clone().unwrap(),
        }
    }

    fn this_host(&self) -> ThisHost {
        ThisHost {
            addresses: vec!["10.0.0.7".parse().unwrap()],
            names: vec!["ws7.example.org".into()],
        }
    }
}

struct Site {
    servers: Arc<Servers>,
    maps: Maps,
}

fn offered(paths: &[&str]) -> Offered {
    let offer = |path: &&str| Offer {
        path: (*path).into(),
        groups: Vec::new(),
    };
    Offered {
        exports: paths.iter().map(offer).collect(),
        ..Offered::default()
    }
}

fn down() -> Trouble {
    Trouble::Failed {
        errno: 112,
        text: "nas does not answer".into(),
    }
}

impl Site {
    fn new(paths: &[&str]) -> Self {
        Self::answering(Ok(offered(paths)))
    }

    fn answering(answer: Result<Offered, Trouble>) -> Self {
        Self::with(Servers::default(), answer)
    }

    fn with(servers: Servers, answer: Result<Offered, Trouble>) -> Self {
        let servers = Arc::new(servers);
        let maps = Maps::new(Settings {
            exports: Some(servers.clone()),
            ..Settings::default()
        });
        let site = Self { servers, maps };
        site.now(answer);
        site
    }

    /// From now on servers answer this.
    fn now(&self, answer: Result<Offered, Trouble>) {
        *self.servers.answer.lock().unwrap() = Some(answer);
    }

    fn asked(&self) -> usize {
        self.servers.asked.load(Ordering::Relaxed)
    }

    fn found(&self, map: &str, key: &str) -> Result<Found, Miss> {
        in_context(|context| self.maps.lookup(&[map_of(map)], key.into(), context))
    }

    fn text(&self, map: &str, key: &str) -> Result<String, Miss> {
        let found = self.found(map, key)?;
        assert_eq!(*found.map, *HOSTS_MAP);
        Ok(found.fragment.slice(found.value).to_string())
    }

    fn cached(&self, map: &str, key: &str) -> Option<Result<Found, Miss>> {
        in_context(|context| {
            let maps = [map_of(map)];
            self.maps.try_lookup_cached(&maps, key.into(), context)
        })
    }

    fn listing(&self, map: &str) -> Listing {
        in_context(|context| self.maps.keys(&[map_of(map)], context))
    }

    fn names(&self, map: &str) -> Vec<String> {
        let keys = self.listing(map).keys.into_iter();
        keys.map(|listed| listed.key.to_string()).collect()
    }

    /// All exports that can be reached from the server's key, as whoever walks everywhere finds
    /// them.
    fn walked(&self) -> BTreeSet<BString> {
        let mut found = BTreeSet::new();
        let mut todo = vec![(map_of("-hosts"), BString::from("nas"), BString::default())];
        while let Some((map, key, at)) = todo.pop() {
            let result = in_context(|context| {
                self.maps
                    .lookup(std::slice::from_ref(&map), key.as_bstr(), context)
            });
            let Ok(text) = result else { continue };
            let reading = entry::read(&EntryRequest {
                found: &text,
                key: key.as_bstr(),
                variables: &(),
                point: &PointOptions::default(),
                global: &[],
                append: true,
                dialect: &Dialect::LINUX,
            });
            assert_eq!(reading.diagnostics, []);
            for mount in reading.entry.unwrap().mounts {
                let place = match &mount.offset[..] {
                    b"/" => at.clone(),
                    offset => [&at[..], offset].concat().into(),
                };
                match mount.what {
                    What::Servers { servers, .. } => {
                        let [server] = &servers[..] else { panic!() };
                        assert_eq!(server.host.as_ref().unwrap(), "nas");
                        let whole = if place.is_empty() { "/".into() } else { place };
                        assert_eq!(server.path, whole);
                        assert!(found.insert(whole));
                    }
                    What::Map { map, .. } => {
                        let maps = [map.clone()];
                        let listing = in_context(|context| self.maps.keys(&maps, context));
                        assert!(!listing.keys.is_empty());
                        for listed in listing.keys {
                            let below = [&place[..], b"/", &listed.key].concat().into();
                            todo.push((map.clone(), listed.key, below));
                        }
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        found
    }
}

fn map_of(name: &str) -> MapSpec {
    spec::parse(name.into(), None).unwrap()
}

fn in_context<R>(look: impl FnOnce(&LookupContext<'_>) -> R) -> R {
    look(&LookupContext {
        kind: MapKind::Indirect,
        dialect: &Dialect::LINUX,
        requester: &Requester::default(),
        defines: &[],
        mount_point: "/net".into(),
        deadline: None,
    })
}

fn list(paths: &[&str]) -> ExportList {
    ExportList::new(offered(paths), None)
}

#[test]
fn a_server_is_a_tree_of_maps_down_to_its_exports() {
    let site = Site::new(&[
        "/export/b",
        "/export/a",
        "/export/a/deep",
        "/home",
        "/o/p/q",
    ]);
    let text = |map: &str, key: &str| site.text(map, key).unwrap();
    assert_eq!(text("-hosts", "nas"), "-fstype=autofs hosts:nas/");
    assert_eq!(site.names("hosts:nas/"), ["export", "home", "o"]);
    assert_eq!(text("hosts:nas/", "home"), "nas:/home");
    assert_eq!(
        text("hosts:nas/", "export"),
        "-fstype=autofs hosts:nas/export"
    );
    assert_eq!(site.names("hosts:nas/export"), ["a", "b"]);
    assert_eq!(
        text("hosts:nas/export", "a"),
        "/ nas:/export/a /deep nas:/export/a/deep"
    );
    assert_eq!(text("hosts:nas/o", "p"), "-fstype=autofs hosts:nas/o/p");
    assert_eq!(site.text("hosts:nas/o", "x"), Err(Miss::NoSuchKey));
    assert_eq!(site.asked(), 1, "all this is known from one answer");
}

#[test]
fn the_root_may_be_an_export() {
    let site = Site::new(&["/", "/usr", "/usr/b"]);
    let text = "/ rootx:/ /usr rootx:/usr /usr/b rootx:/usr/b";
    assert_eq!(site.text("-hosts", "rootx").unwrap(), text);
    let alone = Site::new(&["/"]);
    assert_eq!(alone.text("-hosts", "fd00::1").unwrap(), "[fd00::1]:/");
}

#[test]
fn a_server_without_a_list_is_mounted_at_its_root() {
    let site = Site::answering(Ok(Offered {
        pseudo_root: true,
        ..offered(&["/ignored"])
    }));
    assert_eq!(site.text("-hosts", "nas").unwrap(), "-fstype=nfs4 nas:/");
}

#[test]
fn servers_that_export_nothing_or_are_not_there() {
    let site = Site::new(&[]);
    assert_eq!(site.text("-hosts", "nas"), Err(Miss::NoSuchKey));
    assert_eq!(site.text("-hosts", "nobody"), Err(Miss::NoSuchKey));
    let asked = site.asked();
    for key in [".hidden", "-x", "1", "a b"] {
        assert_eq!(site.text("-hosts", key), Err(Miss::NoSuchKey));
    }
    assert_eq!(site.asked(), asked, "what is no host's name asks nobody");
    let dead = Site::answering(Err(down()));
    let Err(Miss::Server { errno: 112, .. }) = dead.text("-hosts", "nas") else {
        panic!()
    };
}

#[test]
fn bad_lines_are_lost_and_nothing_else() {
    let long = format!("/{}", "x".repeat(EXPORT_PATH - 1));
    let component = format!("/{}", "x".repeat(256));
    let deep = "/d".repeat(EXPORT_DEPTH);
    let good = [
        "/ok",
        "/a b",
        "/c,d",
        "/e#f",
        "/g&h",
        "/i$j",
        "/k:l",
        "/m\\n",
        "/q\"r",
        deep.as_str(),
    ];
    let bad = [
        "noslash",
        "/../up",
        "/../../victim",
        "/x/../y",
        "//dbl",
        "/a//b",
        "/./a",
        "/a/.",
        "/..",
        "",
        "/a\0b",
        "/a\nb",
        "/a\tb",
        "/a\x7fb",
        "-o",
        "../x",
        &long,
        &component,
        &format!("{deep}/d"),
    ];
    let all = [&bad[..], &good, &["/ok", "/ok/", "/a b//"]].concat();
    let site = Site::new(&all);
    let expected: BTreeSet<BString> = good.iter().map(|path| BString::from(*path)).collect();
    assert_eq!(site.walked(), expected);
    let known = site.maps.exports();
    let list = known[0].list.as_ref().unwrap();
    assert_eq!(list.refused().count, bad.len() + 3);
    assert!(list.refused().examples.len() <= crate::limits::REFUSED_SHOWN + 1);
    assert!(list.refused().examples[0].contains("noslash"));
}

#[test]
fn every_byte_of_a_path_is_data() {
    let all: Vec<u8> = (b' '..=255)
        .filter(|byte| *byte != 0x7f && *byte != b'/')
        .collect();
    let mut paths: Vec<BString> = all.iter().map(|byte| vec![b'/', *byte].into()).collect();
    paths.retain(|path| path != "/.");
    paths.push([&b"/"[..], &all].concat().into());
    // With others below it, so that it is an offset too.
    paths.push([&b"/z/"[..], &all].concat().into());
    paths.push("/z".into());
    for odd in [
        "/\"",
        "/\\\"",
        "/a\\",
        "/\\",
        "/ a ",
        "/-fstype=x",
        "/${HOST}",
        "/#",
        "/(2)",
    ] {
        paths.push(odd.into());
        paths.push(format!("/z{odd}").into());
    }
    let offer = |path: &BString| Offer {
        path: path.clone(),
        groups: Vec::new(),
    };
    let site = Site::answering(Ok(Offered {
        exports: paths.iter().map(offer).collect(),
        ..Offered::default()
    }));
    assert_eq!(site.walked(), paths.into_iter().collect());
}

#[test]
fn order_is_that_of_a_tree() {
    let list = list(&["/a-b", "/a/b", "/a", "/a/b/c", "/a!"]);
    let paths: Vec<_> = list.paths().iter().map(ToString::to_string).collect();
    assert_eq!(paths, ["/a", "/a/b", "/a/b/c", "/a!", "/a-b"]);
    assert_eq!(list.below("/a".into()), ["/a/b", "/a/b/c"]);
    assert_eq!(list.below("/".into()).len(), 5);
    assert!(list.below("/a-b".into()).is_empty());
    assert!(list.below("/b".into()).is_empty());
    assert!(list.is_export("/a/b".into()) && !list.is_export("/".into()));
}

#[test]
fn exports_for_others_are_left_out_unless_all_are_wanted() {
    let answer = Offered {
        exports: vec![
            Offer {
                path: "/secret".into(),
                groups: vec!["other.example.org".into()],
            },
            Offer {
                path: "/home".into(),
                groups: vec!["*".into()],
            },
        ],
        ..Offered::default()
    };
    let site = Site::answering(Ok(answer.clone()));
    assert_eq!(site.names("hosts:nas"), ["home"]);
    assert_eq!(site.text("hosts:nas", "secret"), Err(Miss::NoSuchKey));
    let said = in_context(|context| site.maps.diagnostics(&[map_of("hosts:nas")], context));
    assert_eq!(said[0].code, "exports-for-others");
    let servers = Arc::new(Servers::default());
    *servers.answer.lock().unwrap() = Some(Ok(answer));
    let maps = Maps::new(Settings {
        exports: Some(servers),
        all_exports: true,
        ..Settings::default()
    });
    let listing = in_context(|context| maps.keys(&[map_of("hosts:nas")], context));
    assert_eq!(listing.keys.len(), 2);
}

#[test]
fn where_there_are_no_maps_inside_others_a_server_is_one_entry() {
    let text = |paths: &[&str]| {
        let servers = Arc::new(Servers::default());
        *servers.answer.lock().unwrap() = Some(Ok(offered(paths)));
        let maps = Maps::new(Settings {
            exports: Some(servers),
            whole_servers: true,
            ..Settings::default()
        });
        let found = in_context(|context| maps.lookup(&[map_of("-hosts")], "nas".into(), context));
        found.map(|found| found.fragment.slice(found.value).to_string())
    };
    assert_eq!(
        text(&["/usr", "/export/home", "/usr/my man"]).unwrap(),
        " /export/home nas:/export/home /usr nas:/usr \"/usr/my man\" nas:\"/usr/my man\""
    );
    assert_eq!(text(&["/", "/usr"]).unwrap(), "/ nas:/ /usr nas:/usr");
    assert_eq!(text(&[]), Err(Miss::NoSuchKey));
    for (count, expected) in [(256, 256), (257, 256)] {
        let paths: Vec<String> = (0..count).map(|number| format!("/e{number}")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        assert_eq!(text(&paths).unwrap().matches("nas:").count(), expected);
    }
}

#[test]
fn a_name_that_is_not_there_asks_the_server_again_but_not_each() {
    let site = Site::new(&["/a/x"]);
    assert_eq!(site.text("hosts:nas/a", "new"), Err(Miss::NoSuchKey));
    assert_eq!(site.asked(), 1, "what was just had is not old");
    for number in 0..100 {
        let key = format!("no{number}");
        assert_eq!(site.text("hosts:nas/a", &key), Err(Miss::NoSuchKey));
        let cached = site.cached("hosts:nas/a", &key);
        assert_eq!(cached, Some(Err(Miss::NoSuchKey)), "on the loop");
    }
    assert_eq!(site.asked(), 1);
    site.now(Ok(offered(&["/a/x", "/a/new"])));
    site.maps.renew_exports();
    assert_eq!(site.cached("hosts:nas/a", "new"), None);
    assert_eq!(site.text("hosts:nas/a", "new").unwrap(), "nas:/a/new");
    assert_eq!(site.asked(), 2);
    assert!(site.cached("hosts:nas/a", "x").is_some_and(|it| it.is_ok()));
}

#[test]
fn a_server_that_dies_keeps_the_tree_that_is_known() {
    let site = Site::new(&["/a/x"]);
    assert!(site.text("hosts:nas", "a").is_ok());
    site.now(Err(down()));
    site.maps.renew_exports();
    assert_eq!(site.names("hosts:nas"), ["a"]);
    assert!(site.text("hosts:nas", "a").is_ok());
    assert!(site.text("hosts:nas/a", "x").is_ok());
    let Err(Miss::Server { .. }) = site.text("hosts:nas/a", "y") else {
        panic!("whether it is there is not known")
    };
    let Err(Miss::Server { .. }) = site.text("-hosts", "nas") else {
        panic!("whoever comes anew is told")
    };
    assert_eq!(site.asked(), 2, "one question for all of them");
    assert!(site.maps.exports()[0].trouble.is_some());
}

#[test]
fn of_many_who_come_at_once_one_asks() {
    let servers = Servers {
        takes: Duration::from_millis(50),
        ..Servers::default()
    };
    let site = Site::with(servers, Ok(offered(&["/a"])));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| site.text("-hosts", "nas").unwrap());
        }
    });
    assert_eq!(site.asked(), 1);
}

#[test]
fn limits_hold() {
    let path = |number: usize| Offer {
        path: format!("/x{number}").into(),
        groups: Vec::new(),
    };
    let of = |count| {
        let exports = (0..count).map(path).collect();
        let offered = Offered {
            exports,
            ..Offered::default()
        };
        ExportList::new(offered, None)
    };
    assert_eq!(of(EXPORTS).refused().count, 0);
    let more = of(EXPORTS + 1);
    assert_eq!((more.paths().len(), more.refused().count), (EXPORTS, 1));
    let component = format!("/{}", "x".repeat(255));
    let longest = component.repeat(EXPORT_PATH / 256);
    assert_eq!(longest.len(), EXPORT_PATH);
    let deepest = "/d".repeat(EXPORT_DEPTH);
    for fits in [&component, &longest, &deepest] {
        assert_eq!(list::refusal(fits.as_str().into()), None);
        assert!(list::refusal(format!("{fits}/").as_str().into()).is_some());
    }
    assert_eq!(
        list::refusal(format!("{component}x").as_str().into()),
        Some("has a component that is too long")
    );
    let past = format!("{deepest}/d");
    assert_eq!(list::refusal(past.as_str().into()), Some("is too deep"));
    let past = format!("{}/y", &longest[..EXPORT_PATH - 1]);
    assert_eq!(list::refusal(past.as_str().into()), Some("is too long"));

    let site = Site::new(&["/a"]);
    for number in 0..EXPORT_LISTS {
        site.text("-hosts", &format!("srv{number}")).unwrap();
    }
    assert_eq!(site.maps.exports().len(), EXPORT_LISTS);
    site.text("-hosts", "srv0").unwrap();
    // A name that nobody knows puts nothing out, and is the first to go.
    assert!(site.text("-hosts", "nobody").is_err());
    site.text("-hosts", "another").unwrap();
    let known = site.maps.exports();
    assert_eq!(known.len(), EXPORT_LISTS);
    let has = |name: &str| known.iter().any(|it| it.server == name);
    assert!(has("another") && has("srv0") && !has("nobody"));
}

#[test]
fn too_many_exports_below_another_are_cut() {
    let mut exports = vec![Offer {
        path: "/".into(),
        groups: Vec::new(),
    }];
    for number in 0..5_000 {
        exports.push(Offer {
            path: format!("/{number:05}{}", "/0123456789abcdef".repeat(27)).into(),
            groups: Vec::new(),
        });
    }
    let site = Site::answering(Ok(Offered {
        exports,
        ..Offered::default()
    }));
    let text = site.text("-hosts", "nas").unwrap();
    assert!(text.len() <= piton_map::limits::HOSTS_ENTRY_LIMIT);
    assert!(text.len() > piton_map::limits::HOSTS_ENTRY_LIMIT - 2_000);
    assert!(site.walked().len() > 4_000);
}

#[test]
fn servers_are_listed_from_the_hosts_file() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    let text = "127.0.0.1 localhost lo\n# x\n10.0.0.1\tnas nas.example.org # the nas\n\
                ff02::1 ip6-allnodes\n0.0.0.0 blocked\nx y\n10.0.0.2\n10.0.0.3 -o\n10.0.0.4 nas\n";
    std::fs::write(root.path().join("etc/hosts"), text).unwrap();
    let maps = Maps::new(Settings {
        root: Some(root.path().into()),
        exports: Some(Arc::new(Servers::default())),
        ..Settings::default()
    });
    let listing = in_context(|context| maps.keys(&[map_of("-hosts")], context));
    let keys: Vec<_> = listing.keys.iter().map(|it| it.key.to_string()).collect();
    assert_eq!(keys, ["localhost", "nas"]);
    assert_eq!(listing.keys[1].origin.to_string(), "/etc/hosts:3:10");
    assert!(listing.served);
}

#[test]
fn without_anybody_to_ask_there_is_no_such_map() {
    let maps = Maps::new(Settings::default());
    let found = in_context(|context| maps.lookup(&[map_of("-hosts")], "nas".into(), context));
    assert!(matches!(found, Err(Miss::NotAvailable(_))));
    let listing = in_context(|context| maps.keys(&[map_of("-hosts")], context));
    assert!(!listing.served);
}

#[test]
fn the_server_of_a_lane() {
    let of = |map: &str, key: &str| server_of(&[map_of(map)], key.into()).map(|it| it.to_string());
    assert_eq!(of("-hosts", "nas").as_deref(), Some("nas"));
    assert_eq!(of("-hosts", ".x"), None);
    assert_eq!(of("hosts:nas/a", "x").as_deref(), Some("nas"));
    assert_eq!(of("/etc/auto.x", "nas"), None);
}
