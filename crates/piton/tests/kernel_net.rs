//! `-hosts` on the real kernel: what servers export, walked, listed, refreshed and adopted. The
//! servers are fakes that speak RPC; what would be mounted over the network is written down by a
//! mount program, which mounts a scratch file system in its place.

use std::process::Command;
use std::time::{Duration, Instant};

use piton_testkit::{FakeNfs, FakeServer, in_private_network};

#[allow(dead_code, reason = "each test program uses a part of it")]
mod site;
use site::{Site, names};

const ENOENT: i32 = 2;
const ETIMEDOUT: i32 = 110;
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
    site.bind_over_etc(&["hosts", "nsswitch.conf"]);
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
        site.wait("the log says so", |site| {
            site.log().contains("lines of its export list")
        });
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
        let (asked, begun) = (server.exports_asked(), Instant::now());
        for number in 0..200 {
            assert_eq!(site.errno(&format!("net/nas/a/no{number}")), ENOENT);
        }
        // On a machine that takes its time another is allowed each ten seconds.
        let again = server.exports_asked() - asked;
        let most = begun.elapsed().as_secs() / 5;
        assert!(again as u64 <= most, "one question for many names: {again}");
        let asked = server.exports_asked();
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
fn a_server_is_asked_anew_after_it_was_idle() {
    in_private_network(|| {
        let server = nas(&["/a", "/b"]);
        let site = serving("-hosts nobind", &[]);
        assert_eq!(site.names("net/nas"), ["a", "b"]);
        let asked = server.exports_asked();
        server.change(|how| *how = how.clone().exporting(["/b", "/c"]));
        // What is in use stays as it is, and asks for nothing.
        assert_eq!(site.names("net/nas/a"), Vec::<String>::new());
        assert_eq!(site.names("net/nas"), ["a", "b"]);
        assert_eq!(server.exports_asked(), asked);
        // What was heard less than two seconds ago is not asked again.
        site.wait("it was idle, and is asked anew", |site| {
            site.piton_ok(&["expire"]);
            site.names("net/nas") == ["b", "c"]
        });
        assert_eq!(server.exports_asked(), asked + 1);
        assert_eq!(site.errno("net/nas/a"), ENOENT);
        site.end();
    });
}

/// Waits until a path is what it should be. Who waited was answered at his deadline, and the question that
/// was asked for him may end, and be joined, a moment later than failures are forgotten.
#[track_caller]
fn answers_after_a_flush(site: &Site, tail: &str, wanted: &Result<Vec<String>, i32>) {
    site.wait("it is asked anew", |site| {
        site.piton_ok(&["flush"]);
        let found = names(&site.at(tail));
        let found = found.map_err(|error| error.raw_os_error().expect("an errno"));
        found == *wanted
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
        assert!(began.elapsed() < site::LIMIT);
        server.change(|how| how.silent = false);
        answers_after_a_flush(&site, "net/nas/nothing", &Err(ENOENT));
        site.end();
    });
}

#[test]
fn a_server_that_answers_null_and_nothing_else_holds_up_nobody_else() {
    in_private_network(|| {
        let server = nas(&["/a/x"]);
        server.change(|how| how.only_null = true);
        let _other = FakeNfs::default()
            .at([127, 0, 0, 3])
            .exporting(["/home"])
            .start();
        let site = serving("-hosts nobind", &["--deadline", "6"]);
        let began = Instant::now();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| site.errno("net/nas"));
            site.wait("the server is asked", |_| server.exports_asked() > 0);
            assert_eq!(site.names("net/other"), ["home"]);
            assert_eq!(site.names("net/other/home"), Vec::<String>::new());
            assert_eq!(waits.join().expect("a thread"), ETIMEDOUT);
        });
        assert!(began.elapsed() < site::LIMIT);
        assert_eq!(told(&site).len(), 1, "nothing of it is mounted");
        // What is still being asked would have half of an answer.
        site.wait("nobody is asked any more", |site| {
            let status = site.piton_ok(&["status", "--json"]);
            let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
            status["jobs"].as_array().is_some_and(Vec::is_empty)
        });
        server.change(|how| how.only_null = false);
        answers_after_a_flush(&site, "net/nas", &Ok(vec!["a".to_owned()]));
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
        // What /net/nas would be, without a daemon.
        let whole = site.text("@/net/nas");
        let text = site.piton_ok(&["explain", "--probe", "--master", &master, &whole]);
        let names = |name: &str| text.lines().any(|line| line.trim_start().starts_with(name));
        assert!(names("export ") && names("home "), "{text}");
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
        assert!(used < Duration::from_secs(30), "{used:?}");
        site.end();
    });
}

