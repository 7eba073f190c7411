//! `-hosts` on the real kernel: what servers export, walked, listed, refreshed and adopted. The
//! servers are fakes that speak RPC; what would be mounted over the network is written down by a
//! mount program, which mounts a scratch file system in its place.

use std::process::Command;
use std::time::{Duration, Instant};

use piton_testkit::{FakeNfs, FakeServer, in_private_network};

#[allow(dead_code, reason = "each test program uses a part of it")]
mod site;
use site::Site;

const ENOENT: i32 = 2;
const ECONNREFUSED: i32 = 111;

/// Writes down what it is told to mount, and mounts something else.
const PROGRAM: (&str, &str) = (
    "mount",
    "#!/bin/sh\necho \"$*\" >> @/told\nfor last; do :; done\n\
     exec mount -t tmpfs scratch \"$last\"\n",
);
const UNMOUNT: (&str, &str) = ("umount", "#!/bin/sh\nexec umount \"$1\"\n");

/// Names for the addresses of servers, and nobody else who knows names.
fn name_servers(site: &Site) {
    site.write(
        "hosts",
        "127.0.0.2 nas\n127.0.0.3 other\n127.0.0.4 nobody\n",
    );
    site.write("nsswitch.conf", "hosts: files\n");
    for name in ["hosts", "nsswitch.conf"] {
        let bound = Command::new("mount")
            .arg("--bind")
            .arg(site.at(name))
            .arg(std::fs::canonicalize(format!("/etc/{name}")).expect("a file"))
            .status();
        assert!(bound.expect("mount(8)").success());
    }
}

/// A site with `/net` and these options. Addresses of loopback are this host's own: without `nobind`
/// its directories would be bound.
fn serving(line: &str, options: &[&str]) -> Site {
    let master = format!("@/net {line}\n");
    let site = Site::new(&[("auto.master", &master), PROGRAM, UNMOUNT]);
    name_servers(&site);
    let own = ["--mount-program", "@/mount", "--umount-program", "@/umount"];
    let mut site = site.with_options(&[&own, options].concat());
    site.start();
    site
}

fn nas(exports: &[&str]) -> FakeServer {
    FakeNfs::default()
        .at([127, 0, 0, 2])
        .exporting(exports)
        .start()
}

/// What the mount program was told, without the place.
fn told(site: &Site) -> Vec<String> {
    let text = std::fs::read_to_string(site.at("told")).unwrap_or_default();
    let place = site.text(" @/net");
    let without_place = |line: &str| line.split(&place).next().unwrap().to_owned();
    text.lines().map(without_place).collect()
}

#[test]
fn exports_are_shown_and_mounted_when_they_are_walked_to() {
    in_private_network(|| {
        let _nas = nas(&[
            "/export/b",
            "/export/a",
            "/export/a/deep",
            "/home",
            "/o p/q",
        ]);
        let site = serving("-hosts -soft,nobind", &[]);
        assert_eq!(site.names("net"), Vec::<String>::new());
        assert_eq!(site.names("net/nas"), ["export", "home", "o p"]);
        assert_eq!(site.names("net/nas/export"), ["a", "b"]);
        assert_eq!(site.names("net/nas/o p"), ["q"]);
        let long = Command::new("ls")
            .arg("-lR")
            .arg(site.at("net/nas/o p"))
            .output()
            .expect("ls");
        assert!(long.status.success());
        assert_eq!(site.names("net"), ["nas"]);
        assert_eq!(told(&site), ["-t nfs -o soft,nosuid,nodev nas:/o p/q"]);
        assert_eq!(site.names("net/nas/export/a"), ["deep"]);
        assert_eq!(site.names("net/nas/export/a/deep"), Vec::<String>::new());
        assert_eq!(
            told(&site)[1..],
            [
                "-t nfs -o soft,nosuid,nodev nas:/export/a",
                "-t nfs -o soft,nosuid,nodev nas:/export/a/deep"
            ]
        );
        for absent in [
            "net/nas/x",
            "net/nas/export/x",
            "net/unknown",
            "net/.hidden",
        ] {
            assert_eq!(site.errno(absent), ENOENT, "{absent}");
        }
        site.end();
    });
}

