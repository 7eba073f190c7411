//! The server with a service that does nothing real, over real sockets.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use piton_control::message::{
    Left, Listed, ReloadPlan, Requester, Settings, Status, Trace, TraceLine,
};
use piton_control::{
    Caller, Client, ClientError, RuntimeDir, Server, Service, ServiceError, TraceFrom, limits,
};
use serde_json::{Value, json};

/// A service with a handful of canned answers.
#[derive(Default)]
struct Canned {
    stopped: AtomicUsize,
    log: Mutex<Vec<(String, u32)>>,
    mounts: usize,
    answered: AtomicUsize,
}

impl Service for Canned {
    fn status(&self, path: Option<&str>) -> Result<Status, ServiceError> {
        match path {
            Some("/nowhere") => Err(ServiceError::NoSuchPlace {
                path: "/nowhere".to_owned(),
            }),
            Some("/panic") => panic!("on purpose"),
            Some("/slow") => {
                std::thread::sleep(limits::READ_CALL * 2);
                Ok(Status::default())
            }
            _ => Ok(Status {
                version: "1".to_owned(),
                ..Status::default()
            }),
        }
    }

    fn settings(&self) -> Settings {
        Settings::default()
    }

    fn list(&self) -> Result<Vec<Listed>, ServiceError> {
        let listed = |number| Listed {
            path: format!("/m/{number}"),
            ..Listed::default()
        };
        Ok((0..self.mounts).map(listed).collect())
    }

    /// As many lines as were answered, ten at a time, of two users in turn.
    fn trace(&self, from: TraceFrom, wait: Duration) -> Result<(Trace, TraceFrom), ServiceError> {
        let answered = self.answered.load(Ordering::SeqCst) as u64;
        let start = match from {
            TraceFrom::Oldest => 0,
            TraceFrom::Now => answered,
            TraceFrom::At(number) => number,
        };
        if start >= answered {
            std::thread::sleep(wait.min(Duration::from_millis(10)));
            return Ok((Trace::default(), TraceFrom::At(start)));
        }
        let end = answered.min(start + 10);
        let line = |number| TraceLine {
            number,
            kind: "access".to_owned(),
            path: format!("/m/{}", number % 2),
            requester: Requester {
                uid: u32::try_from(number % 2).expect("small"),
                ..Requester::default()
            },
            ..TraceLine::default()
        };
        let trace = Trace {
            lines: (start..end).map(line).collect(),
            lost: 0,
        };
        Ok((trace, TraceFrom::At(end)))
    }

    fn plan(&self) -> Result<ReloadPlan, ServiceError> {
        Ok(ReloadPlan {
            unchanged: 3,
            ..ReloadPlan::default()
        })
    }

    fn reload(&self) -> Result<ReloadPlan, ServiceError> {
        Err(ServiceError::failed("the master map is gone"))
    }

    fn expire(&self, path: Option<&str>) -> Result<Vec<Left>, ServiceError> {
        Ok(vec![Left {
            path: path.unwrap_or("all").to_owned(),
            reason: "busy".to_owned(),
        }])
    }

    fn upgrade(&self, _: &str) -> Result<(), ServiceError> {
        Ok(())
    }

    fn flush(&self, path: Option<&str>) -> Result<u64, ServiceError> {
        Ok(if path.is_some() { 1 } else { 12 })
    }

    fn unmount(&self, _path: &str) -> Result<Vec<Left>, ServiceError> {
        Err(ServiceError::TimedOut)
    }

    fn drain(&self, _: &str, _: bool, _: Option<u64>) -> Result<Vec<Left>, ServiceError> {
        Ok(Vec::new())
    }

    fn undrain(&self, server: &str) -> Result<bool, ServiceError> {
        Ok(server == "fs1")
    }

