//! A context that outlives its device: what it has the next one do.

#![allow(clippy::unwrap_used, reason = "a test, helpers included: clippy knows only the functions marked so")]

use proptest::prelude::*;
use virgld_context::{Budget, Effect, State};
use virgld_protocol::errno::Errno;
use virgld_protocol::ids::{ResourceId, Serial};
use virgld_protocol::message::context::{Request, Submit};
use virgld_protocol::message::ctrlq::{Blame, ContextCommand, ContextEvent, DebugName, STREAM_OFFSET};
use virgld_protocol::message::resource::Backing;
use virgld_protocol::message::scheme::ContextNotice;
use virgld_protocol::virgl::{Command, Commands, MOST_WORDS, Verb, head};
use virgld_runtime::Time;
use virgld_runtime::dma::{DmaPool, SizeClass};
use virgld_runtime::link::{Region, RegionId};
use virgld_runtime::memory::{HeapMemory, Memory};

const SIZE: usize = 20 << 10;
const SURFACE: u8 = 8;
const SHADER: u8 = 4;

struct Desk {
    state: State,
    pool: DmaPool,
    serial: u64,
    now: Time,
    notices: Vec<ContextNotice>,
}

impl Desk {
    /// Whose journal holds at most so many bytes.
    fn new(bound: usize) -> Self {
        Self::with(Budget::new(2 * bound))
    }

    fn with(budget: Budget) -> Self {
        let memory = HeapMemory::new(SIZE + STREAM_OFFSET);
        let pool = DmaPool::new(memory, 0, 0, &[SizeClass { size: SIZE + STREAM_OFFSET, count: 1 }]).unwrap();
        let mut desk =
            Self { state: State::journaled(budget), pool, serial: 0, now: Time(0), notices: Vec::new() };
        desk.ask(Request::Open { name: DebugName::new("test"), capset: 0 });
        desk
    }

    fn ask(&mut self, request: Request) -> Vec<ContextCommand> {
        let mut effects = Vec::new();
        self.state.request(self.now, request, &mut effects);
        self.heed(effects)
    }

    fn heed(&mut self, effects: Vec<Effect>) -> Vec<ContextCommand> {
        let mut commands = Vec::new();
        for effect in effects {
            match effect {
                Effect::Control(command) => commands.push(command),
                Effect::Scheme(notice) => self.notices.push(notice),
                Effect::Finish => {}
            }
        }
        commands
    }

    fn attach(&mut self, resource: u32, memory: Option<&[u8]>) {
        let backing = memory.map(|bytes| {
            let memory = HeapMemory::new(bytes.len());
            memory.write(0, bytes).unwrap();
            let region = Region { id: RegionId(1), memory, address: None };
            Backing { region, offset: 0, length: bytes.len() as u64, isolated: false, device: None }
        });
        self.ask(Request::Attach { resource: ResourceId(resource), backing, borrowed: false });
    }

    fn stream(&mut self, words: &[u32]) {
        self.serial += 1;
        let slice = self.pool.take(STREAM_OFFSET + words.len() * 4).unwrap();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        slice.write(STREAM_OFFSET, &bytes).unwrap();
        self.ask(Request::Submit(Submit {
            stream: Some(slice),
            length: u32::try_from(bytes.len()).unwrap(),
            ring: None,
            serial: Serial(self.serial),
            held: false,
            fenced: false,
        }));
    }

    fn hear(&mut self, event: ContextEvent) -> Vec<ContextCommand> {
        let mut effects = Vec::new();
        self.state.control(self.now, event, &mut effects);
        self.heed(effects)
    }

    /// The device is lost, and how far the context is to blame: what the next is asked to do first.
    fn lose_by(&mut self, blame: Blame) -> Vec<ContextCommand> {
        self.hear(ContextEvent::Lost { blame })
    }

    /// The device is through with a stream of the replay: what it is asked to do then.
    fn replay_on(&mut self) -> Vec<ContextCommand> {
        self.hear(ContextEvent::Replayed { result: Ok(()) })
    }

    /// The device is lost: what the next is asked to do, until the context is as it was.
    fn lose(&mut self) -> Vec<ContextCommand> {
        let mut asked = self.lose_by(Blame::Sole);
        let mut answered = 0;
        loop {
            let replays = asked.iter().filter(|it| matches!(it, ContextCommand::Replay { .. })).count();
            if answered == replays {
                return asked;
            }
            answered += 1;
            let more = self.replay_on();
            asked.extend(more);
        }
    }

