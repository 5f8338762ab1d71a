//! What all pages share.

/// Width of a chart that fills the page.
pub const WIDE: f64 = 824.0;
/// Width of a chart that fills a phone or half the page.
pub const NARROW: f64 = 380.0;

/// Colours and layout of pages, and the looks of charts.
pub const STYLE: &str = include_str!("style.css");
pub const CHART: &str = include_str!("chart.css");

/// Around the headings and the rows of a table that scrolls where the window is narrower than it.
pub const TABLE: &str = "<div class=\"scroll\"><table><thead><tr>";
pub const HEAD_END: &str = "</tr></thead><tbody>\n";
pub const TABLE_END: &str = "</tbody></table></div>\n";

/// A page with this title and body, both already escaped. It has no scripts and refers to nothing outside it.
pub fn page(title: &str, body: &str) -> String {
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{title}</title>
<style>
{STYLE}{CHART}</style>
</head>
<body>
<main>
{body}</main>
</body>
</html>
"#
    )
}
