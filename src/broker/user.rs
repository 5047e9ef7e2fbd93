//! Users: who may log in, and what they may do in each vhost. Durable in the journal.
//!
//! A broker that nobody has given users has one, `guest`, with the password `guest` and every permission
//! in the default vhost, who may come from the machine itself only. It is written down with the first
//! change of it; its deletion leaves a record, so that it stays away.

use std::sync::atomic::Ordering;

use ahash::AHashMap;
use regex::Regex;

use super::access::{Access, compile};
use super::connection::Connection;
use super::error::BrokerError;
use super::records::{KIND_PERMISSIONS, KIND_USER, PermissionsRecord, UserRecord, record};
use super::{Broker, Inner};
use crate::journal::{Commit, Entry, Group, Urgency};
use crate::model::names::{UserName, VhostName};
use crate::model::user::{PasswordHash, Permissions};

/// The user of a new broker, and its password.
const GUEST: &str = "guest";

/// A user that has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity(UserName);

impl Identity {
    pub fn user(&self) -> &UserName {
        &self.0
    }
}

pub(super) struct Users {
    accounts: AHashMap<UserName, Account>,
    /// The record that says that `guest` was deleted.
    guest_deleted: Option<Entry>,
}

struct Account {
    password: PasswordHash,
    /// `None`: nothing of it is written, as of the first `guest`.
    entry: Option<Entry>,
    grants: AHashMap<VhostName, Grant>,
}

struct Grant {
    permissions: Permissions,
    /// Configure, write, read.
    patterns: [Regex; 3],
    entry: Option<Entry>,
}

impl Grant {
    fn new(permissions: Permissions, entry: Option<Entry>) -> Result<Self, BrokerError> {
        let Permissions { configure, write, read } = &permissions;
        let patterns = [compile(configure)?, compile(write)?, compile(read)?];
        Ok(Self { permissions, patterns, entry })
    }
}

impl Users {
    /// The users of a new broker.
    pub(super) fn new() -> Self {
        let mut users = Self { accounts: AHashMap::new(), guest_deleted: None };
        if let (Ok(guest), Ok(grant)) = (UserName::new(GUEST), Grant::new(Permissions::all(), None))
        {
            // What the password is, everybody knows; a salt hides nothing.
            let password = PasswordHash::new(GUEST, [0; 4]);
            let grants = AHashMap::from_iter([(VhostName::default_vhost(), grant)]);
            users.accounts.insert(guest, Account { password, entry: None, grants });
        }
        users
    }

    /// Takes what the journal says of one user. Records of users come before their permissions.
    pub(super) fn restore_user(&mut self, entry: Entry, record: UserRecord) {
        let UserRecord { name, password } = record;
        match password {
            Some(password) => {
                let account = Account { password, entry: Some(entry), grants: AHashMap::new() };
                self.accounts.insert(name, account);
            }
            None => {
                self.accounts.remove(&name);
                self.guest_deleted = Some(entry);
            }
        }
    }

    /// `false`: the user is gone, so the record is to end.
    pub(super) fn restore_permissions(&mut self, entry: Entry, record: PermissionsRecord) -> bool {
        let PermissionsRecord { vhost, user, permissions } = record;
        let Some(account) = self.accounts.get_mut(&user) else { return false };
        match Grant::new(permissions, Some(entry)) {
            Ok(grant) => _ = account.grants.insert(vhost, grant),
            Err(error) => tracing::error!(%user, %error, "a user's permissions are left out"),
        }
        true
    }

    /// Whether a pattern of the user's in that vhost matches the name.
    pub(super) fn permits(
        &self,
        user: &UserName,
        vhost: &VhostName,
        access: Access,
        name: &str,
    ) -> bool {
        let grant = self.accounts.get(user).and_then(|account| account.grants.get(vhost));
        let pattern = grant.and_then(|grant| grant.patterns.get(access as usize));
        pattern.is_some_and(|pattern| pattern.is_match(name))
    }
}

impl Inner {
    /// Changes the users in one group of the journal. Whoever remembers what was permitted looks again.
    fn change_users(
        &self,
        change: impl FnOnce(&mut Users, &mut Group) -> Result<(), BrokerError>,
        recorded: impl FnOnce(&mut Users, Option<Entry>),
    ) -> Result<Commit, BrokerError> {
        let mut users = self.users.write();
        let mut group = Group::new();
        change(&mut users, &mut group)?;
        let appended = self.journal.append(group, Urgency::Now);
        recorded(&mut users, appended.entries.first().copied());
        self.users_changed.fetch_add(1, Ordering::Release);
        Ok(appended.commit)
    }
}

