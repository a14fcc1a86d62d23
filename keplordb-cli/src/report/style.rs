//! What the page looks like: its colours in light and dark, and its style sheet.

/// A colour by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Blue,
    Teal,
    Amber,
    Red,
    Violet,
    Grey,
}

impl Colour {
    /// The class of what is drawn in it.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Teal => "teal",
            Self::Amber => "amber",
            Self::Red => "red",
            Self::Violet => "violet",
            Self::Grey => "grey",
        }
    }
}

/// The style sheet. It has no letter that HTML or XML would need to have escaped.
///
/// Charts are drawn in a box of 1000 by 100 that is stretched to the width there is; what is written beside them is text of the
/// page, so it keeps its size on a phone, where every other mark of an axis is left out. On paper it is light.
pub(super) const STYLE: &str = "
:root {
  color-scheme: light dark;
  --ground: #f5f5f2; --card: #ffffff; --ink: #1d2126; --soft: #5a616b; --line: #e2e2dd; --grid: #ebebe7;
  --blue: #2f6db5; --teal: #17806f; --amber: #b87708; --red: #bd3329; --violet: #7556b3; --grey: #808791;
  --hover: rgb(40 60 90 / 8%);
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ground: #121417; --card: #1a1d22; --ink: #e6e7ea; --soft: #a1a8b2; --line: #2c3138; --grid: #262b31;
    --blue: #6ba3e8; --teal: #45b8a4; --amber: #e0a544; --red: #f0796d; --violet: #b49ce9; --grey: #808893;
    --hover: rgb(200 220 255 / 9%);
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 0.9375rem/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', Arial, sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 70rem; margin: 0 auto; padding: clamp(1.25rem, 4vw, 3rem) clamp(1rem, 4vw, 2.5rem) 2rem; }
h1, h2, h3, p, dl, dd, ul, figure, table { margin: 0; padding: 0; }
h1 { font-size: clamp(1.5rem, 1.2rem + 1.6vw, 2.125rem); line-height: 1.2; font-weight: 650; letter-spacing: -0.02em; overflow-wrap: anywhere; }
h2 { font-size: 1.125rem; line-height: 1.3; font-weight: 650; letter-spacing: -0.01em; }
h3 { font-size: 0.9375rem; font-weight: 600; overflow-wrap: anywhere; }
bdi { overflow-wrap: anywhere; }
code { font: 0.875em/1.4 ui-monospace, 'SF Mono', 'Cascadia Mono', Menlo, Consolas, monospace; }
.kind { color: var(--soft); font-size: 0.8125rem; margin-bottom: 0.25rem; }
.lead { margin-top: 0.5rem; max-width: 44rem; }
.note { color: var(--soft); font-size: 0.8125rem; max-width: 46rem; }
.conditions { display: flex; flex-wrap: wrap; gap: 0.375rem; margin-top: 0.75rem; list-style: none; }
.conditions li { padding: 0.125rem 0.5rem; border: 1px solid var(--line); border-radius: 0.375rem; background: var(--card); }
.empty { color: var(--soft); }
section { margin-top: clamp(1.75rem, 4vw, 2.75rem); }
section .note { margin-top: 0.125rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 0.625rem; padding: 1rem 1.125rem; break-inside: avoid; }
section > .card, section > .cards { margin-top: 0.875rem; }
.cards { columns: 21rem; column-gap: 0.875rem; }
.cards .card { margin-bottom: 0.875rem; }
.cards.small { display: grid; gap: 0.875rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); }
.cards.small .card { margin: 0; }

.figures { display: flex; flex-wrap: wrap; gap: 1px; margin-top: 1.5rem; background: var(--line); border: 1px solid var(--line); border-radius: 0.625rem; overflow: hidden; }
.figures div { flex: 1 1 9rem; background: var(--card); padding: 0.75rem 1rem 0.8125rem; }
.figures dt, .small dt { color: var(--soft); font-size: 0.8125rem; }
.figures dd { font-size: 1.1875rem; font-weight: 600; letter-spacing: -0.01em; line-height: 1.35; }
.figures dd small { display: block; color: var(--soft); font-size: 0.8125rem; font-weight: 400; letter-spacing: 0; line-height: 1.4; }

.legend { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; list-style: none; font-size: 0.8125rem; color: var(--soft); margin-bottom: 0.75rem; }
.legend li { display: flex; align-items: baseline; gap: 0.375rem; }
.legend b { color: var(--ink); font-weight: 600; }
.legend .key { flex: none; width: 0.625rem; height: 0.625rem; border-radius: 0.125rem; background: currentColor; }
.legend .key.line { width: 1.125rem; height: 0; border-top: 2px solid; border-radius: 0; background: none; align-self: center; }
.legend .key.dashed { border-top-style: dotted; }

.chart { display: grid; grid-template-columns: max-content minmax(0, 1fr); column-gap: 0.5rem; }
.chart + .chart { margin-top: 1rem; }
.chart .name { grid-column: 1 / -1; color: var(--soft); font-size: 0.8125rem; margin-bottom: 0.5rem; }
.ys { position: relative; height: var(--height); font-size: 0.75rem; line-height: 1; color: var(--soft); text-align: right; }
.ys span { position: absolute; right: 0; transform: translateY(50%); white-space: nowrap; }
.plot svg { display: block; width: 100%; height: var(--height); overflow: visible; }
.chart { --height: 13rem; }
.chart.low { --height: 7.5rem; }
.xs { position: relative; height: 1.125rem; margin-top: 0.375rem; font-size: 0.75rem; line-height: 1.125rem; color: var(--soft); }
.xs span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.xs .from { transform: none; }
.xs .to { transform: translateX(-100%); }

