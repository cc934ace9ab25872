//! What was measured: figures, tables of their medians and ratios, as text and as JSON.

use std::fmt::{self, Write};
use std::io::{self, ErrorKind};
use std::time::Duration;

use serde_json::{Value, json};

/// One thing that is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    /// Its name in samples and in JSON.
    pub(crate) name: &'static str,
    /// The head of its column.
    pub(crate) head: &'static str,
    /// What is better. If anything is, the column has the ratio to the reference beside it.
    pub(crate) better: Better,
}

/// Which of two figures is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Less,
    More,
    /// It explains the others.
    Neither,
}

impl Metric {
    /// Whether peers are compared by it.
    pub(crate) fn is_compared(&self) -> bool {
        self.better != Better::Neither
    }
}

/// How much of the time the server works. If that is clearly below all of it, the driver sets the rate.
pub(crate) const BUSY: Metric = Metric { name: "busy", head: "busy %", better: Better::Neither };

/// The figure for [`BUSY`]: processor time, in nanoseconds, of a stretch of time.
pub(crate) fn busy(cpu: u64, elapsed: Duration) -> f64 {
    100.0 * cpu as f64 / elapsed.as_nanos() as f64
}

/// What one round has shown of one peer: figures by the names of their metrics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(Vec<(&'static str, f64)>);

impl Sample {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// With one more figure.
    pub(crate) fn with(mut self, metric: &'static str, figure: f64) -> Self {
        self.0.push((metric, figure));
        self
    }

    fn get(&self, metric: &str) -> Option<f64> {
        self.0.iter().find(|(name, _)| *name == metric).map(|(_, figure)| *figure)
    }
}

/// One peer and its samples, a round each.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) peer: &'static str,
    pub(crate) about: &'static str,
    pub(crate) samples: Vec<Sample>,
    /// Why it was not measured, or not to the end.
    pub(crate) absence: Option<Absence>,
}

/// Why a peer is not in a table.
#[derive(Clone, Debug)]
pub(crate) enum Absence {
    /// What it needs is not here, or it does no such work.
    Missing(String),
    /// Something went wrong.
    Failed(String),
}

impl From<io::Error> for Absence {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::Unsupported => Self::Missing(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl Row {
    fn figures(&self, metric: &str) -> Vec<f64> {
        self.samples.iter().filter_map(|sample| sample.get(metric)).collect()
    }

    /// The median over the rounds.
    pub(crate) fn median(&self, metric: &str) -> Option<f64> {
        median(self.figures(metric))
    }

    /// What a quarter of the rounds is below, and a quarter above.
    pub(crate) fn middle_half(&self, metric: &str) -> Option<(f64, f64)> {
        let mut figures = self.figures(metric);
        figures.sort_by(f64::total_cmp);
        let quarter = figures.len() / 4;
        Some((*figures.get(quarter)?, *figures.get(figures.len() - 1 - quarter)?))
    }

    /// The median of the ratios of each round; of what was not measured alike, the ratio of the medians.
    pub(crate) fn ratio(&self, metric: &str, reference: &Self) -> Option<f64> {
        let (ours, theirs) = (self.figures(metric), reference.figures(metric));
        let ratio = if ours.len() == theirs.len() {
            median(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect())
        } else {
            Some(median(ours)? / median(theirs)?)
        };
        ratio.filter(|ratio| ratio.is_finite())
    }
}

/// What one setting of one workload has shown.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) workload: &'static str,
    pub(crate) setting: String,
    pub(crate) metrics: &'static [Metric],
    /// The peer that the others are compared with, if it was measured.
    pub(crate) reference: &'static str,
    pub(crate) rows: Vec<Row>,
}

impl Table {
    /// The row that the others are compared with, if it is there.
    pub(crate) fn reference(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.peer == self.reference)
    }

