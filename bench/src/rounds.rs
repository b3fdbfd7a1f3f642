//! The measurement: all sides take turns, case by case and round by round.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use virgld_programs::bench::Figures;

use crate::case::{DEVICE_CASES, FIRST_PIXEL, MAPPED_CASES, NEIGHBOURS, SCREEN_CASES, gl_cases};
use crate::failure::{Context, Failure, Result};
use crate::machine::Machine;
use crate::memory::{Cost, own_with_children};
use crate::options::Options;
use crate::peers::Peers;
use crate::process::{heed_interrupts, outputs};
use crate::report::progress;
use crate::results::{Level, Results, Row};
use crate::side::Side;
use crate::team::Team;

/// Measures all that the options ask for.
pub(crate) fn run(options: &Options) -> Result<Results> {
    options.check()?;
    let machine = Machine::now();
    let mut bench = Bench {
        peers: Peers::start(options.variant())?,
        options,
        results: Results {
            machine,
            rows: Vec::new(),
            memory: Vec::new(),
            grounds: BTreeMap::new(),
            screen: None,
            gaps: Vec::new(),
        },
    };
    for side in [Side::Virpipe, Side::Virgld] {
        if let Some(reason) = bench.peers.absence(side) {
            let gap = format!("{side} was not measured: {reason}");
            bench.gap(gap);
        }
    }
    match options.variant() {
        None => {
            bench.below_gl()?;
            bench.screens()?;
        }
        Some(Side::Copying) => bench.mapped()?,
        Some(_) => {}
    }
    for clients in options.clients() {
        bench.gl(clients)?;
        bench.first_pixel(clients)?;
    }
    if options.variant().is_none() {
        bench.neighbours()?;
    }
    Ok(bench.results)
}

struct Bench<'o> {
    peers: Peers,
    options: &'o Options,
    results: Results,
}