#[test]
fn a_server_that_means_harm_loses_its_bad_lines() {
    in_private_network(|| {
        let evil = [
            "/../../victim",
            "/../nas2",
            "relative",
            "/ok",
            "/ok",
            "//double",
            "/a\nb",
            "/$HOST &\"\\",
            "-o bind",
        ];
        let _nas = nas(&evil);
        let site = serving("-hosts nobind", &[]);
        assert_eq!(site.names("net/nas"), ["$HOST &\"\\", "double", "ok"]);
        assert_eq!(site.names("net/nas/ok"), Vec::<String>::new());
        assert_eq!(site.names("net/nas/$HOST &\"\\"), Vec::<String>::new());
        assert_eq!(site.names("net"), ["nas"]);
        let mounts = told(&site);
        assert_eq!(mounts[0], "-t nfs -o nosuid,nodev nas:/ok");
        assert_eq!(mounts[1], "-t nfs -o nosuid,nodev nas:/$HOST &\"\\");
        assert!(
            site.log().contains("lines of its export list"),
            "{}",
            site.log()
        );
        site.end();
    });
}

#[test]
fn the_root_or_the_root_of_version_4_is_mounted() {
    in_private_network(|| {
        let _root = nas(&["/", "/usr"]);
        let _four = FakeNfs::only_v4().at([127, 0, 0, 3]).start();
        let site = serving("-hosts suid,nobind", &[]);
        assert_eq!(site.names("net/nas"), ["usr"]);
        assert_eq!(site.names("net/nas/usr"), Vec::<String>::new());
        assert_eq!(site.names("net/other"), Vec::<String>::new());
        assert_eq!(
            told(&site),
            [
                "-t nfs -o suid,nodev nas:/",
                "-t nfs -o suid,nodev nas:/usr",
                "-t nfs4 -o suid,nodev other:/"
            ]
        );
        assert_eq!(site.errno("net/nobody"), ECONNREFUSED);
        site.end();
    });
}

#[test]
fn this_host_s_own_exports_are_bound() {
    in_private_network(|| {
        let site = Site::new(&[("exported/file", "text"), PROGRAM, UNMOUNT]);
        let _nas = nas(&[&site.text("@/exported")]);
        name_servers(&site);
        site.write("auto.master", "@/net -hosts\n");
        let mut site = site;
        site.start();
        let inside = site.text("net/nas@/exported/file");
        let text = std::fs::read_to_string(site.at(&inside)).expect("a file");
        assert_eq!(text, "text");
        site.end();
    });
}

#[test]
fn a_list_is_refreshed_when_a_name_is_not_in_it_but_not_for_each() {
    in_private_network(|| {
        let server = nas(&["/a/x"]);
        let site = serving("-hosts nobind", &[]);
        assert_eq!(site.names("net/nas/a"), ["x"]);
        let asked = server.exports_asked();
        for number in 0..200 {
            assert_eq!(site.errno(&format!("net/nas/a/no{number}")), ENOENT);
        }
        assert_eq!(server.exports_asked(), asked, "one question for many names");
        server.change(|how| *how = how.clone().exporting(["/a/x", "/a/new", "/a/newer"]));
        site.piton_ok(&["flush", "@/net/nas"]);
        assert_eq!(site.names("net/nas/a/new"), Vec::<String>::new());
        assert_eq!(server.exports_asked(), asked + 1);
        server.change(|how| *how = how.clone().exporting(["/a/x", "/b/y"]));
        site.piton_ok(&["reload"]);
        site.wait("the listings are new", |site| {
            site.names("net/nas") == ["a", "b"]
        });
        assert_eq!(site.names("net/nas/b"), ["y"]);
        site.end();
    });
}

