//! Which tables there are.

use super::number::short;
use super::table::Table;
use crate::results::{Level, Results, Row, Spread};
use crate::side::Side;

/// What the figures were measured on, in a sentence or two.
pub(super) fn ground(results: &Results) -> String {
    let machine = &results.machine;
    let grounds = results.grounds.iter().map(|(side, about)| format!("{side}: {about}"));
    let screen = results.screen.iter().map(|about| format!("screen: {about}"));
    let grounds: Vec<_> = grounds.chain(screen).collect();
    format!(
        "{} processors ({}), Linux {}; load average at the start {}. {}.",
        machine.processors,
        machine.model,
        machine.kernel,
        machine.load,
        grounds.join("; ")
    )
}

/// The tables that have rows.
pub(super) fn of(results: &Results) -> Vec<Table> {
    let mut clients: Vec<usize> = gl_rows(results).map(|row| row.clients).collect();
    clients.dedup();
    let measured = |side: &Side| results.rows.iter().any(|row| row.median(*side).is_some());
    let gl = clients.into_iter().map(|clients| match VARIANTS.into_iter().find(measured) {
        Some(variant) => beside_itself(results, Level::Gl, clients, variant),
        None => gl(results, clients),
    });
    let below = match VARIANTS.into_iter().find(measured) {
        Some(variant) => beside_itself(results, Level::Device, 1, variant),
        None => below_gl(results),
    };
    let all = [below, screens(results)].into_iter().chain(gl).chain([beside(results), memory(results)]);
    all.filter(|table| !table.rows.is_empty()).collect()
}

fn below_gl(results: &Results) -> Table {
    Table {
        title: "Below GL: ioctls on virgld, and the same device commands with nothing in between".into(),
        legend: "Least / median / most over the rounds, and the 99th percentile. \
                 The cost is time on virgld by time on the floor: 1.00 is the floor, lower is better.",
        ..over_the_floor(results, Level::Device)
    }
}

fn screens(results: &Results) -> Table {
    Table {
        title: "Screens: flips and pointers on a device without 3D, which is told of all of them".into(),
        legend: "Least / median / most over the rounds, and the 99th percentile. Flips go by the mode's rate. \
                 A program may move a pointer faster than the device does: it is given the newest place \
                 (`cursor-sent`).",
        ..over_the_floor(results, Level::Screen)
    }
}

fn over_the_floor(results: &Results, level: Level) -> Table {
    let rows = results.rows.iter().filter(|row| row.level == level);
    let line = |row: &Row| {
        let cost = row.cost(Side::Virgld, Side::Floor);
        vec![name(row), cell(row, Side::Floor), cell(row, Side::Virgld), ratio(cost)]
    };
    Table {
        title: String::new(),
        legend: "",
        head: vec!["case", "floor", "virgld", "cost over the floor"],
        rows: rows.map(line).collect(),
    }
}

fn gl(results: &Results, clients: usize) -> Table {
    let rows = gl_rows(results).filter(|row| row.clients == clients);
    let line = |row: &Row| {
        let sides = [Side::Llvmpipe, Side::Virpipe, Side::Virgld].map(|side| cell(row, side));
        let speeds = [Side::Virpipe, Side::Llvmpipe].map(|other| ratio(row.speed(Side::Virgld, other)));
        let apart = [Side::Isolated, Side::Spread]
            .into_iter()
            .filter(|_| clients > 1)
            .flat_map(|side| [cell(row, side), ratio(row.speed(side, Side::Virpipe))]);
        [name(row)].into_iter().chain(sides).chain(speeds).chain(apart).collect()
    };
    let title = match clients {
        1 => "GL, 1 client".to_owned(),
        _ => format!("GL, {clients} clients at once: rates together, mean latencies"),
    };
    Table {
        title,
        legend: "Least / median / most over the rounds, and the 99th percentile. \
                 Speed is how many times as fast virgld is: more than 1.00 is faster.",
        head: HEAD[..if clients > 1 { HEAD.len() } else { HEAD.len() - 4 }].to_vec(),
        rows: rows.map(line).collect(),
    }
}

