//! `/net`: all that servers export, from real ones.

use piton_vm::{Daemon, Server, Site};

const MASTER: [(&str, &str); 1] = [("auto.master", "@/net -hosts --timeout=600\n")];

#[test]
fn three_hundred_exports_are_listed_without_a_mount_and_mounted_one_by_one() {
    let site = Site::serving(Daemon::Piton, "piton", &MASTER);
    let listed = site.list("net/many/srv/many");
    let names: Vec<String> = (0..300).map(|number| format!("{number:03}")).collect();
    assert_eq!(listed.text().lines().collect::<Vec<_>>(), names);
    let nfs = |site: &Site| {
        let mut mounts = site.mounts();
        mounts.retain(|line| line.fstype.starts_with("nfs"));
        mounts
    };
    assert_eq!(nfs(&site), [], "looking mounts nothing");
    assert_eq!(site.read("net/many/srv/many/042/name").text(), "many 042\n");
    let mounts = nfs(&site);
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    assert_eq!(mounts[0].source, "many:/srv/many/042");
    assert!(
        mounts[0].has("nosuid") && mounts[0].has("nodev"),
        "{mounts:?}"
    );
    assert!(site.list("net/many/srv/nothing").errno() == 2);
}

#[test]
fn an_export_that_is_new_is_found_when_somebody_walks_there() {
    let site = Site::serving(Daemon::Piton, "piton", &MASTER);
    assert_eq!(site.read("net/s1/srv/s1/name").text(), "this is s1\n");
    let s1 = Server::named("s1");
    s1.export("/srv/late", "ro,fsid=77");
    std::fs::write("/srv/late/name", "late\n").expect("a file");
    piton_vm::wait_until("the new export is served", piton_vm::LIMIT, || {
        site.read("net/s1/srv/late/name").result == Ok("late\n".to_owned())
    });
}
