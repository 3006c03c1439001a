//! The figures as a picture: each as a share of its bar, with its floor as a mark.

use std::fmt::Write;

use crate::{
    bar::{Bar, Bound},
    figure::number,
};

const WIDTH: u32 = 820;
const ROW: u32 = 28;
const TOP: u32 = 34;
/// Where the bars begin.
const LEFT: f64 = 250.0;
/// How long a figure is that just meets its bar.
const FULL: f64 = 340.0;
/// A figure that misses its bar by more than this is cut off.
const MOST: f64 = 1.15;

// Grey and the two colours stand out from white and from black alike: a README is read on both.
const GREY: &str = "#7d8590";
const MET: &str = "#2f81f7";
const MISSED: &str = "#d29922";
/// Stands out from both of these.
const DARK: &str = "#0d1117";

/// An SVG of every figure that ought to be small.
pub(crate) fn draw(bars: &[Bar]) -> String {
    let shown: Vec<(&Bar, f64)> = bars.iter().filter_map(|bar| Some((bar, ceiling(bar)?))).collect();
    let bottom = TOP + ROW * u32::try_from(shown.len()).unwrap_or_default();
    let height = bottom + 34;
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-label="Each figure as a share of its bar" font-family="system-ui, sans-serif" font-size="13" fill="{GREY}">"#
    );
    let bar_at = LEFT + FULL;
    // Writing to a string does not fail.
    let _ = write!(
        svg,
        "\n<text x=\"{bar_at}\" y=\"18\" text-anchor=\"middle\">the bar</text>\
         \n<path d=\"M{bar_at} {TOP}V{bottom}\" stroke=\"{GREY}\" stroke-dasharray=\"4 3\"/>"
    );
    for (top, (bar, ceiling)) in (TOP..).step_by(ROW as usize).zip(shown) {
        let (share, colour) = (bar.measured / ceiling, if bar.is_met() { MET } else { MISSED });
        let (text, width) = (top + 18, FULL * share.min(MOST));
        let _ = write!(
            svg,
            "\n<text x=\"{label}\" y=\"{text}\" text-anchor=\"end\">{what}</text>\
             \n<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"14\" rx=\"2\" fill=\"{colour}\"/>",
            label = LEFT - 10.0,
            what = bar.what,
            y = top + 7,
        );
        if let Some(floor) = bar.floor {
            let x = LEFT + FULL * floor / ceiling;
            let _ = write!(svg, "\n<path d=\"M{x:.1} {}v14\" stroke=\"{DARK}\" stroke-width=\"2\"/>", top + 7);
        }
        let _ = write!(
            svg,
            "\n<text x=\"{}\" y=\"{text}\">{} of {} {}</text>",
            LEFT + FULL * MOST + 10.0,
            number(bar.measured),
            number(ceiling),
            bar.unit,
        );
    }
    let _ = write!(
        svg,
        "\n<text x=\"{LEFT}\" y=\"{}\">A mark is the floor: a no-op function, or the sum of the calls.</text>\n</svg>\n",
        height - 10,
    );
    svg
}

/// The bar of a figure that must stay below it. A count of requests is no length.
fn ceiling(bar: &Bar) -> Option<f64> {
    match bar.bound {
        Bound::AtMost(_) | Bound::Below(_) if bar.unit == "requests" || bar.unjudged.is_some() => None,
        Bound::AtMost(ceiling) | Bound::Below(ceiling) => Some(ceiling),
        Bound::AtLeast(_) => None,
    }
}
