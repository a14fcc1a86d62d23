//! Addresses of pages. All are relative to the root, so that they hold behind a proxy that serves it under a path of its own.

use std::fmt::{self, Write as _};

/// An address, from the page that it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// With what leads to the root.
    path: String,
    query: Vec<(String, String)>,
}

impl Url {
    /// From a root that is reached by `root`, through these segments, whatever characters are in them.
    pub(super) fn new(root: &str, segments: &[&str]) -> Self {
        // A browser takes `..` for the way up, also where it is written as `%2E%2E`: such an id is asked for by name.
        if let [_, entity_type, id @ ("." | ".."), ..] = segments {
            return Self::new(root, &["find"]).with("q", &format!("{entity_type}/{id}"));
        }
        let mut path = root.to_owned();
        for (index, segment) in segments.iter().enumerate() {
            if index > 0 {
                path.push('/');
            }
            push_encoded(&mut path, segment);
        }
        Self { path, query: Vec::new() }
    }

    /// One whose path is one already.
    pub(super) fn of_path(root: &str, path: &str) -> Self {
        Self { path: format!("{root}{}", path.trim_start_matches('/')), query: Vec::new() }
    }

    /// With a parameter, in the place of one of that name.
    #[must_use]
    pub(super) fn with(self, name: &str, value: &str) -> Self {
        let mut url = self.without(name);
        url.query.push((name.to_owned(), value.to_owned()));
        url
    }

    /// With a parameter, where it has a value.
    #[must_use]
    pub(super) fn with_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    #[must_use]
    pub(super) fn without(mut self, name: &str) -> Self {
        self.query.retain(|(other, _)| other != name);
        self
    }

    /// What stands behind the `?`, pair by pair: what a form must carry along in hidden fields.
    pub(super) fn query(&self) -> &[(String, String)] {
        &self.query
    }

    /// Without what stands behind the `?`: what a form is sent to.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if self.query.is_empty() {
            return Ok(());
        }
        let mut written = form_urlencoded::Serializer::new(String::new());
        written.extend_pairs(&self.query);
        write!(f, "?{}", written.finish())
    }
}

/// Writes a segment of a path; what may have a meaning there stands as its bytes in hexadecimal.
pub(super) fn push_encoded(path: &mut String, segment: &str) {
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Into a text it cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
}

/// What leads from a path, as it was asked for, to the root.
pub(super) fn root_from(path: &str) -> String {
    match path.matches('/').count() {
        0 | 1 => "./".to_owned(),
        slashes => "../".repeat(slashes - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_as_far_as_the_path_is_deep() {
        let cases = [
            ("/", "./"),
            ("/e", "./"),
            ("/e/User", "../"),
            ("/e/", "../"),
            ("/e/User/a%2Fb/blame", "../../../"),
        ];
        for (path, root) in cases {
            assert_eq!(root_from(path), root, "{path}");
        }
    }

    #[test]
    fn ids_of_any_characters_are_one_segment() {
        let url = |id| Url::new("../", &["e", "User", id]).to_string();
        assert_eq!(url("user_123"), "../e/User/user_123");
        assert_eq!(url("../a b?c#d%&\"'<>"), "../e/User/..%2Fa%20b%3Fc%23d%25%26%22%27%3C%3E");
        assert_eq!(url("é🦀"), "../e/User/%C3%A9%F0%9F%A6%80");
        assert_eq!(url(".."), "../find?q=User%2F..");
    }

    #[test]
    fn a_parameter_stands_once() {
        let url = Url::new("./", &["events"]).with("type", "A&B").with("type", "C D").with_some("id", None);
        assert_eq!(url.to_string(), "./events?type=C+D");
        assert_eq!(url.without("type").to_string(), "./events");
    }
}
