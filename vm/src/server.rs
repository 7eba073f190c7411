//! The guest's NFS servers, each in namespaces of its own at the end of a link of its own.

use std::fs;

/// One of the servers that are there from the start; README.md has the list.
#[derive(Clone, Debug)]
pub struct Server {
    name: String,
    /// A process in its namespaces.
    pid: u32,
}

impl Server {
    /// The server of this name, which is also that of the interface that leads to it.
    ///
    /// # Panics
    /// There is none, or this is not the guest.
    #[track_caller]
    pub fn named(name: &str) -> Self {
        crate::in_the_guest();
        let list = fs::read_to_string("/run/servers").expect("the list of servers");
        let pid = list
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or_else(|| panic!("no server {name}: {list}"));
        Self {
            name: name.to_owned(),
            pid,
        }
    }

    /// Runs a line of shell on the server, which must succeed; returns what it printed.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        let pid = self.pid.to_string();
        let there = ["-t", &pid, "-n", "-m", "-u", "sh", "-ec", line];
        crate::run("nsenter", &there)
    }

    /// A path of the server as one can reach it from here.
    pub fn path(&self, path: &str) -> String {
        format!("/proc/{}/root{path}", self.pid)
    }

    /// Delays all that goes to the server by this many milliseconds.
    #[track_caller]
    pub fn delay(&self, ms: u32) {
        self.netem(&["delay", &format!("{ms}ms")]);
    }

    /// Loses this share of all packets to the server.
    #[track_caller]
    pub fn lose(&self, percent: u32) {
        self.netem(&["loss", &format!("{percent}%")]);
    }

    /// Has the server vanish without a word: nothing reaches it any more.
    #[track_caller]
    pub fn vanish(&self) {
        self.lose(100);
    }

    /// Undoes [`delay`](Self::delay), [`lose`](Self::lose) and [`vanish`](Self::vanish).
    #[track_caller]
    pub fn come_back(&self) {
        crate::run("tc", &["qdisc", "del", "dev", &self.name, "root"]);
    }

    /// Ends the NFS service; the host stays up and refuses connections.
    #[track_caller]
    pub fn refuse(&self) {
        let threads = self.path("/proc/fs/nfsd/threads");
        fs::write(threads, "0\n").expect("ending nfsd");
    }

    /// Starts the NFS service again after [`refuse`](Self::refuse), for versions 3 and 4.
    #[track_caller]
    pub fn serve(&self) {
        self.run(
            "rpc.nfsd --grace-time 10 --lease-time 10 4; echo Y >/proc/fs/lockd/nlm_end_grace",
        );
    }

    /// Exports a directory in addition; it is made if it is not there. Options as of exports(5);
    /// `insecure` and `no_subtree_check` are added.
    #[track_caller]
    pub fn export(&self, path: &str, options: &str) {
        fs::create_dir_all(path).expect("making a directory");
        let options = format!("{options},insecure,no_subtree_check");
        self.run(&format!("exportfs -o '{options}' '*:{path}'"));
    }

    #[track_caller]
    fn netem(&self, what: &[&str]) {
        let mut words = vec!["qdisc", "replace", "dev", &self.name, "root", "netem"];
        words.extend(what);
        crate::run("tc", &words);
    }
}