    fn pin(&self, path: &str, _: u64) -> Result<(), ServiceError> {
        match path {
            "/nowhere" => Err(ServiceError::NoSuchPlace {
                path: path.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn unpin(&self, path: &str) -> Result<bool, ServiceError> {
        Ok(path == "/home")
    }

    fn stop(&self, _detach: bool) -> Result<Vec<Left>, ServiceError> {
        self.stopped.fetch_add(1, Ordering::SeqCst);
        Ok(Vec::new())
    }

    fn called(&self, method: &str, caller: Caller) {
        self.log
            .lock()
            .expect("not poisoned")
            .push((method.to_owned(), caller.pid));
    }
}

struct Bed {
    _root: tempfile::TempDir,
    dir: RuntimeDir,
    service: Arc<Canned>,
    server: Option<Server>,
}

fn bed() -> Bed {
    bed_with(Canned::default())
}

fn bed_with(canned: Canned) -> Bed {
    let root = tempfile::tempdir().expect("a temporary directory");
    let dir = RuntimeDir::new(root.path().join("run"));
    let service = Arc::new(canned);
    let server = Server::bind(&dir, service.clone()).expect("a server");
    Bed {
        _root: root,
        dir,
        service,
        server: Some(server),
    }
}

impl Bed {
    fn client(&self) -> Client {
        Client::connect(&self.dir).expect("a connection")
    }

    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(self.dir.socket()).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a time limit");
        stream
    }
}

/// Sends a call and reads one reply.
fn ask(stream: &mut UnixStream, call: &Value) -> Value {
    stream
        .write_all(format!("{call}\0").as_bytes())
        .expect("sent");
    reply(stream)
}

fn reply(stream: &mut UnixStream) -> Value {
    let mut bytes = Vec::new();
    let mut byte = [1];
    // One by one, so that the next reply stays where it is.
    while byte != [0] {
        stream.read_exact(&mut byte).expect("a byte");
        bytes.extend(byte);
    }
    serde_json::from_slice(&bytes[..bytes.len() - 1]).expect("JSON")
}

fn ended(stream: &mut UnixStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => rest.is_empty(),
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn every_call_of_the_client_arrives_and_its_answer_comes_back() {
    let bed = bed();
    let mut client = bed.client();
    assert_eq!(client.status(None).expect("status").version, "1");
    assert_eq!(client.plan().expect("plan").unchanged, 3);
    assert_eq!(client.list().expect("list"), []);
    let left = client.expire(Some("/home")).expect("expire");
    assert_eq!(
        (left[0].path.as_str(), left[0].reason.as_str()),
        ("/home", "busy")
    );
    assert_eq!(client.expire(None).expect("expire")[0].path, "all");
    assert!(matches!(
        client.unmount("/home/x"),
        Err(ClientError::TimedOut)
    ));
    assert!(matches!(client.reload(),
        Err(ClientError::Failed { reason }) if reason == "the master map is gone"));
    assert!(matches!(client.status(Some("/nowhere")),
        Err(ClientError::NoSuchPlace { path }) if path == "/nowhere"));
    assert_eq!(client.stop(true).expect("stop"), []);
    assert_eq!(bed.service.stopped.load(Ordering::SeqCst), 1);
    let log = bed.service.log.lock().expect("not poisoned");
    assert_eq!(log.len(), 5, "reading calls are not logged: {log:?}");
    assert!(
        log.iter().all(|(_, pid)| *pid == std::process::id()),
        "{log:?}"
    );
}

#[test]
fn a_long_list_comes_in_pieces_to_who_can_take_them() {
    for mounts in [0, 1, limits::LIST_BATCH, limits::LIST_BATCH + 1, 1000] {
        let bed = bed_with(Canned {
            mounts,
            ..Canned::default()
        });
        assert_eq!(bed.client().list().expect("list").len(), mounts);
        let mut raw = bed.raw();
        let whole = ask(&mut raw, &json!({"method": "org.piton.Automounter.List"}));
        assert_eq!(
            whole["parameters"]["mounts"]
                .as_array()
                .expect("an array")
                .len(),
            mounts
        );
        assert_eq!(whole.get("continues"), None);
    }
}

#[test]
fn a_trace_has_what_was_answered_last() {
    let bed = bed();
    assert_eq!(bed.client().trace(None).expect("trace").lines, []);
    bed.service.answered.store(25, Ordering::SeqCst);
    let trace = bed.client().trace(None).expect("trace");
    let numbers: Vec<_> = trace.lines.iter().map(|line| line.number).collect();
    assert_eq!(numbers, (0..25).collect::<Vec<_>>());
    let trace = bed.client().trace(Some("/m/1")).expect("trace");
    assert_eq!(trace.lines.len(), 12);
    // Without end, it is cut.
    bed.service.answered.store(100_000, Ordering::SeqCst);
    let trace = bed.client().trace(None).expect("trace");
    assert_eq!(trace.lines.len(), limits::TRACE_BATCHES * 10);
}

#[test]
fn a_trace_goes_on_until_its_reader_leaves() {
    let bed = bed();
    let service = bed.service.clone();
    let mut numbers = Vec::new();
    let mut client = bed.client();
    let followed = client.follow(Some("/m/0"), |trace| {
        numbers.extend(trace.lines.iter().map(|line| line.number));
        service.answered.fetch_add(5, Ordering::SeqCst);
        numbers.len() < 20
    });
    followed.expect("a stream");
    let even: Vec<u64> = (0..).step_by(2).take(numbers.len()).collect();
    assert_eq!(numbers, even);
    drop(client);
    // Its place is given back.
    for _ in 0..limits::CONNECTIONS * 2 {
        let mut client = loop {
            match Client::connect(&bed.dir).map(|mut client| client.plan().map(|_| client)) {
                Ok(Ok(client)) => break client,
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        client.follow(None, |_| false).expect("the first reply");
    }
}

#[test]
fn a_trace_ends_with_the_server() {
    let mut bed = bed();
    let mut client = bed.client();
    let server = bed.server.take();
    let mut server = Some(server);
    let followed = client.follow(None, |_| {
        let server = server.take();
        std::thread::spawn(move || drop(server));
        true
    });
    followed.expect("a last reply");
}

#[test]
fn the_service_describes_itself() {
    let bed = bed();
    let mut raw = bed.raw();
    let info = ask(&mut raw, &json!({"method": "org.varlink.service.GetInfo"}));
    let interfaces = json!(["org.varlink.service", "org.piton.Automounter"]);
    assert_eq!(info["parameters"]["interfaces"], interfaces);
    for interface in ["org.varlink.service", "org.piton.Automounter"] {
        let call = json!({"method": "org.varlink.service.GetInterfaceDescription",
            "parameters": {"interface": interface}});
        let answer = ask(&mut raw, &call);
        let text = answer["parameters"]["description"]
            .as_str()
            .expect("text")
            .to_owned();
        assert!(text.contains(&format!("interface {interface}\n")), "{text}");
    }
}

#[test]
fn mistakes_are_answered_with_the_standard_errors() {
    let bed = bed();
    let mut raw = bed.raw();
    let mut error = |method: &str, parameters: Value| {
        let answer = ask(
            &mut raw,
            &json!({"method": method, "parameters": parameters}),
        );
        let name = answer["error"].as_str().expect("an error");
        format!(
            "{} {}",
            name.rsplit('.').next().expect("a name"),
            answer["parameters"]
        )
    };
    let ours = |name: &str| format!("org.piton.Automounter.{name}");
    assert_eq!(
        error(&ours("Dance"), json!({})),
        r#"MethodNotFound {"method":"org.piton.Automounter.Dance"}"#
    );
    assert_eq!(
        error("org.varlink.service.Dance", json!({})),
        r#"MethodNotFound {"method":"org.varlink.service.Dance"}"#
    );
    assert_eq!(
        error("org.example.Dance", json!({})),
        r#"InterfaceNotFound {"interface":"org.example"}"#
    );
    assert_eq!(
        error("Dance", json!({})),
        r#"InterfaceNotFound {"interface":""}"#
    );
    let get = "org.varlink.service.GetInterfaceDescription";
    assert_eq!(
        error(get, json!({"interface": "org.example"})),
        r#"InterfaceNotFound {"interface":"org.example"}"#
    );
    assert_eq!(
        error(get, json!({})),
        r#"InvalidParameter {"parameter":"interface"}"#
    );
    for bad in [
        json!({}),
        json!({"path": null}),
        json!({"path": 5}),
        json!({"path": "home"}),
        json!({"path": "/a\u{0}b"}),
        json!({"path": format!("/{}", "x".repeat(4096))}),
    ] {
        assert_eq!(
            error(&ours("Unmount"), bad),
            r#"InvalidParameter {"parameter":"path"}"#
        );
    }
    assert_eq!(
        error(&ours("Stop"), json!({"detach": "yes"})),
        r#"InvalidParameter {"parameter":"detach"}"#
    );
    assert_eq!(
        error(&ours("Status"), json!({"path": "/x", "colour": 1})),
        r#"InvalidParameter {"parameter":"colour"}"#
    );
    assert_eq!(bed.service.stopped.load(Ordering::SeqCst), 0);
}

#[test]
fn calls_in_one_write_are_answered_in_order() {
    let bed = bed();
    let mut raw = bed.raw();
    let info = r#"{"method":"org.varlink.service.GetInfo"}"#;
    let plan = r#"{"method":"org.piton.Automounter.Plan"}"#;
    raw.write_all(format!("{info}\0{plan}\0{info}").as_bytes())
        .expect("sent");
    assert_eq!(reply(&mut raw)["parameters"]["product"], "piton");
    assert_eq!(reply(&mut raw)["parameters"]["unchanged"], 3);
    raw.write_all(b"\0").expect("sent");
    assert_eq!(reply(&mut raw)["parameters"]["product"], "piton");
}

#[test]
fn a_oneway_call_is_carried_out_and_not_answered() {
    let bed = bed();
    let mut raw = bed.raw();
    let stop = r#"{"method":"org.piton.Automounter.Stop","oneway":true}"#;
    raw.write_all(format!("{stop}\0").as_bytes()).expect("sent");
    let next = ask(&mut raw, &json!({"method": "org.piton.Automounter.Plan"}));
    assert_eq!(next["parameters"]["unchanged"], 3);
    assert_eq!(bed.service.stopped.load(Ordering::SeqCst), 1);
}

#[test]
fn a_panic_of_the_service_costs_that_call() {
    let bed = bed();
    let mut client = bed.client();
    assert!(matches!(
        client.status(Some("/panic")),
        Err(ClientError::Failed { .. })
    ));
    assert_eq!(client.status(None).expect("status").version, "1");
}

#[test]
fn what_is_not_a_call_ends_the_connection_and_no_other() {
    let bed = bed();
    let mut client = bed.client();
    let deep = "[".repeat(100_000);
    for garbage in ["", "nonsense", "[]", "{\"method\":5}", "\u{fffd}", &deep] {
        let mut raw = bed.raw();
        raw.write_all(format!("{garbage}\0").as_bytes())
            .expect("sent");
        assert!(ended(&mut raw), "{garbage}");
    }
    assert_eq!(client.status(None).expect("status").version, "1");
}

#[test]
fn any_bytes_leave_the_server_working() {
    let bed = bed();
    let mut random = 88_172_645_463_325_252_u64;
    for _ in 0..300 {
        let mut bytes = Vec::new();
        for _ in 0..64 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            bytes.extend(
                random
                    .to_le_bytes()
                    .map(|byte| byte & (random as u8 | 0x7b)),
            );
        }
        let mut raw = bed.raw();
        // The server may have closed the connection half way.
        let _ = raw.write_all(&bytes);
        let _ = raw.shutdown(std::net::Shutdown::Write);
        let _ = raw.read_to_end(&mut Vec::new());
    }
    assert_eq!(bed.client().status(None).expect("status").version, "1");
}

#[test]
fn a_request_beyond_the_limit_ends_the_connection() {
    let bed = bed();
    let call = |length: usize| {
        let head = r#"{"method":"org.piton.Automounter.Plan","x":""#;
        let padding = "y".repeat(length - head.len() - 2);
        format!("{head}{padding}\"}}\0")
    };
    let mut raw = bed.raw();
    raw.write_all(call(limits::REQUEST_BYTES).as_bytes())
        .expect("sent");
    assert_eq!(reply(&mut raw)["parameters"]["unchanged"], 3);
    let mut raw = bed.raw();
    let _ = raw.write_all(call(limits::REQUEST_BYTES + 1).as_bytes());
    assert!(ended(&mut raw));
}

#[test]
fn a_client_that_dawdles_with_its_request_is_left() {
    let bed = bed();
    let mut slow = bed.raw();
    slow.write_all(b"{\"method\":").expect("sent");
    let began = Instant::now();
    // Others are served meanwhile.
    assert_eq!(bed.client().status(None).expect("status").version, "1");
    assert!(began.elapsed() < limits::ARRIVAL);
    assert!(ended(&mut slow));
    assert!(began.elapsed() < limits::ARRIVAL * 4);
}

#[test]
fn a_call_that_overruns_is_answered_in_time_and_the_connection_lives() {
    let bed = bed();
    let mut raw = bed.raw();
    let slow = json!({"method": "org.piton.Automounter.Status", "parameters": {"path": "/slow"}});
    let began = Instant::now();
    assert_eq!(
        ask(&mut raw, &slow)["error"],
        "org.piton.Automounter.DeadlineExceeded"
    );
    assert!(began.elapsed() >= limits::READ_CALL);
    let next = ask(&mut raw, &json!({"method": "org.piton.Automounter.Plan"}));
    assert_eq!(next["parameters"]["unchanged"], 3);
}

/// Waits until the other end is closed, without reading.
fn wait_for_hang_up(stream: &UnixStream) {
    let limit = rustix::event::Timespec {
        tv_sec: 60,
        tv_nsec: 0,
    };
    let mut fds = [rustix::event::PollFd::new(
        stream,
        rustix::event::PollFlags::HUP,
    )];
    rustix::event::poll(&mut fds, Some(&limit)).expect("a wait");
    assert!(
        fds[0].revents().contains(rustix::event::PollFlags::HUP),
        "it is not left"
    );
}

#[test]
fn a_client_that_does_not_read_its_reply_is_left() {
    let bed = bed_with(Canned {
        mounts: 50_000,
        ..Canned::default()
    });
    let mut deaf = bed.raw();
    deaf.write_all(b"{\"method\":\"org.piton.Automounter.List\"}\0")
        .expect("sent");
    // Others are served meanwhile.
    assert_eq!(bed.client().status(None).expect("status").version, "1");
    wait_for_hang_up(&deaf);
    let mut rest = Vec::new();
    let end = deaf.read_to_end(&mut rest);
    assert!(
        end.is_err() || rest.last() != Some(&0),
        "the whole reply was still delivered"
    );
}

#[test]
fn root_gets_all_places_and_one_more_is_turned_away_with_a_word() {
    let bed = bed();
    let mut open: Vec<UnixStream> = (0..limits::CONNECTIONS).map(|_| bed.raw()).collect();
    for stream in &mut open {
        let info = ask(stream, &json!({"method": "org.varlink.service.GetInfo"}));
        assert_eq!(info["parameters"]["product"], "piton");
    }
    let refused = bed.client().status(None);
    assert!(
        matches!(refused, Err(ClientError::TooManyConnections)),
        "{refused:?}"
    );
    open.pop();
    // The place is free once the server has seen the end of the connection.
    let until = Instant::now() + Duration::from_secs(60);
    while bed.client().status(None).is_err() {
        assert!(Instant::now() < until, "the place is not given back");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_end_does_not_wait_for_idle_clients() {
    // What else the machine does only adds to it.
    let took = (0..3).map(|_| {
        let mut bed = bed();
        let _idle = bed.client();
        let began = Instant::now();
        bed.server.take().expect("it runs").shutdown();
        began.elapsed()
    });
    assert!(took.min() < Some(limits::FAREWELL));
}

#[test]
fn the_end_lets_idle_clients_go_and_removes_the_socket() {
    let mut bed = bed();
    let mut idle = bed.raw();
    assert_eq!(
        ask(&mut idle, &json!({"method": "org.piton.Automounter.Plan"}))["parameters"]["unchanged"],
        3
    );
    bed.server.take().expect("it runs").shutdown();
    assert!(ended(&mut idle));
    assert!(matches!(
        Client::connect(&bed.dir),
        Err(ClientError::NoDaemon { .. })
    ));
}

#[test]
fn a_successor_takes_the_place_of_the_socket_and_keeps_it() {
    let mut bed = bed();
    let successor = Server::bind(&bed.dir, bed.service.clone()).expect("a server");
    bed.server.take().expect("it runs").shutdown();
    assert_eq!(bed.client().status(None).expect("status").version, "1");
    successor.shutdown();
}

#[test]
fn a_client_says_why_it_cannot_connect() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let dir = RuntimeDir::new(root.path());
    let error = Client::connect(&dir).expect_err("no daemon").to_string();
    let socket = dir.socket().display().to_string();
    assert!(error.contains(&format!(
        "no piton daemon runs here (no socket at {socket})"
    )));
    drop(std::os::unix::net::UnixListener::bind(dir.socket()).expect("bound"));
    let error = Client::connect(&dir).expect_err("nobody listens");
    assert!(matches!(error, ClientError::NotListening { .. }), "{error}");
    let long = RuntimeDir::new(root.path().join("x".repeat(200)));
    assert!(matches!(
        Client::connect(&long),
        Err(ClientError::Io { .. })
    ));
}

#[test]
fn the_socket_is_open_to_everybody() {
    use std::os::unix::fs::PermissionsExt;
    let bed = bed();
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(&bed.dir.socket()), 0o666);
    assert_eq!(mode(bed.dir.path()), 0o755);
}
