//! Taking over what an earlier life left: triggers, requests that it read and did not answer, work
//! that it did not finish.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use autofs::{DeviceId, Error, ExistingPoint, PipeState, PointRoot, Unanswered, WaitToken};
use bstr::{BStr, BString, ByteSlice};
use piton_engine::cause::Errno;
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};

use crate::front_end::{Incoming, Resumed};
use crate::kernel::{KernelFrontEnd, as_path, failed, point_kind};
use crate::limits::LIVES_OF_A_REQUEST;
use crate::mark::Mark;
use crate::registry::{Entry, none_listed};
use crate::survey::{FoundPoint, Known, Spot, Survey, survey};

impl KernelFrontEnd {
    pub(crate) fn look_around(&self, wanted: &[(BString, TriggerKind)]) -> Survey {
        let unanswered = self.table.unanswered();
        let expiring = unanswered
            .iter()
            .filter(|request| !request.packet.kind.is_missing())
            .map(|request| (request.packet.device, request.packet.name.clone()));
        let marks = self.table.marks().into_iter();
        let known = Known {
            control: &self.shared.control,
            pipe: self.pipe.inode().ok(),
            marked: marks.map(|it| (it.point.device, it.name)).collect(),
            expiring: expiring.collect::<HashSet<Spot>>(),
        };
        let (survey, found) = survey(&known, wanted);
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
        survey
    }

    /// Takes a trigger over.
    pub(crate) fn take_over(&self, spec: &TriggerSpec) -> Result<(), Error> {
        let path = as_path(spec.path.as_bstr());
        let found = self
            .found_at(spec, path)
            .ok_or_else(|| failed("adopt", Some(path), autofs::Errno::NOENT))?;
        if self.still_works(&found.point) {
            self.keep(spec, &found)
        } else {
            self.reconnect(spec, &found)
        }
    }

