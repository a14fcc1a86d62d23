//! Charts along time: bars on one another, lines, spans, and lines without axes; drawn as SVG that is stretched to the page's
//! width, with axes in HTML beside it.

use std::fmt::Write as _;

use super::markup::Markup;
use super::scale::Axis;
use super::style::Colour;
use super::time::Range;

/// Units of a drawing from its left to its right, whatever its width on the page.
const WIDTH: f64 = 1000.0;
/// From its bottom to its top.
const HEIGHT: f64 = 100.0;
const VIEW_BOX: &str = "0 0 1000 100";
/// How much of its place a bar takes.
const BAR_SHARE: f64 = 0.84;
/// What is not nothing is at least so high: a single failure among millions must be seen.
const LEAST_HEIGHT: f64 = 0.9;
/// Marks of an axis of time, of which every other is left out on a phone.
const MARKS_MAX: usize = 8;
/// A label so near an end does not stand in the middle of its mark: it would stick out.
const NEAR_END: f64 = 0.04;

/// What is around a drawing.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    /// What is shown, for those who do not see it.
    pub(super) described: &'a str,
    /// What is drawn, if a chart of a figure with several needs it said.
    pub(super) name: Option<&'a str>,
    pub(super) is_low: bool,
    pub(super) values: &'a Axis,
    pub(super) times: Range,
}

/// Values along time in a colour.
#[derive(Debug)]
pub(super) struct Stack<'a> {
    pub(super) colour: Colour,
    /// One of each bucket.
    pub(super) counts: &'a [u64],
}

/// A line; it is broken where there is no value.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) colour: Colour,
    pub(super) is_dashed: bool,
    /// One of each bucket.
    pub(super) values: Vec<Option<f64>>,
}

/// Something that lasted, and its size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) from_ns: i64,
    pub(super) to_ns: i64,
    pub(super) size: f64,
}

impl Frame<'_> {
    /// A bar for each bucket, of several parts on one another, with what is said when it is pointed at.
    pub(super) fn bars(&self, html: &mut Markup, stacks: &[Stack<'_>], said: &[String]) {
        self.draw(html, |svg| {
            slots(svg, said, |svg, place, left, width| {
                let mut below = 0.0;
                for stack in stacks {
                    let count = stack.counts.get(place).copied().unwrap_or(0);
                    if count == 0 {
                        continue;
                    }
                    let height =
                        (self.values.share(count as f64) * HEIGHT).max(LEAST_HEIGHT).min(HEIGHT - below);
                    let gap = width * (1.0 - BAR_SHARE) / 2.0;
                    let class = format!("bar {}", stack.colour.class());
                    let attributes: [(&str, &str); 5] = [
                        ("class", &class),
                        ("x", &unit(left + gap)),
                        ("y", &unit(HEIGHT - below - height)),
                        ("width", &unit(width * BAR_SHARE)),
                        ("height", &unit(height)),
                    ];
                    svg.void("rect", &attributes);
                    below += height;
                }
            });
        });
    }

    /// Lines through the middles of the buckets, with what is said when one of these is pointed at.
    pub(super) fn lines(&self, html: &mut Markup, lines: &[Line], said: &[String]) {
        self.draw(html, |svg| {
            for line in lines {
                let shares: Vec<Option<f64>> =
                    line.values.iter().map(|value| Some(self.values.share((*value)?))).collect();
                let class =
                    format!("line {}{}", line.colour.class(), if line.is_dashed { " dashed" } else { "" });
                svg.void("path", &[("class", &class), ("d", &path(&shares))]);
            }
            slots(svg, said, |_, _, _, _| ());
        });
    }

    /// A line from the beginning to the end of each span, as high as its size.
    pub(super) fn spans(&self, html: &mut Markup, colour: Colour, spans: &[Span]) {
        self.draw(html, |svg| {
            let mut path = String::new();
            for span in spans {
                let (left, right) =
                    (self.times.share(span.from_ns) * WIDTH, self.times.share(span.to_ns) * WIDTH);
                // What fails to be written to a string is nothing.
                let _ = write!(path, "M{} {}H{}", unit(left), self.height(span.size), unit(right));
            }
            let class = format!("line thick {}", colour.class());
            svg.void("path", &[("class", &class), ("d", &path)]);
        });
    }

    fn height(&self, value: f64) -> String {
        unit(HEIGHT - self.values.share(value) * HEIGHT)
    }

    fn draw(&self, html: &mut Markup, draw: impl FnOnce(&mut Markup)) {
        let class = if self.is_low { "chart low" } else { "chart" };
        html.element("div", &[("class", class)], |html| {
            if let Some(name) = self.name {
                html.leaf("div", &[("class", "name")], name);
            }
            self.values_axis(html);
            html.element("div", &[("class", "plot")], |html| {
                drawing(html, "wide", self.described, |svg| {
                    for (share, _) in &self.values.marks {
                        let y = unit(HEIGHT - share * HEIGHT);
                        let class = if *share > 0.0 { "grid" } else { "grid base" };
                        svg.void("path", &[("class", class), ("d", &format!("M0 {y}H1000"))]);
                    }
                    draw(svg);
                });
                self.times_axis(html);
            });
        });
    }

    fn values_axis(&self, html: &mut Markup) {
        let letters = self.values.marks.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0);
        let width = format!("width:{letters}ch");
        let attributes: [(&str, &str); 3] = [("class", "ys"), ("style", &width), ("aria-hidden", "true")];
        html.element("div", &attributes, |html| {
            for (share, label) in &self.values.marks {
                html.leaf("span", &[("style", &format!("bottom:{}%", unit(share * 100.0)))], label);
            }
        });
    }

    fn times_axis(&self, html: &mut Markup) {
        html.element("div", &[("class", "xs"), ("aria-hidden", "true")], |html| {
            for (place, mark) in self.times.marks(MARKS_MAX).into_iter().enumerate() {
                let share = self.times.share(mark.ts_ns);
                let end = match share {
                    share if share < NEAR_END => "from",
                    share if share > 1.0 - NEAR_END => "to",
                    _ => "",
                };
                let class = format!("{end}{}", if place % 2 == 1 { " odd" } else { "" });
                let style = format!("left:{}%", unit(share * 100.0));
                html.leaf("span", &[("class", class.trim()), ("style", &style)], &mark.label);
            }
        });
    }
}

