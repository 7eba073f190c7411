//! Who mounts NFS makes no difference to what is mounted; and what is said when it cannot be.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use piton_vm::{Daemon, LIMIT, Server, Site, Touch, wait_until};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

/// Served by mount(8) as a way to see who mounts: without it only the kernel is left.
const HELPERS: [&str; 2] = ["/usr/sbin/mount.nfs", "/usr/sbin/umount.nfs"];

/// Waits until the daemon has said something: it answers first.
#[track_caller]
fn says(site: &Site, words: &str) {
    wait_until(words, LIMIT, || site.log().contains(words));
}

fn take_away(program: &str) {
    fs::rename(program, format!("{program}.away")).expect("renaming a program");
}

fn serving(map: &str) -> Site {
    serving_with(map, "")
}

/// A site with one map, whose mount point has `options`.
fn serving_with(map: &str, options: &str) -> Site {
    let master = format!("@/nfs @/auto.nfs --timeout=600 {options}\n");
    let files = [("auto.master", master.as_str()), ("auto.nfs", map)];
    Site::serving(Daemon::Piton, "piton", &files)
}

/// The options of what a key mounts, the file system's and the mount's; then it is unmounted.
fn options_of(site: &Site, key: &str) -> BTreeSet<String> {
    let _ = Touch::list(site.at(&format!("nfs/{key}"))).within(LIMIT);
    let Some(line) = site.mounted(&format!("nfs/{key}")) else {
        panic!("{key} is not mounted\n{}", site.log());
    };
    unmount(&line.point, UnmountFlags::empty()).expect("unmounting");
    let mut all: BTreeSet<String> = line.options.split(',').map(str::to_owned).collect();
    all.extend(line.super_options.split(',').map(str::to_owned));
    all.insert(line.fstype);
    all.insert(line.source);
    all
}

#[test]
fn versions_and_addresses_are_those_of_mount_nfs() {
    fs::create_dir_all("/srv/s1/a b,c").expect("a directory");
    let long = format!("/srv/s1/{}/{}", "l".repeat(200), "m".repeat(200));
    fs::create_dir_all(&long).expect("a directory");
    as_mount_nfs_does(&[
        ("plain", "", "s1:/srv/s1"),
        ("nfs4", "fstype=nfs4", "s1:/srv/s1"),
        ("four", "vers=4", "s1:/srv/s1"),
        ("v40", "vers=4.0", "s1:/srv/s1"),
        ("flag", "v4.1", "s1:/srv/s1"),
        ("minor", "vers=4,minorversion=1", "s1:/srv/s1"),
        ("only4", "", "v4only:/srv/v4only/data"),
        ("root", "vers=4.2", "v4only:/"),
        ("six", "vers=4.2", "six:/srv/s3"),
        ("literal", "vers=4.2", "[fd99:1::2]:/srv/s1"),
        ("tcp", "vers=4.2,tcp", "dual:/srv/s2"),
        ("tcp6", "vers=4.2,proto=tcp6", "dual:/srv/s2"),
        ("blank", "vers=4.2", "\"s1:/srv/s1/a b,c\""),
        ("long", "vers=4.2", &format!("s1:{long}")),
    ]);
}

#[test]
fn options_are_those_of_mount_nfs() {
    as_mount_nfs_does(&[
        ("port", "vers=4.2,port=2049", "s1:/srv/s1"),
        ("soft", "soft,timeo=77,retrans=5,vers=4.2", "s1:/srv/s1"),
        (
            "ro",
            "ro,nosuid,nodev,noexec,noatime,sync,vers=4.2",
            "s1:/srv/s1",
        ),
        ("user", "user,vers=4.2", "s1:/srv/s1"),
        ("users", "users,exec,vers=4.2", "s1:/srv/s1"),
        ("owner", "owner,vers=4.2", "s1:/srv/s1"),
        (
            "programs",
            "_netdev,nofail,x-a=b,comment=c,auto,vers=4.2",
            "s1:/srv/s1",
        ),
        (
            "addr",
            "vers=4.2,addr=1.2.3.4,clientaddr=10.99.1.1",
            "s1:/srv/s1",
        ),
        ("sec", "vers=4.2,sec=sys", "s1:/srv/s1"),
        ("unknown", "vers=4.2,nosuchoption,nosuch=1", "s1:/srv/s1"),
    ]);
}

