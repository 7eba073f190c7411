//! From a call to what the service is asked, and from its answer to replies.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::limits;
use crate::message::{Left, Listed, Trace};
use crate::service::{Caller, Service, ServiceError, TraceFrom};
use crate::varlink::{self, Call, CallError, encode};

/// A call that is well-formed and allowed.
#[derive(Debug)]
pub(super) struct Prepared {
    request: Request,
    /// As it was called, for the log.
    method: String,
    /// Whether a privileged caller asks.
    privileged: bool,
    /// Whether several replies are welcome.
    more: bool,
}

#[derive(Debug)]
enum Request {
    GetInfo,
    GetInterfaceDescription {
        interface: String,
    },
    Status {
        path: Option<String>,
    },
    Servers,
    Settings,
    List,
    Trace {
        path: Option<String>,
        recent: bool,
    },
    Plan,
    Reload,
    Expire {
        path: Option<String>,
    },
    Flush {
        path: Option<String>,
    },
    Upgrade {
        program: String,
    },
    Unmount {
        path: String,
    },
    Drain {
        server: String,
        now: bool,
        seconds: Option<u64>,
    },
    Undrain {
        server: String,
    },
    Pin {
        path: String,
        seconds: u64,
    },
    Unpin {
        path: String,
    },
    Stop {
        detach: bool,
    },
}

/// Checks a call: its method, its parameters, and whether this caller may make it.
pub(super) fn prepare(call: Call, privileged: bool) -> Result<Prepared, CallError> {
    let Call {
        method,
        parameters,
        more,
        ..
    } = call;
    let request = parse(&method, Parameters(parameters))?;
    if request.changes() && !privileged {
        return Err(CallError::PermissionDenied);
    }
    Ok(Prepared {
        request,
        method,
        privileged,
        more,
    })
}

fn parse(method: &str, mut parameters: Parameters) -> Result<Request, CallError> {
    let (interface, name) = method.rsplit_once('.').unwrap_or(("", method));
    let unknown = || CallError::MethodNotFound {
        method: method.to_owned(),
    };
    let request = match interface {
        varlink::SERVICE_INTERFACE => match name {
            "GetInfo" => Request::GetInfo,
            "GetInterfaceDescription" => Request::GetInterfaceDescription {
                interface: parameters.text("interface")?,
            },
            _ => return Err(unknown()),
        },
        varlink::INTERFACE => match name {
            "Status" => Request::Status {
                path: parameters.optional_path("path")?,
            },
            "Servers" => Request::Servers,
            "Settings" => Request::Settings,
            "List" => Request::List,
            "Trace" => Request::Trace {
                path: parameters.optional_path("path")?,
                recent: parameters.flag("recent")?,
            },
            "Plan" => Request::Plan,
            "Reload" => Request::Reload,
            "Expire" => Request::Expire {
                path: parameters.optional_path("path")?,
            },
            "Flush" => Request::Flush {
                path: parameters.optional_path("path")?,
            },
            "Upgrade" => match parameters.optional_path("program")? {
                Some(program) => Request::Upgrade { program },
                None => return Err(invalid("program")),
            },
            "Unmount" => match parameters.optional_path("path")? {
                Some(path) => Request::Unmount { path },
                None => return Err(invalid("path")),
            },
            "Drain" => Request::Drain {
                server: parameters.server("server")?,
                now: parameters.flag("now")?,
                seconds: parameters.number("seconds")?,
            },
            "Undrain" => Request::Undrain {
                server: parameters.server("server")?,
            },
            "Pin" => Request::Pin {
                path: parameters.path("path")?,
                seconds: parameters
                    .number("seconds")?
                    .ok_or_else(|| invalid("seconds"))?,
            },
            "Unpin" => Request::Unpin {
                path: parameters.path("path")?,
            },
            "Stop" => Request::Stop {
                detach: parameters.flag("detach")?,
            },
            _ => return Err(unknown()),
        },
        _ => {
            return Err(CallError::InterfaceNotFound {
                interface: interface.to_owned(),
            });
        }
    };
    parameters.none_left()?;
    Ok(request)
}