/// A line without axes, over its area: one value of each bucket, from the lowest of them or 0 to the highest.
pub(super) fn spark(html: &mut Markup, colour: Colour, described: &str, values: &[f64]) {
    let (low, high) =
        values.iter().fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(*value), high.max(*value)));
    let share = |value: &f64| if high > low { (value - low) / (high - low) } else { 0.0 };
    let shares: Vec<Option<f64>> = values.iter().map(|value| Some(share(value))).collect();
    drawing(html, "spark", described, |svg| {
        let line = path(&shares);
        let zero = unit(HEIGHT - share(&0.0) * HEIGHT);
        let count = values.len().max(1) as f64;
        let (first, last) = (unit(WIDTH * 0.5 / count), unit(WIDTH * (count - 0.5) / count));
        let class = colour.class();
        let area = format!("{line}L{last} {zero}L{first} {zero}Z");
        svg.void("path", &[("class", "grid base"), ("d", &format!("M0 {zero}H1000"))]);
        svg.void("path", &[("class", &format!("area {class}")), ("d", &area)]);
        svg.void("path", &[("class", &format!("line thin {class}")), ("d", &line)]);
    });
}

fn drawing(html: &mut Markup, class: &str, described: &str, draw: impl FnOnce(&mut Markup)) {
    let attributes = [
        ("class", class),
        ("role", "img"),
        ("aria-label", described),
        ("viewBox", VIEW_BOX),
        ("preserveAspectRatio", "none"),
    ];
    html.element("svg", &attributes, draw);
}

/// A place for each bucket, which lights up and says something when it is pointed at.
fn slots(svg: &mut Markup, said: &[String], mut draw: impl FnMut(&mut Markup, usize, f64, f64)) {
    let width = WIDTH / said.len().max(1) as f64;
    for (place, said) in said.iter().enumerate() {
        let left = place as f64 * width;
        svg.element("g", &[("class", "slot")], |svg| {
            svg.leaf("title", &[], said);
            let attributes: [(&str, &str); 5] = [
                ("class", "hit"),
                ("x", &unit(left)),
                ("y", "0"),
                ("width", &unit(width)),
                ("height", "100"),
            ];
            svg.void("rect", &attributes);
            draw(svg, place, left, width);
        });
    }
}

