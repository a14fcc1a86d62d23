//! The part that runs in the browser: it takes over the page that the server rendered.

use leptos::prelude::{Effect, document, hydrate_body, on_cleanup, window_event_listener_untyped};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::app::{App, Version};

/// Called by the page once this program has been fetched.
#[wasm_bindgen]
pub fn hydrate() {
    console_error_panic_hook::set_once();
    hydrate_body(App);
}

/// Takes note of each version that `live.js` hears of. It says so in an attribute of the document and by an event, since it may hear of
/// one before this program is there.
pub(crate) fn follow(version: Version) {
    let listener = window_event_listener_untyped("todos-changed", move |_| note(version));
    on_cleanup(move || listener.remove());
    // Once the page has been taken over as it was rendered.
    Effect::new(move || {
        if let Some(root) = document().document_element() {
            // For tests, and for whoever wonders. It cannot fail with this name.
            root.set_attribute("data-alive", "").ok();
        }
        note(version);
    });
}

fn note(version: Version) {
    let news = document().document_element().and_then(|root| root.get_attribute("data-news"));
    if let Some(news) = news.and_then(|news| news.parse().ok()) {
        version.note(news);
    }
}
