//! Runs a compositor that expects to be given its devices, where there is no session, no login and no terminal.
//!
//! Weston 10's DRM backend asks logind, or a launcher, or takes a terminal. Here it is given a launcher: a socket on
//! which it names the file that it wants to have open, and on which the descriptor comes. This is the protocol of
//! `weston-launch` (`libweston/weston-launch.h`); of its events only the answer to that is ever sent.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};

use clap::Parser;
use rustix::cmsg_space;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    recv, sendmsg, socketpair,
};
use virgld_programs::stop::{Stop, Verdict};

/// Runs a compositor and opens for it what it asks for, as weston-launch did.
#[derive(Parser)]
struct Options {
    /// The compositor and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(stop) => {
            println!("FAIL seat: {stop}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Verdict<ExitCode> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let mut compositor = start(&options.program, &theirs)?;
    // So that the compositor's end is the end of the socket.
    drop(theirs);
    serve(&ours)?;
    let status = compositor.wait()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map(ExitCode::from).ok_or_else(|| Stop::failed(format!("the compositor ended with {status}")))
}

fn start(program: &[OsString], socket: &OwnedFd) -> Verdict<Child> {
    let (name, arguments) = program.split_first().ok_or_else(|| Stop::failed("no program is named"))?;
    fcntl_setfd(socket, FdFlags::empty())?;
    let mut command = Command::new(name);
    command.args(arguments).env(SOCKET_VARIABLE, socket.as_raw_fd().to_string());
    command.spawn().map_err(|error| Stop::failed(format!("cannot run {}: {error}", name.display())))
}

/// Answers until the compositor closes its end.
fn serve(socket: &OwnedFd) -> Verdict {
    let mut message = vec![0; LONGEST];
    loop {
        match recv(socket, message.as_mut_slice(), RecvFlags::empty()) {
            Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(()),
            Ok((length, _)) => answer(socket, Wish::parse(&message[..length]).map(|wish| wish.open()))?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A file that is to be opened.
struct Wish {
    path: PathBuf,
    flags: i32,
}

impl Wish {
    /// Opcode, flags, path with a zero byte; nothing if it is anything else.
    fn parse(message: &[u8]) -> Option<Self> {
        let ([opcode, flags], path) = message.split_first_chunk::<8>().map(|(head, path)| {
            let [a, b, c, d, e, f, g, h] = *head;
            ([i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h])], path)
        })?;
        let path = path.split(|byte| *byte == 0).next()?;
        (opcode == OPEN).then(|| Self { path: OsString::from_vec(path.to_vec()).into(), flags })
    }

    fn open(&self) -> io::Result<OwnedFd> {
        let opened =
            OpenOptions::new().read(true).write(true).custom_flags(self.flags & !ACCESS).open(&self.path);
        match &opened {
            Ok(_) => println!("seat: {}", self.path.display()),
            Err(error) => println!("seat: {}: {error}", self.path.display()),
        }
        opened.map(OwnedFd::from)
    }
}

/// The event that answers, 0 or -1, and the descriptor.
fn answer(socket: &OwnedFd, opened: Option<io::Result<OwnedFd>>) -> Verdict {
    let descriptor = opened.and_then(Result::ok);
    let outcome: i32 = if descriptor.is_some() { 0 } else { -1 };
    let words = [OPEN_REPLY.to_ne_bytes(), outcome.to_ne_bytes()];
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.iter().map(AsFd::as_fd).collect();
    let mut room = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Stop::failed("no room for a descriptor"));
    }
    sendmsg(socket, &[IoSlice::new(words.as_flattened())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Where weston looks for its end of the socket.
const SOCKET_VARIABLE: &str = "WESTON_LAUNCHER_SOCK";
/// `WESTON_LAUNCHER_OPEN`.
const OPEN: i32 = 0;
/// `WESTON_LAUNCHER_OPEN_REPLY`.
const OPEN_REPLY: i32 = 3;
/// `O_ACCMODE`.
const ACCESS: i32 = 3;
/// Head and path.
const LONGEST: usize = 8 + 4096;
