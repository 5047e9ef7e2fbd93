//! Columns for people.

/// Characters of a cell that is shortened.
const CELL_CHARACTERS_MAX: usize = 60;

/// Rows under a headline; numbers stand to the right.
pub(super) struct Table {
    headline: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(headline: &[&'static str]) -> Self {
        Self { headline: headline.to_vec(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let headline = self.headline.get(column).copied().unwrap_or_default();
            cells.map(String::as_str).chain([headline]).map(|text| text.chars().count()).max()
        };
        let widths: Vec<usize> =
            (0..self.headline.len()).map(|column| width(column).unwrap_or(0)).collect();
        let line = |cells: Vec<&str>| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| match is_number(cell) {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let headline = line(self.headline.clone());
        let rows = self.rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
        std::iter::once(headline).chain(rows).collect()
    }
}

fn is_number(cell: &str) -> bool {
    cell.starts_with(|first: char| first.is_ascii_digit())
        && cell.chars().all(|letter| letter.is_ascii_digit() || letter == '.')
}

/// Text that strangers wrote, harmless to a terminal and in one line.
pub(super) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' | '\t' => shown.extend(letter.escape_default()),
            _ if letter.is_control() => shown.extend(letter.escape_unicode()),
            // Marks that turn the direction of what follows.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                shown.extend(letter.escape_unicode());
            }
            _ => shown.push(letter),
        }
    }
    shown
}

/// The beginning of a text, harmless.
pub(super) fn short(text: &str) -> String {
    let shown = harmless(text);
    match shown.char_indices().nth(CELL_CHARACTERS_MAX) {
        Some((at, _)) => format!("{}…", shown.get(..at).unwrap_or(&shown)),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "READY"]);
        table.row(vec!["häse".into(), "7".into()]);
        table.row(vec!["q".into(), "1234567".into()]);
        assert_eq!(table.lines(), ["NAME  READY", "häse        7", "q     1234567"]);
    }

    #[test]
    fn what_strangers_wrote_does_not_drive_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\nc\u{202e}"), "a\\u{1b}[2Jb\\nc\\u{202e}");
        assert_eq!(short(&"x".repeat(61)).chars().count(), CELL_CHARACTERS_MAX + 1);
    }
}
