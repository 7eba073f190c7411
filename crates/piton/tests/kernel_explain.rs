//! `piton explain` beside a daemon: it tells what that daemon would do.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod site;

use piton_testkit::{mounted_at, privately};
use site::Site;

/// A daemon with options of its own.
fn told() -> Site {
    let maps = [
        ("auto.master", "@/data @/auto.data\n"),
        (
            "auto.data",
            "own -fstype=tmpfs,size=1m :$SITE\nmany -ro far1:/x far2:/x\n",
        ),
    ];
    let options = ["-O", "nosuid,nodev", "-D", "SITE=here", "-r", "-t", "77"];
    let mut site = Site::new(&maps).with_options(&options);
    site.start();
    site
}

#[test]
fn it_is_for_the_daemons_settings() {
    privately(|| {
        let site = told();
        let text = site.piton_ok(&["explain", "@/data/own"]);
        for part in ["settings of the daemon", "nosuid,nodev", "here", "for 77 s"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let json = site.piton_ok(&["explain", "--json", "@/data/own"]);
        let said: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(said["settings"], "daemon");
        // What it says is what is done.
        let mount = &said["mounts"][0];
        assert_eq!(mount["source"], "here");
        std::fs::read_dir(site.at("data/own")).unwrap();
        let made = mounted_at(site.at("data/own")).expect("it is mounted");
        assert_eq!(made.source, "here");
        assert!(made.has("nosuid") && made.has("nodev"), "{made:?}");
        // Servers are chosen by chance, as `-r` says.
        let many = site.piton_ok(&["explain", "@/data/many"]);
        assert!(many.contains("random"), "{many}");
        site.end();
    });
}

#[test]
fn who_names_a_master_map_means_that_one() {
    privately(|| {
        let site = told();
        let words = [
            "explain",
            "--json",
            "--master",
            "@/auto.master",
            "@/data/own",
        ];
        let said: serde_json::Value = serde_json::from_str(&site.piton_ok(&words)).unwrap();
        assert_eq!(said["settings"], serde_json::Value::Null);
        assert_eq!(said["mounts"][0]["options"], serde_json::json!(["size=1m"]));
        site.end();
    });
}
