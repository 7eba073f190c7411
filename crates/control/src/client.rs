//! The command line's end of the control socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::limits;
use crate::message::{Left, Listed, ReloadPlan, Servers, Settings, Status, Trace};
use crate::runtime::{RuntimeDir, VARIABLE};
use crate::varlink::{Call, Framer, INTERFACE, Reply, SERVICE_INTERFACE, encode};

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    framer: Framer,
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The daemon could not do it.
    #[error("{reason}")]
    Failed {
        /// Why.
        reason: String,
    },
    /// What came back is not varlink, or not of this interface's version.
    #[error("the answer makes no sense: {0}")]
    Garbled(String),
    /// A system call failed.
    #[error("control socket {}: {cause}", socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The connection ended without an answer.
    #[error("the daemon closed the connection without an answer")]
    Lost,
    /// There is no socket.
    #[error(
        "no piton daemon runs here (no socket at {}): start it with `piton daemon`, or name its \
         runtime directory in {VARIABLE}",
        socket.display()
    )]
    NoDaemon {
        /// Where it was looked for.
        socket: PathBuf,
    },
    /// Nothing of the automounter's is at a path.
    #[error("nothing of the automounter's is at {path}: `piton status` names its mount points")]
    NoSuchPlace {
        /// The path.
        path: String,
    },
    /// There is a socket that nobody listens to.
    #[error(
        "no piton daemon runs here (nobody listens at {}; its daemon has ended): start it with \
         `piton daemon`",
        socket.display()
    )]
    NotListening {
        /// The socket.
        socket: PathBuf,
    },
    /// Only root and the daemon's own user may do this, or even connect.
    #[error("not permitted: only root and the daemon's own user may do this")]
    PermissionDenied,
    /// The daemon answered with an error that this client does not know.
    #[error("the daemon answered {error} {parameters}")]
    Remote {
        /// The error's name.
        error: String,
        /// Its details, as JSON.
        parameters: String,
    },
    /// No answer came in time.
    #[error("not done within the time limit; it may still happen (see `piton status`)")]
    TimedOut,
    /// Too many connections are open.
    #[error("the daemon has too many connections open: try again")]
    TooManyConnections,
}

impl Client {
    /// Connects to the daemon of a runtime directory.
    ///
    /// Waits a little while the daemon's queue is full, or while it is being replaced by its
    /// keeper.
    ///
    /// # Errors
    /// [`ClientError::NoDaemon`], [`ClientError::NotListening`],
    /// [`ClientError::PermissionDenied`] or [`ClientError::Io`].
    pub fn connect(dir: &RuntimeDir) -> Result<Self, ClientError> {
        let socket = dir.socket();
        let io = |cause: io::Error| ClientError::Io {
            socket: socket.clone(),
            cause,
        };
        let address = SocketAddrUnix::new(&socket).map_err(|errno| io(errno.into()))?;
        let until = Instant::now() + limits::CONNECT;
        loop {
            let fd = rustix::net::socket_with(
                AddressFamily::UNIX,
                SocketType::STREAM,
                SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                None,
            )
            .map_err(|errno| io(errno.into()))?;
            let again = match rustix::net::connect(&fd, &address) {
                Ok(()) => {
                    let stream = UnixStream::from(fd);
                    stream.set_nonblocking(false).map_err(io)?;
                    return Ok(Self {
                        stream,
                        framer: Framer::new(limits::REPLY_BYTES),
                    });
                }
                Err(Errno::NOENT | Errno::NOTDIR) => return Err(ClientError::NoDaemon { socket }),
                Err(Errno::ACCESS | Errno::PERM) => return Err(ClientError::PermissionDenied),
                Err(Errno::CONNREFUSED) if dir.has_live_pid() => ClientError::NotListening {
                    socket: socket.clone(),
                },
                Err(Errno::CONNREFUSED) => return Err(ClientError::NotListening { socket }),
                Err(Errno::AGAIN | Errno::INTR) => ClientError::TimedOut,
                Err(errno) => return Err(io(errno.into())),
            };
            if Instant::now() >= until {
                return Err(again);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The daemon's state; with a path only what is at, below or above it.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn status(&mut self, path: Option<&str>) -> Result<Status, ClientError> {
        self.call(&ours("Status"), json!({ "path": path }), limits::READ_CALL)
    }

    /// What is known of servers, and what operators asked for.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn servers(&mut self) -> Result<Servers, ClientError> {
        self.call(&ours("Servers"), json!({}), limits::GLANCE)
    }

    /// What the daemon was told at its start.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn settings(&mut self) -> Result<Settings, ClientError> {
        self.call(&ours("Settings"), json!({}), limits::GLANCE)
    }

