//! What the pointers look like and where they are, as far as the device has not been told.

use std::collections::BTreeMap;

use virgld_protocol::device::{Code, Command, ControlHeader, UpdateCursor};
use virgld_protocol::message::cursorq::Request;
use virgld_protocol::message::transport::{CURSOR_QUEUE, Event, Publish, TABLE_BYTES};
use virgld_runtime::dma::DmaPool;
use zerocopy::IntoBytes;

/// Commands that the device may have at a time. More would only be old news when it comes to them.
const MOST_IN_FLIGHT: usize = 2;
const HEADER_BYTES: usize = size_of::<ControlHeader>();
const COMMAND_BYTES: usize = HEADER_BYTES + size_of::<UpdateCursor>();
/// Where the command lies in its slice: offset and length.
const REQUEST: (u32, u32) = (64, 56);
const _: () = assert!(REQUEST.0 as usize == TABLE_BYTES && REQUEST.1 as usize == COMMAND_BYTES);

/// Something that the state wants done.
#[derive(Debug)]
pub enum Effect {
    /// Give this to the device.
    Publish(Publish),
}

/// What the device is to be told about one pointer: the newest of each kind.
#[derive(Debug, Default, Clone, Copy)]
struct News {
    update: Option<Request>,
    moved: Option<(u32, u32)>,
}

/// The cursor queue's commands.
pub struct State {
    pool: DmaPool,
    up: bool,
    in_flight: usize,
    news: BTreeMap<u32, News>,
    /// The image and hotspot of each pointer that the device was told last: a move names them again, because devices
    /// take a move without an image for the end of the pointer.
    images: BTreeMap<u32, (u32, (u32, u32))>,
}

impl State {
    /// Nothing to tell yet. Commands are built in slices of `pool`.
    pub fn new(pool: DmaPool) -> Self {
        Self { pool, up: false, in_flight: 0, news: BTreeMap::new(), images: BTreeMap::new() }
    }

    /// Takes a request of the display.
    pub fn request(&mut self, request: Request, effects: &mut Vec<Effect>) {
        match request {
            // The update says where the pointer is: earlier moves are old news.
            Request::Update { scanout, .. } => {
                self.news.insert(scanout, News { update: Some(request), moved: None });
            }
            Request::Move { scanout, position } => {
                self.news.entry(scanout).or_default().moved = Some(position)
            }
        }
        self.tell(effects);
    }

    /// Takes what the transport tells. Devices answer cursor commands with an empty buffer.
    pub fn transport(&mut self, event: &Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Up { .. } => {
                (self.up, self.in_flight) = (true, 0);
                self.images.clear();
            }
            Event::Down { .. } => self.up = false,
            Event::Returned { .. } | Event::Lost { .. } => self.in_flight = self.in_flight.saturating_sub(1),
            Event::ConfigurationChanged => {}
        }
        self.tell(effects);
    }

    /// Begins anew after a step that failed. What came back in that step was not counted, so the count begins anew too:
    /// the queue has room for more than a few.
    pub fn restart(&mut self, effects: &mut Vec<Effect>) {
        self.in_flight = 0;
        self.tell(effects);
    }

    fn tell(&mut self, effects: &mut Vec<Effect>) {
        while self.up && self.in_flight < MOST_IN_FLIGHT {
            let Some((code, command)) = self.newest() else { return };
            let Some(slice) = self.pool.take(TABLE_BYTES + COMMAND_BYTES) else { return };
            let header = ControlHeader { code, ..ControlHeader::default() };
            let written = slice
                .write(TABLE_BYTES, header.as_bytes())
                .and(slice.write(TABLE_BYTES + HEADER_BYTES, command.as_bytes()));
            if written.is_err() {
                return;
            }
            self.in_flight += 1;
            let publish = Publish {
                queue: CURSOR_QUEUE,
                cookie: 0,
                slice,
                request: REQUEST,
                response: (0, 0),
                awaited: false,
            };
            effects.push(Effect::Publish(publish));
        }
    }

    /// The next command: an image before a place, so that a pointer is never seen moving with its old image.
    fn newest(&mut self) -> Option<(Code, UpdateCursor)> {
        let mut entry = self.news.first_entry()?;
        let scanout_id = *entry.key();
        let news = entry.get_mut();
        let found = match (news.update.take(), news.moved) {
            (Some(Request::Update { position, image, hotspot, .. }), _) => {
                let (x, y) = position;
                let (hot_x, hot_y) = hotspot;
                self.images.insert(scanout_id, (image.0, hotspot));
                let command = UpdateCursor {
                    scanout_id,
                    x,
                    y,
                    resource_id: image.0,
                    hot_x,
                    hot_y,
                    ..UpdateCursor::default()
                };
                Some((UpdateCursor::CODE, command))
            }
            (_, Some((x, y))) => {
                news.moved = None;
                let (resource_id, (hot_x, hot_y)) = self.images.get(&scanout_id).copied().unwrap_or_default();
                let place =
                    UpdateCursor { scanout_id, x, y, resource_id, hot_x, hot_y, ..UpdateCursor::default() };
                Some((Code::MOVE_CURSOR, place))
            }
            _ => None,
        };
        if news.update.is_none() && news.moved.is_none() {
            entry.remove();
        }
        found
    }
}
