//! The procedures of MOUNT version 3 (RFC 1813, appendix I).

use std::collections::BTreeSet;

use bstr::{BStr, BString, ByteSlice};
use piton_rpc::Error;
use piton_rpc::xdr::Reader;

use crate::call::{FLAVORS, Unable, name, success, unable};
use crate::limits;
use crate::status::Status;
use crate::tree::Tree;

pub(crate) const PROGRAM: u32 = 100_005;
pub(crate) const VERSION: u32 = 3;

/// Names of the procedures, for the log.
pub(crate) const PROCEDURES: [&str; 6] = ["NULL", "MNT", "DUMP", "UMNT", "UMNTALL", "EXPORT"];

/// Who has mounted what, as far as clients say: names of machines, and paths.
#[derive(Debug, Default)]
pub(crate) struct Mounted(BTreeSet<(BString, BString)>);

impl Mounted {
    /// Carries out one call of a machine.
    pub(crate) fn carry_out(
        &mut self,
        tree: &Tree,
        xid: u32,
        procedure: u32,
        machine: &BStr,
        arguments: Reader<'_>,
    ) -> Vec<u8> {
        let done = match procedure {
            0 => Ok(success(xid).into_bytes()),
            1 => self.mount(tree, xid, machine, arguments),
            2 => Ok(self.dump(xid)),
            3 => self.unmount(xid, machine, arguments),
            4 => {
                self.0.retain(|(who, _)| who != machine);
                Ok(success(xid).into_bytes())
            }
            5 => Ok(exports(tree, xid)),
            _ => Ok(unable(xid, Unable::Procedure)),
        };
        done.unwrap_or_else(|_| unable(xid, Unable::Arguments))
    }

    fn mount(
        &mut self,
        tree: &Tree,
        xid: u32,
        machine: &BStr,
        mut arguments: Reader<'_>,
    ) -> Result<Vec<u8>, Error> {
        let path = path(&mut arguments)?;
        let mut writer = success(xid);
        if path.len() > limits::MOUNT_PATH {
            writer.word(Status::NameTooLong.number());
            return Ok(writer.into_bytes());
        }
        let Some(node) = tree.lock().at(path) else {
            writer.word(Status::NoEnt.number());
            return Ok(writer.into_bytes());
        };
        if self.0.len() < limits::DUMPED {
            self.0.insert((machine.to_owned(), path.to_owned()));
        }
        writer.word(Status::Ok.number());
        writer.bytes(&node.handle.encode());
        writer.word(u32::try_from(FLAVORS.len()).unwrap_or_default());
        for flavor in FLAVORS {
            writer.word(flavor);
        }
        Ok(writer.into_bytes())
    }

    fn unmount(
        &mut self,
        xid: u32,
        machine: &BStr,
        mut arguments: Reader<'_>,
    ) -> Result<Vec<u8>, Error> {
        let path = path(&mut arguments)?;
        self.0.remove(&(machine.to_owned(), path.to_owned()));
        Ok(success(xid).into_bytes())
    }

    fn dump(&self, xid: u32) -> Vec<u8> {
        let mut writer = success(xid);
        for (machine, path) in &self.0 {
            if writer.length() + 16 + machine.len() + path.len() + 4 > limits::ANSWER {
                break;
            }
            writer.word(1);
            writer.bytes(machine);
            writer.bytes(path);
        }
        writer.word(0);
        writer.into_bytes()
    }
}

/// The roots, as many as an answer holds; whoever mounts one knows its path.
fn exports(tree: &Tree, xid: u32) -> Vec<u8> {
    let mut writer = success(xid);
    for path in tree.paths() {
        if writer.length() + 16 + path.len() + 4 > limits::ANSWER {
            break;
        }
        writer.word(1);
        writer.bytes(&path);
        // For everybody: no groups.
        writer.word(0);
    }
    writer.word(0);
    writer.into_bytes()
}

/// A path, without slashes at its end.
fn path<'r>(arguments: &mut Reader<'r>) -> Result<&'r BStr, Error> {
    let path = name(arguments)?;
    arguments.end()?;
    let end = path
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(1, |at| at + 1);
    Ok(path[..end.min(path.len())].as_bstr())
}