/// virgld beside another that was started otherwise.
fn beside_itself(results: &Results, level: Level, clients: usize, variant: Side) -> Table {
    let rows = results.rows.iter().filter(|row| row.level == level && row.clients == clients);
    let line = |row: &Row| {
        let sides = [Side::Virgld, variant].map(|side| cell(row, side));
        let speed = ratio(row.speed(variant, Side::Virgld));
        [name(row)].into_iter().chain(sides).chain([speed]).collect()
    };
    let (what, head) = match variant {
        Side::Surviving => ("contexts that outlive their device", "virgld --survive"),
        _ => ("memory that the device cannot reach", "virgld --regions 1"),
    };
    let on = if level == Level::Gl { "GL" } else { "Below GL," };
    Table {
        title: format!("{on} with {what}, {clients} at once"),
        legend: "Least / median / most over the rounds, and the 99th percentile. \
                 Speed is how many times as fast the second is: less than 1.00 is slower.",
        head: vec!["case", "virgld", head, "speed by virgld's"],
        rows: rows.map(line).collect(),
    }
}

fn beside(results: &Results) -> Table {
    let rows = results.rows.iter().filter(|row| row.level == Level::Beside);
    let line = |row: &Row| {
        let sides = [Side::Llvmpipe, Side::Virpipe, Side::Virgld, Side::Isolated, Side::Spread];
        [name(row)].into_iter().chain(sides.map(|side| cell(row, side))).collect()
    };
    Table {
        title: "GL of one client beside another".into(),
        legend: "What the first client has: least / median / most over the rounds, and the 99th percentile.",
        head: vec!["case", "llvmpipe", "virpipe + vtest", "virgld", "virgld, isolated", "virgld, spread"],
        rows: rows.map(line).collect(),
    }
}

/// Sides that virgld alone is compared with.
const VARIANTS: [Side; 2] = [Side::Surviving, Side::Copying];

const HEAD: [&str; 10] = [
    "case",
    "llvmpipe",
    "virpipe + vtest",
    "virgld",
    "speed by virpipe's",
    "speed by llvmpipe's",
    "virgld, isolated",
    "its speed by virpipe's",
    "virgld, spread",
    "its speed by virpipe's",
];

fn memory(results: &Results) -> Table {
    let rows = results.memory.iter().map(|cost| {
        let who = format!("{} x {}", cost.clients, cost.side);
        let parts = [cost.resident, cost.own, cost.service, cost.total()];
        [who].into_iter().chain(parts.map(short)).collect()
    });
    Table {
        title: "Memory per client, MiB".into(),
        legend: "Resident counts libraries; the other columns count neither libraries nor files, and shared \
                 memory once. The service is virgld with its device process, or virgl_test_server; an isolated \
                 client has its own and counts it as its own.",
        head: vec!["clients", "client, resident", "client, own", "service, growth", "own + service"],
        rows: rows.collect(),
    }
}

fn gl_rows(results: &Results) -> impl Iterator<Item = &Row> {
    results.rows.iter().filter(|row| row.level == Level::Gl)
}

fn name(row: &Row) -> String {
    format!("{} ({})", row.case, row.unit)
}

fn cell(row: &Row, side: Side) -> String {
    let Some((spread, p99)) = row.median(side).zip(row.p99(side)) else { return NOTHING.into() };
    let Spread { least, median, most } = spread;
    format!("{} / {} / {}, p99 {}", short(least), short(median), short(most), short(p99.median))
}

fn ratio(spread: Option<Spread>) -> String {
    let Some(Spread { least, median, most }) = spread else { return NOTHING.into() };
    format!("{} ({} to {})", short(median), short(least), short(most))
}

const NOTHING: &str = "-";
