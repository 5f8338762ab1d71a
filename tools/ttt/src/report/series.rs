//! Series of numbers, made ready for drawing.

/// A point of a series.
pub type Point = (f64, f64);

/// At most `2 * bins` points that keep the lowest and the highest value of every bin.
pub fn envelope(points: &[Point], bins: usize) -> Vec<Point> {
    if points.len() <= 2 * bins {
        return points.to_vec();
    }
    let mut out = Vec::with_capacity(2 * bins);
    for bin in 0..bins {
        let range = bin * points.len() / bins..(bin + 1) * points.len() / bins;
        let by_value = |&a: &usize, &b: &usize| points[a].1.total_cmp(&points[b].1);
        let low = range.clone().min_by(by_value);
        let high = range.max_by(by_value);
        if let (Some(low), Some(high)) = (low, high) {
            out.push(points[low.min(high)]);
            if low != high {
                out.push(points[low.max(high)]);
            }
        }
    }
    out
}

/// At most `count` indices below `len`, evenly spread, with the first and the last.
pub fn spread(len: usize, count: usize) -> Vec<usize> {
    if len <= count || count < 2 {
        return (0..len.min(count)).collect();
    }
    (0..count).map(|i| i * (len - 1) / (count - 1)).collect()
}

/// Points on either side of one that its mean takes in.
pub fn reach(len: usize) -> usize {
    len / 100
}

/// The moving mean. The window shrinks at the start, where the loss falls fast, and is cut off at
/// the end, where it hardly moves. Values above `ceiling` count as `ceiling`.
pub fn smooth(points: &[Point], ceiling: f64) -> Vec<Point> {
    let reach = reach(points.len());
    let mut sums = vec![0.0];
    for (i, p) in points.iter().enumerate() {
        sums.push(sums[i] + p.1.min(ceiling));
    }
    let mean = |i: usize| {
        let left = reach.min(i);
        let (from, to) = (i - left, (i + left + 1).min(points.len()));
        (sums[to] - sums[from]) / (to - from) as f64
    };
    (0..points.len()).map(|i| (points[i].0, mean(i))).collect()
}

/// A height that leaves out rare spikes: the highest value unless it is far above nearly all.
pub fn ceiling(points: &[Point]) -> f64 {
    let mut values: Vec<f64> = points.iter().map(|p| p.1).collect();
    values.sort_by(f64::total_cmp);
    let Some(&highest) = values.last() else {
        return 0.0;
    };
    let common = values[(values.len() - 1) * 99 / 100];
    let first = points[0].1;
    let limit = 1.2 * common.max(first);
    if limit > 0.0 {
        highest.min(limit)
    } else {
        highest
    }
}