/// A line through shares of the height, equally far apart, in the middles of their places. One without neighbours is a dot.
fn path(shares: &[Option<f64>]) -> String {
    let width = WIDTH / shares.len().max(1) as f64;
    let mut path = String::new();
    let mut is_drawing = false;
    for (place, share) in shares.iter().enumerate() {
        let Some(share) = share else {
            is_drawing = false;
            continue;
        };
        let (x, y) = (unit((place as f64 + 0.5) * width), unit(HEIGHT - share * HEIGHT));
        // A line of no length has round ends, so it is seen. As above.
        let _ = if is_drawing { write!(path, "L{x} {y}") } else { write!(path, "M{x} {y}h0") };
        is_drawing = true;
    }
    path
}

/// A number of the drawing, to the hundredth.
fn unit(number: f64) -> String {
    let text = format!("{number:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(axis: &Axis, times: Range) -> Frame<'_> {
        Frame { described: "a chart", name: None, is_low: false, values: axis, times }
    }

    fn made(make: impl FnOnce(&mut Markup)) -> String {
        let mut markup = Markup::default();
        make(&mut markup);
        markup.into_string()
    }

    const DAYS: Range = Range { from_ns: 0, to_ns: 4 * 86_400_000_000_000 };

    #[test]
    fn bars_stand_on_one_another_and_reach_as_high_as_their_counts() {
        let axis = Axis::of_counts(100.0);
        let stacks = [
            Stack { colour: Colour::Blue, counts: &[60, 0] },
            Stack { colour: Colour::Red, counts: &[20, 100] },
        ];
        let svg = made(|m| frame(&axis, DAYS).bars(m, &stacks, &["a".to_owned(), "b".to_owned()]));
        assert!(
            svg.contains(r#"<title>a</title><rect class="hit" x="0" y="0" width="500" height="100"/>"#),
            "{svg}"
        );
        assert!(svg.contains(r#"<rect class="bar blue" x="40" y="40" width="420" height="60"/>"#), "{svg}");
        assert!(svg.contains(r#"<rect class="bar red" x="40" y="20" width="420" height="20"/>"#), "{svg}");
        assert!(svg.contains(r#"<rect class="bar red" x="540" y="0" width="420" height="100"/>"#), "{svg}");
        assert_eq!(svg.matches("bar blue").count(), 1, "nothing is drawn of nothing");
    }

    #[test]
    fn one_among_millions_is_seen() {
        let axis = Axis::of_counts(1e6);
        let svg = made(|m| {
            frame(&axis, DAYS).bars(m, &[Stack { colour: Colour::Red, counts: &[1] }], &[String::new()]);
        });
        assert!(svg.contains(r#"y="99.1" width="840" height="0.9""#), "{svg}");
    }

    #[test]
    fn lines_break_where_there_is_no_value_and_a_single_one_is_a_dot() {
        let shares = [Some(0.0), Some(1.0), None, Some(0.5)];
        assert_eq!(path(&shares), "M125 100h0L375 0M875 50h0");
        assert_eq!(path(&[]), "");
    }

    #[test]
    fn spans_lie_where_they_were_and_as_high_as_their_size() {
        let axis = Axis::of_counts(10.0);
        let spans = [
            Span { from_ns: 0, to_ns: DAYS.to_ns / 2, size: 5.0 },
            Span { from_ns: DAYS.to_ns, to_ns: DAYS.to_ns, size: 10.0 },
        ];
        let svg = made(|m| frame(&axis, DAYS).spans(m, Colour::Teal, &spans));
        let top = axis.share(10.0);
        assert!(
            svg.contains(&format!(
                "d=\"M0 {}H500M1000 {}H1000\"",
                unit(100.0 - top * 50.0),
                unit(100.0 - top * 100.0)
            )),
            "{svg}"
        );
    }

    #[test]
    fn labels_stay_within_the_chart_and_every_other_is_for_wide_pages() {
        let axis = Axis::of_counts(10.0);
        let html = made(|m| frame(&axis, DAYS).lines(m, &[], &[]));
        assert!(html.contains(r#"<span class="from" style="left:0%">1 Jan</span>"#), "{html}");
        assert!(html.contains(r#"<span class="to" style="left:100%">5 Jan</span>"#), "{html}");
        assert_eq!(html.matches("odd").count(), 2, "two of the five: {html}");
        assert!(html.contains(r#"role="img" aria-label="a chart""#), "{html}");
    }

    #[test]
    fn a_line_without_axes_shows_negative_values_below_zero() {
        let svg = made(|m| spark(m, Colour::Blue, "sums", &[-1.0, 3.0]));
        assert!(svg.contains("M250 100h0L750 0L750 75L250 75Z"), "{svg}");
        assert!(made(|m| spark(m, Colour::Blue, "none", &[0.0])).contains("M500 100h0"));
    }
}