fn no_user(name: &UserName) -> BrokerError {
    BrokerError::Precondition(format!("no user '{name}'"))
}

impl Broker {
    /// Adds a user, without any permission, or gives one another password.
    ///
    /// # Errors
    /// When no random salt is to be had.
    pub fn set_user(&self, name: &UserName, password: &str) -> Result<Commit, BrokerError> {
        let mut salt = [0; 4];
        getrandom::fill(&mut salt)
            .map_err(|error| BrokerError::Precondition(format!("no random salt: {error}")))?;
        self.set_user_hash(name, PasswordHash::new(password, salt))
    }

    /// As [`Broker::set_user`], with a hash, such as RabbitMQ's definitions have.
    ///
    /// # Errors
    /// None but what the commit says.
    pub fn set_user_hash(
        &self,
        name: &UserName,
        password: PasswordHash,
    ) -> Result<Commit, BrokerError> {
        self.write_guest_down(name);
        let stored = Some(password.clone());
        self.inner.change_users(
            |users, group| {
                let user = UserRecord { name: name.clone(), password: stored };
                group.fact(KIND_USER, record(&user));
                let deleted = if is_guest(name) { users.guest_deleted.take() } else { None };
                let previous = users.accounts.get(name).and_then(|account| account.entry);
                for entry in deleted.into_iter().chain(previous) {
                    group.end(entry);
                }
                Ok(())
            },
            |users, entry| match users.accounts.get_mut(name) {
                Some(account) => {
                    account.password = password;
                    account.entry = entry;
                }
                None => {
                    let account = Account { password, entry, grants: AHashMap::new() };
                    users.accounts.insert(name.clone(), account);
                }
            },
        )
    }

    /// Deletes a user with its permissions; its connections may do nothing more.
    ///
    /// # Errors
    /// An unknown user.
    pub fn delete_user(&self, name: &UserName) -> Result<Commit, BrokerError> {
        self.inner.change_users(
            |users, group| {
                let account = users.accounts.remove(name).ok_or_else(|| no_user(name))?;
                if is_guest(name) {
                    let deleted = UserRecord { name: name.clone(), password: None };
                    group.fact(KIND_USER, record(&deleted));
                }
                let grants = account.grants.values().filter_map(|grant| grant.entry);
                for entry in account.entry.into_iter().chain(grants) {
                    group.end(entry);
                }
                Ok(())
            },
            |users, entry| {
                if is_guest(name) {
                    users.guest_deleted = entry;
                }
            },
        )
    }

    /// The names of all users, sorted.
    pub fn users(&self) -> Vec<UserName> {
        let mut names: Vec<_> = self.inner.users.read().accounts.keys().cloned().collect();
        names.sort();
        names
    }

    /// Says what a user may do in this vhost.
    ///
    /// # Errors
    /// An unknown user; a pattern that is no regular expression.
    pub fn set_permissions(
        &self,
        user: &UserName,
        permissions: Permissions,
    ) -> Result<Commit, BrokerError> {
        let mut grant = Grant::new(permissions.clone(), None)?;
        self.write_guest_down(user);
        let vhost = &self.vhost.name;
        self.inner.change_users(
            |users, group| {
                let account = users.accounts.get(user).ok_or_else(|| no_user(user))?;
                let (vhost_name, user) = (vhost.clone(), user.clone());
                let permissions = PermissionsRecord { vhost: vhost_name, user, permissions };
                group.fact(KIND_PERMISSIONS, record(&permissions));
                if let Some(previous) = account.grants.get(vhost).and_then(|grant| grant.entry) {
                    group.end(previous);
                }
                Ok(())
            },
            |users, entry| {
                grant.entry = entry;
                if let Some(account) = users.accounts.get_mut(user) {
                    account.grants.insert(vhost.clone(), grant);
                }
            },
        )
    }