#[test]
fn without_sec_the_flavour_is_what_the_kernel_comes_to() {
    // s1's root lists Kerberos and AUTH_SYS, that of s2 would rather have nobody's name.
    for (name, flavours) in [("s2", "none:sys"), ("s3", "sys:none")] {
        let options = format!("ro,fsid=0,sec={flavours}");
        Server::named(name).export("/", &options);
    }
    let s1 = Server::named("s1");
    s1.export("/srv/s1/sub", "rw,fsid=77,sec=krb5:sys");
    let all = as_mount_nfs_does(&[
        ("sys", "vers=4.2", "s1:/srv/s1"),
        ("none", "vers=4.2", "s2:/srv/s2"),
        ("both", "vers=4.2", "s3:/srv/s3"),
        ("below", "vers=4.1", "s1:/srv/s1/sub"),
        ("any", "", "s1:/srv/common"),
    ]);
    let sec = |of: &BTreeSet<String>| of.iter().find(|it| it.starts_with("sec=")).cloned();
    let found: Vec<String> = all.iter().filter_map(sec).collect();
    assert_eq!(
        found,
        ["sec=sys", "sec=null", "sec=sys", "sec=sys", "sec=sys"]
    );
}

#[test]
fn modprobe_is_not_started_in_vain() {
    let count = "/tmp/modprobes";
    let program = "/tmp/modprobe";
    fs::write(
        program,
        format!("#!/bin/sh\necho $* >>{count}\nexec /sbin/modprobe \"$@\"\n"),
    )
    .expect("a program");
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("its mode");
    fs::write("/proc/sys/kernel/modprobe", program).expect("the kernel's setting");
    let started = || {
        let text = fs::read_to_string(count).unwrap_or_default();
        let _ = fs::remove_file(count);
        text.lines().count()
    };
    let site = serving("key -rw,vers=4.2 s1:/srv/s1\nlast -rw,vers=4.2 s1:/srv/s1\n");
    // The server has looked up its root then.
    options_of(&site, "last");
    site.piton_ok(&["flush"]);
    started();
    let plain = options_of(&site, "key");
    assert_eq!(started(), 0, "{}", site.log());
    // Where somebody gets tickets the kernel decides.
    fs::copy("/bin/sleep", "/tmp/rpc.gssd").expect("a program");
    let mut gssd = Command::new("/tmp/rpc.gssd")
        .arg("1000")
        .spawn()
        .expect("a process");
    wait_until("it has its name", LIMIT, || {
        let name = fs::read_to_string(format!("/proc/{}/comm", gssd.id()));
        name.is_ok_and(|name| name == "rpc.gssd\n")
    });
    assert_eq!(options_of(&site, "last"), plain);
    assert!(started() >= 3, "{}", site.log());
    gssd.kill().expect("it ends");
    gssd.wait().expect("it ended");
}

/// Mounts each entry by mount.nfs, and then, without mount.nfs, by the kernel alone; the options of
/// each.
#[track_caller]
fn as_mount_nfs_does(entries: &[(&str, &str, &str)]) -> Vec<BTreeSet<String>> {
    let mut map = String::new();
    for (key, options, source) in entries {
        map += &format!("{key} -rw,{options} {source}\n");
        map += &format!("h-{key} -rw,mount-helper=yes,{options} {source}\n");
    }
    let site = serving(&map);
    let keys = || entries.iter().map(|(key, ..)| *key);
    let by_helper: Vec<_> = keys()
        .map(|key| options_of(&site, &format!("h-{key}")))
        .collect();
    HELPERS.iter().for_each(|program| take_away(program));
    let mut different = String::new();
    for (key, theirs) in keys().zip(&by_helper) {
        let ours = options_of(&site, key);
        if ours != *theirs {
            let (ours, theirs) = (&ours - theirs, theirs - &ours);
            different += &format!("{key}: natively {ours:?}, by mount.nfs {theirs:?}\n");
        }
    }
    assert!(different.is_empty(), "{different}");
    by_helper
}

