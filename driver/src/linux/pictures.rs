//! The picture socket: who connects is told what is on the screens. The pixels go with it in memory of their own.

use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::io::{ErrorKind, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, Serialize};
use virgld_platform::host::reactor::{Interest, Registrar, Registration, Trigger};
use virgld_platform::host::vhost_user::Monitor;
use virgld_protocol::errno::Errno;
use virgld_protocol::message::display::{self, Look, Picture};
use virgld_runtime::io::{Ready, ReadySink};
use virgld_runtime::{Actor, Cap, Dead, Fault, Interface, Respond, Restart, Time, Turn, words};

use super::Error;

/// What goes over the socket; the pixels lie in the memory that comes with it, one picture after another.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Album {
    /// What programs have put on each screen.
    pub(crate) pictures: Vec<Shape>,
    /// What the device has sent to be shown; these follow.
    pub(crate) sent: Vec<Shape>,
}

/// A picture: blue, green, red and a byte without meaning for each pixel, row by row.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Everything the actor hears.
pub(crate) enum Message {
    /// Somebody connects.
    Ready,
    /// How many screens there are, for one who connected.
    Screens(u64, usize),
    /// What is on one of them.
    Seen(u64, usize, Result<Picture, Errno>),
}

words!(Message {
    "Ready" => Self::Ready,
    "Screens" => Self::Screens(..),
    "Seen" => Self::Seen(..),
});

/// Whom it may ask.
pub(crate) struct Parts {
    pub(crate) screens: Cap<display::Looks>,
    pub(crate) display: Cap<display::FromDaemon>,
    pub(crate) own: Cap<Seeing>,
    /// What the device sends.
    pub(crate) monitor: Monitor,
}

/// The actor behind the picture socket.
pub(crate) struct Pictures {
    listener: Arc<UnixListener>,
    _watch: Registration,
    parts: Parts,
    asking: HashMap<u64, (UnixStream, Vec<Option<Picture>>)>,
    next: u64,
    /// When to try again to let askers in, after the process was out of descriptors.
    accept_again: Option<Time>,
}

impl Pictures {
    pub(crate) fn new(
        path: &Path,
        registrar: &Registrar,
        sink: ReadySink,
        parts: Parts,
    ) -> Result<Self, Error> {
        // The door holds the directory by now, so a socket that is there is a dead daemon's.
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        // What is on the screens is its owner's alone, whoever may open the nodes.
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let listener = Arc::new(listener);
        let watch = registrar.register(listener.clone(), Interest::Read, Trigger::Edge, 0, sink)?;
        Ok(Self { listener, _watch: watch, parts, asking: HashMap::new(), next: 0, accept_again: None })
    }

