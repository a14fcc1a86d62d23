//! A page as an answer: with the headers that let a browser run nothing that is not this server's own.

use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};

use super::frame;
use super::link::Url;
use super::view::View;

/// What a page may load and do: nothing but what this server gives, and nothing that stands in the page itself.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Where a page stands in the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Home,
    Entities,
    Log,
    Schema,
    Elsewhere,
}

/// A page without its frame.
pub(super) struct Page {
    pub(super) place: Place,
    /// What the browser shows of it, the most special part first.
    pub(super) titles: Vec<String>,
    pub(super) heading: Markup,
    /// What it is a part of.
    pub(super) crumbs: Vec<(Markup, Url)>,
    /// Whether it shows another thing at another instant.
    pub(super) is_of_time: bool,
    pub(super) status: StatusCode,
    pub(super) body: Markup,
}

impl Page {
    pub(super) fn new(place: Place, title: &str, body: Markup) -> Self {
        Self {
            place,
            titles: vec![title.to_owned()],
            heading: html! { (title) },
            crumbs: Vec::new(),
            is_of_time: false,
            status: StatusCode::OK,
            body,
        }
    }

    /// With another heading than its title.
    pub(super) fn headed(self, heading: Markup) -> Self {
        Self { heading, ..self }
    }

    /// Of what it is, behind its own title.
    pub(super) fn of(mut self, title: &str) -> Self {
        self.titles.push(title.to_owned());
        self
    }

    /// As a part of another page.
    pub(super) fn within(mut self, name: Markup, url: Url) -> Self {
        self.crumbs.push((name, url));
        self
    }

    /// As one that shows an instant.
    pub(super) fn of_time(self) -> Self {
        Self { is_of_time: true, ..self }
    }

    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The answer.
    pub(super) fn respond(self, view: &View) -> Response {
        let status = self.status;
        let text = frame::around(view, &self).into_string();
        let headers: [(HeaderName, &str); 6] = [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            // What somebody may see is for nobody else, and old at once.
            (CACHE_CONTROL, "private, no-cache"),
            (VARY, "accept"),
        ];
        (status, headers, text).into_response()
    }
}

/// Sends a browser to another page.
pub(super) fn see_other(url: &Url) -> Response {
    let to = HeaderValue::from_str(&url.to_string()).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response()
}
