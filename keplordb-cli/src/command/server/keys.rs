//! `keplor keys`: who may do what on a server.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use keplordb_disk::{Disk as _, RealDisk};
use keplordb_server::{Key, Keys, NewKey, Scope, Secret, ServerError, is_root};
use serde_json::json;

use super::{serve, text};
use crate::command::Done;
use crate::output::{Output, note};
use crate::parse;
use crate::sheet::{Cell, Form, Heading, Sheet};

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key and print it, this once
    Add(Add),
    /// List the keys: who has them, and what they are good for
    Ls(Ls),
    /// Take a key back; a running server refuses it within seconds
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor keys add data --name shop --scope ingest --out shop.key
  keplor keys add data --name audit --scope read --type User --type 'Order*' --expires-in 90d --rate 50

Without --out the key is printed. It is nowhere else; the server keeps its hash. Its name is the client of the events that are
sent with it. Run it as the user of the server, who must be able to read the file of keys. From the first key on, a server asks
everybody for one.")]
pub(crate) struct Add {
    /// The server's root; the server may be running. It is made where it is not there
    root: PathBuf,
    /// Who gets it
    #[arg(long, value_name = "NAME")]
    name: String,
    /// What it is good for: ingest, read, admin (schemas) or metrics; may be given more than once
    #[arg(long, value_name = "SCOPE", required = true)]
    scope: Vec<Scope>,
    /// For entities of this type only; `Order*` is all types whose names begin so. May be given more than once
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// How long it is good: 90d, 12h; for ever by default
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    expires_in: Option<Duration>,
    /// How many requests a second; a batch is one. Any number by default
    #[arg(long, value_name = "REQUESTS")]
    rate: Option<NonZeroU32>,
    /// Write the key to this new file, which only you may read, and do not print it
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    out: Option<PathBuf>,
    /// Print the key and what is kept of it as JSON
    #[arg(long, conflicts_with = "out", help_heading = "Output")]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  keplor keys ls data")]
pub(crate) struct Ls {
    /// The server's root; the server may be running
    root: PathBuf,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  keplor keys revoke data shop")]
pub(crate) struct Revoke {
    /// The server's root; the server may be running
    root: PathBuf,
    /// The key's id, or the name of all that are to be taken back
    #[arg(value_name = "NAME|ID")]
    key: String,
}

impl KeysCommand {
    pub(crate) fn run(self, out: &mut Output) -> Result<Done> {
        match self {
            Self::Add(add) => add.run(out),
            Self::Ls(ls) => ls.run(out),
            Self::Revoke(revoke) => revoke.run(out),
        }?;
        Ok(Done::Well)
    }
}

impl Add {
    fn run(self, out: &mut Output) -> Result<()> {
        serve::check_directory(&self.root)?;
        let expires = self.expires_in.map(|span| jiff::Timestamp::now().checked_add(span)).transpose()?;
        let new = NewKey { name: self.name, scopes: self.scope, types: self.types, rate: self.rate, expires };
        let Some(path) = &self.out else {
            let (key, secret) = Keys::add(&self.root, new)?;
            return print(&key, &secret, self.json, out);
        };
        // Before the key is made, since one that cannot be written would be lost.
        let file = RealDisk.create(path).with_context(|| format!("{} cannot be made", path.display()))?;
        let added = Keys::add(&self.root, new).inspect_err(|_| {
            // Why there is no key counts more than an empty file that stays.
            drop(RealDisk.remove(path));
        });
        let (key, secret) = added?;
        let written =
            file.write_at(format!("{}\n", secret.expose()).as_bytes(), 0).and_then(|()| file.sync());
        written
            .with_context(|| format!("{} cannot be written; revoke the key {}", path.display(), key.id))?;
        note(&format!("the key of {}, id {}, is in {}", key.name, key.id, path.display()));
        Ok(())
    }
}

fn print(key: &Key, secret: &Secret, is_json: bool, out: &mut Output) -> Result<()> {
    if is_json {
        let id = &key.id;
        return out
            .json(&json!({"key": secret.expose(), "id": id, "name": key.name, "expires": key.expires}));
    }
    out.line(secret.expose())?;
    note(&format!("this is the key of {}, id {}; it is not shown again", key.name, key.id));
    Ok(())
}

impl Ls {
    fn run(self, out: &mut Output) -> Result<()> {
        ensure!(is_root(&self.root), ServerError::NoRoot { dir: self.root });
        let keys = Keys::load(&self.root)?;
        let headings =
            ["id", "name", "scopes", "types", "rate", "created", "expires", "state"].map(Heading::left);
        let mut sheet = Sheet::new(out, self.form, headings.into());
        for key in keys.all() {
            let scopes: Vec<_> = key.scopes.iter().map(|scope| scope.name()).collect();
            sheet.row(&[
                Cell::Text(key.id.clone()),
                Cell::Text(key.name.clone()),
                Cell::Text(scopes.join(", ")),
                text(&key.types.join(", ")),
                key.rate.map_or(Cell::Nothing, |rate| Cell::Number(rate.get().into())),
                time(Some(key.created)),
                time(key.expires),
                Cell::Text(state(key).to_owned()),
            ])?;
        }
        sheet.finish()
    }
}

fn state(key: &Key) -> &'static str {
    if key.revoked.is_some() {
        "revoked"
    } else if key.is_good_at(jiff::Timestamp::now()) {
        "good"
    } else {
        "expired"
    }
}

fn time(time: Option<jiff::Timestamp>) -> Cell {
    time.map_or(Cell::Nothing, |time| super::time(time.as_millisecond()))
}

impl Revoke {
    fn run(self, out: &mut Output) -> Result<()> {
        ensure!(is_root(&self.root), ServerError::NoRoot { dir: self.root });
        let revoked = Keys::revoke(&self.root, &self.key)?;
        for key in &revoked {
            out.line(&format!("the key {} of {} is revoked", key.id, key.name))?;
        }
        if revoked.is_empty() {
            out.line("nothing to do: it is revoked already")?;
        }
        Ok(())
    }
}
