//! Each command as bytes, written out by hand from virtio 1.2, section 5.7.6.

use virgld_protocol::client::Box3d;
use virgld_protocol::ids::{ResourceId, RingIndex, Serial, Token};
use virgld_protocol::message::ctrlq::{
    ContextCommand, DebugName, Description, ResourceCommand, STREAM_OFFSET, Transfer,
};
use virgld_runtime::dma::{DmaPool, SizeClass};
use virgld_runtime::memory::HeapMemory;

use crate::setup::{Desk, request};

const RESOURCE: ResourceId = ResourceId(0x0a0b);

/// Little-endian words.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Code, flags, fence (low, high), context, ring.
fn header(code: u32, context: u32) -> Vec<u8> {
    words(&[code, 0, 0, 0, context, 0])
}

fn of_context(command: ContextCommand) -> Vec<u8> {
    let mut desk = Desk::new(4);
    desk.context(7, command);
    request(&desk.published()[0])
}

fn of_resource(command: ResourceCommand) -> Vec<u8> {
    let mut desk = Desk::new(4);
    desk.resource(command);
    request(&desk.published()[0])
}

#[test]
fn contexts() {
    let mut name = [0; 64];
    name[..4].copy_from_slice(b"mesa");
    let create = ContextCommand::Create { name: DebugName::new("mesa"), capset: 2 };
    assert_eq!(of_context(create), [header(0x200, 7), words(&[4, 2]), name.to_vec()].concat());
    // Fenced: answered after all work of the context.
    let mut destroy = header(0x201, 7);
    (destroy[4], destroy[8]) = (1, 1);
    assert_eq!(of_context(ContextCommand::Destroy), destroy);
    let attach = ContextCommand::Attach { resource: RESOURCE };
    assert_eq!(of_context(attach), [header(0x202, 7), words(&[0x0a0b, 0])].concat());
    let detach = ContextCommand::Detach { resource: RESOURCE };
    assert_eq!(of_context(detach), [header(0x203, 7), words(&[0x0a0b, 0])].concat());
}

#[test]
fn submits() {
    let classes = [SizeClass { size: 512, count: 1 }];
    let mut pool = DmaPool::new(HeapMemory::new(512), 0x9000, 0, &classes).unwrap();
    let stream = pool.take(STREAM_OFFSET + 8).unwrap();
    stream.write(STREAM_OFFSET, &words(&[0x11, 0x22])).unwrap();
    let serial = Serial(1);
    let submit = ContextCommand::Submit { stream: Some(stream), length: 8, ring: None, fenced: true, serial };
    assert_eq!(of_context(submit), words(&[0x207, 1, 1, 0, 7, 0, 8, 0, 0x11, 0x22]));
    let ring = Some(RingIndex(3));
    let ringed = ContextCommand::Submit { stream: None, length: 0, ring, fenced: true, serial };
    assert_eq!(of_context(ringed), words(&[0x207, 3, 1, 0, 7, 3, 0, 0]));
    let unfenced = ContextCommand::Submit { stream: None, length: 0, ring: None, fenced: false, serial };
    assert_eq!(of_context(unfenced), [header(0x207, 7), words(&[0, 0])].concat());
    assert_eq!(of_context(ContextCommand::Fence { serial }), words(&[0x207, 1, 1, 0, 7, 0, 0, 0]));
}

#[test]
fn transfers() {
    let region = Box3d { x: 1, y: 2, z: 3, w: 4, h: 5, d: 6 };
    let transfer = |to_host| {
        ContextCommand::Transfer(Transfer {
            to_host,
            resource: RESOURCE,
            region,
            level: 9,
            offset: 0x1_0000_0008,
            stride: 10,
            layer_stride: 11,
            serial: Serial(1),
        })
    };
    let body = words(&[1, 2, 3, 4, 5, 6, 8, 1, 0x0a0b, 9, 10, 11]);
    assert_eq!(of_context(transfer(true)), [header(0x205, 7), body.clone()].concat());
    // What the client is to read is waited for: the answer comes when it is there.
    assert_eq!(of_context(transfer(false)), [words(&[0x206, 1, 1, 0, 7, 0]), body].concat());
}

#[test]
fn resources() {
    let description = Description {
        target: 1,
        format: 2,
        bind: 3,
        width: 4,
        height: 5,
        depth: 6,
        array_size: 7,
        last_level: 8,
        nr_samples: 9,
        flags: 10,
    };
    let create = of_resource(ResourceCommand::Create3d { resource: RESOURCE, description });
    assert_eq!(create, [header(0x204, 0), words(&[0x0a0b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0])].concat());
    let (resource, address, length) = (RESOURCE, 0x12_3456_7000, 0x2000);
    let attach = of_resource(ResourceCommand::AttachBacking { resource, address, length });
    assert_eq!(attach, [header(0x106, 0), words(&[0x0a0b, 1, 0x3456_7000, 0x12, 0x2000, 0])].concat());
    let detach = of_resource(ResourceCommand::DetachBacking { resource });
    assert_eq!(detach, [header(0x107, 0), words(&[0x0a0b, 0])].concat());
    let unreference = of_resource(ResourceCommand::Unreference { resource });
    assert_eq!(unreference, [header(0x102, 0), words(&[0x0a0b, 0])].concat());
}

#[test]
fn capability_sets() {
    let token = Token(1);
    let info = of_resource(ResourceCommand::CapsetInfo { token, index: 1 });
    assert_eq!(info, [header(0x108, 0), words(&[1, 0])].concat());
    let contents = of_resource(ResourceCommand::Capset { token, id: 2, version: 3, size: 40 });
    assert_eq!(contents, [header(0x109, 0), words(&[2, 3])].concat());
}

/// The parts that the device reads, writes, and that are the transport's never overlap.
#[test]
fn answers_lie_apart_from_requests() {
    for size in [40, 64, 200] {
        let mut desk = Desk::new(1);
        desk.resource(ResourceCommand::Capset { token: Token(1), id: 2, version: 3, size });
        let publish = desk.published().remove(0);
        let ((ask, ask_length), (answer, answer_length)) = (publish.request, publish.response);
        assert!(ask + ask_length <= answer || answer + answer_length <= ask);
        assert!(ask.min(answer) >= 64 && answer_length == 24 + size);
    }
}
