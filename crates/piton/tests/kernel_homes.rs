//! `-passwd` on the real kernel: homes whose paths name their server, which is this host.

use piton_testkit::privately;

#[allow(dead_code, reason = "each test program uses a part of it")]
mod site;
use site::Site;

const ENOENT: i32 = 2;

/// Users whom everybody here sees.
fn users(site: &Site) {
    let passwd = "root:x:0:0::/root:/bin/sh\n\
        ann:x:7:7::@/export/localhost/ann:/bin/sh\n\
        bob:x:8:8::@/export/localhost/bob:/bin/sh\n\
        cid:x:9:9::/home/cid:/bin/sh\n";
    site.write("passwd", passwd);
    site.write("nsswitch.conf", "passwd: files\nhosts: files\n");
    site.bind_over_etc(&["passwd", "nsswitch.conf"]);
}

#[test]
fn r_248_homes_of_users_are_mounted_by_their_names() {
    privately(|| {
        let mut site = Site::new(&[
            ("auto.master", "@/homes -passwd\n"),
            ("export/localhost/ann/letter", "dear"),
            ("export/localhost/bob/bill", "42"),
        ]);
        users(&site);
        site.start();
        assert_eq!(site.names("homes"), Vec::<String>::new());
        assert_eq!(site.names("homes/ann"), ["letter"]);
        assert_eq!(site.names("homes/bob"), ["bill"]);
        assert_eq!(site.names("homes"), ["ann", "bob"]);
        // A home of another form, nobody's name, and one that would be another's for each.
        for absent in ["homes/cid", "homes/root", "homes/nobody", "homes/~"] {
            assert_eq!(site.errno(absent), ENOENT, "{absent}");
        }
        let why = site.piton(&[
            "explain",
            "--master",
            "@/auto.master",
            "--probe",
            "@/homes/cid",
        ]);
        let why = String::from_utf8_lossy(&why.stdout).into_owned();
        assert!(why.contains("/dir/server/user"), "{why}");
        site.end();
    });
}

#[test]
fn r_255_of_the_environment_maps_see_what_is_named_and_no_more() {
    privately(|| {
        let mut site = Site::new(&[
            ("auto.master", "@/m @/auto.m\n"),
            ("auto.m", "a -fstype=bind :@/data/${SITE}${SECRET}\n"),
            ("data/letters/file", "x"),
        ])
        .with_options(&["--environment", "SITE", "--environment", "ABSENT"]);
        site.set_environment(&[("SITE", "letters"), ("SECRET", "/hidden")]);
        site.start();
        assert_eq!(site.names("m/a"), ["file"]);
        site.end();
    });
}
