//! The map `-passwd`: homes of users, whose paths name the server.
//!
//! A user whose home is `/home/hermes/ann` has it on the server `hermes`, in `/home/hermes`: with
//! `/homes -passwd` it is mounted as `/homes/ann`. All homes of a server may share one mount, where
//! the dialect can say so: `hermes:/home/hermes:ann`.
//!
//! Nothing here asks the user database, which may be a directory service: [`AskUsers`] does.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use bstr::{BStr, BString, ByteSlice};
use piton_map::lookup::{Found, Matched, Miss};
use piton_map::text::{Fragment, Span};

use crate::hosts;
use crate::limits::{PASSWD_HOME, USERS_TIME};
use crate::source::LookupContext;

/// The map's name.
const NAME: &str = "-passwd";

/// The key that stands for the name of whoever asks.
pub(crate) const MYSELF: &str = "~";

/// A user of the user database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub name: BString,
    /// The home directory: not to be trusted to be one.
    pub home: BString,
}

/// Asks the user database.
pub trait AskUsers: Debug + Send + Sync {
    /// The user of that name, if there is one. May block until then.
    ///
    /// # Errors
    /// It could not be asked.
    fn named(&self, name: &BStr, until: Instant) -> Result<Option<Account>, Miss>;

    /// The user with that number, if there is one. May block until then.
    ///
    /// # Errors
    /// It could not be asked.
    fn numbered(&self, uid: u32, until: Instant) -> Result<Option<Account>, Miss>;
}

/// The entry of a user. May block.
pub(crate) fn entry(
    users: &dyn AskUsers,
    key: &BStr,
    context: &LookupContext<'_>,
) -> Result<Found, Miss> {
    let until = context.deadline;
    let until = until.unwrap_or_else(|| Instant::now() + USERS_TIME);
    let account = match key == MYSELF {
        true => users.numbered(context.requester.uid, until)?,
        false => users.named(key, until)?,
    };
    let account = account.ok_or(Miss::NoSuchKey)?;
    // Some databases know a user by more names than one; the key is that of the home.
    if key != MYSELF && account.name != key {
        return Err(Miss::NoSuchKey);
    }
    let home = Home::of(&account).map_err(Miss::BadKey)?;
    let point = context.mount_point.as_bytes();
    if let Some(rest) = account.home.strip_prefix(point)
        && rest.starts_with(b"/")
    {
        return Err(Miss::BadKey(
            "the home directory of that user lies below this mount point itself",
        ));
    }
    let text = home.text(context.dialect.subdirectories);
    let value = Span::new(0, text.len());
    Ok(Found {
        fragment: Fragment::whole(format!("passwd entry of {}", account.name), text),
        key: Span::default(),
        value,
        matched: Matched::Exact,
        map: Arc::from(NAME),
        via: Vec::new(),
    })
}

/// A home of the form `/dir/server/user`.
#[derive(Debug, PartialEq, Eq)]
struct Home<'a> {
    /// `/dir/server`
    directory: &'a BStr,
    server: &'a BStr,
    user: &'a BStr,
}

impl<'a> Home<'a> {
    /// The parts of a user's home, or why it has none that could be used.
    fn of(account: &'a Account) -> Result<Self, &'static str> {
        const FORM: &str = "the home directory of that user is not of the form /dir/server/user";
        let home = account.home.as_bstr();
        let plain = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
        let control = home.iter().any(u8::is_ascii_control);
        let parts: Vec<&[u8]> = match home.strip_prefix(b"/") {
            Some(rest) if !control && home.len() <= PASSWD_HOME => rest.split_str(b"/").collect(),
            _ => return Err(FORM),
        };
        let [above @ .., server, user] = &parts[..] else {
            return Err(FORM);
        };
        if above.is_empty() || !parts.iter().all(|part| plain(part)) || account.name != *user {
            return Err(FORM);
        }
        let Some(server) = hosts::server_name(server.as_bstr()) else {
            return Err("the part of that user's home directory that names the server cannot");
        };
        let directory = home[..home.len() - user.len() - 1].as_bstr();
        Ok(Self {
            directory,
            server,
            user: user.as_bstr(),
        })
    }

    /// The entry. `shared`: as a sub-directory of one mount for all homes of the server.
    fn text(&self, shared: bool) -> Vec<u8> {
        let mut text = Vec::new();
        let colon = [self.directory, self.user]
            .iter()
            .any(|it| it.contains(&b':'));
        if shared && !colon {
            hosts::location(self.server, self.directory, &mut text);
            text.push(b':');
            hosts::quote(b"", self.user, &mut text);
        } else {
            let mut path = self.directory.to_owned();
            path.push(b'/');
            path.extend_from_slice(self.user);
            hosts::location(self.server, path.as_ref(), &mut text);
        }
        text
    }
}

#[cfg(test)]
mod tests;
