//! The application: its one route, and the page that is there.

use std::time::Duration;

use leptos::prelude::*;
use leptos_router::components::{Route, Router, Routes};
use leptos_router::{SsrMode, path};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::state::TodoError;
use crate::stats::StatsPanel;
use crate::todo_list::TodoList;

/// The version of the list that the page is to show. Whoever learns of a newer one says so here, and what depends on it is
/// fetched again.
#[derive(Debug, Clone, Copy)]
pub struct Version(RwSignal<u64>);

impl Version {
    /// Where every component of the page finds it.
    #[must_use]
    pub fn of_page() -> Self {
        expect_context()
    }

    /// The newest version that is known here; 0 for the one that came with the page.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// Takes note of a version. One that is known, or older, changes nothing.
    pub fn note(self, version: u64) {
        if version > self.0.get_untracked() {
            self.0.set(version);
        }
    }
}

/// After what time something that could not be fetched is fetched again.
const PAUSE: Duration = Duration::from_secs(5);

/// Fetches again, in the browser, what did not come, until it does.
pub(crate) fn retry<T>(fetched: Resource<Result<T, TodoError>>)
where
    T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    Effect::new(move || {
        if matches!(fetched.get(), Some(Err(_))) {
            set_timeout(move || fetched.refetch(), PAUSE);
        }
    });
}

/// What stands in the body of the document.
#[component]
pub fn App() -> impl IntoView {
    view! {
        <Router>
            <Routes fallback=NotFound>
                // The whole page at once: parts that come later would need a script to be put into their places.
                <Route path=path!("/") view=TodoPage ssr=SsrMode::Async />
            </Routes>
        </Router>
    }
}

#[component]
fn TodoPage() -> impl IntoView {
    let version = Version(RwSignal::new(0));
    provide_context(version);
    #[cfg(feature = "hydrate")]
    crate::browser::follow(version);
    view! {
        <main class="page">
            <h1>"To-dos"</h1>
            <TodoList />
            <StatsPanel />
        </main>
    }
}

#[component]
fn NotFound() -> impl IntoView {
    #[cfg(feature = "ssr")]
    if let Some(response) = use_context::<leptos_axum::ResponseOptions>() {
        response.set_status(axum::http::StatusCode::NOT_FOUND);
    }
    view! {
        <main class="page">
            <h1>"Nothing here"</h1>
            <p>
                <a href="/">"To the list"</a>
            </p>
        </main>
    }
}
