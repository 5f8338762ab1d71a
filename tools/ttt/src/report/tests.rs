use roxmltree::{Document, Node, ParsingOptions};

use super::*;

/// A report with `points` records, three books and a sample.
fn report(points: u64) -> Report {
    let noise = |i: u64| (i.wrapping_mul(2_654_435_761) % 1000) as f64 / 1000.0 - 0.5;
    let training = (0..points)
        .map(|i| {
            let share = i as f64 / points as f64;
            let cosine = 0.5 + 0.5 * (std::f64::consts::PI * share).cos();
            TrainingPoint {
                step: i + 1,
                loss: 3.4 + 5.0 * (-30.0 * share).exp() + 0.4 * (1.0 - share) + 0.3 * noise(i),
                learning_rate: 3e-3 * (share * 20.0).min(cosine),
                tokens_per_second: 12_000.0 + 500.0 * noise(i),
            }
        })
        .collect();
    let curve = |start: f64, gain: f64| {
        let bucket = |i: usize| Position {
            from: i * 1024,
            to: (i + 1) * 1024,
            nats_per_token: start - 0.25 * (i as f64 / 7.0).sqrt() - gain * i as f64 / 7.0,
        };
        Curve {
            nats_per_token: start - 0.2 - gain / 2.0,
            bits_per_byte: 0.45 * (start - gain / 2.0),
            buckets: (0..8).map(bucket).collect(),
        }
    };
    let book = |name: &str, start: f64, gain: f64| HeldOut {
        book: name.to_string(),
        on: Some(curve(start - 0.002, gain)),
        off: curve(start, 0.0),
    };
    Report {
        title: "Training of a small model".to_string(),
        settings: vec![
            ("sequence".into(), "8192".into()),
            ("books".into(), "a b c".into()),
        ],
        config_json: "{\n  \"hidden_size\": 256\n}".to_string(),
        parameters: 31_245_312,
        training,
        seconds: 8061.0,
        tokens: 98_304_000,
        heldout: vec![
            book("Middlemarch", 3.9, 0.061),
            book("Moby Dick", 4.2, 0.105),
            book("Emma", 3.7, -0.02),
        ],
        samples: vec![Sample {
            prompt: "It was".into(),
            text: " late.\n\nNo one came.".into(),
        }],
    }
}

fn empty() -> Report {
    Report {
        title: String::new(),
        settings: Vec::new(),
        config_json: String::new(),
        parameters: 0,
        training: Vec::new(),
        seconds: 0.0,
        tokens: 0,
        heldout: Vec::new(),
        samples: Vec::new(),
    }
}

/// Parses the page strictly, checks every number in its charts, and hands the page to `look`.
fn check(html: &str, look: impl FnOnce(&Document)) {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    let document = Document::parse_with_options(html, options).expect("well-formed page");
    for node in document.descendants() {
        for attribute in node.attributes() {
            let numbers = [
                "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "points", "viewBox", "width",
                "height",
            ];
            let numbers = numbers.contains(&attribute.name());
            let values = attribute.value().split([' ', ',']).filter(|_| numbers);
            for value in values.filter(|v| !v.is_empty()) {
                let number: f64 = value.parse().expect("a number");
                assert!(
                    number.is_finite() && number.abs() < 1e4,
                    "{value} in {node:?}"
                );
                let size = matches!(attribute.name(), "width" | "height" | "r");
                assert!(!size || number >= 0.0, "{value} in {node:?}");
            }
        }
    }
    for word in ["NaN", "<script", "href", "src=", "url(", "http"] {
        assert!(!html.contains(word), "{word}");
    }
    look(&document);
}

fn all_text(node: Node) -> String {
    node.descendants()
        .filter(|n| n.is_text())
        .filter_map(|n| n.text())
        .collect()
}

fn find<'a>(document: &'a Document, class: &str) -> Vec<Node<'a, 'a>> {
    let has = |n: &Node| {
        n.attribute("class")
            .is_some_and(|classes| classes.split(' ').any(|c| c == class))
    };
    document.descendants().filter(has).collect()
}

#[test]
fn says_the_outcome_in_words() {
    check(&report(2000).html(), |page| {
        let lead = all_text(find(page, "lead")[0]);
        for part in [
            "31.2 million parameters",
            "step 2,000",
            "98.3 million tokens",
            "2 h 14 min",
            "12,000 tokens per second",
            "1.740 and 1.755 (Middlemarch)",
            "By the last eighth",
            "−0.063 (Middlemarch)",
            "+0.018 (Emma)",
        ] {
            assert!(lead.contains(part), "{part} in {lead}");
        }
    });
}

#[test]
fn draws_every_book_on_the_same_axis() {
    check(&report(100).html(), |page| {
        let books = find(page, "small");
        assert_eq!(books.len(), 3);
        let labels = |svg: &Node| -> Vec<String> {
            let ticks = svg
                .children()
                .filter(|n| n.attribute("class") == Some("tick y"));
            ticks.map(all_text).collect()
        };
        assert!(labels(&books[0]).len() > 4);
        for svg in &books {
            assert_eq!(labels(svg), labels(&books[0]));
            assert_eq!(
                svg.descendants()
                    .filter(|n| n.has_tag_name("title"))
                    .count(),
                8
            );
        }
    });
}

#[test]
fn text_from_outside_stays_text() {
    let nasty = "</title></style><b onclick='x'>\"&amp; ]]> <!-- \u{0}\u{1b}[1m\u{ffff}";
    let shown = "</title></style><b onclick='x'>\"&amp; ]]> <!-- \u{fffd}\u{fffd}[1m\u{fffd}";
    let mut report = report(10);
    report.title = nasty.to_string();
    report.settings = vec![(nasty.to_string(), nasty.to_string())];
    report.config_json = nasty.to_string();
    report.heldout[0].book = nasty.to_string();
    report.samples = vec![Sample {
        prompt: nasty.to_string(),
        text: nasty.to_string(),
    }];
    check(&report.html(), |page| {
        assert_eq!(
            all_text(page.root()).matches(shown).count(),
            2 + 2 + 1 + 4 + 2
        );
        assert!(page.descendants().all(|n| n.attribute("onclick").is_none()));
    });
}