/// Parameters that have not been read yet.
struct Parameters(Map<String, Value>);

impl Parameters {
    fn text(&mut self, name: &str) -> Result<String, CallError> {
        match self.0.remove(name) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(invalid(name)),
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, CallError> {
        match self.0.remove(name) {
            Some(Value::Bool(flag)) => Ok(flag),
            None | Some(Value::Null) => Ok(false),
            Some(_) => Err(invalid(name)),
        }
    }

    fn optional_path(&mut self, name: &str) -> Result<Option<String>, CallError> {
        match self.0.remove(name) {
            Some(Value::String(path)) if is_path(&path) => Ok(Some(path)),
            None | Some(Value::Null) => Ok(None),
            Some(_) => Err(invalid(name)),
        }
    }

    fn path(&mut self, name: &str) -> Result<String, CallError> {
        self.optional_path(name)?.ok_or_else(|| invalid(name))
    }

    fn server(&mut self, name: &str) -> Result<String, CallError> {
        let server = self.text(name)?;
        let fits = !server.is_empty() && server.len() <= limits::SERVER_BYTES;
        match fits && !server.contains(|it: char| it.is_control() || it.is_whitespace()) {
            true => Ok(server),
            false => Err(invalid(name)),
        }
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>, CallError> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(number) => match number.as_u64() {
                Some(number) if number <= limits::LONGEST_S => Ok(Some(number)),
                _ => Err(invalid(name)),
            },
        }
    }

    /// A parameter that nobody knows is a mistake of the caller, not to be passed over.
    fn none_left(self) -> Result<(), CallError> {
        match self.0.keys().next() {
            Some(name) => Err(invalid(name)),
            None => Ok(()),
        }
    }
}

fn invalid(parameter: &str) -> CallError {
    CallError::InvalidParameter {
        parameter: parameter.to_owned(),
    }
}

/// Returns true if and only if the text is an absolute path that the kernel would take.
fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.len() < limits::PATH_BYTES && !text.contains('\0')
}

impl Request {
    /// Returns true if and only if it changes something.
    fn changes(&self) -> bool {
        match self {
            Self::GetInfo
            | Self::GetInterfaceDescription { .. }
            | Self::Status { .. }
            | Self::Servers
            | Self::Settings
            | Self::List
            | Self::Trace { .. }
            | Self::Plan => false,
            Self::Reload
            | Self::Expire { .. }
            | Self::Flush { .. }
            | Self::Upgrade { .. }
            | Self::Unmount { .. }
            | Self::Drain { .. }
            | Self::Undrain { .. }
            | Self::Pin { .. }
            | Self::Unpin { .. }
            | Self::Stop { .. } => true,
        }
    }
}

impl Prepared {
    /// How long it may take.
    pub(super) fn limit(&self) -> Duration {
        match self.request {
            Request::Stop { .. } => limits::STOP_CALL,
            Request::Plan => limits::CHANGE_CALL,
            _ if self.request.changes() => limits::CHANGE_CALL,
            _ => limits::READ_CALL,
        }
    }

    /// The call as a stream of replies, if it is one.
    pub(super) fn stream(self, uid: u32) -> Result<Stream, Self> {
        match self.request {
            Request::Trace { path, recent } if self.more => Ok(Stream {
                view: View {
                    path,
                    uid: (!self.privileged).then_some(uid),
                },
                from: match recent {
                    true => TraceFrom::Oldest,
                    false => TraceFrom::Now,
                },
                begun: false,
            }),
            _ => Err(self),
        }
    }