    /// What is mounted, a line each.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn list(&mut self) -> Result<Vec<Listed>, ClientError> {
        #[derive(Deserialize)]
        struct Batch {
            mounts: Vec<Listed>,
        }
        let mut all = Vec::new();
        self.call_more(
            &ours("List"),
            json!({}),
            limits::READ_CALL,
            |batch: Batch| {
                all.extend(batch.mounts);
            },
        )?;
        Ok(all)
    }

    /// The requests that were answered last, at or below a path or all.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn trace(&mut self, path: Option<&str>) -> Result<Trace, ClientError> {
        self.call(&ours("Trace"), json!({ "path": path }), limits::READ_CALL)
    }

    /// Hands over requests as they are answered, until `each` returns false or the daemon ends. The
    /// first call of `each` comes at once, without lines.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn follow(
        &mut self,
        path: Option<&str>,
        mut each: impl FnMut(Trace) -> bool,
    ) -> Result<(), ClientError> {
        let until = Instant::now() + limits::READ_CALL;
        self.send(&ours("Trace"), json!({ "path": path }), true, until)?;
        loop {
            let reply = self.receive(Instant::now() + limits::FOLLOW)?;
            if !each(result(reply.parameters)?) || !reply.continues {
                return Ok(());
            }
        }
    }

    /// What a reload would change.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn plan(&mut self) -> Result<ReloadPlan, ClientError> {
        self.call(&ours("Plan"), json!({}), limits::CHANGE_CALL)
    }

    /// Reads the maps again and applies what changed.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn reload(&mut self) -> Result<ReloadPlan, ClientError> {
        self.call(&ours("Reload"), json!({}), limits::CHANGE_CALL)
    }

    /// Unmounts what is idle, at or below a path or everywhere; returns what stays.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn expire(&mut self, path: Option<&str>) -> Result<Vec<Left>, ClientError> {
        self.left("Expire", json!({ "path": path }), limits::CHANGE_CALL)
    }

    /// Forgets failures that are answered from memory, at or below a path or everywhere; returns
    /// how many.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn flush(&mut self, path: Option<&str>) -> Result<u64, ClientError> {
        #[derive(Deserialize)]
        struct Answer {
            forgotten: u64,
        }
        let parameters = json!({ "path": path });
        let answer: Answer = self.call(&ours("Flush"), parameters, limits::CHANGE_CALL)?;
        Ok(answer.forgotten)
    }

    /// Has the program at a path take over from the daemon and its keeper. Returns once that has
    /// begun; [`Client::status`] of a new connection says who serves.
    ///
    /// # Errors
    /// As [`Client::call`]; [`ClientError::Failed`] when the program is not fit for it.
    pub fn upgrade(&mut self, program: &str) -> Result<(), ClientError> {
        let parameters = json!({ "program": program });
        self.call::<serde_json::Value>(&ours("Upgrade"), parameters, limits::CHANGE_CALL)?;
        Ok(())
    }

    /// Unmounts what is mounted at a path; returns what stays.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn unmount(&mut self, path: &str) -> Result<Vec<Left>, ClientError> {
        self.left("Unmount", json!({ "path": path }), limits::CHANGE_CALL)
    }

    /// Avoids a server, for so many seconds or until [`Client::undrain`]; returns what is still
    /// mounted from it.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn drain(
        &mut self,
        server: &str,
        now: bool,
        seconds: Option<u64>,
    ) -> Result<Vec<Left>, ClientError> {
        let parameters = json!({ "server": server, "now": now, "seconds": seconds });
        self.left("Drain", parameters, limits::CHANGE_CALL)
    }

    /// Uses a server again; returns whether it was drained.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn undrain(&mut self, server: &str) -> Result<bool, ClientError> {
        self.done("Undrain", json!({ "server": server }))
    }

    /// Keeps what is at a path as it is for so many seconds.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn pin(&mut self, path: &str, seconds: u64) -> Result<(), ClientError> {
        let parameters = json!({ "path": path, "seconds": seconds });
        self.call::<Value>(&ours("Pin"), parameters, limits::CHANGE_CALL)?;
        Ok(())
    }

    /// Ends that; returns whether the path was pinned.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn unpin(&mut self, path: &str) -> Result<bool, ClientError> {
        self.done("Unpin", json!({ "path": path }))
    }

    fn done(&mut self, name: &str, parameters: Value) -> Result<bool, ClientError> {
        #[derive(Deserialize)]
        struct Answer {
            done: bool,
        }
        let answer: Answer = self.call(&ours(name), parameters, limits::CHANGE_CALL)?;
        Ok(answer.done)
    }

    /// Ends the daemon; returns what stays.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn stop(&mut self, detach: bool) -> Result<Vec<Left>, ClientError> {
        self.left("Stop", json!({ "detach": detach }), limits::STOP_CALL)
    }

    fn left(
        &mut self,
        name: &str,
        parameters: Value,
        limit: Duration,
    ) -> Result<Vec<Left>, ClientError> {
        #[derive(Deserialize)]
        struct Answer {
            left: Vec<Left>,
        }
        Ok(self.call::<Answer>(&ours(name), parameters, limit)?.left)
    }

    /// Calls a method by its full name and waits for its one reply.
    ///
    /// # Errors
    /// What the daemon answered, or why no answer came.
    pub fn call<R: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: Value,
        limit: Duration,
    ) -> Result<R, ClientError> {
        let until = Instant::now() + limit + limits::CLIENT_SLACK;
        self.send(method, parameters, false, until)?;
        result(self.receive(until)?.parameters)
    }

    /// Calls a method and hands over each of its replies.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn call_more<R: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: Value,
        limit: Duration,
        mut each: impl FnMut(R),
    ) -> Result<(), ClientError> {
        let until = Instant::now() + limit + limits::CLIENT_SLACK;
        self.send(method, parameters, true, until)?;
        loop {
            let reply = self.receive(until)?;
            each(result(reply.parameters)?);
            if !reply.continues {
                return Ok(());
            }
        }
    }

    fn send(
        &mut self,
        method: &str,
        parameters: Value,
        more: bool,
        until: Instant,
    ) -> Result<(), ClientError> {
        let Value::Object(parameters) = parameters else {
            return Err(ClientError::Garbled(
                "parameters are not an object".to_owned(),
            ));
        };
        let call = Call {
            method: method.to_owned(),
            parameters,
            oneway: false,
            more,
        };
        let bytes = encode(&call).map_err(|error| ClientError::Garbled(error.to_string()))?;
        self.stream
            .set_write_timeout(Some(remaining(until)?))
            .map_err(from_io)?;
        match self.stream.write_all(&bytes) {
            // The daemon may have said why before it closed the connection.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(from_io),
        }
    }

    fn receive(&mut self, until: Instant) -> Result<Reply, ClientError> {
        let mut chunk = [0; limits::READ_CHUNK];
        loop {
            let garbled = |error: &dyn std::fmt::Display| ClientError::Garbled(error.to_string());
            if let Some(message) = self
                .framer
                .next_message()
                .map_err(|error| garbled(&error))?
            {
                let reply: Reply =
                    serde_json::from_slice(&message).map_err(|error| garbled(&error))?;
                return match reply.error {
                    Some(error) => Err(remote(error, reply.parameters)),
                    None => Ok(reply),
                };
            }
            self.stream
                .set_read_timeout(Some(remaining(until)?))
                .map_err(from_io)?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ClientError::Lost),
                Ok(count) => self.framer.push(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(from_io(error)),
            }
        }
    }
}

