//! What stands around every page: where one is, at which instant, and how one gets elsewhere.

use maud::{DOCTYPE, Markup, html};

use super::page::{Page, Place};
use super::view::View;
use super::{assets, time, value};

/// A page with its frame.
pub(super) fn around(view: &View, page: &Page) -> Markup {
    let mut titles: Vec<String> = page.titles.iter().map(|title| value::title(title)).collect();
    if page.is_of_time {
        titles.extend(time::instant_in_title(view.instant));
    }
    let is_past = page.is_of_time && !view.is_now();
    let file = |name| view.to_timeless(&["static", name]).with("v", assets::version());
    html! {
        (DOCTYPE)
        html lang="en" class=(if is_past { "past" } else { "now" }) {
            head {
                meta charset="utf-8";
                title { (titles.join(" · ")) }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="stylesheet" href=(file("explorer.css"));
                link rel="icon" type="image/svg+xml" href=(file("icon.svg"));
                script src=(file("explorer.js")) defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                (header(view, page.place))
                @if page.is_of_time { (time_bar(view)) }
                main #main tabindex="-1" {
                    @if !page.crumbs.is_empty() {
                        nav.crumbs aria-label="Part of" {
                            ol {
                                @for (index, (name, url)) in page.crumbs.iter().enumerate() {
                                    @let is_inmost = index + 1 == page.crumbs.len();
                                    li { a href=(url) data-key=[is_inmost.then_some("u")] { (name) } }
                                }
                            }
                        }
                    }
                    h1 { (page.heading) }
                    (page.body)
                }
                (footer(view))
            }
        }
    }
}

fn header(view: &View, place: Place) -> Markup {
    let places = [
        (Place::Home, "Home", view.to(&[]), "g h"),
        (Place::Entities, "Entities", view.to(&["e"]), "g e"),
        (Place::Log, "Log", view.to(&["events"]), "g l"),
        (Place::Schema, "Schema", view.to(&["schema"]), "g c"),
    ];
    html! {
        header.top {
            nav aria-label="Main" {
                ul {
                    @for (other, name, url, key) in places {
                        li {
                            a href=(url) data-key=(key) aria-current=[(other == place).then_some("page")] { (name) }
                        }
                    }
                }
            }
            form.find role="search" method="get" action=(view.to_timeless(&["find"]).path()) {
                label.hidden for="find" { "Find an entity by its id" }
                input #find type="search" name="q" placeholder="Find an id" maxlength="1200" autocomplete="off"
                    spellcheck="false";
                (carried(view.to(&["find"]).query()))
                button { "Find" }
            }
            @if let Some(name) = &view.key_name {
                form.key method="post" action=(view.to_timeless(&["logout"]).path()) {
                    span { "Key " bdi { (name) } }
                    button { "Sign out" }
                }
            }
        }
    }
}

/// Says and sets the instant at which one looks.
fn time_bar(view: &View) -> Markup {
    let words = time::instant_in_words(view.instant);
    let field = |time_ms: Option<i64>| time_ms.and_then(time::of_field);
    let others: Vec<(String, String)> = view.here_now().without("after").without("before").query().to_vec();
    html! {
        section.time aria-label="Time" {
            p.instant role="status" {
                @match &words {
                    None => { strong { "Now" } },
                    Some(words) => {
                        strong { "The past" } ": " (words) ". "
                        a href=(view.here_now()) data-key="n" { "Back to now" }
                    },
                }
            }
            details data-key="t" {
                summary { "Another time…" }
                form method="get" action=(view.here_now().path()) {
                    (carried(&others))
                    label {
                        "At (UTC) "
                        input type="datetime-local" name="as_of" step="0.001" value=[field(view.instant.as_of_ms)];
                    }
                    label {
                        "Known at (UTC) "
                        input type="datetime-local" name="known_at" step="0.001" value=[field(view.instant.known_at_ms)];
                    }
                    button { "Look" }
                }
            }
        }
    }
}

/// What a form must carry along.
pub(super) fn carried(query: &[(String, String)]) -> Markup {
    html! {
        @for (name, value) in query { input type="hidden" name=(name) value=(value); }
    }
}

fn footer(view: &View) -> Markup {
    let keys = [
        ("/", "search"),
        ("g then h, e, l, c", "home, entities, log, schema"),
        ("j, k", "next and previous row"),
        ("Enter", "open what has the focus"),
        ("u", "up"),
        ("[, ]", "older and newer version"),
        ("t, n", "another time, and now"),
        ("x", "open or close all details"),
        ("y", "copy the address of this page"),
        ("?", "this help"),
    ];
    html! {
        footer {
            p { a href=(view.here().with("format", "json")) data-key="J" { "This page as JSON" } }
            details #keys data-key="?" {
                summary { "Keys" }
                table {
                    caption.hidden { "What keys do, with the script" }
                    thead { tr { th scope="col" { "Key" } th scope="col" { "What it does" } } }
                    tbody {
                        @for (key, what) in keys { tr { th scope="row" { kbd { (key) } } td { (what) } } }
                    }
                }
                p #single-keys {}
            }
        }
    }
}
