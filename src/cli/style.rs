//! Colours and clean text for terminals. Colours are always written, and stripped if standard
//! output is no terminal.

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
