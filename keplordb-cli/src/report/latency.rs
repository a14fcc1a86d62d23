//! How long things took: quantiles of the latency, over time and of all events.

use super::chart::{Frame, Line};
use super::facts::{Facts, Latency, Quantiles};
use super::markup::Markup;
use super::quantity::duration_ms;
use super::scale::Axis;
use super::style::Colour;
use super::time::Buckets;
use super::{as_table, key, section as part};

/// A quantile: what it is called, how it is drawn and which it is.
struct Curve {
    name: &'static str,
    colour: Colour,
    is_dashed: bool,
    of: fn(&Quantiles) -> i64,
}

const CURVES: [Curve; 4] = [
    Curve { name: "p50", colour: Colour::Blue, is_dashed: false, of: |quantiles| quantiles.p50 },
    Curve { name: "p90", colour: Colour::Amber, is_dashed: false, of: |quantiles| quantiles.p90 },
    Curve { name: "p99", colour: Colour::Red, is_dashed: false, of: |quantiles| quantiles.p99 },
    Curve { name: "max", colour: Colour::Grey, is_dashed: true, of: |quantiles| quantiles.max },
];

pub(super) fn section(html: &mut Markup, facts: &Facts) {
    let Some(latency) = &facts.latency else { return };
    let exact = if latency.is_exact { "Exact." } else { "Within 1\u{a0}%; the maximum is exact." };
    let note = format!("Half of the events took p50 or less, 99 of 100 took p99 or less. {exact}");
    part(html, "latency", "Latency", &note, |html| {
        html.element("figure", &[("class", "card")], |html| {
            html.element("ul", &[("class", "legend")], |html| {
                for Curve { name, colour, is_dashed, of } in &CURVES {
                    let class = format!("line {}{}", colour.class(), if *is_dashed { " dashed" } else { "" });
                    key(html, &class, name, &duration_ms(of(&latency.overall) as f64));
                }
            });
            if let Some(timeline) = &facts.timeline {
                over_time(html, latency, &timeline.buckets);
            }
        });
    });
}

fn over_time(html: &mut Markup, latency: &Latency, buckets: &Buckets) {
    let known = || latency.by_time.iter().flatten();
    let least = known().map(|quantiles| quantiles.p50).filter(|p50| *p50 > 0).min().unwrap_or(1);
    let most = known().map(|quantiles| quantiles.max).max().unwrap_or(0);
    let axis = Axis::of_durations(least as f64, most as f64);
    let range = |of: fn(&Quantiles) -> i64| {
        let (low, high) = (known().map(of).min().unwrap_or(0), known().map(of).max().unwrap_or(0));
        format!("{} to {}", duration_ms(low as f64), duration_ms(high as f64))
    };
    let ranges: Vec<String> =
        CURVES.iter().map(|curve| format!("{} from {}", curve.name, range(curve.of))).collect();
    let described = format!("Latency over time, for every {}: {}", buckets.every(), ranges.join(", "));

    let said: Vec<String> = latency
        .by_time
        .iter()
        .enumerate()
        .map(|(place, quantiles)| match quantiles {
            None => format!("{}: no events", buckets.label(place)),
            Some(quantiles) => {
                let values = CURVES
                    .iter()
                    .map(|curve| format!("{} {}", curve.name, duration_ms((curve.of)(quantiles) as f64)));
                format!("{}: {}", buckets.label(place), values.collect::<Vec<_>>().join(", "))
            }
        })
        .collect();
    // The most important one is drawn last, over the others.
    let lines: Vec<Line> = CURVES
        .iter()
        .rev()
        .map(|curve| {
            let values = latency.by_time.iter().map(|quantiles| Some((curve.of)(quantiles.as_ref()?) as f64));
            Line { colour: curve.colour, is_dashed: curve.is_dashed, values: values.collect() }
        })
        .collect();
    let name = axis.is_logarithmic().then_some("Logarithmic: each mark is several times the one below");
    let frame = Frame { described: &described, name, is_low: false, values: &axis, times: buckets.range() };
    frame.lines(html, &lines, &said);

    let headings: Vec<&str> = std::iter::once("From").chain(CURVES.iter().map(|curve| curve.name)).collect();
    let rows = latency.by_time.iter().enumerate().filter_map(|(place, quantiles)| {
        let quantiles = quantiles.as_ref()?;
        let values = CURVES.iter().map(|curve| duration_ms((curve.of)(quantiles) as f64));
        Some(std::iter::once(buckets.label(place)).chain(values).collect())
    });
    as_table(html, "Latency over time", &headings, rows);
}
