//! The document around the application.

use axum::http::HeaderValue;
use axum::http::header::CONTENT_SECURITY_POLICY;
use leptos::config::LeptosOptions;
use leptos::nonce::use_nonce;
use leptos::prelude::*;
use leptos_axum::ResponseOptions;

use crate::app::App;
use crate::store::Store;

/// Renders the page. With `options` it brings the program that takes it over in the browser; without, it works by forms, and `live.js`
/// keeps it up to date.
pub(crate) fn shell(options: Option<LeptosOptions>) -> impl IntoView {
    // Before the page looks at anything, so that it is at least as new as it says.
    let version = expect_context::<Store>().version();
    let program = options.is_some().then_some("");
    allow_only_own_scripts();
    view! {
        <!DOCTYPE html>
        <html lang="en" data-version=version.to_string() data-program=program>
            <head>
                <meta charset="utf-8" />
                <meta name="viewport" content="width=device-width, initial-scale=1" />
                <meta name="color-scheme" content="light dark" />
                <title>"To-dos"</title>
                <link rel="icon" href="/icon.svg" type="image/svg+xml" />
                <link rel="stylesheet" href="/style.css" />
                <script src="/live.js" defer></script>
                {options.map(|options| view! { <HydrationScripts options /> })}
            </head>
            <body>
                <App />
            </body>
        </html>
    }
}

/// What somebody wrote into a to-do is escaped wherever it is shown. Should that ever fail, the browser still runs only what carries the
/// random number of this answer.
fn allow_only_own_scripts() {
    let (Some(nonce), Some(response)) = (use_nonce(), use_context::<ResponseOptions>()) else { return };
    let policy = format!(
        "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.insert_header(CONTENT_SECURITY_POLICY, policy);
    }
}
