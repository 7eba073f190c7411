//! The older automounter with the founding documents' own examples: its command line, its maps, and
//! real NFS servers of those names.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use piton_vm::{
    LIMIT, MountLine, Server, Touch, Touched, in_the_guest, mount_table, run, wait_until,
};
use rustix::mount::{UnmountFlags, unmount};

const PITON: &str = "/share/piton";
const ENOENT: i32 = 2;

/// Runs `automount --old` to its end, which is when the mount points are in place.
fn automount(words: &[&str]) -> Output {
    Command::new(PITON)
        .args(["automount", "--old"])
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create("/tmp/said").expect("a file"))
        .output()
        .expect("running automount")
}

/// The same; it must succeed.
#[track_caller]
fn started(words: &[&str]) {
    let ended = automount(words);
    assert_eq!(ended.status.code(), Some(0), "{words:?}: {}", said());
}

fn said() -> String {
    fs::read_to_string("/tmp/said").unwrap_or_default()
}

/// The servers of the documents: hpserver1 and shasta are s1, ranier is s2, hermes is s3. Says what the
/// automounter has said if the test fails.
struct Stage {
    s1: Server,
    s2: Server,
    s3: Server,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- what was said --\n{}", said());
        }
    }
}

fn stage() -> Stage {
    in_the_guest();
    let mut hosts = fs::read_to_string("/etc/hosts").expect("hosts");
    hosts.push_str("10.99.1.2 hpserver1 shasta\n10.99.2.2 ranier\n10.99.3.2 hermes\n");
    fs::write("/etc/hosts", hosts).expect("writing hosts");
    // What a machine of that time had below there is not what this is about.
    run(
        "sh",
        &[
            "-c",
            "rm -rf /usr/local /home /homes; mkdir -p /usr/local /home",
        ],
    );
    let [s1, s2, s3] = ["s1", "s2", "s3"].map(Server::named);
    Stage { s1, s2, s3 }
}

/// A directory of files that tell who they are, exported.
fn export(server: &Server, path: &str, fsid: u32, files: &[&str]) {
    server.export(path, &format!("rw,fsid={fsid},no_root_squash"));
    for file in files {
        let path = Path::new(path).join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, format!("{}\n", path.display())).expect("a file");
    }
}

fn write(path: &str, text: &str) {
    fs::write(path, text).expect("writing a file");
}

#[track_caller]
fn read(path: &str) -> Touched {
    Touch::read(path).within(LIMIT)
}

#[track_caller]
fn names(path: &str) -> String {
    Touch::list(path).within(LIMIT).text().to_owned()
}

/// NFS mounts of others than ourselves.
fn nfs() -> Vec<MountLine> {
    let mut table = mount_table();
    let is_nfs = |line: &MountLine| ["nfs", "nfs4"].contains(&&*line.fstype);
    table.retain(|line| is_nfs(line) && !line.source.starts_with("127.0.0.1"));
    table
}

