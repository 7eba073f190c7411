//! The control socket: frames, calls and replies.

use piton_control::message::{Listed, ReloadPlan, Status};
use piton_control::server::may_call;
use piton_control::varlink::{Call, CallError, Framer, Reply, encode};

use crate::first_line;

/// A stream of calls: cut as it may be, the same messages; a call is what it says; who may not
/// change anything may not, whatever the call looks like.
pub fn varlink(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else {
        return;
    };
    let messages = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut framer = Framer::for_requests();
        let mut found = Vec::new();
        for piece in pieces {
            framer.push(piece);
            while let Ok(Some(message)) = framer.next_message() {
                found.push(message);
            }
        }
        (found, framer.is_empty())
    };
    let (found, empty) = messages(&mut stream.chunks(usize::from(*cut) + 1));
    assert_eq!(messages(&mut [stream].into_iter()), (found.clone(), empty));
    let rest = stream.rsplit(|byte| *byte == 0).next().unwrap_or_default();
    assert_eq!(
        found.len(),
        stream.iter().filter(|byte| **byte == 0).count()
    );
    assert_eq!(empty, rest.is_empty());
    for message in &found {
        let Ok(call) = serde_json::from_slice::<Call>(message) else {
            continue;
        };
        let written = encode(&call).expect("a call can be written");
        assert_eq!(written.iter().filter(|byte| **byte == 0).count(), 1);
        let again = serde_json::from_slice::<Call>(&written[..written.len() - 1]);
        assert_eq!(again.ok().as_ref(), Some(&call));
        check_rights(call);
    }
}

/// Who is not privileged can make reading calls, and only those.
fn check_rights(call: Call) {
    const READING: [&str; 5] = [
        "Status",
        "List",
        "Plan",
        "GetInfo",
        "GetInterfaceDescription",
    ];
    let changes = |method: &str| {
        !READING
            .iter()
            .any(|name| method.ends_with(&format!(".{name}")))
    };
    let (everybody, root) = (may_call(call.clone(), false), may_call(call.clone(), true));
    if everybody.is_ok() {
        assert!(!changes(&call.method), "{}", call.method);
        assert_eq!(root, Ok(()));
    }
    if everybody == Err(CallError::PermissionDenied) {
        assert_eq!(root, Ok(()));
    }
    if let Err(error) = root {
        let reply = encode(&error.reply()).expect("an error can be written");
        let reply: Reply = serde_json::from_slice(&reply[..reply.len() - 1]).expect("a reply");
        assert!(reply.error.is_some() && reply.parameters.len() <= 1);
    }
}

/// Replies as a client reads them: written and read again they are the same; what is left of them
/// for one path or for one user is never more than there was. Input: a line with a path, then JSON.
pub fn status(data: &[u8]) {
    let (path, text) = first_line(data);
    if let Ok(status) = serde_json::from_slice::<Status>(text) {
        let written = serde_json::to_vec(&status).expect("it can be written");
        assert_eq!(
            serde_json::from_slice::<Status>(&written).ok().as_ref(),
            Some(&status)
        );
        let mut less = status.clone();
        let anything = less.narrow(&String::from_utf8_lossy(path));
        assert!(less.mounts.len() <= status.mounts.len());
        assert_eq!(
            anything,
            !(less.mounts.is_empty() && less.mount_points.is_empty())
        );
        let narrowed = less.clone();
        less.narrow(&String::from_utf8_lossy(path));
        assert_eq!(less, narrowed, "once is enough");
        let mut foreign = status;
        foreign.redact_for(1);
        let holders = foreign.mounts.iter().flat_map(|mount| &mount.holders);
        let mut holders = holders.filter(|holder| holder.pid != 0 && holder.uid != 1);
        assert!(holders.all(|holder| holder.path.is_none()));
    }
    if let Ok(plan) = serde_json::from_slice::<ReloadPlan>(text) {
        let written = serde_json::to_vec(&plan).expect("it can be written");
        assert_eq!(serde_json::from_slice(&written).ok(), Some(plan));
    }
    if let Ok(listed) = serde_json::from_slice::<Listed>(text) {
        let written = serde_json::to_vec(&listed).expect("it can be written");
        assert_eq!(serde_json::from_slice(&written).ok(), Some(listed));
    }
}