    fn accept(&mut self, now: Time) -> Result<(), Fault> {
        loop {
            match self.listener.accept() {
                // Whoever asks while so many have no answer yet asks in vain.
                Ok(_) if self.asking.len() >= MOST_ASKERS => {}
                Ok((stream, _)) => self.admit(stream).map_err(lost_peer)?,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(()),
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => {
                        tracing::warn!(%error, "cannot answer on the picture socket; trying again shortly");
                        self.accept_again = Some(now.after(ACCEPT_AGAIN));
                        return Ok(());
                    }
                },
            }
        }
    }

    fn admit(&mut self, stream: UnixStream) -> Result<(), Dead> {
        // Whoever asks and does not read holds nobody up.
        if stream.set_nonblocking(true).is_err() {
            return Ok(());
        }
        self.next += 1;
        let id = self.next;
        self.asking.insert(id, (stream, Vec::new()));
        let own = self.parts.own.grant();
        // If this actor is gone, nobody waits for the answer.
        self.parts.display.send(Respond::new(move |report: display::Report| {
            let _ = own.send(Message::Screens(id, report.outputs.len()));
        }))
    }

    fn look(&mut self, id: u64, screens: usize) -> Result<(), Dead> {
        let Some((_, pictures)) = self.asking.get_mut(&id) else { return Ok(()) };
        pictures.resize(screens, None);
        for (scanout, index) in (0..).zip(0..screens) {
            let own = self.parts.own.grant();
            let respond = Respond::new(move |picture| {
                let _ = own.send(Message::Seen(id, index, picture));
            });
            self.parts.screens.send(Look { scanout, respond })?;
        }
        self.finish(id);
        Ok(())
    }

    fn seen(&mut self, id: u64, index: usize, picture: Result<Picture, Errno>) {
        let Some((_, pictures)) = self.asking.get_mut(&id) else { return };
        if let Some(place) = pictures.get_mut(index) {
            // A screen that went away meanwhile is empty.
            *place = Some(picture.unwrap_or(Picture { width: 0, height: 0, pixels: Vec::new() }));
        }
        self.finish(id);
    }

    /// Answers, once all is there.
    fn finish(&mut self, id: u64) {
        let whole = |pictures: &Vec<Option<Picture>>| pictures.iter().all(Option::is_some);
        if !self.asking.get(&id).is_some_and(|(_, pictures)| whole(pictures)) {
            return;
        }
        let Some((stream, pictures)) = self.asking.remove(&id) else { return };
        let pictures: Vec<Picture> = pictures.into_iter().flatten().collect();
        if let Err(error) = show(&stream, &pictures, &self.parts.monitor) {
            tracing::warn!(%error, "a picture could not be shown to who asked for it");
        }
    }
}

/// Sends pictures to who asked; the words fit the socket's buffer, and the pixels do not go through it.
fn show(stream: &UnixStream, pictures: &[Picture], monitor: &Monitor) -> Result<(), Error> {
    let mut memory = File::from(memfd_create("virgld-picture", MemfdFlags::CLOEXEC)?);
    for picture in pictures {
        memory.write_all(&picture.pixels)?;
    }
    let screens = monitor.screens();
    for screen in &screens {
        memory.write_all(&screen.pixels)?;
    }
    let pictures = pictures.iter().map(|it| Shape { width: it.width, height: it.height }).collect();
    let sent = screens.iter().map(|it| Shape { width: it.width, height: it.height }).collect();
    let words = serde_json::to_vec(&Album { pictures, sent })?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [memory.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(stream, &[IoSlice::new(&words)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn lost_peer(dead: Dead) -> Fault {
    Fault::new(format!("the picture socket lost a peer: {dead}"))
}

impl Actor for Pictures {
    type Message = Message;

    fn handle(&mut self, turn: Turn, message: Message) -> Result<(), Fault> {
        match message {
            Message::Ready => self.accept(turn.now),
            Message::Screens(id, screens) => self.look(id, screens).map_err(lost_peer),
            Message::Seen(id, index, picture) => {
                self.seen(id, index, picture);
                Ok(())
            }
        }
    }

    fn restart(&mut self, restart: Restart) -> Result<(), Fault> {
        // Those who were being answered are not: they may ask again.
        self.asking.clear();
        self.accept(restart.now)
    }

    fn deadline(&self) -> Option<Time> {
        self.accept_again
    }

    fn wake(&mut self, now: Time) -> Result<(), Fault> {
        self.accept_again = None;
        self.accept(now)
    }
}

/// How the reactor reports that somebody connects.
pub(crate) struct FromReactor;

impl Interface for FromReactor {
    type Message = Ready;
    type Whole = Message;
    const NAME: &'static str = "pictures::FromReactor";

    fn widen(_: Ready) -> Message {
        Message::Ready
    }
}

/// How what is seen comes back.
pub(crate) struct Seeing;

impl Interface for Seeing {
    type Message = Message;
    type Whole = Message;
    const NAME: &'static str = "pictures::Seeing";

    fn widen(message: Message) -> Message {
        message
    }
}

const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// A picture is megabytes: so many at a time are enough.
const MOST_ASKERS: usize = 4;