#[test]
fn odd_numbers_are_left_out() {
    for odd in [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        5e-324,
        0.0,
        -0.0,
    ] {
        let mut one = report(50);
        one.training[7].loss = odd;
        one.training[8].learning_rate = odd;
        one.training[9].tokens_per_second = odd;
        one.heldout[1].off.buckets[2].nats_per_token = odd;
        check(&one.html(), |page| {
            assert_eq!(find(page, "warn").is_empty(), odd.is_finite())
        });

        let mut all = report(50);
        all.seconds = odd;
        for point in &mut all.training {
            (point.loss, point.learning_rate, point.tokens_per_second) = (odd, odd, odd);
        }
        for book in &mut all.heldout {
            for curve in book.on.iter_mut().chain([&mut book.off]) {
                (curve.nats_per_token, curve.bits_per_byte) = (odd, odd);
                curve
                    .buckets
                    .iter_mut()
                    .for_each(|b| b.nats_per_token = odd);
            }
        }
        check(&all.html(), |_| ());
    }
}

#[test]
fn says_that_a_training_diverged() {
    let mut report = report(50);
    for point in &mut report.training[40..] {
        point.loss = f64::NAN;
    }
    check(&report.html(), |page| {
        let warning = all_text(find(page, "warn")[0]);
        assert!(
            warning.contains("in 10 records") && warning.contains("diverged"),
            "{warning}"
        );
    });
}

#[test]
fn one_spike_does_not_flatten_the_curve() {
    let mut report = report(2000);
    report.training[1000].loss = 1e6;
    check(&report.html(), |page| {
        assert!(all_text(page.root()).contains("Rare spikes"));
        let ticks = find(page, "wide")[0]
            .children()
            .filter(|n| n.attribute("class") == Some("tick y"));
        let highest = ticks
            .filter_map(|n| all_text(n).parse().ok())
            .fold(0.0, f64::max);
        assert!(highest <= 12.0, "{highest}");
    });
}

#[test]
fn little_data_is_enough() {
    check(&empty().html(), |page| {
        assert!(find(page, "chart").is_empty())
    });
    for points in [1, 2, 3] {
        check(&report(points).html(), |_| ());
    }
    let mut one = report(1);
    one.training[0].step = u64::MAX;
    one.heldout.truncate(1);
    one.heldout[0].off.buckets.truncate(1);
    check(&one.html(), |_| ());
    one.heldout[0].off.buckets[0].to = 0;
    check(&one.html(), |_| ());
    one.heldout[0].off.buckets.clear();
    check(&one.html(), |_| ());
}

#[test]
fn a_static_model_has_one_line() {
    let mut report = report(10);
    report.heldout.iter_mut().for_each(|book| book.on = None);
    check(&report.html(), |page| {
        let text = all_text(page.root());
        assert!(text.contains("does not learn while it reads"));
        assert!(!text.contains("gain") && !text.contains("test-time training"));
        assert!(find(page, "bar").is_empty());
    });
}

#[test]
fn one_book_and_many_books_are_summed_up() {
    for (book, change) in [
        (0, "lowered the loss by 0.063"),
        (2, "raised the loss by 0.018"),
    ] {
        let mut one = report(10);
        one.heldout = vec![one.heldout.swap_remove(book)];
        check(&one.html(), |page| {
            let lead = all_text(find(page, "lead")[0]);
            assert!(lead.contains(change), "{change} in {lead}");
        });
    }
    let mut many = report(10);
    many.heldout.extend(report(10).heldout);
    check(&many.html(), |page| {
        let lead = all_text(find(page, "lead")[0]);
        assert!(
            lead.contains("6 held-out books") && lead.contains("on average"),
            "{lead}"
        );
    });
}

#[test]
fn long_trainings_make_small_files() {
    let html = report(100_000).html();
    assert!(html.len() < 200_000, "{}", html.len());
    check(&html, |page| {
        for line in find(page, "line") {
            let points = line.attribute("points").unwrap_or("");
            assert!(points.split(' ').count() <= 1000);
        }
    });
}

#[test]
fn the_same_data_make_the_same_page() {
    assert_eq!(report(500).html(), report(500).html());
}

#[test]
fn ticks_are_round() {
    use super::svg::whole_ticks;
    assert_eq!(
        whole_ticks(1, 12_000, 8),
        [2000, 4000, 6000, 8000, 10_000, 12_000]
    );
    assert_eq!(whole_ticks(0, 3, 8), [0, 1, 2, 3]);
    assert_eq!(whole_ticks(7, 7, 8), [7]);
}

#[test]
fn numbers_read_well() {
    use super::text::{count, duration, fixed, scientific, signed, thousands};
    assert_eq!(fixed(-0.0004, 3), "0.000");
    assert_eq!(fixed(-1.5, 1), "−1.5");
    assert_eq!(fixed(f64::NAN, 1), "–");
    assert_eq!(signed(0.25, 2), "+0.25");
    assert_eq!(signed(-0.25, 2), "−0.25");
    assert_eq!(thousands(1_234_567), "1,234,567");
    assert_eq!(count(31_245_312), "31.2 million");
    assert_eq!(scientific(3e-4), "3.0×10⁻⁴");
    assert_eq!(duration(8061.0), "2 h 14 min");
    assert_eq!(duration(75.2), "1 min 15 s");
}
