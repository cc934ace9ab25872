//! A chart of tables, as SVG: a panel for each, a bar for each peer.
//!
//! ```text
//! +- title -----------------------------+
//! | peer      ████████▌--  median ratio |    the line at the end of a bar spans the middle half of the rounds
//! | peer      ███████████/█  median     |    a bar that is cut would be longer than the panel
//! +-------------------------------------+
//! ```

use std::fmt::Write;

use crate::report::{Better, Metric, Row, Table, figure, ratio_text};

/// Draws the tables, below each other in two columns.
pub(crate) fn draw(tables: &[Table], title: &str) -> String {
    let mut body = String::new();
    let mut bottoms = [HEAD; COLUMNS];
    for (table, metric, rows) in tables.iter().flat_map(charted) {
        // The next panel goes where there is most room.
        let column = if bottoms[0] <= bottoms[1] { 0 } else { 1 };
        let left = MARGIN + column as f64 * (PANEL + GAP);
        panel(&mut body, table, metric, &rows, (left, bottoms[column]));
        bottoms[column] += PANEL_HEAD + rows.len() as f64 * LINE + GAP;
    }
    let (width, height) = (2.0 * (MARGIN + PANEL) + GAP, bottoms[0].max(bottoms[1]));
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{title}">
<style>
text {{ font: 12px system-ui, sans-serif; fill: #1f2328 }}
.head {{ font-weight: 600; font-size: 13px }} .title {{ font-size: 15px; font-weight: 600 }} .small {{ fill: #59636e }}
.end {{ text-anchor: end }} .ours {{ fill: #0969da }} .reference {{ fill: #59636e }} .other {{ fill: #afb8c1 }}
.spread {{ stroke: #1f2328; stroke-width: 1.5 }} .cut {{ stroke: #fff; stroke-width: 3 }}
.ground {{ fill: #fff }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6edf3 }} .small {{ fill: #9198a1 }} .ground {{ fill: #0d1117 }}
.ours {{ fill: #4493f8 }} .reference {{ fill: #9198a1 }} .other {{ fill: #3d444d }} .spread {{ stroke: #e6edf3 }} .cut {{ stroke: #0d1117 }}
}}
</style>
<rect class="ground" width="100%" height="100%"/>
<text class="title" x="{MARGIN}" y="26">{title}</text>
{body}</svg>
"#,
        title = escaped(title),
    )
}

/// What is drawn of a table: processor time where it was measured, else all that is compared.
fn charted(table: &Table) -> Vec<(&Table, &Metric, Vec<&Row>)> {
    let cpu = table.metrics.iter().find(|metric| metric.name == "cpu");
    let compared = table.metrics.iter().filter(|metric| metric.is_compared());
    let metrics: Vec<&Metric> = cpu.map_or_else(|| compared.collect(), |cpu| vec![cpu]);
    let measured = |metric: &Metric| {
        table.rows.iter().filter(|row| row.median(metric.name).is_some()).collect::<Vec<&Row>>()
    };
    let panels = metrics.into_iter().map(|metric| (table, metric, measured(metric)));
    panels.filter(|(_, _, rows)| !rows.is_empty()).collect()
}

fn panel(out: &mut String, table: &Table, metric: &Metric, rows: &[&Row], (left, top): (f64, f64)) {
    let medians: Vec<f64> = rows.iter().filter_map(|row| row.median(metric.name)).collect();
    let reference = table.reference();
    let most = medians.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let ceiling = reference.and_then(|row| row.median(metric.name)).map_or(most, |of| most.min(LONGEST * of));
    let length = |value: f64| BAR * (value / ceiling).clamp(0.0, 1.0);
    let head = escaped(format!("{} {}", table.workload, table.setting).trim());
    let mut line = |text: std::fmt::Arguments<'_>| {
        // A string takes everything.
        let _ = writeln!(out, "{text}");
    };
    line(format_args!(r#"<text class="head" x="{left}" y="{:.1}">{head}</text>"#, top + 14.0));
    let better = match metric.better {
        Better::Less => ", less is better",
        Better::More => ", more is better",
        Better::Neither => "",
    };
    let (right, unit) = (left + PANEL, escaped(&format!("{}{better}", metric.head)));
    line(format_args!(r#"<text class="small end" x="{right}" y="{:.1}">{unit}</text>"#, top + 14.0));
    for (at, (row, median)) in rows.iter().zip(&medians).enumerate() {
        let (y, bar) = (top + PANEL_HEAD + at as f64 * LINE, left + NAME);
        let (text, middle, end) = (y + 12.5, y + LINE / 2.0, bar + length(*median));
        let class = match row.peer {
            peer if OURS.iter().any(|ours| peer.starts_with(ours)) => "ours",
            peer if peer == table.reference => "reference",
            _ => "other",
        };
        line(format_args!(r#"<text x="{left}" y="{text:.1}">{}</text>"#, escaped(row.peer)));
        line(format_args!(
            r#"<rect class="{class}" x="{bar}" y="{:.1}" width="{:.1}" height="{:.1}"/>"#,
            y + 2.0,
            end - bar,
            LINE - 4.0
        ));
        if *median > ceiling {
            let (from, to) = (end - 22.0, end - 16.0);
            line(format_args!(r#"<path class="cut" d="M{from:.1} {:.1}L{to:.1} {y:.1}"/>"#, y + LINE));
        } else if let Some((low, high)) = row.middle_half(metric.name) {
            let (low, high) = (bar + length(low), bar + length(high));
            line(format_args!(r#"<path class="spread" d="M{low:.1} {middle:.1}H{high:.1}"/>"#));
        }
        let ratio = reference.and_then(|of| row.ratio(metric.name, of)).map_or_else(String::new, |ratio| {
            let is_reference = row.peer == table.reference;
            if is_reference { "1 ×".to_owned() } else { format!("{} ×", ratio_text(ratio)) }
        });
        line(format_args!(
            r#"<text class="end" x="{:.1}" y="{text:.1}">{}</text>"#,
            right - RATIO,
            figure(*median)
        ));
        line(format_args!(r#"<text class="small end" x="{right}" y="{text:.1}">{ratio}</text>"#));
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

/// How the names of those begin that are built on the libraries here.
const OURS: [&str; 4] = ["asynchat", "echo_server", "kv_server", "smtpd"];

/// How many panels stand beside each other.
const COLUMNS: usize = 2;

/// How many times as long as the reference's a bar may be: 5, so that neighbours of the reference can be told apart.
const LONGEST: f64 = 5.0;

// Lengths, in pixels.
const MARGIN: f64 = 16.0;
const HEAD: f64 = 44.0;
const GAP: f64 = 28.0;
const PANEL: f64 = 440.0;
const PANEL_HEAD: f64 = 22.0;
const LINE: f64 = 18.0;
const NAME: f64 = 110.0;
const BAR: f64 = 200.0;
const RATIO: f64 = 62.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Sample;

    #[test]
    fn a_chart_has_a_bar_for_each_peer_that_was_measured() {
        const METRICS: &[Metric] = &[Metric { name: "cpu", head: "CPU ns/line", better: Better::Less }];
        let row = |peer, figures: &[f64]| Row {
            peer,
            about: "",
            samples: figures.iter().map(|figure| Sample::new().with("cpu", *figure)).collect(),
            absence: None,
        };
        let rows = vec![
            row("asynchat", &[2.0, 1.0, 3.0]),
            row("c", &[1.0, 2.0, 3.0]),
            row("a<b", &[90.0]),
            row("absent", &[]),
        ];
        let table =
            Table { workload: "echo", setting: "1 1 64".to_owned(), metrics: METRICS, reference: "c", rows };
        let chart = draw(&[table], "a & b");
        assert_eq!(chart.matches("<rect class=").count(), 1 + 3, "the ground and three bars");
        assert_eq!(chart.matches("<path class=\"cut\"").count(), 1);
        assert_eq!(chart.matches("<path class=\"spread\"").count(), 2);
        assert!(chart.contains("a &amp; b") && chart.contains("a&lt;b") && !chart.contains("absent"));
        assert!(chart.contains(">CPU ns/line, less is better<"));
        assert!(chart.contains("45.0 ×"), "the ratio of medians, as rounds differ in number");
    }
}
