//! Varlink: calls, replies, errors and how they are framed.
//!
//! A message is a JSON object in UTF-8, ended by a NUL byte. A call names its method by the
//! interface's name, a dot and the method's own name.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::limits;

/// The interface's name.
pub const INTERFACE: &str = "org.piton.Automounter";

/// The interface's description in varlink's own language.
pub const DESCRIPTION: &str = include_str!("org.piton.Automounter.varlink");

/// The interface that every varlink service has.
pub const SERVICE_INTERFACE: &str = "org.varlink.service";

/// Its description.
pub const SERVICE_DESCRIPTION: &str = include_str!("org.varlink.service.varlink");

/// A call as it is sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// `interface.Method`.
    pub method: String,
    /// Parameters by name.
    #[serde(default, deserialize_with = "object_or_null")]
    pub parameters: Map<String, Value>,
    /// No reply is wanted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oneway: bool,
    /// Several replies are welcome.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
}

/// A reply as it is sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The error's name, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Results, or the error's details, by name.
    #[serde(default, deserialize_with = "object_or_null")]
    pub parameters: Map<String, Value>,
    /// Another reply to the same call follows.
    #[serde(default, skip_serializing_if = "is_false")]
    pub continues: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Clients write absent parameters as nothing, as `null` or as `{}`.
fn object_or_null<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Map<String, Value>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Why a call was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// It was not done in time.
    DeadlineExceeded,
    /// It failed; the reason is for people.
    Failed {
        /// Why.
        reason: String,
    },
    /// No such interface.
    InterfaceNotFound {
        /// As the caller named it.
        interface: String,
    },
    /// A parameter is missing, has the wrong type or is not known.
    InvalidParameter {
        /// Its name.
        parameter: String,
    },
    /// The interface has no such method.
    MethodNotFound {
        /// As the caller named it.
        method: String,
    },
    /// The interface has the method and this daemon does not.
    MethodNotImplemented {
        /// As the caller named it.
        method: String,
    },
    /// Nothing of the automounter's is at the path.
    NoSuchPlace {
        /// The path.
        path: String,
    },
    /// Only root and the daemon's own user may do this.
    PermissionDenied,
    /// Too many connections are open.
    TooManyConnections,
}