    /// The same, when all that is asked is in the streams.
    fn replayed(&mut self) -> Vec<u32> {
        let commands = self.lose();
        assert!(matches!(commands[0], ContextCommand::Create { .. }), "{commands:?}");
        commands
            .into_iter()
            .filter_map(|command| match command {
                ContextCommand::Replay { stream } => Some(stream),
                _ => None,
            })
            .flatten()
            .collect()
    }
}

fn submit(serial: u64) -> Request {
    let serial = Serial(serial);
    Request::Submit(Submit { stream: None, length: 0, ring: None, serial, held: false, fenced: true })
}

fn command(verb: Verb, object: u8, words: &[u32]) -> Vec<u32> {
    [&[head(verb, object, words.len())], words].concat()
}

fn verbs(stream: &[u32]) -> Vec<(Verb, Vec<u32>)> {
    let of = |it: Command| (it.verb, it.words.to_vec());
    Commands::of(stream).map(|it| of(it.unwrap())).collect()
}

const LAST: (Verb, &[u32]) = (Verb::SET_SUB_CTX, &[0]);

fn expect(stream: &[u32], wanted: &[(Verb, &[u32])]) {
    let wanted: Vec<_> = wanted.iter().chain([&LAST]).map(|(verb, words)| (*verb, words.to_vec())).collect();
    assert_eq!(verbs(stream), wanted);
}

#[test]
fn objects_and_the_last_state_come_back_and_what_draws_does_not() {
    let mut desk = Desk::new(1 << 20);
    desk.attach(5, None);
    desk.stream(&command(Verb::CREATE_OBJECT, SURFACE, &[9, 5, 1, 0, 0]));
    desk.stream(&command(Verb::SET_BLEND_COLOR, 0, &[1, 1, 1, 1]));
    desk.stream(&command(Verb::SET_BLEND_COLOR, 0, &[2, 2, 2, 2]));
    desk.stream(&command(Verb::SET_FRAMEBUFFER_STATE, 0, &[1, 0, 9]));
    desk.stream(&command(Verb::DRAW_VBO, 0, &[0; 12]));
    let stream = desk.replayed();
    expect(
        &stream,
        &[
            (Verb::CREATE_OBJECT, &[9, 5, 1, 0, 0]),
            (Verb::SET_BLEND_COLOR, &[2, 2, 2, 2]),
            (Verb::SET_FRAMEBUFFER_STATE, &[1, 0, 9]),
        ],
    );
    assert!(matches!(desk.notices[..], [ContextNotice::Revived]));
}

#[test]
fn nothing_names_what_is_gone() {
    let mut desk = Desk::new(1 << 20);
    desk.attach(5, None);
    desk.attach(6, None);
    desk.stream(&command(Verb::CREATE_OBJECT, SURFACE, &[9, 5, 1, 0, 0]));
    desk.stream(&command(Verb::SET_FRAMEBUFFER_STATE, 0, &[1, 0, 9]));
    desk.stream(&command(Verb::SET_VERTEX_BUFFERS, 0, &[16, 0, 5, 16, 0, 6]));
    desk.stream(&command(Verb::SET_INDEX_BUFFER, 0, &[5, 2, 0]));
    desk.stream(&command(Verb::CREATE_OBJECT, 1, &[3, 0, 0]));
    desk.stream(&command(Verb::BIND_OBJECT, 1, &[3]));
    desk.stream(&command(Verb::DESTROY_OBJECT, 1, &[3]));
    desk.ask(Request::Detach { resource: ResourceId(5) });
    expect(
        &desk.replayed(),
        &[
            (Verb::SET_FRAMEBUFFER_STATE, &[1, 0, 0]),
            (Verb::SET_VERTEX_BUFFERS, &[16, 0, 0, 16, 0, 6]),
            (Verb::SET_INDEX_BUFFER, &[0]),
            (Verb::BIND_OBJECT, &[0]),
        ],
    );
}

#[test]
fn a_shader_in_parts_comes_back_in_parts_and_each_sub_context_has_its_own() {
    let mut desk = Desk::new(1 << 20);
    let first = command(Verb::CREATE_OBJECT, SHADER, &[7, 0, 8, 0, 0, 0x41]);
    let second = command(Verb::CREATE_OBJECT, SHADER, &[7, 0, 4 | (1 << 31), 0, 0, 0x42]);
    desk.stream(&[command(Verb::CREATE_SUB_CTX, 0, &[2]), command(Verb::SET_SUB_CTX, 0, &[2])].concat());
    desk.stream(&first);
    desk.stream(&second);
    desk.stream(&command(Verb::SET_SUB_CTX, 0, &[0]));
    desk.stream(&command(Verb::SET_STENCIL_REF, 0, &[1]));
    expect(
        &desk.replayed(),
        &[
            (Verb::SET_STENCIL_REF, &[1]),
            (Verb::CREATE_SUB_CTX, &[2]),
            (Verb::SET_SUB_CTX, &[2]),
            (Verb::CREATE_OBJECT, &first[1..]),
            (Verb::CREATE_OBJECT, &second[1..]),
        ],
    );
}