.grid, .line { fill: none; vector-effect: non-scaling-stroke; }
.grid { stroke: var(--grid); stroke-width: 1; }
.grid.base { stroke: var(--soft); stroke-opacity: 0.55; }
.line { stroke: currentColor; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.line.thin { stroke-width: 1.5; }
.line.dashed { stroke-width: 2; stroke-dasharray: 0.1 4; }
.line.thick { stroke-width: 4; }
.bar { fill: currentColor; }
.area { fill: currentColor; fill-opacity: 0.14; }
.hit { fill: transparent; }
.slot:hover .hit { fill: var(--hover); }
.blue { color: var(--blue); } .teal { color: var(--teal); } .amber { color: var(--amber); }
.red { color: var(--red); } .violet { color: var(--violet); } .grey { color: var(--grey); }

details { margin-top: 0.75rem; font-size: 0.8125rem; }
summary { display: inline-block; color: var(--soft); cursor: pointer; border-radius: 0.25rem; }
summary::before { content: '\u{25b8}'; display: inline-block; width: 1em; }
details[open] summary::before { content: '\u{25be}'; }
summary::-webkit-details-marker { display: none; }
summary:hover { color: var(--ink); }
:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
.scroll { margin-top: 0.5rem; max-height: 22rem; overflow: auto; border-top: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: right; font-weight: 400; padding: 0.25rem 0 0.25rem 1rem; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.scroll th, .scroll td { border-bottom: 1px solid var(--grid); }
.scroll thead th { position: sticky; top: 0; background: var(--card); color: var(--soft); }

.top { display: flex; justify-content: space-between; align-items: baseline; gap: 1rem; margin-bottom: 0.5rem; }
.top .note { margin: 0; white-space: nowrap; }
.values { table-layout: fixed; font-size: 0.875rem; }
.values th { width: 36%; overflow: hidden; text-overflow: ellipsis; }
.values td { padding-left: 0.625rem; }
.values .count { width: 5.5rem; } .values .share { width: 4rem; color: var(--soft); }
.values .bars { padding-left: 0.75rem; }
.values .bars span { display: block; height: 0.625rem; min-width: 1px; border-radius: 0 0.1875rem 0.1875rem 0; background: var(--blue); }
.values .rest th, .values .rest td { color: var(--soft); }

.small dl { display: grid; grid-template-columns: repeat(3, 1fr); gap: 0.5rem; margin-top: 0.625rem; }
.small dd { font-size: 0.875rem; overflow-wrap: anywhere; }
.sum { font-size: 1.375rem; font-weight: 600; letter-spacing: -0.01em; line-height: 1.35; overflow-wrap: anywhere; }
.spark { display: block; width: 100%; height: 2.75rem; margin-top: 0.5rem; overflow: visible; }
@media (max-width: 36rem) {
  .xs .odd { display: none; }
  .chart { --height: 10rem; }
  .values th { width: 32%; } .values .count { width: 4.75rem; } .values .share { width: 3.75rem; }
}
footer { margin-top: 2.5rem; padding-top: 0.875rem; border-top: 1px solid var(--line); color: var(--soft); font-size: 0.8125rem; }

@media print {
  :root { color-scheme: light; --ground: #ffffff; }
  body { font-size: 9.5pt; }
  main { max-width: none; padding: 0; }
  section { margin-top: 1.25rem; }
  h2, h3 { break-after: avoid; }
  details { display: none; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
";

#[cfg(test)]
mod tests {
    use super::*;

    /// The colours of a block of the style sheet by their names.
    fn colours(block: &str) -> Vec<(&str, [f64; 3])> {
        let pairs =
            block.split(';').filter_map(|pair| pair.trim().trim_start_matches("--").split_once(": #"));
        let component =
            |hex: &str, at: usize| f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
        pairs.map(|(name, hex)| (name, [0, 2, 4].map(|at| component(hex, at)))).collect()
    }

    /// As WCAG 2 has it: <https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio>.
    fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
        let linear = |c: f64| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
        let luminance = |[r, g, b]: [f64; 3]| 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn texts_and_charts_stand_out_in_light_and_in_dark() {
        let blocks: Vec<&str> =
            STYLE.split(":root {").skip(1).take(2).map(|rest| rest.split('}').next().unwrap()).collect();
        assert_eq!(blocks.len(), 2);
        for block in blocks {
            let colours = colours(block);
            let of = |wanted: &str| colours.iter().find(|(name, _)| *name == wanted).expect(wanted).1;
            for ground in ["ground", "card"] {
                for text in ["ink", "soft"] {
                    let ratio = contrast(of(text), of(ground));
                    assert!(ratio >= 4.5, "{text} on {ground}: {ratio}");
                }
            }
            for colour in
                [Colour::Blue, Colour::Teal, Colour::Amber, Colour::Red, Colour::Violet, Colour::Grey]
            {
                let ratio = contrast(of(colour.class()), of("card"));
                assert!(ratio >= 3.0, "{colour:?}: {ratio}");
            }
        }
        assert!((contrast([0.0; 3], [1.0; 3]) - 21.0).abs() < 1e-9);
    }

    #[test]
    fn the_style_sheet_needs_no_escape_and_fetches_nothing() {
        assert!(!STYLE.contains(['<', '&']) && !STYLE.contains("]]"));
        for fetching in ["url(", "@import", "http"] {
            assert!(!STYLE.contains(fetching), "{fetching}");
        }
        assert_eq!(STYLE.matches('{').count(), STYLE.matches('}').count());
    }
}