    fn found_at(&self, spec: &TriggerSpec, path: &Path) -> Option<FoundPoint> {
        let kind = point_kind(spec.kind);
        let found = self
            .found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&(path.to_owned(), kind));
        // Who adopts without a survey pays for it.
        found.or_else(|| {
            let point = autofs::existing_points()
                .ok()?
                .filter_map(Result::ok)
                .filter(|point| point.kind == kind && point.target == path)
                .last()?;
            let may_hang = true;
            Some(FoundPoint { point, may_hang })
        })
    }

    /// Whether the trigger's requests come to our pipe.
    fn asks_us(&self, point: &ExistingPoint) -> bool {
        self.pipe
            .inode()
            .is_ok_and(|inode| point.pipe == PipeState::Connected { inode })
    }

    /// Whether the trigger's requests come to our pipe, and we may answer them: then nothing needs
    /// to be changed. In another process group we may not; only a new pipe changes the group.
    fn still_works(&self, point: &ExistingPoint) -> bool {
        self.asks_us(point) && point.process_group == autofs::process_group().map(group_number)
    }

    /// Takes over a trigger whose pipe was kept: those who wait in it go on waiting.
    fn keep(&self, spec: &TriggerSpec, found: &FoundPoint) -> Result<(), Error> {
        let FoundPoint { point, may_hang } = found;
        let path = as_path(spec.path.as_bstr());
        let control = &self.shared.control;
        let timeout = u64::from(spec.timeout);
        let mut root = None;
        // The roots of indirect triggers are kept. Others are only opened if there is a reason.
        if spec.kind == TriggerKind::Indirect || (point.timeout_s != timeout && !may_hang) {
            let opened = control.open_point(path, point.device)?;
            if point.timeout_s != timeout {
                control.set_timeout(&opened, timeout)?;
            }
            if spec.kind == TriggerKind::Indirect {
                root = Some(Arc::new(PointRoot::from(opened)));
            }
        } else if point.timeout_s != timeout {
            self.set_timeout_later(spec, point, timeout);
        }
        self.enter_found(spec, found, root);
        Ok(())
    }

    /// Sets a timeout where one may have to wait for a server first.
    fn set_timeout_later(&self, spec: &TriggerSpec, point: &ExistingPoint, timeout: u64) {
        let (shared, device) = (self.shared.clone(), point.device);
        let path = as_path(spec.path.as_bstr()).to_owned();
        self.shared.backstage.submit(move || {
            let control = &shared.control;
            let done = control
                .open_point(&path, device)
                .and_then(|root| control.set_timeout(root, timeout));
            if let Err(error) = done {
                tracing::debug!(path = %path.display(), %error, "idle time not set");
            }
        });
    }

    /// The requests of a trigger that nobody has answered, those in the pipe, too.
    fn waiting_at(&self, device: DeviceId) -> Vec<Unanswered> {
        // What is not freed counts as unanswered.
        while let Ok(Some(_)) = self.pipe.read_tracked(&self.table) {}
        let mut waiting = self.table.unanswered();
        waiting.retain(|request| request.packet.device == device);
        waiting
    }

    /// Takes over a trigger whose pipe is gone, or belongs to another process group. Who waited gets
    /// ENOENT, unless the pipe was kept and the walk begins again soon enough.
    fn reconnect(&self, spec: &TriggerSpec, found: &FoundPoint) -> Result<(), Error> {
        self.enter_found(spec, found, None);
        let path = as_path(spec.path.as_bstr());
        let device = found.point.device;
        let timeout = u64::from(spec.timeout);
        let pipe = self.pipe.writer();
        let waiting = match self.asks_us(&found.point) {
            true => self.waiting_at(device),
            false => Vec::new(),
        };
        let tokens: Vec<WaitToken> = waiting.iter().map(|it| it.packet.token).collect();
        let control = &self.shared.control;
        let reconnected = autofs::reconnect(control, path, device, pipe, timeout, &tokens);
        waiting.into_iter().for_each(|request| request.slot.free());
        match reconnected {
            Ok(root) => {
                if spec.kind == TriggerKind::Indirect
                    && let Some(entry) = self.shared.write().get_mut(spec.id)
                {
                    entry.root = Some(Arc::new(root));
                }
                Ok(())
            }
            Err(error) => {
                self.shared.write().remove(spec.id);
                Err(error)
            }
        }
    }

    fn enter_found(&self, spec: &TriggerSpec, found: &FoundPoint, root: Option<Arc<PointRoot>>) {
        self.shared.write().insert(Entry {
            trigger: spec.id,
            kind: spec.kind,
            path: as_path(spec.path.as_bstr()).into(),
            device: found.point.device,
            inode: None,
            may_hang: found.may_hang,
            root,
            apart: None,
            listed: none_listed(),
        });
    }

    pub(crate) fn take_up(&self) -> Resumed {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
        let unanswered = self.table.unanswered();
        let tokens = unanswered.iter();
        let tokens = tokens.map(|request| (request.packet.device, request.packet.token));
        // Called twice, it would serve requests of this life twice.
        if self.resumed.set(tokens.collect()).is_err() {
            return Resumed::default();
        }
        let mut incoming = Vec::new();
        for Unanswered { packet, slot, age } in unanswered {
            let lives = slot.take_up();
            match self.incoming(packet, Some(slot), age) {
                Some(deadly) if lives > LIVES_OF_A_REQUEST => {
                    tracing::error!(request = ?deadly, lives, "no daemon outlives this: answered EIO");
                    let (Incoming::Access { ticket, .. }
                    | Incoming::Exists { ticket, .. }
                    | Incoming::Expire { ticket, .. }) = deadly;
                    ticket.fail(Errno::IO);
                }
                request => incoming.extend(request),
            }
        }
        Resumed {
            incoming,
            marks: self.marks_left(),
        }
    }

    /// Marks that an earlier life left, of triggers that there are; others mean nothing any more.
    /// This life may be at work already: its own marks are not for others to end.
    fn marks_left(&self) -> Vec<(TriggerId, BString, Mark)> {
        let registry = self.shared.read();
        let mut left = Vec::new();
        for marked in self.table.marks() {
            if marked.own {
                continue;
            }
            match registry.at_device(marked.point.device) {
                Some(entry) => {
                    let mark = marked.mark;
                    left.push((entry.trigger, marked.name, Mark::new(|| mark.end())));
                }
                None => marked.mark.end(),
            }
        }
        left
    }

    pub(crate) fn note_work(&self, trigger: TriggerId, key: &BStr) -> Option<Mark> {
        let device = self.shared.read().get(trigger)?.device;
        let point = autofs::PointId { device, inode: 0 };
        let mark = self.table.mark(point, key)?;
        Some(Mark::new(|| mark.end()))
    }
}

fn group_number(group: autofs::Pid) -> u32 {
    group.as_raw_nonzero().get().cast_unsigned()
}
