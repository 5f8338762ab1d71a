//! What was measured, as a table to read and as CSV.

use std::fmt::Write;

use crate::case::Cost;
use crate::machine::Rates;

/// One order of one case.
pub struct Row {
    /// The op.
    pub op: &'static str,
    /// Where its shapes come from.
    pub what: String,
    /// 0, 1 or 2.
    pub order: usize,
    /// Median time of an evaluation.
    pub seconds: f64,
    /// What an evaluation must do at least.
    pub cost: Cost,
    /// What the machine did just before.
    pub machine: Rates,
}

impl Row {
    /// FLOP/s, and as a share of a 1024-cube product's.
    fn flops(&self) -> (f64, f64) {
        let rate = self.cost.flops / self.seconds;
        (rate, rate / self.machine.product)
    }

    /// Bytes per second, and as a share of those of a copy that moves as many.
    fn bytes(&self) -> (f64, f64) {
        let rate = self.cost.bytes / self.seconds;
        (rate, rate / self.machine.copy)
    }
}

/// The table, without the machine.
pub fn text(rows: &[Row]) -> String {
    let name = |r: &Row| format!("{}, {}", r.op, r.what);
    let width = rows.iter().map(|r| name(r).len()).max().unwrap_or(0);
    let mut text = format!(
        "{:width$}  order    median  {:>8}  {:>10}  {:>6}  {:>7}\n",
        "", "GFLOP/s", "of product", "GB/s", "of copy"
    );
    for r in rows {
        let ((flops, of_product), (bytes, of_copy)) = (r.flops(), r.bytes());
        let _ = writeln!(
            text,
            "{:width$}  {:>5}  {:>8}  {:8.1}  {:8.0} %  {:6.1}  {:5.0} %",
            name(r),
            r.order,
            duration(r.seconds),
            flops / 1e9,
            100.0 * of_product,
            bytes / 1e9,
            100.0 * of_copy,
        );
    }
    text
}

/// The same and more, with a header.
pub fn csv(rows: &[Row]) -> String {
    let mut csv = "op,case,order,seconds,flops,bytes,gflop_per_s,gbyte_per_s,product_gflop_per_s,copy_gbyte_per_s,\
                   share_of_product,share_of_copy\n"
        .to_string();
    for r in rows {
        let ((flops, of_product), (bytes, of_copy)) = (r.flops(), r.bytes());
        let _ = writeln!(
            csv,
            "{},\"{}\",{},{:e},{:.0},{:.0},{:.3},{:.3},{:.3},{:.3},{:.4},{:.4}",
            r.op,
            r.what,
            r.order,
            r.seconds,
            r.cost.flops,
            r.cost.bytes,
            flops / 1e9,
            bytes / 1e9,
            r.machine.product / 1e9,
            r.machine.copy / 1e9,
            of_product,
            of_copy,
        );
    }
    csv
}

/// Three digits and a unit.
fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-3 => (1e6 * s, "us"),
        s if s < 1.0 => (1e3 * s, "ms"),
        s => (s, "s"),
    };
    let digits = match value {
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// The middle one, or the mean of the two in the middle; NaN of none.
pub fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    match x.len() {
        0 => f64::NAN,
        n => (x[(n - 1) / 2] + x[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let cost = Cost {
            flops: 3e6,
            bytes: 2e6,
        };
        let machine = Rates {
            product: 6e9,
            copy: 8e9,
        };
        Row {
            op: "op",
            what: "small, whole".into(),
            order: 2,
            seconds: 1e-3,
            cost,
            machine,
        }
    }

    #[test]
    fn rates_and_shares() {
        let text = text(&[row()]);
        let cells: Vec<&str> = text
            .lines()
            .nth(1)
            .expect("a row")
            .split_whitespace()
            .collect();
        let expected = [
            "op,", "small,", "whole", "2", "1.00", "ms", "3.0", "50", "%", "2.0", "25", "%",
        ];
        assert_eq!(cells, expected);
        let csv = csv(&[row()]);
        let line =
            "op,\"small, whole\",2,1e-3,3000000,2000000,3.000,2.000,6.000,8.000,0.5000,0.2500";
        assert_eq!(csv.lines().nth(1), Some(line));
    }

    #[test]
    fn times_have_three_digits() {
        let shown = [3.456e-6, 4.5678e-5, 1.234e-4, 0.9999, 2.5].map(duration);
        assert_eq!(shown, ["3.46 us", "45.7 us", "123 us", "1000 ms", "2.50 s"]);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }
}