fn link(path: &str) -> String {
    let to = fs::read_link(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    to.display().to_string()
}

fn piton(words: &[&str]) -> String {
    run(PITON, words)
}

#[test]
fn r_211_r_214_r_234_r_235_r_237_r_354_r_357_r_359_r_360_mike_and_dianna_share_one_mount() {
    let stage = stage();
    export(
        &stage.s1,
        "/export/home",
        91,
        &["mike/m", "dianna/d", "ed/e"],
    );
    write(
        "/etc/auto.home",
        "mike hpserver1:/export/home:mike\n\
         dianna hpserver1:/export/home:dianna\n\
         ed hpserver1:/export/home:&\n\
         mike2 hpserver1:/export/home/mike\n\
         dianna2 hpserver1:/export/home/dianna\n",
    );
    started(&["/home", "/etc/auto.home"]);
    assert_eq!(nfs(), []);
    for (path, file) in [
        ("mike/m", "mike/m"),
        ("dianna/d", "dianna/d"),
        ("ed/e", "ed/e"),
    ] {
        let text = format!("/export/home/{file}\n");
        assert_eq!(read(&format!("/home/{path}")).text(), text);
    }
    // One mount for all of them, below the staging directory, and a link for each.
    let mounts = nfs();
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    assert_eq!(mounts[0].source, "hpserver1:/export/home");
    assert!(mounts[0].point.starts_with("/tmp_mnt/"), "{mounts:?}");
    let to = link("/home/mike");
    assert!(to.starts_with("/tmp_mnt/") && to.ends_with("mike"), "{to}");
    assert_eq!(names("/home"), "dianna\ned\nmike\n");
    // Written with a slash, it is mounted twice.
    read("/home/mike2/m").text();
    read("/home/dianna2/d").text();
    assert_eq!(nfs().len(), 3);
    // It is a daemon of its own, and says which engine it is.
    assert!(piton(&["status"]).contains("links served by NFS"));
    assert_eq!(read("/home/nobody/x").errno(), ENOENT);
}

#[test]
fn r_213_r_232_r_233_r_239_r_241_r_242_r_364_r_365_usr_local_from_shasta_or_ranier() {
    let stage = stage();
    // The same on both, as it should be; not at /usr/local itself, which is one with ours.
    let files = ["root", "bin/tool", "man/page"];
    export(&stage.s1, "/export/local", 92, &files);
    export(&stage.s2, "/export/local", 93, &files);
    write(
        "/etc/auto.direct",
        "/usr/local \\\n\
         \x20   /    -ro,intr shasta:/export/local ranier:/export/local \\\n\
         \x20   /bin -ro,intr ranier:/export/local/bin shasta:/export/local/bin \\\n\
         \x20   /man -ro,intr shasta:/export/local/man ranier:/export/local/man\n\
         /usr/share/other -ro shasta:/srv/common\n",
    );
    started(&["/-", "/etc/auto.direct", "-vers=3"]);
    assert_eq!(nfs(), []);
    for (path, end) in [
        ("root", "/root\n"),
        ("bin/tool", "/bin/tool\n"),
        ("man/page", "/man/page\n"),
    ] {
        let touched = read(&format!("/usr/local/{path}"));
        assert!(touched.text().ends_with(end), "{touched:?}");
    }
    // The entry is mounted, and no other.
    let mounts = nfs();
    assert_eq!(mounts.len(), 3, "{mounts:?}");
    assert!(
        mounts
            .iter()
            .all(|line| line.has("ro") && line.has("vers=3")),
        "{mounts:?}"
    );
    let at = |tail: &str| mounts.iter().any(|line| line.point.ends_with(tail));
    assert!(
        at("/usr/local") && at("/usr/local/bin") && at("/usr/local/man"),
        "{mounts:?}"
    );
}

#[test]
fn r_241_what_a_dead_server_had_is_mounted_from_the_other() {
    let stage = stage();
    let files = ["root", "bin/tool"];
    for (server, fsid) in [(&stage.s1, 92), (&stage.s2, 93), (&stage.s3, 94)] {
        export(server, "/export/local", fsid, &files);
    }
    write(
        "/etc/auto.direct",
        "/usr/local \\\n\
         \x20   /    -ro,intr shasta,ranier(1):/export/local \\\n\
         \x20   /bin -ro,intr hermes:/export/local/bin ranier(1):/export/local/bin\n",
    );
    started(&["/-", "/etc/auto.direct", "-vers=3"]);
    read("/usr/local/bin/tool").text();
    let from = |source: &str| nfs().iter().any(|line| line.source == source);
    assert!(from("shasta:/export/local") && from("hermes:/export/local/bin"));
    // A part of the entry moves by itself: nobody would ask for it alone.
    stage.s3.vanish();
    wait_until("the part is mounted from the other", LIMIT, || {
        from("ranier:/export/local/bin")
    });
    let tool = "/export/local/bin/tool\n";
    assert_eq!(read("/usr/local/bin/tool").text(), tool);
    // All of it moves with its root. Who comes too early hangs in the dead server's mount.
    stage.s1.vanish();
    let mut walks = Vec::new();
    wait_until("new walks are served", LIMIT, || {
        walks.push(Touch::read("/usr/local/bin/tool"));
        std::thread::sleep(Duration::from_millis(200));
        let served = |walk: &Touch| walk.ends_within(Duration::ZERO) == Some(Ok(tool.to_owned()));
        from("ranier:/export/local") && walks.iter().any(served)
    });
    assert_eq!(read("/usr/local/root").text(), "/export/local/root\n");
    wait_until("nothing is left of the dead", LIMIT, || {
        let mut sources: Vec<String> = nfs().into_iter().map(|line| line.source).collect();
        sources.sort();
        sources == ["ranier:/export/local", "ranier:/export/local/bin"]
    });
}

#[test]
fn r_220_r_244_r_247_r_250_all_exports_of_any_host_and_null_cancels_a_map() {
    let stage = stage();
    export(&stage.s3, "/usr/games", 95, &["chess"]);
    write("/etc/auto_master", "/net -hosts\n/gone auto_gone\n");
    write("/etc/auto_gone", "a hermes:/srv/s3\n");
    started(&["/gone", "-null"]);
    assert_eq!(
        read("/net/hermes/usr/games/chess").text(),
        "/usr/games/chess\n"
    );
    // All that hermes exports is mounted.
    let mounts: Vec<String> = nfs().into_iter().map(|line| line.source).collect();
    for export in ["/srv/s3", "/srv/common", "/usr/games"] {
        let source = format!("hermes:{export}");
        assert!(mounts.contains(&source), "{source}: {mounts:?}");
    }
    assert_eq!(read("/net/hermes/srv/s3/name").text(), "this is s3\n");
    assert!(!Path::new("/gone/a").exists());
}

#[test]
fn r_248_r_251_r_253_r_254_homes_by_passwd_or_by_a_map_of_the_command_line() {
    let stage = stage();
    export(&stage.s3, "/home/hermes", 96, &["ann/letter", "bob/bill"]);
    export(&stage.s1, "/export/home", 97, &["ann/mine"]);
    let mut passwd = fs::read_to_string("/etc/passwd").expect("passwd");
    for (name, uid) in [("ann", 2001), ("bob", 2002)] {
        passwd.push_str(&format!(
            "{name}:x:{uid}:{uid}::/home/hermes/{name}:/bin/sh\n"
        ));
    }
    write("/etc/passwd", &passwd);
    write("/etc/auto_master", "/homes -passwd\n");
    started(&[]);
    assert_eq!(
        read("/homes/ann/letter").text(),
        "/home/hermes/ann/letter\n"
    );
    assert_eq!(read("/homes/bob/bill").text(), "/home/hermes/bob/bill\n");
    // All homes of hermes are one mount.
    let mounts = nfs();
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    assert_eq!(read("/homes/root/x").errno(), ENOENT);
    piton(&["stop"]);
    wait_until("it has ended", LIMIT, || nfs().is_empty());
    // The documents' example: the map of the command line in its place, and a direct map besides.
    write("/etc/auto.homes", "ann hpserver1:/export/home/ann\n");
    write(
        "/etc/auto.direct",
        "/usr/share/other -ro hermes:/srv/common\n",
    );
    started(&["/homes", "/etc/auto.homes", "/-", "/etc/auto.direct"]);
    assert_eq!(read("/homes/ann/mine").text(), "/export/home/ann/mine\n");
    assert_eq!(read("/homes/bob/bill").errno(), ENOENT);
    assert_eq!(read("/usr/share/other/name").text(), "common\n");
}

#[test]
fn r_215_r_216_r_217_r_358_what_is_idle_goes_and_what_was_made_is_removed() {
    let stage = stage();
    export(&stage.s1, "/export/home", 98, &["mike/m"]);
    write("/etc/auto.home", "mike hpserver1:/export/home/mike\n");
    started(&["-tl", "2", "-tw", "1", "/made/by/us", "/etc/auto.home"]);
    read("/made/by/us/mike/m").text();
    // Whoever is inside keeps it, however slow this is.
    let held = fs::File::open("/made/by/us/mike/m").expect("a file");
    assert_eq!((nfs().len(), &*names("/made/by/us")), (1, "mike\n"));
    drop(held);
    wait_until("it expires", LIMIT, || nfs().is_empty());
    wait_until("the link is gone", LIMIT, || {
        names("/made/by/us").is_empty()
    });
    // Users need not know where it is now.
    write("/etc/auto.home", "mike hermes:/srv/s3\n");
    assert_eq!(read("/made/by/us/mike/name").text(), "this is s3\n");
    piton(&["stop"]);
    wait_until("what was made is gone", LIMIT, || {
        !Path::new("/made").exists()
    });
    assert_eq!(nfs(), []);
}

#[test]
fn r_223_frozen_serves_only_what_is_mounted_already() {
    let stage = stage();
    export(&stage.s1, "/export/home", 99, &["mike/m", "dianna/d"]);
    write("/etc/auto.home", "* hpserver1:/export/home/&\n");
    started(&["/home", "/etc/auto.home"]);
    read("/home/mike/m").text();
    piton(&["stop", "--detach"]);
    started(&["-n", "/home", "/etc/auto.home"]);
    assert!(piton(&["status"]).contains("frozen"));
    assert_eq!(read("/home/mike/m").text(), "/export/home/mike/m\n");
    assert_eq!(read("/home/dianna/d").errno(), ENOENT);
    assert_eq!(nfs().len(), 1);
}

#[test]
fn r_212_r_224_r_228_r_355_every_call_is_told_and_mounts_are_made_elsewhere() {
    let stage = stage();
    export(&stage.s1, "/export/home", 90, &["mike/m"]);
    write("/etc/auto.home", "mike hpserver1:/export/home/mike\n");
    let words = [
        "-T",
        "--trace-file",
        "/tmp/calls",
        "-M",
        "/stage",
        "/home",
        "/etc/auto.home",
    ];
    started(&words);
    read("/home/mike/m").text();
    assert!(nfs()[0].point.starts_with("/stage/"), "{:?}", nfs());
    let wanted = [
        r#"NFS LOOKUP uid=0 gid=0 "/home" name="mike""#,
        r#"NFS LOOKUP: ok "/home/mike""#,
        r#"NFS READLINK: ok to="/stage/home/mike""#,
    ];
    wait_until("the calls are told", LIMIT, || {
        let calls = fs::read_to_string("/tmp/calls").unwrap_or_default();
        wanted.iter().all(|line| calls.contains(line))
    });
    // To the kernel it is an NFS server.
    let served = mount_table();
    let served = served.iter().find(|line| line.point == "/home");
    let served = served.expect("a mount point");
    assert!(
        served.source.starts_with("127.0.0.1") && served.fstype == "nfs",
        "{served:?}"
    );
}

#[test]
fn r_258_r_259_there_is_one_daemon_and_it_looks_at_the_mount_table_at_sighup() {
    let stage = stage();
    export(&stage.s1, "/export/home", 89, &["mike/m"]);
    write("/etc/auto.home", "mike hpserver1:/export/home/mike\n");
    started(&["/home", "/etc/auto.home"]);
    let second = automount(&["/home", "/etc/auto.home"]);
    assert_ne!(second.status.code(), Some(0));
    assert!(
        said().contains("pid") || said().contains("runs"),
        "{}",
        said()
    );
    read("/home/mike/m").text();
    let point = nfs()[0].point.clone();
    unmount(point.as_str(), UnmountFlags::empty()).expect("unmounting by hand");
    run("pkill", &["-HUP", "-o", "-x", "piton"]);
    wait_until("it is mounted again", LIMIT, || {
        read("/home/mike/m").result.as_deref() == Ok("/export/home/mike/m\n")
    });
    assert_eq!(nfs().len(), 1);
}

#[test]
fn r_350_r_351_r_352_r_353_it_runs_in_the_foreground_and_wants_maps() {
    let _stage = stage();
    let _ = fs::remove_file("/etc/auto_master");
    assert_eq!(automount(&[]).status.code(), Some(3));
    assert!(said().contains("there are no maps"), "{}", said());
    write("/etc/auto.home", "mike -ro,vers=3 hermes:/srv/s3\n");
    let mut child = Command::new(PITON)
        .args([
            "automount",
            "--old",
            "--foreground",
            "/home",
            "/etc/auto.home",
        ])
        .stdin(Stdio::null())
        .stderr(fs::File::create("/tmp/said").expect("a file"))
        .spawn()
        .expect("automount");
    let is_served = || mount_table().iter().any(|line| line.point == "/home");
    wait_until("it serves", LIMIT, is_served);
    assert_eq!(read("/home/mike/name").text(), "this is s3\n");
    let mounts = nfs();
    assert!(mounts[0].has("ro") && mounts[0].has("vers=3"), "{mounts:?}");
    assert!(child.try_wait().expect("waiting").is_none(), "it stays");
    piton(&["stop"]);
    assert!(child.wait().expect("waiting").success());
}
