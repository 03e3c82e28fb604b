//! The demo's output: an updating table on a large enough terminal, otherwise a line for each
//! change.

use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use terminal_size::{Height, Width, terminal_size};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::DemoEvent;
use super::status_table::{self, StatusTable};

const REDRAW_EVERY: Duration = Duration::from_millis(100);
/// Heading, counts, and the line that the cursor rests on.
const LINES_BESIDE_CALLERS: usize = 3;
/// Width if the terminal does not report one.
const USUAL_WIDTH: usize = 80;

/// The output of the demo.
pub struct Screen<W> {
    to: W,
    moves: bool,
    coloured: bool,
    /// Number of lines that the next drawing replaces.
    drawn: usize,
}

impl Screen<io::Stdout> {
    /// A screen on standard output, for this many callers.
    #[must_use]
    pub fn of_stdout(callers: usize) -> Self {
        let stdout = io::stdout();
        let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        let has_room = terminal_size().is_some_and(|(_, Height(height))| {
            callers + LINES_BESIDE_CALLERS <= usize::from(height)
        });
        let coloured = AutoStream::choice(&stdout) != ColorChoice::Never;
        Self::new(stdout.is_terminal() && !dumb && has_room, coloured, stdout)
    }
}

impl<W: Write> Screen<W> {
    /// A screen on `to`, with or without cursor movements and colours.
    pub fn new(moves: bool, coloured: bool, to: W) -> Self {
        Self { to, moves, coloured, drawn: 0 }
    }

    /// Shows events until their senders are dropped, and returns the final table.
    ///
    /// # Errors
    ///
    /// The output cannot be written.
    pub async fn show(
        &mut self,
        mut events: mpsc::UnboundedReceiver<DemoEvent>,
    ) -> io::Result<StatusTable> {
        let start = Instant::now();
        let mut table = StatusTable::default();
        let mut ticks = interval(REDRAW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => {
                        if !self.moves {
                            self.print(&[status_table::line(&event)])?;
                        }
                        table.take(event);
                    }
                    None => break,
                },
                // Events between two ticks share one drawing.
                _ = ticks.tick(), if self.moves => self.draw(&table, start.elapsed())?,
            }
        }
        if self.moves {
            self.draw(&table, start.elapsed())?;
        }
        Ok(table)
    }

    /// Prints these lines once.
    ///
    /// # Errors
    ///
    /// The output cannot be written.
    pub fn say(&mut self, lines: &[String]) -> io::Result<()> {
        self.print(lines)
    }

    fn draw(&mut self, table: &StatusTable, elapsed: Duration) -> io::Result<()> {
        let width = terminal_size().map_or(USUAL_WIDTH, |(Width(width), _)| usize::from(width));
        let lines = table.lines(width, elapsed);
        if self.drawn > 0 {
            write!(self.to, "\x1b[{}A\r\x1b[J", self.drawn)?;
        }
        self.drawn = lines.len();
        self.print(&lines)
    }

    fn print(&mut self, lines: &[String]) -> io::Result<()> {
        let mut text = lines.join("\n");
        text.push('\n');
        if !self.coloured {
            text = anstream::adapter::strip_str(&text).to_string();
        }
        self.to.write_all(text.as_bytes())?;
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::CallerPhase;
    use crate::model::State;

    fn event(caller: usize, phase: CallerPhase) -> DemoEvent {
        let eni = format!("eni-{caller}").parse().unwrap();
        DemoEvent { caller, eni, phase, at: Duration::from_secs(1), detail: String::new() }
    }

    async fn shown(moves: bool, coloured: bool) -> String {
        let (send, events) = mpsc::unbounded_channel();
        for phase in [
            CallerPhase::Calling,
            CallerPhase::State(State::Attaching),
            CallerPhase::State(State::Attached),
        ] {
            send.send(event(1, phase)).unwrap();
        }
        drop(send);
        let mut written = Vec::new();
        let table = Screen::new(moves, coloured, &mut written).show(events).await.unwrap();
        assert_eq!(table.callers().count(), 1);
        String::from_utf8(written).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_terminal_each_change_is_a_line() {
        let text = shown(false, false).await;
        assert_eq!(text.lines().count(), 3);
        assert!(!text.contains('\x1b'));
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_drawn_over_itself() {
        let (send, events) = mpsc::unbounded_channel();
        let mut written = Vec::new();
        let mut screen = Screen::new(true, false, &mut written);
        let feed = async move {
            send.send(event(1, CallerPhase::Calling)).unwrap();
            tokio::time::sleep(REDRAW_EVERY * 3).await;
            send.send(event(1, CallerPhase::State(State::Attached))).unwrap();
        };
        let (table, ()) = tokio::join!(screen.show(events), feed);
        assert_eq!(table.unwrap().callers().count(), 1);
        let text = String::from_utf8(written).unwrap();
        assert!(text.contains("\x1b[3A\r\x1b[J"), "{text:?}");
        let last = text.rsplit("\x1b[J").next().unwrap();
        assert!(last.contains("ATTACHED") && !last.contains("calling"), "{last}");
    }

    #[tokio::test(start_paused = true)]
    async fn colours_are_left_out_where_they_are_not_wanted() {
        assert!(shown(false, true).await.contains("\x1b[32mATTACHED"));
        assert!(!shown(true, false).await.contains("\x1b[32m"));
    }
}
