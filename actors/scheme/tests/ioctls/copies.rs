//! What a client sees of a buffer whose memory the device cannot reach is what it sees of any other.

use std::sync::Arc;

use virgld_protocol::client::{Ioctl, Map, TransferFromHost, TransferToHost};
use virgld_protocol::ids::FileId;
use virgld_protocol::message::door::Attach;
use virgld_runtime::memory::Memory;

use crate::setup::{Desk, SHARED};

#[test]
fn what_comes_back_is_in_memory_whatever_was_written_there_meanwhile() {
    for places in [1, 8] {
        let mut desk = Desk::with_places(places);
        let file = desk.open();
        let (handle, _) = desk.create(file, 0);
        let copied = desk.system.report().unwrap().resource.resources[0].copied_bytes > 0;
        assert_eq!(copied, places == 1);
        let memory = desk.mapped(file, handle);
        memory.write(0, &[7; 4]).unwrap();
        desk.transfer(&TransferToHost { bo_handle: handle, ..Default::default() }, file);
        // Twice: what comes back is then what both sides had last.
        for other in [9, 7, 8] {
            memory.write(0, &[other; 4]).unwrap();
            desk.transfer(&TransferFromHost { bo_handle: handle, ..Default::default() }, file);
            let mut seen = [0; 4];
            memory.read(0, &mut seen).unwrap();
            assert_eq!(seen, [7; 4], "with {places} places, over {other}");
        }
        desk.end(&[file]);
    }
}

/// What others see of a shared buffer is what its memory holds, and so does the next device.
#[test]
fn what_was_written_is_what_the_next_device_has() {
    for places in [1, 8] {
        let mut desk = Desk::with_places(places);
        let (maker, other) = (desk.open(), desk.open());
        let (handle, resource) = desk.create(maker, SHARED);
        let report = desk.system.report().unwrap().resource;
        let copied = report.resources.iter().any(|it| it.resource.0 == resource && it.copied_bytes > 0);
        assert_eq!(copied, places == 1);
        let export = desk.export(maker, handle).unwrap();
        let memory = desk.mapped(maker, handle);
        memory.write(0, &[7; 4]).unwrap();
        desk.system.device.die();
        desk.system.outlast();
        memory.write(0, &[9; 4]).unwrap();
        let imported = desk.import(other, export).unwrap();
        desk.transfer(&TransferFromHost { bo_handle: imported, ..Default::default() }, other);
        let mut seen = [0; 4];
        memory.read(0, &mut seen).unwrap();
        assert_eq!(seen, [7; 4], "with {places} places");
        [maker, other].iter().for_each(|file| desk.system.door.close(*file));
        desk.go();
        desk.system.door.drop_export(export);
        desk.end(&[]);
    }
}

impl Desk {
    fn transfer<T: Ioctl>(&mut self, transfer: &T, file: FileId) {
        assert_eq!(self.ask(file, transfer, &[]).errno(), None);
        self.finish();
    }

    fn mapped(&mut self, file: FileId, handle: u32) -> Arc<dyn Memory> {
        let map = self.ask(file, &Map { handle, ..Map::default() }, &[]).fixed::<Map>().unwrap();
        let token = self.system.door.map(file, map.offset, 4096);
        match self.answer(token).unwrap().attach {
            Some(Attach::Memory { memory, .. }) => memory,
            other => panic!("{other:?}"),
        }
    }
}
