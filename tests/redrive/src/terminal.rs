//! What the programs print: one filter for every text that comes from elsewhere, and tables that fit the terminal.
//!
//! Message ids, reasons, reservation ids and error texts are whatever somebody put into a queue or a file. A terminal obeys
//! some characters instead of showing them, and a line break begins what looks like a line of ours.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what is printed here is for people")]

use std::{borrow::Cow, error::Error};

use comfy_table::{CellAlignment, ContentArrangement, presets};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The columns of an output that is no terminal, such as a file.
const DEFAULT_COLUMNS: usize = 120;

/// A terminal that says it has fewer gets lines that are too long for it.
const FEWEST_COLUMNS: usize = 40;

/// How much further to the right than its line a continuation begins.
const CONTINUATION: usize = 4;

/// The text with an escape in place of each character that is not shown as itself: controls, line breaks, marks that turn
/// the direction of writing, and the other invisible ones.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_shown) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_shown(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_debug());
        }
    }
    Cow::Owned(shown)
}

/// The standard library knows what cannot be seen, for its own `Debug`. A letter goes before, because a combining mark is
/// printed on what stands before it.
fn is_shown(c: char) -> bool {
    let mut text = String::from("x");
    text.push(c);
    !c.is_control() && text.escape_debug().count() <= "x\\\"".len()
}

/// The beginning of a text that is longer than `most` characters.
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// A number with its noun.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Prints one line, whatever is in it.
pub fn print(line: impl AsRef<str>) {
    hanging(&harmless(line.as_ref()), columns(std::io::stdout())).iter().for_each(|line| println!("{line}"));
}

/// Prints one line that a person copies, of our own words alone: a line break in it would end up in what is pasted.
pub fn print_whole(line: impl AsRef<str>) {
    println!("{}", harmless(line.as_ref()));
}

/// Prints one line to standard error, whatever is in it.
pub fn tell(line: impl AsRef<str>) {
    hanging(&harmless(line.as_ref()), columns(std::io::stderr())).iter().for_each(|line| eprintln!("{line}"));
}

/// Prints an error, whose text may have several lines of ours: what is foreign in it has passed [`harmless`] before.
pub fn tell_error(error: &(impl Error + ?Sized)) {
    format!("error: {error}").lines().for_each(tell);
}

/// How many columns the output has.
pub fn width() -> usize {
    columns(std::io::stdout()).unwrap_or(DEFAULT_COLUMNS)
}

/// How many columns a terminal has; nothing where the output is none.
#[cfg(unix)]
fn columns(output: impl std::os::fd::AsFd) -> Option<usize> {
    let columns = rustix::termios::tcgetwinsize(output).ok().map(|size| usize::from(size.ws_col));
    columns.filter(|columns| *columns > 0).map(|columns| columns.max(FEWEST_COLUMNS))
}

#[cfg(not(unix))]
fn columns(_output: impl Sized) -> Option<usize> {
    None
}

/// A line with its continuations, each further to the right than its beginning: a terminal would begin them in the first
/// column, where they could pass for lines of ours. What goes to no terminal stays one line.
fn hanging(line: &str, columns: Option<usize>) -> Vec<String> {
    let Some(columns) = columns.filter(|columns| width_of(line) > *columns) else {
        return vec![line.to_owned()];
    };
    let start = line.len() - line.trim_start().len();
    let indent = " ".repeat((start + CONTINUATION).min(columns / 2));
    let mut used = 0;
    let fits = line.char_indices().find(|(_, c)| {
        used += c.width().unwrap_or_default();
        used > columns
    });
    let fits = fits.map_or(line.len(), |(end, _)| end);
    let end = line[start.min(fits)..fits].rfind(' ').map_or(fits, |space| start + space);
    let rest = wrapped(&line[end..], columns - indent.len()).into_iter().map(|line| format!("{indent}{line}"));
    std::iter::once(line[..end].trim_end().to_owned()).chain(rest).collect()
}

/// How many columns a text takes.
pub fn width_of(text: &str) -> usize {
    text.width()
}

/// Breaks a text into lines of at most `columns`, between words where it can. A word that is longer is broken too: the
/// terminal would otherwise continue it in the first column, where only our own lines begin.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        for (index, piece) in pieces(word, columns).into_iter().enumerate() {
            match lines.last_mut() {
                Some(line) if line.is_empty() => line.push_str(&piece),
                Some(line) if index == 0 && line.width() + 1 + piece.width() <= columns => {
                    line.push(' ');
                    line.push_str(&piece);
                }
                _ => lines.push(piece),
            }
        }
    }
    lines
}