#[test]
fn a_server_is_mounted_in_the_highest_version_it_speaks() {
    let s2 = Server::named("s2");
    s2.refuse();
    s2.run("rpc.nfsd -N 4.2 4");
    let s3 = Server::named("s3");
    s3.refuse();
    s3.run("rpc.nfsd -N 4.1 -N 4.2 4; echo Y >/proc/fs/lockd/nlm_end_grace");
    let site = serving(
        "s2 s2:/srv/s2\nfour -vers=4 s2:/srv/s2\ns3 s3:/srv/s3\nhigh -vers=4.2 s3:/srv/s3\n",
    );
    for (key, version) in [("s2", "vers=4.1"), ("four", "vers=4.1"), ("s3", "vers=4.0")] {
        let options = options_of(&site, key);
        assert!(options.contains(version), "{key}: {options:?}");
    }
    let errno = Errno::PROTONOSUPPORT.raw_os_error();
    assert_eq!(site.list("nfs/high").errno(), errno, "{}", site.log());
    says(&site, "does not speak NFS 4.2");
    // None of version 4: mount.nfs knows what to do.
    s3.refuse();
    s3.run("rpc.nfsd -N 4 4; echo Y >/proc/fs/lockd/nlm_end_grace");
    site.write("auto.nfs", "old s3:/srv/s3\nv3 -vers=3 s3:/srv/s3\n");
    assert!(options_of(&site, "old").contains("vers=3"));
    take_away(HELPERS[0]);
    assert_eq!(
        site.list("nfs/v3").errno(),
        Errno::NODEV.raw_os_error(),
        "{}",
        site.log()
    );
    says(&site, "mount.nfs is missing");
}

#[test]
fn an_error_says_what_is_wrong_and_where() {
    let s1 = Server::named("s1");
    fs::create_dir_all("/srv/secret").expect("a directory");
    fs::create_dir_all("/srv/ticket").expect("a directory");
    s1.run("exportfs -o ro,no_subtree_check,insecure,fsid=77 10.99.9.9:/srv/secret");
    s1.export("/srv/ticket", "ro,insecure,fsid=78,sec=krb5");
    let s2 = Server::named("s2");
    s2.refuse();
    let site = serving(
        "nix -vers=4.2 s1:/srv/nix\n\
         value -vers=4.2,rsize=abc s1:/srv/s1\n\
         vers -vers=4.7 s1:/srv/s1\n\
         sec -vers=4.2,sec=nonsense s1:/srv/s1\n\
         kind -vers=4.2,proto=tcp6 10.99.1.2:/srv/s1\n\
         refused -vers=4.2 s2:/srv/s2\n\
         only4 -vers=3 v4only:/srv/v4only/data\n\
         krb -vers=4.2,sec=krb5 s1:/srv/s1\n\
         others3 -vers=3 s1:/srv/secret\n\
         others4 -vers=4.2 s1:/srv/secret\n\
         ticket -vers=4.2,sec=sys s1:/srv/ticket\n",
    );
    for (key, errno, words) in [
        ("nix", &[Errno::NOENT][..], "10.99.1.2 has no such path"),
        ("value", &[Errno::INVAL], "rsize"),
        ("vers", &[Errno::INVAL, Errno::PROTONOSUPPORT], "mount.nfs"),
        ("sec", &[Errno::INVAL], "sec=nonsense"),
        ("refused", &[Errno::CONNREFUSED], ""),
        (
            "krb",
            &[Errno::ACCESS, Errno::PERM, Errno::INVAL],
            "10.99.1.2",
        ),
        // An export for somebody else: mountd says so, NFS 4 does not show it.
        ("others3", &[Errno::ACCESS], "access denied by server"),
        (
            "others4",
            &[Errno::NOENT],
            "mounting s1:/srv/secret (nfs) on",
        ),
        ("ticket", &[Errno::ACCESS, Errno::PERM], "s1:/srv/ticket"),
    ] {
        let begun = Instant::now();
        let found = site.list(&format!("nfs/{key}")).errno();
        let errnos: Vec<i32> = errno.iter().map(|it| it.raw_os_error()).collect();
        assert!(errnos.contains(&found), "{key}: {found}\n{}", site.log());
        says(&site, words);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(20), "{key}: {took:?}");
    }
    for key in ["kind", "only4"] {
        let found = site.list(&format!("nfs/{key}"));
        assert!(found.result.is_err(), "{key}");
        println!("{key}: {} after {:?}", found.errno(), found.took);
    }
    assert!(site.mounts().is_empty());
    println!("{}", site.log());
}

