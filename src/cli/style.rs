//! Colours and clean text for terminals. Colours are always written, and stripped if standard
//! output is no terminal.

use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use terminal_size::{Width, terminal_size_of};

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default();
pub(super) const BUSY: Style = AnsiColor::Yellow.on_default();
pub(super) const HEAD: Style = Style::new().bold();
pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();

/// `text` in a style.
pub(super) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// `text` without control characters. It may come from outside.
pub(super) fn clean(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// `text` in lines that fit the terminal, for a cell at column `indent`. Unchanged where standard
/// output is no terminal, because a program may read it.
pub(super) fn wrap(text: &str, indent: usize) -> String {
    match terminal_size_of(std::io::stdout()) {
        Some((Width(width), _)) => wrap_at(text, indent, usize::from(width)),
        None => text.to_owned(),
    }
}

/// Prints the result of a command on standard output.
pub(super) fn print_result(text: &str) -> std::io::Result<()> {
    writeln!(anstream::stdout(), "{}", wrap(text, 2))
}

/// The lines of an error in lines that fit the terminal of standard error, each with the indent of
/// its own and two more. Unchanged where standard error is no terminal.
pub(super) fn wrap_error(text: &str) -> String {
    match terminal_size_of(std::io::stderr()) {
        Some((Width(width), _)) => wrap_lines(text, usize::from(width)),
        None => text.to_owned(),
    }
}

fn wrap_lines(text: &str, width: usize) -> String {
    let lines = text.lines().map(|line| {
        let words = line.trim_start_matches(' ');
        let indent = line.len() - words.len();
        let first = " ".repeat(indent);
        first + &wrap_at(words, indent + 2, width)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A row of a table: cells with their widths and styles. The last one is not padded.
pub(super) fn row(cells: impl ExactSizeIterator<Item = (String, usize, Style)>) -> String {
    let last = cells.len().saturating_sub(1);
    let padded = cells.enumerate().map(|(number, (cell, width, style))| {
        // Padded first, because escape sequences have no width.
        let cell = if number < last { format!("{cell:width$}  ") } else { cell };
        paint(style, &cell)
    });
    padded.collect()
}

/// A detail below its row, in lines of its own; empty without one.
pub(super) fn below(detail: &str) -> String {
    const INDENT: usize = 2;
    match detail {
        "" => String::new(),
        detail => format!("\n{:INDENT$}{}", "", wrap(detail, INDENT)),
    }
}

/// Minimum width of a wrapped cell. A narrower terminal breaks the lines itself.
const LEAST_WIDTH: usize = 20;

fn wrap_at(text: &str, indent: usize, width: usize) -> String {
    let room = width.saturating_sub(indent).max(LEAST_WIDTH);
    let (mut wrapped, mut used) = (String::new(), 0);
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            wrapped.push('\n');
            wrapped.push_str(&" ".repeat(indent));
            used = 0;
        } else if used > 0 {
            wrapped.push(' ');
            used += 1;
        }
        wrapped.push_str(word);
        used += length;
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_wrapped_with_the_indent_of_each_line() {
        let text = "error: it requires a client certificate\n  what to do: give one with --cert";
        let wrapped = wrap_lines(text, 28);
        let expected = "error: it requires a\n  client certificate\n  what to do: give one\n    \
             with --cert";
        assert_eq!(wrapped, expected);
        assert_eq!(wrap_lines(text, 80), text);
    }

    #[test]
    fn a_cell_is_wrapped_between_words() {
        let text = "redis accepts no writes, and nothing is attached before";
        let wrapped = wrap_at(text, 4, 30);
        assert_eq!(wrapped, "redis accepts no writes,\n    and nothing is attached\n    before");
        assert!(wrapped.lines().all(|line| line.chars().count() <= 30));
        assert_eq!(wrap_at(text, 4, 200), text);
    }

    #[test]
    fn a_word_that_does_not_fit_stays_whole() {
        let url = "redis://a-host-with-a-name-that-is-long.example:6379/0";
        assert_eq!(wrap_at(&format!("at {url} now"), 2, 10), format!("at\n  {url}\n  now"));
    }
}