#[test]
fn a_server_that_is_silent_holds_up_nobody_else() {
    in_private_network(|| {
        let server = nas(&["/a/x"]);
        let _other = FakeNfs::default()
            .at([127, 0, 0, 3])
            .exporting(["/home"])
            .start();
        let site = serving("-hosts nobind", &["--deadline", "6"]);
        assert_eq!(site.names("net/nas"), ["a"]);
        server.change(|how| how.silent = true);
        site.piton_ok(&["reload"]);
        let began = Instant::now();
        let waits = std::thread::scope(|scope| {
            let waits = scope.spawn(|| site.errno("net/nas/nothing"));
            assert_eq!(site.names("net/other"), ["home"]);
            assert_eq!(site.names("net/nas/a"), ["x"], "what is known is shown");
            waits.join().expect("a thread")
        });
        assert_ne!(waits, ENOENT, "whether it is there is not known");
        assert!(began.elapsed() < Duration::from_secs(20));
        server.change(|how| how.silent = false);
        site.piton_ok(&["flush"]);
        assert_eq!(site.errno("net/nas/nothing"), ENOENT);
        site.end();
    });
}

#[test]
fn what_a_killed_daemon_left_is_taken_over() {
    in_private_network(|| {
        let server = nas(&["/export/a", "/export/a/deep", "/export/b"]);
        let mut site = serving("-hosts nobind", &[]);
        assert_eq!(site.names("net/nas/export/a/deep"), Vec::<String>::new());
        let before = site.mounts();
        site.kill();
        site.start();
        assert_eq!(site.mounts(), before);
        assert_eq!(site.names("net/nas/export/b"), Vec::<String>::new());
        assert_eq!(site.names("net/nas/export"), ["a", "b"]);
        assert_eq!(site.errno("net/nas/export/c"), ENOENT);
        assert_eq!(told(&site).len(), 3);
        server.change(|how| how.silent = true);
        site.piton_ok(&["expire"]);
        site.end();
    });
}

#[test]
fn explain_asks_the_server_only_with_probe() {
    in_private_network(|| {
        let server = nas(&["/export/a", "/home"]);
        let site = Site::new(&[("auto.master", "@/net -hosts nobind\n")]);
        name_servers(&site);
        let master = site.text("@/auto.master");
        let path = site.text("@/net/nas/export/a/x");
        let unasked = site.piton(&["explain", "--master", &master, &path]);
        let text = String::from_utf8_lossy(&unasked.stdout).into_owned();
        assert!(text.contains("would be asked for its exports"), "{text}");
        assert_eq!(server.exports_asked(), 0);
        let text = site.piton_ok(&["explain", "--probe", "--master", &master, &path]);
        assert!(text.contains("nas:/export/a"), "{text}");
        assert!(text.contains("hosts:nas/export"), "{text}");
        assert_eq!(server.exports_asked(), 1);
    });
}

#[test]
fn thirty_thousand_exports() {
    in_private_network(|| {
        let exports: Vec<String> = (0..30_000)
            .map(|number| format!("/export/home/user{number:05}"))
            .collect();
        let _nas = FakeNfs::default()
            .at([127, 0, 0, 2])
            .exporting(&exports)
            .start();
        let site = serving("-hosts nobind", &[]);
        let began = Instant::now();
        assert_eq!(site.names("net/nas/export/home").len(), exports.len());
        let listed = began.elapsed();
        assert!(site.names("net/nas/export/home/user12345").is_empty());
        let used = began.elapsed();
        println!("listed after {listed:?}, an export used after {used:?}");
        assert_eq!(told(&site).len(), 1, "a listing mounts nothing");
        // Two seconds on a quiet machine; this one may be busy, and the build slow.
        assert!(used < Duration::from_secs(10), "{used:?}");
        site.end();
    });
}
