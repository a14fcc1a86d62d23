//! A drawing: texts, bars and lines, in colours that suit a light page and a dark one.

use std::fmt::{self, Write};

/// Colours by role; the viewer's preference decides which of both sets holds.
const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #57606a }
.title { font-size: 15px; font-weight: 600; fill: #1f2328 }
.value { fill: #1f2328 }
.page { fill: #ffffff } .grid { stroke: #d8dee4; fill: none }
.ours { fill: #0969da; stroke: #0969da } .more { fill: #80b3f0; stroke: #80b3f0 } .theirs { fill: #afb8c1; stroke: #afb8c1 }
@media (prefers-color-scheme: dark) {
text { fill: #9198a1 } .title, .value { fill: #f0f6fc }
.page { fill: #0d1117 } .grid { stroke: #30363d }
.ours { fill: #4493f8; stroke: #4493f8 } .more { fill: #1f4d8f; stroke: #1f4d8f } .theirs { fill: #656c76; stroke: #656c76 }
}
.line { fill: none; stroke-width: 2 }";

/// Which way a text runs from its point.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing of some width and height, in pixels.
pub(crate) struct Svg {
    width: f64,
    height: f64,
    body: String,
}

impl Svg {
    /// A page with a title.
    pub(crate) fn new(width: f64, height: f64, title: &str) -> Self {
        let mut svg = Self { width, height, body: String::new() };
        svg.put(format_args!("<title>{}</title>", escaped(title)));
        svg.put(format_args!("<rect class=\"page\" width=\"{width}\" height=\"{height}\"/>"));
        svg.text(16.0, 26.0, Anchor::Start, "title", title);
        svg
    }

    fn put(&mut self, element: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{element}");
    }

    /// A text whose baseline begins, ends or has its middle at a point.
    pub(crate) fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.put(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// A bar from `x` on, `width` wide.
    pub(crate) fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str) {
        self.put(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" stroke=\"none\"/>"
        ));
    }

    /// A line through points.
    pub(crate) fn line(&mut self, points: &[(f64, f64)], class: &str) {
        let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.put(format_args!("<polyline class=\"{class}\" points=\"{}\"/>", points.join(" ")));
    }
}

impl fmt::Display for Svg {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { width, height, body } = self;
        writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">"
        )?;
        writeln!(out, "<style>{STYLE}</style>\n{body}</svg>")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Places on a logarithmic scale.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogScale {
    /// The values at both ends.
    pub(crate) values: (f64, f64),
    /// Their places.
    pub(crate) places: (f64, f64),
}

impl LogScale {
    /// From and to powers of ten that hold all of these positive values.
    pub(crate) fn of(values: impl Iterator<Item = f64> + Clone, places: (f64, f64)) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min).log10().floor();
        let most = values.fold(0.0, f64::max).log10().ceil();
        Self { values: (10_f64.powf(least), 10_f64.powf(most.max(least + 1.0))), places }
    }

    pub(crate) fn place(&self, value: f64) -> f64 {
        let (from, to) = (self.values.0.log10(), self.values.1.log10());
        self.places.0 + (value.log10() - from) / (to - from) * (self.places.1 - self.places.0)
    }

    /// The powers of ten.
    pub(crate) fn ticks(&self) -> impl Iterator<Item = f64> {
        let end = self.values.1 * 1.001;
        std::iter::successors(Some(self.values.0), |tick| Some(tick * 10.0))
            .take_while(move |tick| *tick <= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_holds_its_values_between_powers_of_ten() {
        let scale = LogScale::of([0.2, 30.0].into_iter(), (0.0, 300.0));
        assert_eq!(
            scale.ticks().map(|tick| format!("{tick:.1}")).collect::<Vec<_>>(),
            ["0.1", "1.0", "10.0", "100.0"]
        );
        assert!((scale.place(0.1)).abs() < 1e-9 && (scale.place(10.0) - 200.0).abs() < 1e-9);
    }

    #[test]
    fn texts_cannot_end_their_element() {
        let mut svg = Svg::new(100.0, 50.0, "a < b");
        svg.text(1.0, 2.0, Anchor::End, "value", "</text>&");
        let text = svg.to_string();
        assert!(
            text.contains("a &lt; b") && text.contains("&lt;/text&gt;&amp;") && text.ends_with("</svg>\n")
        );
    }
}
