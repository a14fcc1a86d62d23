//! The relations of a schema as a drawing: types one below the other, and an arc from each to what it refers to. Names and arcs never lie
//! on one another, however many there are. A table behind it says the same.

use maud::{Markup, html};

use super::schema::Arrow;
use super::value;

/// From one name to the next.
const LINE: usize = 28;
/// How wide a letter is.
const LETTER: usize = 8;
/// How far an arc goes to the right for each name that it passes.
const STEP: usize = 14;
/// Types and arcs of a drawing; with more nobody sees anything.
const TYPES_MAX: usize = 60;
const ARCS_MAX: usize = 200;
/// Characters of a name that has room.
const NAME_CHARS: usize = 30;

pub(super) fn of(types: &[&str], arrows: &[Arrow<'_>]) -> Markup {
    if types.len() > TYPES_MAX || arrows.len() > ARCS_MAX {
        return html! { p.hint { "There are too many to draw; the table below has all of them." } };
    }
    let line = |index: usize| index * LINE + LINE / 2;
    let place = |name: &str| types.iter().position(|other| *other == name);
    let arcs: Vec<(usize, usize)> =
        arrows.iter().filter_map(|arrow| Some((place(arrow.from)?, place(arrow.to)?))).collect();
    let furthest = arcs.iter().map(|(from, to)| from.abs_diff(*to)).max().unwrap_or(0);
    // Where arcs begin: behind the longest name.
    let left = types.iter().map(|name| name.len().min(NAME_CHARS + 1)).max().unwrap_or(0) * LETTER + 24;
    let (width, height) = (left + (furthest + 2) * STEP + 20, types.len() * LINE);
    html! {
        figure {
            svg.relations role="img" aria-labelledby="drawing" viewBox=(format!("0 0 {width} {height}"))
                width=(width) height=(height) {
                title #drawing { "Types, with an arc from each to the types that it refers to" }
                @for (index, name) in types.iter().enumerate() {
                    text x=(left - 16) y=(line(index) + 5) text-anchor="end" { (value::short(name, NAME_CHARS)) }
                    circle cx=(left - 4) cy=(line(index)) r="3" {}
                }
                @for (from, to) in &arcs { (arc(left, line(*from), line(*to), from.abs_diff(*to))) }
            }
        }
    }
}

/// An arc to the right of the names, with an arrow's head where it ends.
fn arc(left: usize, from: usize, to: usize, passed: usize) -> Markup {
    let reach = left + (passed + 1) * STEP * 4 / 3;
    // What refers to itself leaves below its line and comes back above it.
    let (from, to) = if from == to { (from + 6, to - 6) } else { (from, to) };
    html! {
        path d=(format!("M {left} {from} C {reach} {from}, {reach} {to}, {} {to}", left + 6)) {}
        path.head d=(format!("M {} {} L {left} {to} L {} {} Z", left + 8, to - 4, left + 8, to + 4)) {}
    }
}
