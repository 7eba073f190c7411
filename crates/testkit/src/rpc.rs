//! A server that speaks ONC RPC as NFS servers do, or nearly so: portmapper, NULL of NFS, and the
//! exports of a mount daemon, with faults on purpose. It has its own idea of the protocol, so that
//! what is tested with it is not tested with itself.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

const PORTMAPPER: u32 = 100_000;
const NFS: u32 = 100_003;
const MOUNTD: u32 = 100_005;
const EXPORT: u32 = 5;
const COMPOUND: u32 = 1;
const WRONGSEC: u32 = 10_016;

/// How often a thread looks whether it should end.
const STEP: Duration = Duration::from_millis(20);

/// What a server does wrong with every reply to NFS and MOUNT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// Hangs up instead of answering.
    HangsUp,
    /// Answers another call than was made.
    OtherCall,
    /// Answers another call first, and then the right one.
    OtherCallFirst,
    /// Sends fragments without end, of no bytes each.
    EndlessFragments,
    /// Sends bytes without end, in fragments that are never the last.
    EndlessBytes,
    /// Says that the next fragment has two gigabytes.
    HugeFragment,
    /// Sends bytes that are no message.
    Rubbish,
    /// Denies, since it wants to know who asks.
    Denies,
    /// Says that nobody serves the program.
    NoProgram,
}

/// How a server is, before it is started and while it runs.
#[derive(Clone, Debug)]
pub struct FakeNfs {
    /// Where it listens.
    pub address: IpAddr,
    /// Whether it has a portmapper, on port 111.
    pub portmapper: bool,
    /// Versions of NFS that it serves; none: nobody listens there.
    pub nfs: Option<(u32, u32)>,
    /// Where NFS listens; the portmapper tells of it if `nfs` includes 3.
    pub nfs_port: u16,
    /// Versions of MOUNT that its mount daemon serves; none: it has none.
    pub mountd: Option<(u32, u32)>,
    /// Whether TCP is served; the portmapper always serves both.
    pub tcp: bool,
    /// Whether UDP is served.
    pub udp: bool,
    /// How long each answer of NFS and MOUNT takes.
    pub delay: Duration,
    /// Whether it takes calls and never answers, the portmapper too.
    pub silent: bool,
    /// Whether it answers NULL and nothing else.
    pub only_null: bool,
    /// Calls over UDP that are lost before one is answered.
    pub lost: usize,
    /// Bytes of a fragment.
    pub fragment: usize,
    /// What it does wrong.
    pub mischief: Option<Mischief>,
    /// The status of a COMPOUND of NFS 4; none: it is not answered. As servers usually are, it does
    /// not show its root to nobody in particular.
    pub compound: Option<u32>,
    /// What the mount daemon lists: paths and groups.
    pub exports: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
}

impl Default for FakeNfs {
    /// A usual server on 127.0.0.1, with nothing exported.
    fn default() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.into(),
            portmapper: true,
            nfs: Some((3, 4)),
            nfs_port: 2049,
            mountd: Some((1, 3)),
            tcp: true,
            udp: true,
            delay: Duration::ZERO,
            silent: false,
            only_null: false,
            lost: 0,
            fragment: 8192,
            mischief: None,
            compound: Some(WRONGSEC),
            exports: Vec::new(),
        }
    }
}

impl FakeNfs {
    /// A server that serves NFSv4 on port 2049 and nothing else.
    pub fn only_v4() -> Self {
        Self {
            portmapper: false,
            nfs: Some((4, 4)),
            mountd: None,
            ..Self::default()
        }
    }

    /// The same with these exports, open to everybody.
    #[must_use]
    pub fn exporting<P: AsRef<[u8]>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        let paths = paths.into_iter();
        self.exports = paths
            .map(|path| (path.as_ref().to_vec(), Vec::new()))
            .collect();
        self
    }

    /// The same at another address.
    #[must_use]
    pub fn at(mut self, address: impl Into<IpAddr>) -> Self {
        self.address = address.into();
        self
    }

    /// Starts it. It ends when what is returned is dropped.
    ///
    /// # Panics
    /// A port is in use, or not for us: ports 111 and 2049 are free in
    /// [`in_private_network`](crate::in_private_network).
    #[track_caller]
    pub fn start(self) -> FakeServer {
        let mut server = FakeServer {
            shared: Arc::new(Shared {
                stop: AtomicBool::new(false),
                how: Mutex::new(self.clone()),
                mount_port: Mutex::new(0),
                calls: Mutex::default(),
            }),
            threads: Vec::new(),
        };
        if self.mountd.is_some() {
            let port = server.listen(0, self.tcp, self.udp, &[MOUNTD]);
            *server
                .shared
                .mount_port
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = port;
        }
        if self.nfs.is_some() {
            server.listen(self.nfs_port, self.tcp, self.udp, &[NFS]);
        }
        if self.portmapper {
            server.listen(111, true, true, &[PORTMAPPER]);
        }
        server
    }
}

