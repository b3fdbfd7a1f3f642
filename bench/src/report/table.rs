//! A table, as plain text and as Markdown.

/// A table of strings; the first column is left-aligned, the others are right-aligned.
pub(super) struct Table {
    /// What stands above it.
    pub(super) title: String,
    /// What one must know to read it.
    pub(super) legend: &'static str,
    /// The names of the columns.
    pub(super) head: Vec<&'static str>,
    /// The rows, as long as the head.
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    /// For the terminal.
    pub(super) fn text(&self) -> String {
        let head = self.head.iter().map(|name| (*name).to_owned()).collect();
        let lines = [&head].into_iter().chain(&self.rows).map(|row| self.line(row, "  ", ""));
        let lines: Vec<_> = lines.map(|line| line.trim_end().to_owned()).collect();
        format!("{}\n{}\n\n{}", self.title, self.legend, lines.join("\n"))
    }

    /// For a document.
    pub(super) fn markdown(&self) -> String {
        let head = self.head.iter().map(|name| (*name).to_owned()).collect();
        let rule = self.widths().enumerate().map(|(column, width)| {
            if column == 0 { "-".repeat(width) } else { "-".repeat(width.saturating_sub(1)) + ":" }
        });
        let rule = rule.collect();
        let lines = [&head, &rule].into_iter().chain(&self.rows).map(|row| self.line(row, " | ", "|"));
        let lines: Vec<_> = lines.collect();
        format!("### {}\n\n{}\n\n{}\n", self.title, self.legend, lines.join("\n"))
    }

    fn line(&self, row: &[String], between: &str, edge: &str) -> String {
        let cells = row.iter().zip(self.widths()).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let line = cells.collect::<Vec<_>>().join(between);
        if edge.is_empty() { line } else { format!("{edge} {line} {edge}") }
    }

    fn widths(&self) -> impl Iterator<Item = usize> {
        self.head.iter().enumerate().map(|(column, name)| {
            let cells = self.rows.iter().filter_map(move |row| row.get(column));
            cells.map(|cell| cell.chars().count()).chain([name.chars().count()]).max().unwrap_or(0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_line_up() {
        let table = Table {
            title: "Title".into(),
            legend: "Legend.",
            head: vec!["case", "x"],
            rows: vec![vec!["a".into(), "1,000".into()], vec!["longer".into(), "2".into()]],
        };
        assert_eq!(table.text(), "Title\nLegend.\n\ncase        x\na       1,000\nlonger      2");
        let expected = "| case   |     x |\n| ------ | ----: |\n| a      | 1,000 |\n| longer |     2 |\n";
        assert_eq!(table.markdown(), format!("### Title\n\nLegend.\n\n{expected}"));
    }
}