fn ours(name: &str) -> String {
    format!("{INTERFACE}.{name}")
}

fn result<R: DeserializeOwned>(parameters: Map<String, Value>) -> Result<R, ClientError> {
    serde_json::from_value(Value::Object(parameters))
        .map_err(|error| ClientError::Garbled(error.to_string()))
}

fn remaining(until: Instant) -> Result<Duration, ClientError> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(ClientError::TimedOut)
    } else {
        Ok(left)
    }
}

/// What a failed read or write on the connection means.
fn from_io(error: io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::TimedOut,
        _ => ClientError::Lost,
    }
}

/// What an error reply means.
fn remote(error: String, mut parameters: Map<String, Value>) -> ClientError {
    let mut text = |name: &str| match parameters.remove(name) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let name = error
        .strip_prefix(INTERFACE)
        .and_then(|rest| rest.strip_prefix('.'));
    match name {
        Some("DeadlineExceeded") => ClientError::TimedOut,
        Some("Failed") => ClientError::Failed {
            reason: text("reason"),
        },
        Some("NoSuchPlace") => ClientError::NoSuchPlace { path: text("path") },
        Some("PermissionDenied") => ClientError::PermissionDenied,
        Some("TooManyConnections") => ClientError::TooManyConnections,
        _ if error == format!("{SERVICE_INTERFACE}.PermissionDenied") => {
            ClientError::PermissionDenied
        }
        _ => ClientError::Remote {
            error,
            parameters: Value::Object(parameters).to_string(),
        },
    }
}
