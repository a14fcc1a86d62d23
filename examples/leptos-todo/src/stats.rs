//! What the whole history adds up to: created, completed, deleted, and how many of a hundred were completed.

use leptos::prelude::*;

use crate::api::get_stats;
use crate::app::{Version, retry};
use crate::state::Stats;

/// The numbers below the list, fetched again for each new version.
#[component]
pub fn StatsPanel() -> impl IntoView {
    let version = Version::of_page();
    let fetched = Resource::new(move || version.get(), |_| get_stats());
    retry(fetched);
    view! {
        <section id="stats" aria-label="Statistics">
            <Transition fallback=|| view! { <p class="hint">"Counting…"</p> }>
                {Suspend::new(async move {
                    // Where it fails the list says so.
                    fetched.await.ok();
                    let stats = Memo::new(move |shown: Option<&Stats>| match fetched.get() {
                        Some(Ok(stats)) => stats,
                        _ => shown.copied().unwrap_or_default(),
                    });
                    view! { <Numbers stats /> }
                })}
            </Transition>
        </section>
    }
}

#[component]
fn Numbers(stats: Memo<Stats>) -> impl IntoView {
    let number = |name: &'static str, class: &'static str, value: Signal<String>| {
        view! {
            <div class=class>
                <dt>{name}</dt>
                <dd>{move || value.get()}</dd>
            </div>
        }
    };
    view! {
        <dl class="stats">
            {number("Created", "created", Signal::derive(move || stats.get().created.to_string()))}
            {number("Completed", "completed", Signal::derive(move || stats.get().completed.to_string()))}
            {number("Deleted", "deleted", Signal::derive(move || stats.get().deleted.to_string()))}
            {number("Completion rate", "rate", Signal::derive(move || format!("{}%", stats.get().completion_percent())))}
        </dl>
    }
}