impl CallError {
    /// The error's name and its one detail.
    fn parts(&self) -> (String, Option<(&'static str, &str)>) {
        let ours = |name: &str| format!("{INTERFACE}.{name}");
        let standard = |name: &str| format!("{SERVICE_INTERFACE}.{name}");
        match self {
            Self::DeadlineExceeded => (ours("DeadlineExceeded"), None),
            Self::Failed { reason } => (ours("Failed"), Some(("reason", reason))),
            Self::InterfaceNotFound { interface } => (
                standard("InterfaceNotFound"),
                Some(("interface", interface)),
            ),
            Self::InvalidParameter { parameter } => {
                (standard("InvalidParameter"), Some(("parameter", parameter)))
            }
            Self::MethodNotFound { method } => {
                (standard("MethodNotFound"), Some(("method", method)))
            }
            Self::MethodNotImplemented { method } => {
                (standard("MethodNotImplemented"), Some(("method", method)))
            }
            Self::NoSuchPlace { path } => (ours("NoSuchPlace"), Some(("path", path))),
            Self::PermissionDenied => (ours("PermissionDenied"), None),
            Self::TooManyConnections => (ours("TooManyConnections"), None),
        }
    }

    /// The reply that says so.
    pub fn reply(&self) -> Reply {
        let (name, detail) = self.parts();
        let mut parameters = Map::new();
        if let Some((key, text)) = detail {
            parameters.insert(key.to_owned(), Value::from(text));
        }
        Reply {
            error: Some(name),
            parameters,
            continues: false,
        }
    }
}

/// A message with its NUL.
///
/// # Errors
/// When a value cannot be written as JSON; the types of this crate all can.
pub fn encode<T: Serialize>(message: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(0);
    Ok(bytes)
}

/// Cuts a stream of bytes into messages.
#[derive(Debug)]
pub struct Framer {
    /// What has arrived and was not handed out.
    buffer: Vec<u8>,
    /// Bytes of `buffer` that hold no NUL.
    searched: usize,
    /// Longest message.
    limit: usize,
}

/// A message is longer than the limit, which is in the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message longer than {0} bytes")]
pub struct TooLong(pub usize);

impl Framer {
    /// One that accepts messages of up to `limit` bytes, without their NUL.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            searched: 0,
            limit,
        }
    }

    /// One for a server.
    pub fn for_requests() -> Self {
        Self::new(limits::REQUEST_BYTES)
    }

    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns true if and only if nothing has arrived that was not handed out.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next whole message, without its NUL.
    ///
    /// # Errors
    /// [`TooLong`] as soon as the message cannot be within the limit any more.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let end = self.buffer[self.searched..]
            .iter()
            .position(|byte| *byte == 0);
        match end.map(|end| self.searched + end) {
            Some(end) if end > self.limit => Err(TooLong(self.limit)),
            Some(end) => {
                let rest = self.buffer.split_off(end + 1);
                let mut message = std::mem::replace(&mut self.buffer, rest);
                message.pop();
                self.searched = 0;
                Ok(Some(message))
            }
            None => {
                self.searched = self.buffer.len();
                if self.searched > self.limit {
                    Err(TooLong(self.limit))
                } else {
                    Ok(None)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(framer: &mut Framer) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| framer.next_message().expect("within the limit")).collect()
    }

    #[test]
    fn a_message_may_come_in_pieces() {
        let mut framer = Framer::new(100);
        for byte in b"hello" {
            framer.push(&[*byte]);
            assert_eq!(framer.next_message(), Ok(None));
        }
        framer.push(b"\0");
        assert_eq!(messages(&mut framer), [b"hello"]);
        assert!(framer.is_empty());
    }

    #[test]
    fn one_read_may_hold_several_messages_and_the_start_of_another() {
        let mut framer = Framer::new(100);
        framer.push(b"one\0two\0\0thr");
        assert_eq!(messages(&mut framer), [&b"one"[..], b"two", b""]);
        framer.push(b"ee\0");
        assert_eq!(messages(&mut framer), [b"three"]);
    }

    #[test]
    fn the_limit_holds_to_the_byte() {
        let mut framer = Framer::new(5);
        framer.push(b"12345\0");
        assert_eq!(framer.next_message(), Ok(Some(b"12345".to_vec())));
        framer.push(b"12345");
        assert_eq!(framer.next_message(), Ok(None));
        framer.push(b"6");
        assert_eq!(framer.next_message(), Err(TooLong(5)));
        let mut framer = Framer::new(5);
        framer.push(b"123456\0");
        assert_eq!(framer.next_message(), Err(TooLong(5)));
    }

    #[test]
    fn however_a_stream_is_cut_the_same_messages_come_out() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random >> 33).expect("31 bits") % below
        };
        for _ in 0..200 {
            let stream: Vec<u8> = (0..next(300))
                .map(|_| u8::try_from(next(6)).expect("small"))
                .collect();
            let mut whole: Vec<&[u8]> = stream.split(|byte| *byte == 0).collect();
            let rest = whole.pop().expect("split gives at least one");
            let mut framer = Framer::new(300);
            let mut found = Vec::new();
            let mut left = &stream[..];
            while !left.is_empty() {
                let (piece, after) = left.split_at(1 + next(left.len()));
                framer.push(piece);
                found.extend(messages(&mut framer));
                left = after;
            }
            assert_eq!(found, whole);
            assert_eq!(framer.is_empty(), rest.is_empty());
        }
    }

    #[test]
    fn absent_parameters_have_three_forms() {
        for text in [
            r#"{"method":"a.B"}"#,
            r#"{"method":"a.B","parameters":null}"#,
            r#"{"method":"a.B","parameters":{},"upgrade":false}"#,
        ] {
            let call: Call = serde_json::from_str(text).expect("a call");
            assert_eq!((call.method.as_str(), call.parameters.len()), ("a.B", 0));
        }
        assert!(serde_json::from_str::<Call>(r#"{"method":"a.B","parameters":[]}"#).is_err());
        assert!(serde_json::from_str::<Call>(r#"{"parameters":{}}"#).is_err());
    }

    #[test]
    fn every_error_is_in_the_descriptions() {
        let text = || "x".to_owned();
        for error in [
            CallError::DeadlineExceeded,
            CallError::Failed { reason: text() },
            CallError::InterfaceNotFound { interface: text() },
            CallError::InvalidParameter { parameter: text() },
            CallError::MethodNotFound { method: text() },
            CallError::MethodNotImplemented { method: text() },
            CallError::NoSuchPlace { path: text() },
            CallError::PermissionDenied,
            CallError::TooManyConnections,
        ] {
            let reply = error.reply();
            let name = reply.error.expect("an error has a name");
            let (interface, name) = name.rsplit_once('.').expect("a full name");
            let detail = reply.parameters.keys().next();
            let line = format!(
                "error {name}({})",
                detail.map_or_else(String::new, |detail| format!("{detail}: string"))
            );
            let description = match interface {
                INTERFACE => DESCRIPTION,
                _ => SERVICE_DESCRIPTION,
            };
            assert!(description.contains(&line), "{line}");
        }
    }
}
