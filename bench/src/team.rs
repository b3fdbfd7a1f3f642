//! Players of one side that measure at the same time.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use virgld_programs::bench::Figures;

use crate::failure::{Context, Failure, Result};
use crate::player::Line;
use crate::process::{GLANCE, Running, heed_interrupts};
use crate::side::Side;

/// Players of one side.
pub(crate) struct Team {
    /// Whose they are.
    pub(crate) side: Side,
    /// What the first of them measures on, in its own words.
    pub(crate) about: String,
    players: Vec<Player>,
}

struct Player {
    input: ChildStdin,
    lines: Receiver<Line>,
    process: Running,
}

impl Team {
    /// Starts `size` players at once, and waits until all of them are ready.
    pub(crate) fn start(side: Side, size: usize, command: impl Fn() -> Result<Command>) -> Result<Self> {
        let start = |_| Player::start(command()?);
        let mut players = (0..size).map(start).collect::<Result<Vec<_>>>()?;
        let deadline = Instant::now() + START;
        let mut about = String::new();
        for player in &mut players {
            match player.hear(deadline)? {
                Line::Ready(what) => about = what,
                other => return Err(Failure::new(format!("a player began with {other:?}"))),
            }
        }
        Ok(Self { side, about, players })
    }

    /// Has all players measure at the same time, each the next of the cases, and from the first again. What one of them
    /// answers is a figure, or why there is none; an error says that the team is of no more use.
    pub(crate) fn measure(&mut self, cases: &[&str], seconds: f64) -> Result<Vec<Result<Figures>>> {
        self.begin(cases, seconds)?;
        self.finish(seconds)
    }

    /// Tells all players what to measure.
    pub(crate) fn begin(&mut self, cases: &[&str], seconds: f64) -> Result<()> {
        let tell = |(player, case): (&mut Player, &&str)| writeln!(player.input, "{case} {seconds}");
        self.players.iter_mut().zip(cases.iter().cycle()).try_for_each(tell).context("a player is gone")
    }

    /// Waits for what they measured.
    pub(crate) fn finish(&mut self, seconds: f64) -> Result<Vec<Result<Figures>>> {
        let deadline = Instant::now() + Duration::from_secs_f64(seconds) + CASE;
        let hear = |player: &mut Player| match player.hear(deadline)? {
            Line::Measured(figure) => Ok(Ok(figure)),
            Line::Failed(reason) => Ok(Err(Failure::new(reason))),
            Line::Ready(_) => Err(Failure::new("a player began again")),
        };
        self.players.iter_mut().map(hear).collect()
    }

    /// The players' process ids.
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.players.iter().map(|player| player.process.id()).collect()
    }
}

impl Player {
    fn start(mut command: Command) -> Result<Self> {
        let mut process = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let (input, output) = process.pipes().ok_or_else(|| Failure::new("a player has no pipes"))?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            // It ends when the player does, or when nobody listens.
            for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Line::Failed(line));
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { input, lines, process })
    }

    fn hear(&mut self, deadline: Instant) -> Result<Line> {
        loop {
            match self.lines.recv_timeout(GLANCE) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::new("a player ended")),
                Err(RecvTimeoutError::Timeout) => heed_interrupts()?,
            }
            if Instant::now() > deadline {
                return Err(Failure::new("a player did not answer in time"));
            }
        }
    }
}

/// How long players may take to be ready.
const START: Duration = Duration::from_secs(60);
/// How much longer than asked for a case may take: contexts, shaders and the first batch are not counted.
const CASE: Duration = Duration::from_secs(60);