/// The words of a transfer of a row of texels.
fn row(resource: u32, stride: u32, width: u32) -> [u32; 11] {
    [resource, 0, 0, stride, stride, 0, 0, 0, width, 1, 1]
}

#[test]
fn bytes_from_a_staging_buffer_are_those_of_the_moment_of_the_copy() {
    let mut desk = Desk::new(1 << 20);
    desk.attach(5, None);
    desk.attach(6, Some(&[1, 2, 3, 4, 5, 6, 7, 8]));
    let words = [&row(5, 4, 1)[..], &[6, 4, 1]].concat();
    desk.stream(&command(Verb::COPY_TRANSFER3D, 0, &words));
    let written = [&row(5, 4, 1)[..], &[u32::from_le_bytes([5, 6, 7, 8])]].concat();
    expect(&desk.replayed(), &[(Verb::RESOURCE_INLINE_WRITE, &written)]);
}

#[test]
fn bytes_in_the_resources_own_memory_are_fetched_from_there() {
    let mut desk = Desk::new(1 << 20);
    desk.attach(5, None);
    let words = [&row(5, 0, 64)[..], &[0, 1]].concat();
    desk.stream(&command(Verb::TRANSFER3D, 0, &words));
    expect(&desk.replayed(), &[(Verb::TRANSFER3D, &words)]);
}

#[test]
fn a_query_that_counts_goes_on_counting() {
    let mut desk = Desk::new(1 << 20);
    desk.attach(5, None);
    desk.stream(&command(Verb::CREATE_OBJECT, 9, &[4, 0, 0, 5]));
    desk.stream(&command(Verb::BEGIN_QUERY, 0, &[4]));
    expect(&desk.replayed(), &[(Verb::CREATE_OBJECT, &[4, 0, 0, 5]), (Verb::BEGIN_QUERY, &[4])]);
    desk.stream(&command(Verb::END_QUERY, 0, &[4]));
    expect(&desk.replayed(), &[(Verb::CREATE_OBJECT, &[4, 0, 0, 5])]);
}

#[test]
fn what_the_journal_has_no_room_or_no_word_for_is_lost_and_says_why() {
    let malformed = [head(Verb::DRAW_VBO, 0, 12)];
    let unknown = command(Verb(99), 0, &[1]);
    let long = command(Verb::SET_CONSTANT_BUFFER, 0, &[0; 4000]);
    for stream in [&malformed[..], &unknown, &long] {
        let mut desk = Desk::new(8192);
        desk.stream(stream);
        let [ContextNotice::Unjournaled { why }] = desk.notices[..] else { panic!("{:?}", desk.notices) };
        assert!(!why.is_empty());
        assert!(desk.lose().is_empty());
        assert!(matches!(desk.notices[1], ContextNotice::Lost));
    }
}

#[test]
fn a_context_that_is_the_death_of_devices_is_given_up() {
    let mut desk = Desk::new(8192);
    for _ in 0..3 {
        assert!(!desk.lose().is_empty());
    }
    assert!(desk.lose().is_empty());
    assert!(matches!(desk.notices.last(), Some(ContextNotice::Lost)));
}

#[test]
fn a_device_that_others_are_to_blame_for_does_not_count() {
    let mut desk = Desk::new(8192);
    for blame in [Blame::None; 20].into_iter().chain([Blame::Shared; 20]) {
        assert!(!desk.lose_by(blame).is_empty(), "{blame:?}");
        while !desk.replay_on().is_empty() {}
    }
    assert!(!desk.lose().is_empty());
}

#[test]
fn a_device_that_dies_of_a_replay_is_the_last_to_be_told_it() {
    let mut desk = Desk::new(8192);
    assert!(!desk.lose_by(Blame::Sole).is_empty());
    assert!(desk.lose_by(Blame::Sole).is_empty());
    let [ContextNotice::Revived, ContextNotice::Unjournaled { .. }, ContextNotice::Lost] = desk.notices[..]
    else {
        panic!("{:?}", desk.notices)
    };
    // Somebody else is as likely to be to blame: that is borne with, though not for ever.
    let mut desk = Desk::new(8192);
    let borne = (0..10).take_while(|_| !desk.lose_by(Blame::Shared).is_empty()).count();
    assert_eq!(borne, 4);
    // A device that dies before it comes to the replay says nothing of that.
    let mut desk = Desk::new(8192);
    assert!((0..10).all(|_| !desk.lose_by(Blame::None).is_empty()));
}