fn pieces(word: &str, columns: usize) -> Vec<String> {
    let (mut pieces, mut piece, mut used) = (Vec::new(), String::new(), 0);
    for c in word.chars() {
        let width = c.width().unwrap_or_default();
        if used + width > columns {
            pieces.push(std::mem::take(&mut piece));
            used = 0;
        }
        used += width;
        piece.push(c);
    }
    pieces.push(piece);
    pieces
}

/// A table without lines. What its cells hold has passed [`harmless`], and takes one space where it had several.
#[derive(Debug)]
pub struct Table {
    table: comfy_table::Table,
}

impl Table {
    /// An empty one with these titles.
    pub fn new(titles: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_header(titles.iter().map(|title| title.to_uppercase()));
        Self { table }
    }

    /// Aligns a column to the right, as numbers are.
    pub fn right(mut self, column: usize) -> Self {
        if let Some(column) = self.table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        self
    }

    /// Adds a row.
    pub fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cell = |cell: T| harmless(cell.as_ref()).split_whitespace().collect::<Vec<_>>().join(" ");
        self.table.add_row(cells.into_iter().map(cell));
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The header and one line for each row, however wide.
    pub fn rows(&self) -> Vec<String> {
        self.table.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// The header and the rows, whose cells go over several lines where `columns` are too few.
    pub fn rows_within(mut self, columns: usize) -> Vec<String> {
        let columns = u16::try_from(columns).unwrap_or(u16::MAX);
        self.table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
        self.rows()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_or_hide_is_escaped() {
        let controls = ['\0', '\u{7}', '\u{8}', '\t', '\n', '\r', '\u{1b}', '\u{7f}', '\u{85}', '\u{9b}'];
        let directions = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}'];
        let invisible = ['\u{a0}', '\u{ad}', '\u{200b}', '\u{2028}', '\u{2029}', '\u{feff}', '\u{e0041}', '\u{e000}'];
        for c in controls.into_iter().chain(directions).chain(invisible) {
            assert_eq!(harmless(&format!("a{c}b")), format!("a{}b", c.escape_debug()), "{c:?}");
            assert!(harmless(&c.to_string()).starts_with('\\'));
        }
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        for text in ["", "rsv_1 - it's \"quoted\" \\ 100 %", "né, ne\u{301}", "座席", "कि", "→ ✓"] {
            assert_eq!(harmless(text), text);
        }
    }

    #[test]
    fn no_line_is_longer_than_it_may_be_however_long_a_word_is() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("a 123456789012", 5), ["a", "12345", "67890", "12"]);
        assert_eq!(wrapped("座席座席", 5), ["座席", "座席"]);
        assert_eq!(wrapped("", 5), [""]);
        assert_eq!((cut("one", 3), cut("séance", 2)), ("one".into(), "sé...".into()));
    }

    #[test]
    fn a_continued_line_never_begins_where_our_lines_do() {
        let on_terminal = |line: &str| hanging(line, Some(40));
        assert_eq!(on_terminal("short  enough"), ["short  enough"]);
        let padded = format!("m-1  because of {}NOT SENT  m-2", " ".repeat(60));
        assert_eq!(on_terminal(&padded), ["m-1  because of", "    NOT SENT m-2"]);
        assert_eq!(
            on_terminal("  m-1  a reason that goes on and on, and on"),
            ["  m-1  a reason that goes on and on,", "      and on"]
        );
        let word = "x".repeat(100);
        for line in [word.clone(), format!("    {word}"), format!("{}{word}", " ".repeat(60)), "座".repeat(50)] {
            let lines = on_terminal(&line);
            assert!(lines.iter().all(|line| width_of(line) <= 40), "{lines:#?}");
            assert!(lines[1..].iter().all(|line| line.starts_with("    ")), "{lines:#?}");
            let kept = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
            assert_eq!(lines.iter().map(|line| kept(line)).sum::<usize>(), kept(&line));
            assert_eq!(hanging(&line, None), [line]);
        }
    }

    #[test]
    fn a_table_is_no_wider_than_the_terminal_and_its_rows_cannot_be_forged() {
        let table = |message: &str| {
            let mut table = Table::new(&["reason", "message"]);
            table.row(["one\nNOT  SENT     m-2", message]);
            table
        };
        assert_eq!(table("\u{202e}x").rows(), [" REASON             MESSAGE", " one\\nNOT SENT m-2  \\u{202e}x"]);
        let narrow = table(&"word ".repeat(30)).rows_within(60);
        assert!(narrow.len() > 3 && narrow.iter().all(|line| width_of(line) <= 60), "{narrow:#?}");
        assert_eq!(table(&"word ".repeat(30)).rows_within(400).len(), 2);
    }
}
