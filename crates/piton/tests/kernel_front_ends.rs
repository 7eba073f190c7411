//! The same maps give the same answers to the same keys, whichever front end accesses come in by: the
//! kernel's autofs, NFS on the loopback interface (walked by a client in the place of the kernel's), FUSE.

#[path = "../../loopback/tests/client/mod.rs"]
mod client;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod site;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use client::Client;
use piton_testkit::privately;
use site::{Site, names};

/// What a walk finds: the names in a directory, or an errno.
type Answer = Result<Vec<String>, i32>;

const FILES: [(&str, &str); 7] = [
    (
        "auto.master",
        "@/keys @/auto.keys\n@/wild @/auto.wild\n@/prog program:@/auto.prog\n@/all @/auto.keys browse\n",
    ),
    (
        "auto.keys",
        "bind -fstype=bind :@/srv\n\
         tmp -fstype=tmpfs :t\n\
         tree -fstype=tmpfs / :root /a :a /b/c :c\n\
         $BROKEN -fstype=bind :@/srv\n\
         gone -fstype=bind :@/not/there\n\
         unknown -fstype=nosuchfs :x\n\
         climbs -fstype=tmpfs / :r /../x :x\n",
    ),
    (
        "auto.wild",
        "first -fstype=tmpfs :t\n* -fstype=bind :@/srv/&\n",
    ),
    (
        "auto.prog",
        "#!/bin/sh\ncase $1 in ok) echo '-fstype=bind :@/srv';; *) exit 1;; esac\n",
    ),
    ("srv/sub/file", "x"),
    ("srv/text", "x"),
    ("srv/first/hidden", "x"),
];

const WALKS: [&str; 17] = [
    "keys/bind",
    "keys/bind/sub",
    "keys/bind/nothing",
    "keys/tmp",
    "keys/tree",
    "keys/tree/a",
    "keys/tree/b",
    "keys/tree/b/c",
    "keys/absent",
    "keys/gone",
    "keys/unknown",
    "keys/climbs",
    "wild/first",
    "wild/sub",
    "wild/nope",
    "prog/ok",
    "prog/no",
];

/// All walks, and what a browsable directory shows.
fn answers(site: &Site, walk: impl Fn(&str) -> Answer) -> BTreeMap<String, Answer> {
    let mut all: BTreeMap<_, _> = WALKS.map(|path| (path.to_owned(), walk(path))).into();
    // Those who looked are not busy.
    site.piton_ok(&["expire"]);
    all.insert("all".to_owned(), walk("all"));
    all
}

fn by_paths(options: &[&str]) -> BTreeMap<String, Answer> {
    let mut site = Site::new(&FILES).with_options(options);
    site.start();
    let found = answers(&site, |path| {
        names(&site.at(path)).map_err(|error| error.raw_os_error().unwrap())
    });
    site.end();
    found
}

/// Looks a key up and reads its link, as the kernel's client would, and goes on behind it.
fn by_nfs() -> BTreeMap<String, Answer> {
    let options = ["--links", "--serve-only", "--staging", "@/stage"];
    let mut site = Site::new(&FILES).with_options(&options);
    site.start();
    let kept = fs::read_to_string(site.at("run/links")).unwrap();
    let port = kept.split(' ').next().unwrap().parse().unwrap();
    let found = answers(&site, |path| {
        let mut client = Client::served(port);
        let mut parts = path.splitn(3, '/');
        let root = client.mount(&site.text(&format!("@/{}", parts.next().unwrap())));
        let root = root.unwrap();
        let errno = |status: u32| status.cast_signed();
        let Some(key) = parts.next() else {
            let names = client.list(&root, false, 8192).into_iter();
            let names = names.map(|one| one.name.to_string());
            let mut names: Vec<_> = names.filter(|name| name != "." && name != "..").collect();
            names.sort();
            return Ok(names);
        };
        let link = client.look_up(&root, key).map_err(errno)?.0;
        let target = client.readlink(&link).map_err(errno)?;
        let behind = Path::new(&target.to_string()).join(parts.next().unwrap_or_default());
        names(&behind).map_err(|error| error.raw_os_error().unwrap())
    });
    site.end();
    found
}

#[test]
fn the_same_maps_give_the_same_answers_by_every_front_end() {
    privately(|| {
        let autofs = by_paths(&[]);
        let found = |path: &str| autofs[path].clone();
        // They are the right ones.
        let all = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(found("keys/bind"), all(&["first", "sub", "text"]));
        assert_eq!(found("keys/tree"), all(&["a", "b"]));
        assert_eq!(found("wild/first"), all(&[]));
        assert_eq!(found("wild/sub"), all(&["file"]));
        assert_eq!(found("keys/absent"), Err(2));
        assert_eq!(found("prog/no"), Err(2));
        let keys = [
            "$BROKEN", "bind", "climbs", "gone", "tmp", "tree", "unknown",
        ];
        assert_eq!(found("all"), all(&keys));
        let fuse = by_paths(&["--fuse", "@/net"]);
        assert_eq!(fuse, autofs);
        // NFS has no number for some errors: docs/front-ends.md.
        let told = |answer: &Answer| match answer {
            Err(errno) if ![1, 2, 6, 13, 19, 20, 22].contains(errno) => Err(5),
            answer => answer.clone(),
        };
        let by_nfs = by_nfs();
        for (path, answer) in &autofs {
            assert_eq!(by_nfs[path], told(answer), "{path}");
        }
    });
}