impl Bench<'_> {
    fn below_gl(&mut self) -> Result<()> {
        let cases: Vec<_> = DEVICE_CASES.into_iter().filter(|case| self.options.wants(case.name)).collect();
        if cases.is_empty() {
            return Ok(());
        }
        let mut teams = Vec::new();
        for (side, ground) in [(Side::Floor, "floor"), (Side::Virgld, "ioctl")] {
            teams.extend(self.team(side, 1, ground)?);
        }
        let pace = self.options.device_pace();
        for case in cases {
            let row = Row::new(Level::Device, 1, case.name, case.unit, pace);
            let row = self.measure(row, &mut teams, &[case.name], |side| case.sides.contains(&side))?;
            self.results.rows.push(row);
        }
        Ok(())
    }

    /// What a client maps, where the device reaches that, and where it does not.
    fn mapped(&mut self) -> Result<()> {
        let cases: Vec<_> = MAPPED_CASES.into_iter().filter(|case| self.options.wants(case.name)).collect();
        if cases.is_empty() {
            return Ok(());
        }
        let mut teams = Vec::new();
        for side in [Side::Virgld, Side::Copying] {
            teams.extend(self.team(side, 1, "ioctl")?);
        }
        let pace = self.options.device_pace();
        for case in cases {
            let row = Row::new(Level::Device, 1, case.name, case.unit, pace);
            let row = self.measure(row, &mut teams, &[case.name], |side| case.sides.contains(&side))?;
            self.results.rows.push(row);
        }
        Ok(())
    }

    /// Flips and pointers, on a device that is told of them.
    fn screens(&mut self) -> Result<()> {
        let cases: Vec<_> = SCREEN_CASES.into_iter().filter(|case| self.options.wants(case.name)).collect();
        if cases.is_empty() {
            return Ok(());
        }
        let mut teams = Vec::new();
        teams.extend(self.team(Side::Floor, 1, "floor-screen")?);
        match self.peers.begin_screens() {
            Ok(()) => teams.extend(self.team(Side::Virgld, 1, "screen")?),
            Err(reason) => {
                heed_interrupts()?;
                self.gap(format!("screens on virgld: {reason}"));
            }
        }
        let pace = self.options.screen_pace();
        for case in cases {
            let row = Row::new(Level::Screen, 1, case.name, case.unit, pace);
            let row = self.measure(row, &mut teams, &[case.name], |side| case.sides.contains(&side))?;
            self.results.rows.push(row);
        }
        drop(teams);
        self.peers.end_screens();
        Ok(())
    }

    fn gl(&mut self, clients: usize) -> Result<()> {
        let wanted = |(name, _): &(&str, _)| *name != FIRST_PIXEL && self.options.wants(name);
        let cases: Vec<_> = gl_cases().filter(wanted).collect();
        if cases.is_empty() {
            return Ok(());
        }
        let service = |side| self.peers.service_id(side);
        let before = GL_SIDES.map(|side| service(side).map_or(0.0, own_with_children));
        let mut teams = Vec::new();
        for side in sides(clients, self.options.variant()) {
            teams.extend(self.team(side, clients, "gl")?);
        }
        let pace = self.options.gl_pace(clients);
        for (name, unit) in cases {
            let row = Row::new(Level::Gl, clients, name, unit, pace);
            let row = self.measure(row, &mut teams, &[name], |_| true)?;
            self.results.rows.push(row);
        }
        // Of several services none is that of all clients.
        for mut team in teams.into_iter().filter(|team| team.side != Side::Spread) {
            let before = GL_SIDES.iter().zip(before).find(|(side, _)| **side == team.side);
            if let Err(reason) = self.memory(&mut team, before.map_or(0.0, |(_, before)| before)) {
                heed_interrupts()?;
                self.gap(format!("{}, {clients} clients, memory: {reason}", team.side));
            }
        }
        Ok(())
    }

    /// What one client has beside another.
    fn neighbours(&mut self) -> Result<()> {
        let wanted = NEIGHBOURS.into_iter().filter(|case| self.options.wants(case.name));
        let cases: Vec<_> = wanted.filter_map(|case| Some((case, case.unit()?))).collect();
        if cases.is_empty() {
            return Ok(());
        }
        let mut teams = Vec::new();
        for side in GL_SIDES {
            teams.extend(self.team(side, 2, "gl")?);
        }
        let pace = self.options.gl_pace(2);
        for (case, unit) in cases {
            let row = Row::new(Level::Beside, 2, case.name, unit, pace);
            let row = self.measure(row, &mut teams, &[case.measured, case.neighbour], |_| true)?;
            self.results.rows.push(row);
        }
        Ok(())
    }

    /// Starts players on a side; none, and a gap, where that fails.
    fn team(&mut self, side: Side, size: usize, ground: &str) -> Result<Option<Team>> {
        if self.peers.absence(side).is_some() {
            return Ok(None);
        }
        let command = || self.peers.command(side, PLAYER, &["play", ground]);
        let team = Team::start(side, size, command).and_then(|team| {
            let right = ground != "gl" || team.about.starts_with("virgl") == (side != Side::Llvmpipe);
            let wrong = || Failure::new(format!("it renders on {}", team.about));
            if right { Ok(team) } else { Err(wrong()) }
        });
        match team {
            Ok(team) => {
                match ground {
                    "ioctl" | "floor-screen" => {}
                    "screen" => self.results.screen = Some(team.about.clone()),
                    _ => drop(self.results.grounds.insert(side, team.about.clone())),
                }
                Ok(Some(team))
            }
            Err(reason) => {
                heed_interrupts()?;
                let complaints = self.peers.complaints(side);
                self.gap(format!("{side}, {size} clients: {reason}; {complaints}"));
                Ok(None)
            }
        }
    }

    /// Measures one case, with a warm-up that does not count. Teams that fail it are out of it; teams that are
    /// of no more use are dropped.
    fn measure(
        &mut self,
        mut row: Row,
        teams: &mut Vec<Team>,
        cases: &[&str],
        takes_part: impl Fn(Side) -> bool,
    ) -> Result<Row> {
        let mut out: Vec<Side> = Vec::new();
        for round in std::iter::once(None).chain((0..row.rounds.len()).map(Some)) {
            teams.retain_mut(|team| {
                let side = team.side;
                if !takes_part(side) || out.contains(&side) {
                    return true;
                }
                let seconds = if round.is_some() { row.pace.seconds } else { 0.0 };
                let (usable, figures) = match team.measure(cases, seconds) {
                    Ok(figures) => (true, figures.into_iter().collect::<Result<Vec<_>>>()),
                    Err(reason) => (false, Err(reason)),
                };
                match (figures, round) {
                    (Ok(figures), Some(round)) => {
                        let figure = row.together(&figures);
                        // PANIC: `round` counts the row's own rounds.
                        row.rounds[round].extend(figure.map(|figure| (side, figure)));
                    }
                    (Ok(_), None) => {}
                    // An interrupt is no fault of a side.
                    (Err(_), _) if heed_interrupts().is_err() => {}
                    (Err(reason), _) => {
                        out.push(side);
                        let complaints = if usable { String::new() } else { self.peers.complaints(side) };
                        self.gap(format!(
                            "{side}, {} clients, {}: {reason}; {complaints}",
                            row.clients, row.case
                        ));
                    }
                }
                usable
            });
            heed_interrupts()?;
        }
        progress(&row);
        Ok(row)
    }

    /// Looks at what clients hold while they draw.
    fn memory(&mut self, team: &mut Team, before: f64) -> Result<()> {
        team.begin(&[MEMORY_CASE], MEMORY_SECONDS)?;
        std::thread::sleep(Duration::from_secs_f64(MEMORY_SECONDS / 2.0));
        let service = self.peers.service_id(team.side);
        let cost = Cost::of(team.side, &team.ids(), service, before);
        team.finish(MEMORY_SECONDS)?.into_iter().collect::<Result<Vec<_>>>()?;
        self.results.memory.push(cost);
        Ok(())
    }

    /// The one case that starts processes: `glbench` times them.
    fn first_pixel(&mut self, clients: usize) -> Result<()> {
        let Some((name, unit)) = gl_cases().find(|(name, _)| *name == FIRST_PIXEL) else { return Ok(()) };
        if !self.options.wants(name) {
            return Ok(());
        }
        let mut row = Row::new(Level::Gl, clients, name, unit, self.options.gl_pace(clients));
        let mut sides: Vec<_> = sides(clients, self.options.variant())
            .filter(|side| self.peers.absence(*side).is_none())
            .collect();
        for round in 0..row.rounds.len() {
            sides.retain(|side| match self.starts(*side, clients, row.pace.seconds) {
                Ok(figures) => {
                    let figure = row.together(&figures);
                    // PANIC: `round` counts the row's own rounds.
                    row.rounds[round].extend(figure.map(|figure| (*side, figure)));
                    true
                }
                Err(_) if heed_interrupts().is_err() => false,
                Err(reason) => {
                    let complaints = self.peers.complaints(*side);
                    self.gap(format!("{side}, {clients} clients, {name}: {reason}; {complaints}"));
                    false
                }
            });
            heed_interrupts()?;
        }
        progress(&row);
        self.results.rows.push(row);
        Ok(())
    }

    fn starts(&self, side: Side, clients: usize, seconds: f64) -> Result<Vec<Figures>> {
        let seconds = seconds.to_string();
        let command =
            |_| self.peers.command(side, "glbench", &["--json", "--seconds", &seconds, FIRST_PIXEL]);
        let texts = outputs((0..clients).map(command).collect::<Result<_>>()?, Duration::from_secs(120))?;
        texts.iter().map(|text| figure(text)).collect()
    }

    fn gap(&mut self, gap: String) {
        let gap = gap.trim_end_matches("; ").to_owned();
        eprintln!("warning: {gap}");
        self.results.gaps.push(gap);
    }
}

fn figure(text: &str) -> Result<Figures> {
    let mut value: Value = serde_json::from_str(text).context("glbench did not write JSON")?;
    serde_json::from_value(value["cases"][FIRST_PIXEL].take()).context("glbench wrote something else")
}

/// One client alone is isolated in any case, and not spread.
fn sides(clients: usize, variant: Option<Side>) -> impl Iterator<Item = Side> {
    let sides = variant.map_or(GL_SIDES.to_vec(), |variant| vec![Side::Virgld, variant]);
    sides.into_iter().filter(move |side| clients > 1 || !matches!(side, Side::Isolated | Side::Spread))
}

const GL_SIDES: [Side; 5] = [Side::Llvmpipe, Side::Virpipe, Side::Virgld, Side::Isolated, Side::Spread];
/// This program's own name, where programs lie.
const PLAYER: &str = "virgld-bench";
/// What clients do while their memory is looked at.
const MEMORY_CASE: &str = "small-frames";
const MEMORY_SECONDS: f64 = 2.0;