#[test]
fn hundreds_of_exports_below_the_root_are_one_entry() {
    in_private_network(|| {
        let below = (0..400).map(|number| format!("/export/projects/user{number:04}"));
        let exports: Vec<String> = std::iter::once("/".to_owned()).chain(below).collect();
        let _nas = FakeNfs::default()
            .at([127, 0, 0, 2])
            .exporting(&exports)
            .start();
        let site = serving("-hosts nobind", &[]);
        assert_eq!(site.names("net/nas"), ["export"]);
        assert_eq!(site.names("net/nas/export/projects").len(), 400);
        assert_eq!(told(&site).len(), 1, "a listing mounts nothing else");
        let user = "net/nas/export/projects/user0123";
        assert_eq!(site.names(user), Vec::<String>::new());
        let told = told(&site);
        let last = told.last().expect("it was mounted");
        assert!(last.ends_with(" nas:/export/projects/user0123"), "{told:?}");
        site.end();
    });
}

#[test]
fn a_server_that_is_drained_is_left_for_another_and_used_again_after() {
    in_private_network(|| {
        let _one = nas(&["/man"]);
        let _other = FakeNfs::default()
            .at([127, 0, 0, 3])
            .exporting(["/man"])
            .start();
        let files = [
            ("auto.master", "@/m @/auto.m nobind\n"),
            ("auto.m", "man -ro nas,other:/man\n"),
            PROGRAM,
            UNMOUNT,
        ];
        let site = Site::new(&files);
        name_servers(&site);
        let own = ["--mount-program", "@/mount", "--umount-program", "@/umount"];
        let mut site = site.with_options(&own);
        site.start();
        let source = |site: &Site| {
            site.names("m/man");
            let text = std::fs::read_to_string(site.at("told")).unwrap();
            let last = text.lines().last().unwrap_or_default();
            match last.contains(" other:/man ") {
                true => "other",
                false => "nas",
            }
        };
        for _ in 0..2 {
            let server = source(&site);
            site.piton_ok(&["drain", server]);
            assert!(site.piton_ok(&["status"]).contains("drained"));
            // It moves by itself, since nobody is in it.
            site.wait("it comes from the other", |site| source(site) != server);
            site.piton_ok(&["undrain", server]);
            assert!(!site.piton_ok(&["status"]).contains("drained"));
        }
        let unknown = site.piton(&["undrain", "nas"]);
        assert_eq!(unknown.status.code(), Some(1));
        site.end();
    });
}

#[test]
fn the_first_that_answers_is_chosen_or_any_by_chance() {
    in_private_network(|| {
        let _quick = nas(&["/x"]);
        let _late = FakeNfs {
            delay: Duration::from_secs(5),
            ..FakeNfs::default().at([127, 0, 0, 3])
        }
        .start();
        let _third = FakeNfs::default().at([127, 0, 0, 5]).start();
        let files = [
            ("auto.master", "@/m @/auto.m nobind\n"),
            (
                "auto.m",
                // The distance is the same, and the weight is for the late one.
                "first -ro,selection=first-responder other,nas(9):/x\n\
                 * -ro,selection=random nas,third:/x/&\n",
            ),
            PROGRAM,
            UNMOUNT,
        ];
        let site = Site::new(&files);
        name_servers(&site);
        std::fs::write(
            "/etc/hosts",
            "127.0.0.2 nas\n127.0.0.3 other\n127.0.0.5 third\n",
        )
        .unwrap();
        let own = ["--mount-program", "@/mount", "--umount-program", "@/umount"];
        let mut site = site.with_options(&own);
        site.start();
        let told = |site: &Site| std::fs::read_to_string(site.at("told")).unwrap();
        site.names("m/first");
        assert!(told(&site).contains(" nas:/x "), "{}", told(&site));
        // Of two, forty times: only one of them in one case of 2^39.
        for number in 0..40 {
            site.names(&format!("m/{number}"));
        }
        let told = told(&site);
        let from = |server: &str| told.matches(&format!(" {server}:/x/")).count();
        assert_eq!(from("nas") + from("third"), 40, "{told}");
        assert!(from("nas") > 0 && from("third") > 0, "{told}");
        site.end();
    });
}

#[test]
fn what_is_pinned_stays_until_it_is_unpinned() {
    in_private_network(|| {
        let files = [
            ("auto.master", "@/m @/auto.m\n"),
            ("auto.m", "* -fstype=tmpfs :t\n"),
        ];
        let site = Site::serving(&files);
        site.names("m/a");
        site.names("m/b");
        site.piton_ok(&["pin", "@/m/a", "8h"]);
        assert!(site.piton_ok(&["status"]).contains("Pinned (1)"));
        let left = site.piton_ok(&["expire"]);
        assert!(left.contains("it is pinned"), "{left}");
        assert!(site.is_mounted("m/a"));
        site.wait("the other goes", |site| !site.is_mounted("m/b"));
        site.piton_ok(&["unpin", "@/m/a"]);
        site.piton_ok(&["expire"]);
        site.wait("it goes", |site| !site.is_mounted("m/a"));
        assert_eq!(site.piton(&["unpin", "@/m/a"]).status.code(), Some(1));
        assert_eq!(
            site.piton(&["pin", "/elsewhere", "8h"]).status.code(),
            Some(1)
        );
        site.end();
    });
}
