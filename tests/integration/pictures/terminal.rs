//! A terminal as an SVG: the command, and under it what it printed. The programs print no colours, so that a picture is text
//! in a frame.

use std::fmt::Write;

/// What a font of 13 pixels takes at most for a character, and a line with it.
const COLUMN: usize = 8;
const LINE: usize = 18;
const MARGIN: usize = 16;

/// Dark in every theme of a reader, as terminals are.
const PAPER: &str = "#0d1117";
const INK: &str = "#e6edf3";
const COMMAND: &str = "#79c0ff";

/// An SVG of the command and its output.
pub(super) fn draw(command: &str, output: &str) -> String {
    let prompt = format!("$ {command}");
    let lines: Vec<&str> = std::iter::once(prompt.as_str()).chain([""]).chain(output.trim_end().lines()).collect();
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default();
    let width = 2 * MARGIN + columns * COLUMN;
    let height = 2 * MARGIN + lines.len() * LINE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{}\" font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, monospace\" \
         font-size=\"13\" fill=\"{INK}\">\n<rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{PAPER}\"/>\n",
        escaped(command)
    );
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let y = MARGIN + 13 + index * LINE;
        let colour = if index == 0 { format!(" fill=\"{COMMAND}\"") } else { String::new() };
        // Writing to a string does not fail.
        let _ = writeln!(svg, "<text x=\"{MARGIN}\" y=\"{y}\" xml:space=\"preserve\"{colour}>{}</text>", escaped(line));
    }
    svg + "</svg>\n"
}

/// The lines of a picture.
pub(super) fn text(svg: &str) -> String {
    let texts = svg.split("<text ").skip(1).filter_map(|rest| rest.split_once('>')?.1.split_once("</text>"));
    texts
        .map(|(line, _)| {
            line.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&") + "\n"
        })
        .collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