    /// As JSON: medians, ratios and every sample.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let figures = self.metrics.iter().filter_map(|metric| {
                let figures = json!({
                    "median": row.median(metric.name)?,
                    "ratio": self.reference().and_then(|reference| row.ratio(metric.name, reference)),
                    "rounds": row.figures(metric.name),
                });
                Some((metric.name.to_owned(), figures))
            });
            let figures: serde_json::Map<String, Value> = figures.collect();
            let (missing, failure) = match &row.absence {
                None => (None, None),
                Some(Absence::Missing(what)) => (Some(what), None),
                Some(Absence::Failed(why)) => (None, Some(why)),
            };
            json!({
                "peer": row.peer,
                "about": row.about,
                "figures": figures,
                "missing": missing,
                "failure": failure,
            })
        });
        let rows: Vec<Value> = rows.collect();
        json!({
            "workload": self.workload,
            "setting": self.setting,
            "reference": self.reference,
            "rows": rows,
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![vec![format!("{} {}", self.workload, self.setting).trim().to_owned()]];
        let is_there = |metric: &&Metric| self.rows.iter().any(|row| row.median(metric.name).is_some());
        let metrics: Vec<&Metric> = self.metrics.iter().filter(is_there).collect();
        for metric in &metrics {
            lines[0].push(metric.head.to_owned());
            if metric.is_compared() {
                lines[0].push("ratio".to_owned());
            }
        }
        for row in self.rows.iter().filter(|row| !row.samples.is_empty()) {
            let mut line = vec![row.peer.to_owned()];
            for metric in &metrics {
                line.push(row.median(metric.name).map_or_else(|| "-".to_owned(), figure));
                if metric.is_compared() {
                    let ratio = self.reference().and_then(|reference| row.ratio(metric.name, reference));
                    line.push(ratio.map_or_else(|| "-".to_owned(), ratio_text));
                }
            }
            lines.push(line);
        }
        columns(out, &lines)?;
        for row in &self.rows {
            match &row.absence {
                None => {}
                Some(Absence::Missing(what)) => writeln!(out, "{}: left out: {what}", row.peer)?,
                Some(Absence::Failed(why)) => writeln!(out, "{}: FAILED: {why}", row.peer)?,
            }
        }
        Ok(())
    }
}

/// Lines whose cells stand below each other, the first column to the left.
fn columns(out: &mut impl Write, lines: &[Vec<String>]) -> fmt::Result {
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    for line in lines {
        let mut text = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            match column {
                0 => write!(text, "{cell:<width$}")?,
                _ => write!(text, "  {cell:>width$}")?,
            }
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

/// A ratio to read: so fine that one just above a limit of two digits is seen to be.
pub(crate) fn ratio_text(ratio: f64) -> String {
    match ratio {
        ..0.1 => format!("{ratio:.4}"),
        ..10.0 => format!("{ratio:.3}"),
        _ => figure(ratio),
    }
}

/// A figure to read: three digits at least, thousands apart.
pub(crate) fn figure(figure: f64) -> String {
    let (mut digits, mut bound) = (0, 100.0);
    while figure != 0.0 && figure.abs() < bound && digits < MOST_DIGITS {
        (digits, bound) = (digits + 1, bound / 10.0);
    }
    let text = format!("{figure:.digits$}");
    let (whole, rest) = text.find('.').map_or((text.as_str(), ""), |dot| text.split_at(dot));
    let mut apart = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 && !apart.ends_with('-') {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart + rest
}

/// How many digits a figure has behind its point at most: 6, for what is so small is nothing.
const MOST_DIGITS: usize = 6;

/// The middle of some figures; of an even number of them, what lies between the middle two.
pub(crate) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => None,
        count if count % 2 == 1 => Some(figures[middle]),
        _ => Some(f64::midpoint(figures[middle - 1], figures[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_ratio_above_a_limit_is_seen_to_be() {
        let shown = [(1.0549, "1.055"), (0.0849, "0.0849"), (0.9689, "0.969"), (12.34, "12.3")];
        for (value, text) in shown {
            assert_eq!(ratio_text(value), text);
        }
    }

    #[test]
    fn figures_have_three_digits_and_thousands_stand_apart() {
        let shown = [
            (0.0, "0"),
            (0.000512, "0.000512"),
            (0.126, "0.126"),
            (3.0, "3.00"),
            (35.04, "35.0"),
            (436.2, "436"),
            (7108.0, "7,108"),
        ];
        for (value, text) in shown {
            assert_eq!(figure(value), text);
        }
        assert_eq!(figure(1_234_567.0), "1,234,567");
        assert_eq!(figure(-123.0), "-123");
    }
}
