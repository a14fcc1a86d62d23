//! Lines of which only is wanted what kind of event they are, and whose: their data are passed over.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// An [`Event`](crate::Event) of whose data only the end is looked for: the same keys in the same order, so that each line that is an
/// event is one of these too, also one that is an array.
#[derive(Deserialize)]
pub(crate) struct Skimmed<'a> {
    #[serde(rename = "type", borrow)]
    pub(crate) event_type: Cow<'a, str>,
    #[serde(rename = "data")]
    _data: IgnoredAny,
    #[serde(rename = "ts")]
    _ts: u64,
    #[serde(default, borrow)]
    pub(crate) id: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    pub(crate) actor: Option<Cow<'a, str>>,
    #[serde(rename = "meta", default)]
    _meta: Option<IgnoredAny>,
}

impl<'a> Skimmed<'a> {
    /// What a line is about; `None` if it is no event, as far as that is seen without making its data.
    pub(crate) fn of_line(line: &'a [u8]) -> Option<Self> {
        serde_json::from_str(str::from_utf8(line).ok()?).ok()
    }
}