#[test]
fn a_replay_that_the_device_refuses_ends_the_context() {
    let mut desk = Desk::new(8192);
    assert!(!desk.lose_by(Blame::None).is_empty());
    let row = desk.ask(submit(1));
    assert!(row.is_empty());
    assert!(desk.hear(ContextEvent::Replayed { result: Err(Errno::ENOMEM) }).is_empty());
    let told = format!("{:?}", desk.notices);
    assert!(told.contains("Unjournaled") && told.contains("Lost") && told.contains("EIO"), "{told}");
}

#[test]
fn work_comes_behind_the_replay_and_the_replay_a_few_streams_at_a_time() {
    let mut desk = Desk::new(1 << 20);
    desk.attach(5, Some(&[0; 200 << 10]));
    desk.attach(6, None);
    // Rows that come from memory which has been used again since: the journal has their bytes.
    let words = [6, 0, 0, 4096, 0, 0, 0, 0, 1024, 50, 1, 5, 0, 0];
    desk.stream(&command(Verb::COPY_TRANSFER3D, 0, &words));
    let asked = desk.lose_by(Blame::None);
    let streams = |asked: &[ContextCommand]| {
        asked.iter().filter(|it| matches!(it, ContextCommand::Replay { .. })).count()
    };
    assert_eq!((asked.len(), streams(&asked)), (3 + 4, 4));
    assert!(desk.ask(submit(7)).is_empty(), "it waits");
    let mut left = 4;
    let after = loop {
        let asked = desk.replay_on();
        left = left - 1 + streams(&asked);
        if left == 0 {
            break asked;
        }
        assert_eq!(streams(&asked), asked.len());
    };
    assert!(matches!(after[..], [ContextCommand::Submit { serial: Serial(7), .. }]), "{after:?}");
}

#[test]
fn journals_share_what_there_is() {
    let budget = Budget::new(16 << 10);
    let greedy = command(Verb::CREATE_OBJECT, SHADER, &[0; 1000]);
    let mut first = Desk::with(budget.grant());
    let mut second = Desk::with(budget.grant());
    first.stream(&greedy);
    second.stream(&greedy);
    assert!(budget.used() > 8000);
    // Both hold a quarter of it: that each had another half is too much.
    second.stream(&command(Verb::CREATE_OBJECT, SHADER, &[[1; 500], [1; 500]].concat()));
    let [ContextNotice::Unjournaled { .. }] = second.notices[..] else { panic!("{:?}", second.notices) };
    assert!(!first.lose().is_empty() && second.lose().is_empty());
    drop((first, second));
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_device_now_and_then_does_not_count() {
    let mut desk = Desk::new(8192);
    for minute in 0..10 {
        desk.now = Time(minute * 60_000_000_000);
        assert!(!desk.lose().is_empty());
    }
}

#[test]
fn a_copy_of_more_than_any_number_holds_is_cut_to_what_there_is() {
    let mut desk = Desk::new(64 << 10);
    desk.attach(5, Some(&[0; 4096]));
    let region = [0, 0, 0, u32::MAX, u32::MAX, u32::MAX];
    for strides in [[0, 0], [u32::MAX, 0], [0, u32::MAX]] {
        let mut stream = vec![head(Verb::COPY_TRANSFER3D, 0, 14), 5, 0, 0];
        stream.extend(strides);
        stream.extend(region);
        stream.extend([5, 0, 0]);
        desk.stream(&stream);
    }
    assert!(!desk.lose().is_empty(), "it is still kept");
}

fn noise() -> impl Strategy<Value = Vec<u32>> {
    let word = prop_oneof![0..16_u32, any::<u32>()];
    let body = prop::collection::vec(word, 0..40);
    let command = (0..56_u8, 0..12_u8, body).prop_map(|(verb, object, words)| {
        let mut whole = vec![head(Verb(verb), object, words.len())];
        whole.extend(words);
        whole
    });
    prop::collection::vec(command, 1..40).prop_map(|commands| commands.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a client sends: no panic, a bounded replay, and commands that are well formed.
    #[test]
    fn hostile_streams_are_survived(streams in prop::collection::vec(noise(), 1..8)) {
        const BOUND: usize = 64 << 10;
        let mut desk = Desk::new(BOUND);
        desk.attach(5, Some(&[0; 4096]));
        desk.attach(6, Some(&[0; 4096]));
        for stream in &streams {
            desk.stream(stream);
        }
        for asked in desk.lose() {
            let ContextCommand::Replay { stream } = asked else { continue };
            prop_assert!(stream.len() <= MOST_WORDS + 1);
            prop_assert!(Commands::of(&stream).all(|command| command.is_ok()));
        }
    }
}