    /// Asks the service; returns the replies, each ready to be sent.
    pub(super) fn run(
        self,
        service: &dyn Service,
        caller: Caller,
    ) -> Result<Vec<Vec<u8>>, CallError> {
        if self.request.changes() {
            service.called(&self.method, caller);
        }
        match self.request {
            Request::GetInfo => one(&info()),
            Request::GetInterfaceDescription { interface } => describe(&interface),
            Request::Status { path } => {
                let mut status = service.status(path.as_deref())?;
                if !self.privileged {
                    status.redact_for(caller.uid);
                }
                one(&status)
            }
            Request::Servers => one(&service.servers()?),
            Request::Settings => {
                let mut settings = service.settings();
                if !self.privileged {
                    settings.redact();
                }
                one(&settings)
            }
            Request::List => list(service.list()?, self.more),
            Request::Trace { path, .. } => {
                let view = View {
                    path,
                    uid: (!self.privileged).then_some(caller.uid),
                };
                one(&recent(service, &view)?)
            }
            Request::Plan => one(&service.plan()?),
            Request::Reload => one(&service.reload()?),
            Request::Expire { path } => left(service.expire(path.as_deref())?),
            Request::Flush { path } => {
                one(&json!({ "forgotten": service.flush(path.as_deref())? }))
            }
            Request::Upgrade { program } => {
                service.upgrade(&program)?;
                one(&json!({}))
            }
            Request::Unmount { path } => left(service.unmount(&path)?),
            Request::Drain {
                server,
                now,
                seconds,
            } => left(service.drain(&server, now, seconds)?),
            Request::Undrain { server } => one(&json!({ "done": service.undrain(&server)? })),
            Request::Pin { path, seconds } => {
                service.pin(&path, seconds)?;
                one(&json!({}))
            }
            Request::Unpin { path } => one(&json!({ "done": service.unpin(&path)? })),
            Request::Stop { detach } => left(service.stop(detach)?),
        }
    }
}

/// Which requests of a trace the caller wants, and may see.
#[derive(Debug)]
pub(super) struct View {
    path: Option<String>,
    /// Only those of this user.
    uid: Option<u32>,
}

impl View {
    fn narrow(&self, trace: &mut Trace) {
        if let Some(path) = &self.path {
            trace.narrow(path);
        }
        if let Some(uid) = self.uid {
            trace.redact_for(uid);
        }
    }
}

/// All requests that are remembered.
fn recent(service: &dyn Service, view: &View) -> Result<Trace, ServiceError> {
    let mut whole = Trace::default();
    let mut from = TraceFrom::Oldest;
    // What is answered meanwhile would have no end.
    for _ in 0..limits::TRACE_BATCHES {
        let (mut trace, next) = service.trace(from, Duration::ZERO)?;
        if trace.lines.is_empty() {
            break;
        }
        whole.lost += trace.lost;
        view.narrow(&mut trace);
        whole.lines.append(&mut trace.lines);
        from = next;
    }
    Ok(whole)
}

/// A trace that is sent as it happens.
#[derive(Debug)]
pub(super) struct Stream {
    view: View,
    from: TraceFrom,
    begun: bool,
}

impl Stream {
    /// The next reply, if there is something to say within [`limits::TRACE_PAUSE`]. The first one
    /// comes at once.
    pub(super) fn next(&mut self, service: &dyn Service) -> Result<Option<Vec<u8>>, CallError> {
        let wait = if self.begun {
            limits::TRACE_PAUSE
        } else {
            Duration::ZERO
        };
        let (mut trace, next) = service.trace(self.from, wait)?;
        self.from = next;
        self.view.narrow(&mut trace);
        let first = !std::mem::replace(&mut self.begun, true);
        if first || !trace.lines.is_empty() || trace.lost > 0 {
            return success(&trace, true).map(Some);
        }
        Ok(None)
    }

    /// The reply that ends it.
    pub(super) fn last() -> Result<Vec<u8>, CallError> {
        success(&Trace::default(), false)
    }
}

/// A reply that is no error.
#[derive(Serialize)]
struct Success<'a, T> {
    parameters: &'a T,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    continues: bool,
}

