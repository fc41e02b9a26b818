//! Columns that line up, whatever is coloured in them.

use console::{Style, measure_text_width};

use super::Paint;

/// How much attention something needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    Fine,
    /// Under way, or unusual.
    Odd,
    /// Broken.
    Bad,
}

pub(super) struct Cell {
    text: String,
    mark: Mark,
}

impl Cell {
    pub(super) fn marked(text: impl Into<String>, mark: Mark) -> Self {
        Self { text: text.into(), mark }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::marked(text, Mark::Fine)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

pub(super) struct Table {
    titles: Vec<&'static str>,
    right: Vec<usize>,
    rows: Vec<(Mark, Vec<Cell>)>,
}

impl Table {
    pub(super) fn new(titles: &[&'static str]) -> Self {
        Self { titles: titles.to_vec(), right: Vec::new(), rows: Vec::new() }
    }

    /// Which columns are numbers and line up at their ends.
    pub(super) fn right(&mut self, columns: &[usize]) {
        self.right = columns.to_vec();
    }

    /// Adds a row with as many cells as there are titles.
    pub(super) fn row(&mut self, attention: Mark, cells: Vec<Cell>) {
        assert_eq!(cells.len(), self.titles.len(), "a cell for each column");
        self.rows.push((attention, cells));
    }

    /// The table, each line ended, nothing behind the last word of a line.
    pub(super) fn show(&self, paint: &Paint) -> String {
        let widths: Vec<_> = (0..self.titles.len())
            .map(|column| {
                let cells =
                    self.rows.iter().map(|(_, cells)| measure_text_width(&cells[column].text));
                cells.chain([self.titles[column].len()]).max().unwrap_or_default()
            })
            .collect();
        let mut text = String::new();
        let titles = self
            .titles
            .iter()
            .map(|title| (measure_text_width(title), paint.style(Style::new().dim(), title)));
        self.line("  ".into(), titles.collect(), &widths, &mut text);
        for (attention, cells) in &self.rows {
            let sign = match attention {
                Mark::Fine => "  ".to_owned(),
                Mark::Odd => format!("{} ", paint.odd("~")),
                Mark::Bad => format!("{} ", paint.bad("!")),
            };
            let cells = cells
                .iter()
                .map(|cell| (measure_text_width(&cell.text), paint.marked(cell.mark, &cell.text)));
            self.line(sign, cells.collect(), &widths, &mut text);
        }
        text
    }

    fn line(&self, sign: String, cells: Vec<(usize, String)>, widths: &[usize], text: &mut String) {
        let filled = cells.iter().rposition(|(width, _)| *width > 0).map_or(0, |last| last + 1);
        let mut line = sign;
        for (column, (width, cell)) in cells.into_iter().enumerate().take(filled) {
            let padding = " ".repeat(widths[column] - width);
            if column > 0 {
                line.push_str("  ");
            }
            if self.right.contains(&column) {
                line.push_str(&padding);
                line.push_str(&cell);
            } else {
                line.push_str(&cell);
                if column + 1 < filled {
                    line.push_str(&padding);
                }
            }
        }
        text.push_str(&line);
        text.push('\n');
    }
}
