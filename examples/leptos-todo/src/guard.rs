//! Which requests are answered: those that know the server by a name of its own, and ask for nothing on behalf of another's page.
//!
//! Nobody logs in, so a page of some other server must not get at the list through the browser of who looks at it. It could in two
//! ways: by sending its forms here, which browsers tell by `Origin` or `Sec-Fetch-Site`; and by a name of its own that turns into the
//! address of this server once the page was fetched (DNS rebinding), which only `Host` tells.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names by which the server may be called, besides `localhost` and addresses: no one can make those mean another server.
#[derive(Debug, Clone, Default)]
pub struct Names(Vec<String>);

impl Names {
    /// From names without a port.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().filter(|name| !name.is_empty()).collect())
    }

    /// Whether a request is to be answered. Those that only look need a right name; what changes something, and the stream of changes,
    /// which keeps a connection, need a right page, too.
    ///
    /// # Errors
    /// The answer to one that is refused.
    pub(crate) fn check(&self, request: &Request) -> Result<(), (StatusCode, &'static str)> {
        let headers = request.headers();
        if !header(headers, &HOST).and_then(host_of).is_some_and(|host| self.is_own(&host)) {
            return Err((
                StatusCode::MISDIRECTED_REQUEST,
                "This server does not know the name by which it was called. To be started with it: --host NAME\n",
            ));
        }
        let is_look = request.method() == Method::GET || request.method() == Method::HEAD;
        if (!is_look || request.uri().path() == "/changes") && !self.is_from_own_page(headers) {
            return Err((StatusCode::FORBIDDEN, "This is for this server's own page only.\n"));
        }
        Ok(())
    }

    fn is_own(&self, host: &str) -> bool {
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok() || self.is_given(host)
    }

    fn is_given(&self, host: &str) -> bool {
        self.0.iter().any(|name| name.eq_ignore_ascii_case(host))
    }

    /// Browsers say from where a request comes; what says nothing is no browser.
    fn is_from_own_page(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key(ORIGIN) {
            let origin = header(headers, &ORIGIN).and_then(|origin| origin.split_once("://"));
            return origin.is_some_and(|(_, page)| {
                // A server before this one may call it by another name than the browser knows.
                Some(page) == header(headers, &HOST) || host_of(page).is_some_and(|host| self.is_given(&host))
            });
        }
        !headers.contains_key(&SEC_FETCH_SITE)
            || matches!(header(headers, &SEC_FETCH_SITE), Some("same-origin" | "none"))
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The host of `host:port`.
fn host_of(authority: &str) -> Option<String> {
    Some(authority.parse::<Authority>().ok()?.host().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Names, host_of};

    #[test]
    fn addresses_localhost_and_given_names_are_own() {
        let names = Names::new(["todos.example".to_owned()]);
        let is_own = |host: &str| host_of(host).is_some_and(|host| names.is_own(&host));
        for own in
            ["localhost", "LocalHost:3000", "127.0.0.1:3000", "10.0.0.7", "[::1]:3000", "Todos.example:443"]
        {
            assert!(is_own(own), "{own}");
        }
        for foreign in [
            "",
            "evil.example",
            "evil.example:3000",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "a.todos.example",
            "localhost@evil.example",
            "127.0.0.1, evil.example",
        ] {
            assert!(!is_own(foreign), "{foreign}");
        }
    }
}
