//! Who may ask for what: one row for each route of HTTP and each method of gRPC. What has no row is refused, so that nothing can be
//! added without saying who may use it.

use axum::http::Method;

use crate::keys::Scope;

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// Nothing: whether the server runs and takes events, which balancers ask. Answered at once, and from little: what lasts needs a key,
    /// since each connection that lasts takes one from others.
    Nothing,
    /// Any key: what every client must know to talk to the server.
    AnyKey,
    /// A key with this scope.
    Scope(Scope),
}

/// A route of HTTP, or a method of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// `GET`, `POST` or `PUT`; of gRPC always `POST`.
    pub method: &'static str,
    /// The path, with the names of what varies in braces; of gRPC `/package.Service/Method`.
    pub path: &'static str,
    /// What it needs where the root has keys.
    pub need: Need,
}

const fn row(method: &'static str, path: &'static str, need: Need) -> Row {
    Row { method, path, need }
}

const INGEST: Need = Need::Scope(Scope::Ingest);
const READ: Need = Need::Scope(Scope::Read);
const ADMIN: Need = Need::Scope(Scope::Admin);
const METRICS: Need = Need::Scope(Scope::Metrics);

/// All routes and methods.
pub const TABLE: &[Row] = &[
    row("GET", "/healthz", Need::Nothing),
    row("GET", "/readyz", Need::Nothing),
    row("GET", "/metrics", METRICS),
    row("POST", "/events", INGEST),
    row("GET", "/events", READ),
    row("GET", "/events/stream", READ),
    row("GET", "/events/{sequence}", READ),
    row("GET", "/e", READ),
    row("GET", "/e/{type}", READ),
    row("GET", "/e/{type}/{id}", READ),
    row("GET", "/e/{type}/{id}/history", READ),
    row("GET", "/e/{type}/{id}/blame", READ),
    row("GET", "/e/{type}/{id}/diff", READ),
    row("GET", "/e/{type}/{id}/versions", READ),
    #[cfg(feature = "sql")]
    row("GET", "/sql", READ),
    #[cfg(feature = "sql")]
    row("POST", "/sql", READ),
    #[cfg(feature = "sql")]
    row("GET", "/rql", READ),
    #[cfg(feature = "sql")]
    row("POST", "/rql", READ),
    row("GET", "/", READ),
    row("GET", "/find", READ),
    row("GET", "/login", Need::Nothing),
    row("POST", "/login", Need::Nothing),
    row("POST", "/logout", Need::Nothing),
    row("GET", "/static/{file}", Need::Nothing),
    row("GET", "/schema", Need::AnyKey),
    row("GET", "/schema/{type}", Need::AnyKey),
    row("PUT", "/schema", ADMIN),
    row("POST", "/grpc.health.v1.Health/Check", Need::Nothing),
    row("POST", "/grpc.health.v1.Health/Watch", Need::AnyKey),
    row("POST", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Need::AnyKey),
    row("POST", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Need::AnyKey),
    row("POST", "/reflog.v1.HealthService/HealthCheck", Need::Nothing),
    row("POST", "/reflog.v1.IngestService/Ingest", INGEST),
    row("POST", "/reflog.v1.ProtoService/GetProtos", Need::AnyKey),
    row("POST", "/reflog.v2.CaptureService/IngestBatch", INGEST),
    row("POST", "/reflog.v2.CaptureService/IngestStream", INGEST),
    row("POST", "/reflog.v2.CaptureService/Subscribe", READ),
    row("POST", "/reflog.v2.EntityService/GetEntity", READ),
    row("POST", "/reflog.v2.EntityService/GetHistory", READ),
    row("POST", "/reflog.v2.EntityService/ListEntities", READ),
    row("POST", "/reflog.v2.SchemaService/PushSchema", ADMIN),
    row("POST", "/reflog.v2.SchemaService/ListSchemas", Need::AnyKey),
];

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meant {
    /// A row.
    Row(&'static Row),
    /// A path of the table by another method.
    OtherMethod,
    /// Nothing that there is.
    Unknown,
}

/// Finds the row of a request: `matched` is the route that the router chose, and of gRPC, whose routes are whole services, the path
/// itself counts.
pub(super) fn meant(method: &Method, matched: Option<&str>, path: &str) -> Meant {
    let Some(matched) = matched else { return Meant::Unknown };
    let path = if matched.ends_with("/{*rest}") { path } else { matched };
    // The router answers HEAD by what answers GET.
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let mut of_path = TABLE.iter().filter(|row| row.path == path).peekable();
    if of_path.peek().is_none() {
        return Meant::Unknown;
    }
    of_path.find(|row| row.method == method).map_or(Meant::OtherMethod, Meant::Row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_found_by_the_route_that_was_chosen() {
        let path_of = |method: Method, matched, path| match meant(&method, matched, path) {
            Meant::Row(row) => Ok(row.path),
            other => Err(other),
        };
        assert_eq!(path_of(Method::GET, Some("/e/{type}"), "/e/healthz"), Ok("/e/{type}"));
        assert_eq!(path_of(Method::HEAD, Some("/healthz"), "/healthz"), Ok("/healthz"));
        let grpc = Some("/reflog.v1.IngestService/{*rest}");
        let ingest = "/reflog.v1.IngestService/Ingest";
        assert_eq!(path_of(Method::POST, grpc, ingest), Ok(ingest));
        assert_eq!(path_of(Method::POST, grpc, "/reflog.v1.IngestService/Drop"), Err(Meant::Unknown));
        assert_eq!(path_of(Method::POST, grpc, "/reflog.v1.IngestService/Ingest/"), Err(Meant::Unknown));
        assert_eq!(path_of(Method::DELETE, Some("/schema"), "/schema"), Err(Meant::OtherMethod));
        assert_eq!(path_of(Method::GET, None, "/healthz"), Err(Meant::Unknown));
    }

    #[test]
    fn no_two_rows_are_of_the_same() {
        for (index, row) in TABLE.iter().enumerate() {
            let again =
                TABLE[..index].iter().any(|other| (other.method, other.path) == (row.method, row.path));
            assert!(!again, "{row:?}");
        }
    }
}