    /// Takes away what a user may do in this vhost: it may not even connect to it.
    ///
    /// # Errors
    /// An unknown user.
    pub fn clear_permissions(&self, user: &UserName) -> Result<Commit, BrokerError> {
        self.write_guest_down(user);
        self.inner.change_users(
            |users, group| {
                let account = users.accounts.get_mut(user).ok_or_else(|| no_user(user))?;
                let grant = account.grants.remove(&self.vhost.name);
                if let Some(entry) = grant.and_then(|grant| grant.entry) {
                    group.end(entry);
                }
                Ok(())
            },
            |_, _| {},
        )
    }

    /// What users may do in this vhost, sorted by their names.
    pub fn permissions(&self) -> Vec<(UserName, Permissions)> {
        let users = self.inner.users.read();
        let granted = users.accounts.iter().filter_map(|(name, account)| {
            let grant = account.grants.get(&self.vhost.name)?;
            Some((name.clone(), grant.permissions.clone()))
        });
        let mut granted: Vec<_> = granted.collect();
        granted.sort_by(|(a, _), (b, _)| a.cmp(b));
        granted
    }

    /// Checks a name and a password. `is_loopback`: the client is on this machine.
    ///
    /// # Errors
    /// An unknown user, a wrong password, `guest` from elsewhere: one text for all of them.
    pub fn authenticate(
        &self,
        name: &str,
        password: &str,
        is_loopback: bool,
    ) -> Result<Identity, BrokerError> {
        let refused = || {
            let text = "Login was refused using authentication mechanism PLAIN. For details see the \
                        broker logfile.";
            BrokerError::AccessRefused(text.to_owned())
        };
        let users = self.inner.users.read();
        let account = users.accounts.get_key_value(name);
        let account = account.filter(|(_, account)| account.password.verifies(password));
        match account {
            Some((name, _)) if is_guest(name) && !is_loopback => {
                tracing::warn!("user 'guest' may connect from this machine only");
                Err(refused())
            }
            Some((name, _)) => Ok(Identity(name.clone())),
            None => {
                tracing::warn!(user = &name[..name.floor_char_boundary(64)], "a login was refused");
                Err(refused())
            }
        }
    }

    /// Opens a connection for a user: what it does is checked against the user's permissions.
    ///
    /// # Errors
    /// An unknown vhost, or one in which the user has no permissions.
    pub fn connect_as(
        &self,
        identity: &Identity,
        vhost: &VhostName,
    ) -> Result<Connection, BrokerError> {
        let handle = self.in_vhost(vhost)?;
        let Identity(user) = identity;
        let users = self.inner.users.read();
        let account = users.accounts.get(user);
        if account.is_none_or(|account| !account.grants.contains_key(vhost)) {
            let text = format!("access to vhost '{vhost}' refused for user '{user}'");
            return Err(BrokerError::NotAllowed(text));
        }
        Ok(handle.connect_for(Some(user.clone())))
    }

    /// The permissions in a vhost go with it.
    pub(super) fn forget_permissions(&self) {
        let mut group = Group::new();
        let mut users = self.inner.users.write();
        for account in users.accounts.values_mut() {
            let grant = account.grants.remove(&self.vhost.name);
            if let Some(entry) = grant.and_then(|grant| grant.entry) {
                group.end(entry);
            }
        }
        if !group.is_empty() {
            let _appended = self.inner.journal.append(group, Urgency::Now);
        }
        self.inner.users_changed.fetch_add(1, Ordering::Release);
    }

    /// The first `guest` is nowhere written; before it is changed it is.
    fn write_guest_down(&self, name: &UserName) {
        if !is_guest(name) {
            return;
        }
        let mut users = self.inner.users.write();
        let Some(account) = users.accounts.get_mut(name) else { return };
        if account.entry.is_some() {
            return;
        }
        let mut group = Group::new();
        let password = Some(account.password.clone());
        group.fact(KIND_USER, record(&UserRecord { name: name.clone(), password }));
        for (vhost, grant) in &account.grants {
            let (vhost, user) = (vhost.clone(), name.clone());
            let permissions = grant.permissions.clone();
            let permissions = PermissionsRecord { vhost, user, permissions };
            group.fact(KIND_PERMISSIONS, record(&permissions));
        }
        let mut entries = self.inner.journal.append(group, Urgency::Now).entries.into_iter();
        account.entry = entries.next();
        for (grant, entry) in account.grants.values_mut().zip(entries) {
            grant.entry = Some(entry);
        }
    }
}

fn is_guest(name: &UserName) -> bool {
    name.as_str() == GUEST
}
