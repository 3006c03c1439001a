//! A sale as a picture: what became of the line over time, the places against their arrivals, and how long people waited.

use std::{fmt::Write, time::Duration};

use local_stack::crowd::Report;

use crate::report::whole;

const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 560.0;

/// The left edge, the top, the width and the height of what is drawn in a panel.
type Frame = (f64, f64, f64, f64);

const OVER_TIME: Frame = (70.0, 50.0, 720.0, 200.0);
const PLACES: Frame = (70.0, 330.0, 320.0, 180.0);
const WAITS: Frame = (470.0, 330.0, 320.0, 180.0);

/// The columns of the waits.
const COLUMNS: usize = 24;

/// Dots in the panel of the places at most.
const DOTS: usize = 600;

// Grey and the colours stand out from white and from black alike: a README is read on both.
const GREY: &str = "#7d8590";
const JOINED: &str = "#2f81f7";
const CALLED: &str = "#d29922";
const SOLD: &str = "#3fb950";

/// An SVG of the sale.
pub(crate) fn draw(report: &Report) -> String {
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="A sale: places, calls and sold tickets over time, places against arrival, and waits" font-family="system-ui, sans-serif" font-size="13" fill="{GREY}">"#
    );
    over_time(&mut svg, report);
    places(&mut svg, report);
    waits(&mut svg, report);
    svg.push_str("\n</svg>\n");
    svg
}

fn over_time(svg: &mut String, report: &Report) {
    let end = report.samples.last().map_or(1.0, |sample| sample.at.as_secs_f64()).max(1.0);
    let tickets = f64::from(report.options.tickets.max(1));
    let people = report.samples.last().map_or(1, |sample| sample.joined.max(1));
    let share = |count: u64, of: f64| whole(count) / of;
    let title = format!("The sale: {people} people, {} tickets. Each line goes to its whole.", report.options.tickets);
    frame(svg, OVER_TIME, &title, (0.0, end, "s"), ("0", "all"));
    type Count<'a> = &'a dyn Fn(&local_stack::crowd::Sample) -> f64;
    let lines: [(&str, &str, Count<'_>); 3] = [
        ("have a place", JOINED, &|sample| share(sample.joined, whole(people))),
        ("were called", CALLED, &|sample| share(sample.serving, whole(people))),
        ("tickets are sold", SOLD, &|sample| f64::from(sample.sold) / tickets),
    ];
    let (left, top, width, height) = OVER_TIME;
    for (number, (name, colour, of)) in lines.into_iter().enumerate() {
        let points = report.samples.iter().map(|sample| (sample.at.as_secs_f64() / end, of(sample)));
        path(svg, OVER_TIME, colour, points);
        let x = left + width - 130.0;
        let y = top + height - 54.0 + 18.0 * whole(number);
        // Writing to a string does not fail.
        let _ = write!(svg, "\n<path d=\"M{x} {}h16\" stroke=\"{colour}\" stroke-width=\"3\"/>", y - 4.0);
        let _ = write!(svg, "\n<text x=\"{}\" y=\"{y}\">{name}</text>", x + 22.0);
    }
}

fn places(svg: &mut String, report: &Report) {
    let last = report.arrivals.iter().max().copied().unwrap_or_default().max(1);
    frame(svg, PLACES, "Arrival by place", (1.0, whole(report.arrivals.len()), ""), ("0", &text(last)));
    let (left, top, width, height) = PLACES;
    let every = report.arrivals.len().div_ceil(DOTS).max(1);
    for (place, arrival) in report.arrivals.iter().enumerate().step_by(every) {
        let x = left + width * whole(place) / whole(report.arrivals.len());
        let y = top + height - height * whole(*arrival) / whole(last);
        let _ = write!(svg, "\n<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.2\" fill=\"{JOINED}\"/>");
    }
}

fn waits(svg: &mut String, report: &Report) {
    let longest = report.waited.last().map_or(1.0, Duration::as_secs_f64).max(0.1);
    let mut columns = [0_u64; COLUMNS];
    for wait in &report.waited {
        // Which column it is, without a number that could be lost on the way to an index.
        let column = (1..COLUMNS).find(|column| wait.as_secs_f64() < longest * whole(*column) / whole(COLUMNS));
        columns[column.map_or(COLUMNS - 1, |column| column - 1)] += 1;
    }
    let most = columns.iter().max().copied().unwrap_or_default().max(1);
    frame(svg, WAITS, "Wait for the turn", (0.0, longest, "s"), ("0", &most.to_string()));
    let (left, top, width, height) = WAITS;
    let step = width / whole(COLUMNS);
    for (number, count) in columns.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        let tall = height * whole(count) / whole(most);
        let (x, y) = (left + step * whole(number), top + height - tall);
        let _ = write!(
            svg,
            "\n<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{tall:.1}\" fill=\"{CALLED}\"/>",
            step - 1.0
        );
    }
}

/// A panel with its title, and the ends of its axes.
fn frame(
    svg: &mut String,
    (left, top, width, height): Frame,
    title: &str,
    (from, to, unit): (f64, f64, &str),
    (low, high): (&str, &str),
) {
    let bottom = top + height;
    let _ = write!(
        svg,
        "\n<text x=\"{left}\" y=\"{}\" font-weight=\"600\">{title}</text>\
         \n<path d=\"M{left} {top}V{bottom}H{}\" stroke=\"{GREY}\" fill=\"none\"/>\
         \n<text x=\"{left}\" y=\"{}\">{from:.0}</text>\
         \n<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{to:.0} {unit}</text>\
         \n<text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">{low}</text>\
         \n<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{high}</text>",
        top - 14.0,
        left + width,
        bottom + 18.0,
        left + width,
        bottom + 18.0,
        left - 6.0,
        left - 6.0,
        top + 10.0,
    );
}

fn path(svg: &mut String, (left, top, width, height): Frame, colour: &str, points: impl Iterator<Item = (f64, f64)>) {
    let mut d = String::new();
    for (number, (x, y)) in points.enumerate() {
        let _ = write!(
            d,
            "{}{:.1} {:.1}",
            if number == 0 { 'M' } else { 'L' },
            left + width * x,
            top + height - height * y
        );
    }
    let _ = write!(svg, "\n<path d=\"{d}\" stroke=\"{colour}\" stroke-width=\"2\" fill=\"none\"/>");
}

/// Milliseconds as seconds.
fn text(milliseconds: u64) -> String {
    format!("{:.1} s", Duration::from_millis(milliseconds).as_secs_f64())
}
