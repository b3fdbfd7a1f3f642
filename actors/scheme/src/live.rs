//! The scheme's part of the leak report: what is kept for a file, or for who had one.

use virgld_protocol::message::live::{Live, Owner};

use crate::state::State;

impl State {
    pub(crate) fn live(&self) -> impl Iterator<Item = Live> {
        let files = self.files.keys().map(|id| Live::new("open file", id.0, Owner::File(*id)));
        let work = self.files.iter().filter(|(_, file)| file.latest > file.reached.complete);
        let work = work.map(|(id, file)| Live::new("work under way", file.latest.0, Owner::File(*id)));
        let orphans = self.orphans.keys().map(|(file, serial)| {
            Live::new("work under way", serial.0, Owner::File(*file)).kept("the file is closed")
        });
        let exports = self.buffers.iter().filter(|(_, buffer)| buffer.export.is_some());
        let exports = exports.map(|(resource, buffer)| {
            let kept = if buffer.holders.is_empty() { "a descriptor outside" } else { "" };
            Live::new("PRIME export", u64::from(resource.0), Owner::Resource(*resource)).kept(kept)
        });
        let calls = self
            .parked
            .iter()
            .map(|(token, call)| Live::new("call that waits", token.0, Owner::File(call.file())));
        let objects = self.files.iter().flat_map(|(id, file)| {
            let handles = file.syncobjs.iter();
            handles.map(|(key, _)| {
                Live::new("handle of a synchronisation object", key as u64 + 1, Owner::File(*id))
            })
        });
        let resting = files.chain(work).chain(orphans).chain(exports).chain(calls).chain(objects);
        resting.chain(self.syncobjs.exported_ones()).chain(self.fences.live())
    }
}
