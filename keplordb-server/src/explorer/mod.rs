//! The explorer: the same addresses as the JSON of HTTP, as pages for a person with a browser.
//!
//! A page is what a browser gets where another client gets JSON: [`Wants`] says which, by what the request accepts. The handlers of
//! `http` find out what is asked for and who may see it; the modules here make pages of it, each of one kind:
//!
//! | address | page | module |
//! | --- | --- | --- |
//! | `/` | what there is, the last events | [`home`] |
//! | `/e` | the types | [`types`] |
//! | `/e/{type}` | its entities, by id or by a query in RQL | [`entities`], `found` |
//! | `/e/{type}/{id}` | an entity at an instant | [`entity`], [`relations`] |
//! | `/e/{type}/{id}/history`, `/blame`, `/diff`, `/versions` | how it became so | [`history`], [`blame`], [`diff`], [`versions`] |
//! | `/events`, `/events/{sequence}` | the log, and one event of it | [`events`], [`event`] |
//! | `/schema`, `/schema/{type}` | what types have, and what they refer to | [`schema`], [`drawing`] |
//! | `/find` | an id, whatever its type | [`find`] |
//! | `/login`, `/logout` | the cookie with a key | [`login`] |
//! | `/static/{file}` | the style, the script, the icon | [`assets`] |
//!
//! What all of them share: [`link`] builds every address, [`time`] and [`value`] write what is shown, [`frame`] is what stands around a
//! page, [`page`] makes it an answer, and [`failure`] makes one of every refusal.
//!
//! Nothing here is text made into markup: `maud` escapes all that is put in, and its `PreEscaped` is not used. Pages need no script; the
//! script makes keys work, shows local times, follows the log, and moves the slider.

pub(crate) mod absent;
pub(crate) mod assets;
pub(crate) mod blame;
pub(crate) mod diff;
mod drawing;
pub(crate) mod entities;
pub(crate) mod entity;
pub(crate) mod event;
pub(crate) mod events;
pub(crate) mod failure;
pub(crate) mod find;
#[cfg(feature = "sql")]
pub(crate) mod found;
mod frame;
pub(crate) mod history;
pub(crate) mod home;
mod link;
pub(crate) mod login;
mod page;
mod relations;
pub(crate) mod schema;
mod time;
pub(crate) mod types;
mod value;
pub(crate) mod versions;
mod view;

use crate::auth::Caller;
use crate::log::EntityLog;
use crate::schema::Schemas;

pub(crate) use view::{Encrypted, Format, View, Wants};

/// What pages are made of.
pub(crate) struct Source {
    pub(crate) log: EntityLog,
    pub(crate) schemas: Schemas,
    /// Who asks: of types that are not his nothing is shown.
    pub(crate) caller: Caller,
}