/// A server that runs.
#[derive(Debug)]
pub struct FakeServer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    how: Mutex<FakeNfs>,
    mount_port: Mutex<u16>,
    /// How often which program and procedure were called.
    calls: Mutex<BTreeMap<(u32, u32), usize>>,
}

impl FakeServer {
    /// Makes it otherwise; what listens where stays.
    pub fn change(&self, change: impl FnOnce(&mut FakeNfs)) {
        change(&mut self.shared.how());
    }

    /// How often the exports were asked for.
    pub fn exports_asked(&self) -> usize {
        self.asked(MOUNTD, EXPORT)
    }

    /// How often it was asked whether NFS is there.
    pub fn nulls_asked(&self) -> usize {
        self.asked(NFS, 0)
    }

    fn asked(&self, program: u32, procedure: u32) -> usize {
        let calls = self
            .shared
            .calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        calls.get(&(program, procedure)).copied().unwrap_or(0)
    }

    /// Listens; the port.
    #[track_caller]
    fn listen(&mut self, port: u16, tcp: bool, udp: bool, programs: &'static [u32]) -> u16 {
        let address = SocketAddr::new(self.shared.how().address, port);
        let listener = TcpListener::bind(address);
        let listener = listener.unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = listener.local_addr().expect("it has an address");
        if udp {
            let socket = UdpSocket::bind(address);
            let socket = socket.unwrap_or_else(|error| panic!("{address}: {error}"));
            let shared = self.shared.clone();
            let thread = std::thread::spawn(move || shared.datagrams(&socket, programs));
            self.threads.push(thread);
        }
        if tcp {
            let shared = self.shared.clone();
            let thread = std::thread::spawn(move || shared.connections(&listener, programs));
            self.threads.push(thread);
        }
        address.port()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn how(&self) -> MutexGuard<'_, FakeNfs> {
        self.how.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to read; false when it is time to end.
    fn wait(&self, socket: impl AsFd) -> bool {
        while !self.stop.load(Ordering::Relaxed) {
            let step = Timespec::try_from(STEP).expect("it is short");
            let mut fds = [PollFd::new(&socket, PollFlags::IN)];
            if poll(&mut fds, Some(&step)).is_ok_and(|ready| ready > 0) {
                return true;
            }
        }
        false
    }

    fn connections(self: &Arc<Self>, listener: &TcpListener, programs: &'static [u32]) {
        while self.wait(listener) {
            if let Ok((stream, _)) = listener.accept() {
                let shared = self.clone();
                std::thread::spawn(move || shared.connection(stream, programs));
            }
        }
    }

    /// Serves one connection; calls come in one fragment each.
    fn connection(&self, mut stream: TcpStream, programs: &[u32]) -> Option<()> {
        while self.wait(&stream) {
            let mut head = [0; 4];
            stream.read_exact(&mut head).ok()?;
            let length = u32::from_be_bytes(head) & 0x7fff_ffff;
            let mut call = vec![0; usize::try_from(length.min(4096)).ok()?];
            stream.read_exact(&mut call).ok()?;
            let Some(reply) = self.answer(&call, programs) else {
                continue;
            };
            let (fragment, mischief) = {
                let how = self.how();
                (
                    how.fragment,
                    how.mischief.filter(|_| programs != [PORTMAPPER]),
                )
            };
            match mischief {
                Some(Mischief::HangsUp) => return None,
                Some(Mischief::OtherCallFirst) => {
                    let mut other = reply.clone();
                    other[0] ^= 1;
                    send(&mut stream, &other, fragment)?;
                    send(&mut stream, &reply, fragment)?;
                }
                Some(Mischief::EndlessFragments) => loop {
                    stream.write_all(&[0; 4096]).ok()?;
                },
                Some(Mischief::EndlessBytes) => loop {
                    let bytes = [&4096_u32.to_be_bytes()[..], &reply].concat();
                    let mut bytes = bytes;
                    bytes.resize(4100, 0);
                    stream.write_all(&bytes).ok()?;
                },
                Some(Mischief::HugeFragment) => {
                    stream.write_all(&0x7fff_ffff_u32.to_be_bytes()).ok()?;
                }
                _ => send(&mut stream, &reply, fragment)?,
            }
        }
        Some(())
    }

    fn datagrams(&self, socket: &UdpSocket, programs: &[u32]) {
        let mut buffer = [0; 4096];
        while self.wait(socket) {
            let Ok((count, from)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            let lose = {
                let mut how = self.how();
                let lose = how.lost > 0;
                how.lost = how.lost.saturating_sub(1);
                lose
            };
            if let Some(reply) = self.answer(&buffer[..count], programs).filter(|_| !lose) {
                let _ = socket.send_to(&reply, from);
            }
        }
    }

    /// The reply to a call; none if there is none.
    fn answer(&self, call: &[u8], programs: &[u32]) -> Option<Vec<u8>> {
        let words: Vec<u32> = call
            .chunks_exact(4)
            .map(|word| u32::from_be_bytes(word.try_into().expect("four bytes")))
            .collect();
        let &[xid, 0, 2, program, version, procedure, ..] = &words[..] else {
            return None;
        };
        {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            *calls.entry((program, procedure)).or_default() += 1;
        }
        let how = self.how().clone();
        let asks = program != PORTMAPPER && procedure != 0;
        if how.silent || how.only_null && asks {
            return None;
        }
        let mut xid = xid;
        if program != PORTMAPPER {
            std::thread::sleep(how.delay);
            match how.mischief {
                Some(Mischief::OtherCall) => xid ^= 0x5555,
                Some(Mischief::Rubbish) => return Some(b"rubbish".repeat(20)),
                Some(Mischief::Denies) => return Some(bytes_of(&[xid, 1, 1, 1, 5])),
                Some(Mischief::NoProgram) => return Some(bytes_of(&[xid, 1, 0, 0, 0, 1])),
                _ => {}
            }
        }
        let versions = match program {
            _ if !programs.contains(&program) => None,
            PORTMAPPER => Some((2, 4)),
            NFS => how.nfs,
            _ => how.mountd,
        };
        let Some((low, high)) = versions else {
            return Some(bytes_of(&[xid, 1, 0, 0, 0, 1]));
        };
        if !(low..=high).contains(&version) {
            return Some(bytes_of(&[xid, 1, 0, 0, 0, 2, low, high]));
        }
        let mut reply = bytes_of(&[xid, 1, 0, 0, 0, 0]);
        match (program, procedure) {
            (_, 0) => {}
            (NFS, COMPOUND) if version == 4 => reply.extend(bytes_of(&[how.compound?, 0, 0])),
            (MOUNTD, EXPORT) => list(&mut reply, &how.exports),
            (PORTMAPPER, 3) => self.place(&mut reply, &how, version, &words[10..])?,
            _ => return Some(bytes_of(&[xid, 1, 0, 0, 0, 3])),
        }
        Some(reply)
    }

    /// GETPORT of version 2, GETADDR of 3 and 4.
    fn place(&self, reply: &mut Vec<u8>, how: &FakeNfs, version: u32, words: &[u32]) -> Option<()> {
        let program = *words.first()?;
        let udp = if version == 2 {
            *words.get(2)? == 17
        } else {
            // The first bytes of the network's name: `udp6`.
            *words.get(3)? >> 8 == 0x0075_6470
        };
        let served = if udp { how.udp } else { how.tcp };
        let mount_port = *self
            .mount_port
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = match program {
            NFS => how.nfs.map(|_| how.nfs_port),
            MOUNTD => how.mountd.map(|_| mount_port),
            _ => None,
        };
        // As a real one: who asks for a version that is not there is told the port of another.
        let port = known.filter(|_| served).unwrap_or(0);
        if version == 2 {
            reply.extend(u32::from(port).to_be_bytes());
        } else if port == 0 {
            reply.extend([0; 4]);
        } else {
            let [high, low] = port.to_be_bytes();
            string(reply, format!("::.{high}.{low}").as_bytes());
        }
        Some(())
    }
}

/// Sends a message in fragments.
fn send(stream: &mut TcpStream, message: &[u8], fragment: usize) -> Option<()> {
    let mut bytes = Vec::with_capacity(message.len() + 64);
    let mut chunks = message.chunks(fragment.max(1)).peekable();
    while let Some(chunk) = chunks.next() {
        let last = if chunks.peek().is_none() { 1 << 31 } else { 0 };
        bytes.extend((u32::try_from(chunk.len()).ok()? | last).to_be_bytes());
        bytes.extend(chunk);
    }
    stream.write_all(&bytes).ok()
}

fn list(reply: &mut Vec<u8>, exports: &[(Vec<u8>, Vec<Vec<u8>>)]) {
    for (path, groups) in exports {
        reply.extend(bytes_of(&[1]));
        string(reply, path);
        for group in groups {
            reply.extend(bytes_of(&[1]));
            string(reply, group);
        }
        reply.extend(bytes_of(&[0]));
    }
    reply.extend(bytes_of(&[0]));
}

fn string(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(
        u32::try_from(bytes.len())
            .expect("it is short")
            .to_be_bytes(),
    );
    to.extend(bytes);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}
