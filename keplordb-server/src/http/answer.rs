//! What goes back: JSON, and failures with the code of gRPC, the reason and what to do.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::json;
use tonic::{Code, Status};

use crate::error::Refused;

/// Why a request is not answered.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    /// As gRPC calls it.
    code: &'static str,
    message: String,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// As gRPC calls it.
    #[cfg(feature = "sql")]
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", message)
    }

    /// Says of which record it is, unless there is only one.
    pub(crate) fn of_record(mut self, index: usize, is_one: bool) -> Self {
        if !is_one {
            self.message = format!("record {index}: {}; none of the batch was captured", self.message);
        }
        self
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let is_full = matches!(refused.reason(), Refused::Full { .. });
        let status = Status::from(refused);
        let (http, code) = match status.code() {
            Code::InvalidArgument => (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"),
            Code::FailedPrecondition => (StatusCode::PRECONDITION_FAILED, "FAILED_PRECONDITION"),
            Code::AlreadyExists => (StatusCode::CONFLICT, "ALREADY_EXISTS"),
            Code::PermissionDenied => (StatusCode::FORBIDDEN, "PERMISSION_DENIED"),
            Code::ResourceExhausted if is_full => (StatusCode::INSUFFICIENT_STORAGE, "RESOURCE_EXHAUSTED"),
            Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED"),
            Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
        };
        Self::new(http, code, status.message())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let is_passing = matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::INSUFFICIENT_STORAGE
        );
        let body = Json(json!({"error": {"code": self.code, "message": self.message}}));
        let mut response = (self.status, body).into_response();
        if is_passing {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Runs what reads the disk where it keeps nobody else waiting.
pub(crate) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(read)
        .await
        .unwrap_or_else(|error| Err(Failure::internal(format!("reading ended: {error}"))))
}

/// A time as requests give it: of RFC 3339, or milliseconds since the Unix epoch; and as the field of a form gives it, which is without a
/// zone and in UTC here.
pub(crate) fn time_ms(field: &str, text: &str) -> Result<i64, Failure> {
    if let Ok(time_ms) = text.parse() {
        return Ok(time_ms);
    }
    // What names a zone is not in UTC.
    if text.parse::<jiff::Timestamp>().is_err()
        && !text.contains('[')
        && let Ok(time) = text.parse::<DateTime>().and_then(|time| time.to_zoned(TimeZone::UTC))
    {
        return Ok(time.timestamp().as_millisecond());
    }
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(jiff::Timestamp::as_millisecond).map_err(|error| {
        Failure::invalid(format!("{field}: {error}; write it like 2024-01-31T10:00:00Z, or in milliseconds"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_rfc_3339_of_forms_or_numbers() {
        let cases = [
            ("1704067200001", 1_704_067_200_001),
            ("2024-01-01T00:00:00.001Z", 1_704_067_200_001),
            ("2024-01-01T01:00:00.001+01:00", 1_704_067_200_001),
            ("2023-12-31T23:00:00.001-01:00", 1_704_067_200_001),
            ("2024-01-01T00:00:00.001", 1_704_067_200_001),
            ("2024-01-01T00:00", 1_704_067_200_000),
            ("2024-01-01", 1_704_067_200_000),
        ];
        for (text, time) in cases {
            assert_eq!(time_ms("as_of", text).unwrap(), time, "{text}");
        }
        for text in ["", "yesterday", "2024-01-01T25:00", "2024-13-01"] {
            assert!(time_ms("as_of", text).is_err(), "{text}");
        }
    }
}