#[test]
fn retry_waits_for_a_server_that_starts() {
    let s1 = Server::named("s1");
    s1.refuse();
    let site = serving("wait -vers=4.2,retry=1 s1:/srv/s1\n");
    let waiting = site.reading("nfs/wait/name");
    std::thread::sleep(Duration::from_secs(1));
    s1.serve();
    println!("{:?}\n{}", waiting.within(LIMIT), site.log());
}

#[test]
fn the_administrators_defaults_hold() {
    fs::create_dir_all("/etc/nfsmount.conf.d").expect("a directory");
    let set = |text: &str| {
        fs::write("/etc/nfsmount.conf.d/site.conf", text).expect("a configuration");
    };
    set("# [ NFSMount_Global_Options ]\n");
    let site = serving("x -vers=4.2 s1:/srv/s1\n");
    assert!(options_of(&site, "x").contains("timeo=600"));
    set("[ NFSMount_Global_Options ]\ntimeo=77\n");
    assert!(options_of(&site, "x").contains("timeo=77"));
}

#[test]
fn what_an_earlier_daemon_mounted_is_unmounted_without_programs() {
    let mut site = serving("four -vers=4.2 s1:/srv/s1\nthree -vers=3 s2:/srv/s2\n");
    assert_eq!(site.read("nfs/four/name").text(), "this is s1\n");
    assert_eq!(site.read("nfs/three/name").text(), "this is s2\n");
    site.piton_ok(&["stop", "--detach"]);
    site.start();
    assert_eq!(site.mounts().len(), 2);
    let four = site.at("nfs/four").display().to_string();
    let three = site.at("nfs/three").display().to_string();
    take_away(HELPERS[1]);
    take_away("/usr/bin/umount");
    site.piton_ok(&["unmount", &four]);
    assert!(site.mounted("nfs/four").is_none(), "{}", site.log());
    fs::rename("/usr/bin/umount.away", "/usr/bin/umount").expect("renaming");
    fs::rename(format!("{}.away", HELPERS[1]), HELPERS[1]).expect("renaming");
    site.piton_ok(&["unmount", &three]);
    assert!(site.mounts().is_empty());
}

#[test]
fn a_mount_that_hangs_ends_at_the_deadline_and_leaves_nothing() {
    answer_pings_only("10.99.1.1:7777");
    let site = serving(
        "mute -nobind,vers=4.2,port=7777 10.99.1.1:/x\n\
         fine -vers=4.2 s2:/srv/s2\n",
    );
    let touched = site.read("nfs/mute/name");
    let errno = Errno::TIMEDOUT.raw_os_error();
    assert_eq!(touched.errno(), errno, "{}", site.log());
    assert!(touched.took < Duration::from_secs(30), "{:?}", touched.took);
    assert!(site.mounts().is_empty());
    // Nothing of it is left in the kernel either, that others would wait for.
    assert_eq!(site.read("nfs/fine/name").text(), "this is s2\n");
}

/// A server that answers when it is asked whether it is there, and never else.
fn answer_pings_only(address: &str) {
    let listener = TcpListener::bind(address).expect("a free port");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || pings(stream));
        }
    });
}

fn pings(mut stream: TcpStream) -> Option<()> {
    loop {
        let mut mark = [0; 4];
        stream.read_exact(&mut mark).ok()?;
        let length = u32::from_be_bytes(mark) & 0x7fff_ffff;
        let mut call = vec![0; usize::try_from(length).ok()?];
        stream.read_exact(&mut call).ok()?;
        // Procedure 0: NULL.
        if call.get(20..24)? == [0; 4] {
            let mut reply = 0x8000_0018_u32.to_be_bytes().to_vec();
            reply.extend_from_slice(&call[..4]);
            reply.extend_from_slice(&1_u32.to_be_bytes());
            reply.extend_from_slice(&[0; 16]);
            stream.write_all(&reply).ok()?;
        }
    }
}