fn success<T: Serialize>(parameters: &T, continues: bool) -> Result<Vec<u8>, CallError> {
    encode(&Success {
        parameters,
        continues,
    })
    .map_err(|error| CallError::Failed {
        reason: error.to_string(),
    })
}

fn one<T: Serialize>(parameters: &T) -> Result<Vec<Vec<u8>>, CallError> {
    Ok(vec![success(parameters, false)?])
}

fn left(left: Vec<Left>) -> Result<Vec<Vec<u8>>, CallError> {
    one(&json!({ "left": left }))
}

/// The list in one reply, or in pieces if the caller likes.
fn list(mounts: Vec<Listed>, more: bool) -> Result<Vec<Vec<u8>>, CallError> {
    if !more || mounts.is_empty() {
        return one(&json!({ "mounts": mounts }));
    }
    let batches = mounts.chunks(limits::LIST_BATCH);
    let last = batches.len() - 1;
    batches
        .enumerate()
        .map(|(index, batch)| success(&json!({ "mounts": batch }), index < last))
        .collect()
}

fn info() -> Value {
    json!({
        "vendor": "Piton",
        "product": "piton",
        "version": env!("CARGO_PKG_VERSION"),
        "url": env!("CARGO_PKG_REPOSITORY"),
        "interfaces": [varlink::SERVICE_INTERFACE, varlink::INTERFACE],
    })
}

fn describe(interface: &str) -> Result<Vec<Vec<u8>>, CallError> {
    let description = match interface {
        varlink::INTERFACE => varlink::DESCRIPTION,
        varlink::SERVICE_INTERFACE => varlink::SERVICE_DESCRIPTION,
        _ => {
            return Err(CallError::InterfaceNotFound {
                interface: interface.to_owned(),
            });
        }
    };
    one(&json!({ "description": description }))
}

impl From<ServiceError> for CallError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Failed { reason } => Self::Failed { reason },
            ServiceError::NoSuchPlace { path } => Self::NoSuchPlace { path },
            ServiceError::TimedOut => Self::DeadlineExceeded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, privileged: bool) -> Option<CallError> {
        let call = Call {
            method: format!("{}.{name}", varlink::INTERFACE),
            parameters: match name {
                "Unmount" | "Unpin" => {
                    Map::from_iter([("path".to_owned(), Value::from("/home/ann"))])
                }
                "Pin" => Map::from_iter([
                    ("path".to_owned(), Value::from("/home/ann")),
                    ("seconds".to_owned(), Value::from(9)),
                ]),
                "Drain" | "Undrain" => Map::from_iter([("server".to_owned(), Value::from("fs1"))]),
                "Upgrade" => Map::from_iter([("program".to_owned(), Value::from("/bin/piton"))]),
                _ => Map::new(),
            },
            ..Call::default()
        };
        prepare(call, privileged).err()
    }

    /// The methods that the description names.
    fn described() -> Vec<&'static str> {
        varlink::DESCRIPTION
            .lines()
            .filter_map(|line| line.strip_prefix("method ")?.split('(').next())
            .collect()
    }

    #[test]
    fn every_described_method_is_there_for_root() {
        assert_eq!(described().len(), 16);
        for name in described() {
            assert_eq!(refusal(name, true), None, "{name}");
        }
    }

    #[test]
    fn others_may_read_and_nothing_else() {
        let allowed: Vec<_> = described()
            .into_iter()
            .filter(|name| refusal(name, false).is_none())
            .collect();
        let reading = ["Status", "Servers", "Settings", "List", "Trace", "Plan"];
        assert_eq!(allowed, reading);
        for name in [
            "Reload", "Expire", "Flush", "Upgrade", "Unmount", "Drain", "Undrain", "Pin", "Unpin",
            "Stop",
        ] {
            assert_eq!(
                refusal(name, false),
                Some(CallError::PermissionDenied),
                "{name}"
            );
        }
    }
}
