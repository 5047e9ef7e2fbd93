//! What a back end asks the gateway: who is there, who is in a room, what was said there; over all nodes.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Gateway;
use super::application::{Application, personal_room};
use super::error::GatewayError;
use super::io::{Broadcast, Gathered, Items, Question};
use super::roster::OFFLINE;
use crate::backend::{Audience, BackendError};
use crate::model::clock::UnixMs;
use crate::model::names::{RoomId, UserId};

/// How long a user's sockets are counted at most before they are disconnected: a node's second to answer, and
/// the server's time.
const COUNTED_WITHIN: Duration = Duration::from_millis(1_500);

/// A user, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    pub user: UserId,
    /// `offline` for a user that is not there.
    pub status: String,
    /// None of them is left while the user's grace runs.
    pub sockets: usize,
    /// When the status was last set, in milliseconds since the Unix epoch; 0: it was not.
    pub status_at_ms: UnixMs,
}

/// A user in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub user: UserId,
    /// The display name in the token of one of the sockets.
    pub username: String,
    /// The user's sockets in the room, one at least.
    pub sockets: usize,
}

/// Which users of many are asked for: in the order of their ids, those behind one of this name, at most so many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub after: String,
    pub limit: usize,
}

/// What a node asks the others.
#[derive(Serialize, Deserialize)]
enum Asked {
    Members(RoomId, Part),
    Present(Part),
    Presence(UserId),
}

/// What several nodes tell of one user.
trait OfUser: for<'de> Deserialize<'de> + Serialize {
    fn user(&self) -> &UserId;

    fn add(&mut self, other: Self);
}

impl OfUser for Presence {
    fn user(&self) -> &UserId {
        &self.user
    }

    /// The status that was set last is the user's.
    fn add(&mut self, other: Self) {
        self.sockets += other.sockets;
        if other.status_at_ms > self.status_at_ms {
            (self.status, self.status_at_ms) = (other.status, other.status_at_ms);
        }
    }
}

impl OfUser for Member {
    fn user(&self) -> &UserId {
        &self.user
    }

    fn add(&mut self, other: Self) {
        self.sockets += other.sockets;
    }
}

impl Part {
    /// One user is asked for.
    fn one() -> Self {
        Self { after: String::new(), limit: 1 }
    }

    fn of<T: OfUser>(&self, mut all: Vec<T>) -> Vec<T> {
        all.retain(|one| one.user().as_str() > self.after.as_str());
        all.sort_unstable_by(|a, b| a.user().as_str().cmp(b.user().as_str()));
        all.truncate(self.limit);
        all
    }
}

/// Has a node answer what others ask.
pub fn answer(application: &Arc<Application>) {
    let Some(nodes) = application.hub().nodes() else { return };
    let application = Arc::downgrade(application);
    nodes.answer_with(move |question| {
        let Some(application) = application.upgrade() else { return Items::new() };
        match serde_json::from_str(question) {
            Ok(Asked::Members(room, part)) => items(part.of(application.members_here(&room))),
            Ok(Asked::Present(part)) => items(application.present(&part)),
            Ok(Asked::Presence(user)) => items(application.presence_of(&user)),
            Err(error) => {
                tracing::warn!(%error, "another node asks what this version does not know");
                Items::new()
            }
        }
    });
}

fn items<T: Serialize>(all: impl IntoIterator<Item = T>) -> Items {
    all.into_iter().filter_map(|one| to_raw_value(&one).ok()).collect()
}

impl Application {
    /// What there is here, with what the other nodes tell.
    async fn gather<T: OfUser>(
        &self,
        here: Vec<T>,
        asked: Asked,
        part: &Part,
    ) -> Result<Gathered<Vec<T>>, BackendError> {
        let Some(nodes) = self.hub().nodes() else { return Ok(Gathered::alone(part.of(here))) };
        // Names and numbers always have a JSON form.
        let question = serde_json::to_string(&asked).unwrap_or_default();
        let told = nodes.ask(Default::default(), Question::Application(question)).await?;
        Ok(told.map(|items| {
            let there = items.iter().filter_map(|item| serde_json::from_str(item.get()).ok());
            let mut users: AHashMap<UserId, T> = AHashMap::new();
            for one in here.into_iter().chain(there) {
                match users.get_mut(one.user()) {
                    Some(user) => user.add(one),
                    None => _ = users.insert(one.user().clone(), one),
                }
            }
            part.of(users.into_values().collect())
        }))
    }

    /// How many sockets an event is for, on all nodes.
    ///
    /// # Errors
    /// As [`Broadcast::count_all_sockets`].
    pub async fn count(&self, to: &Audience) -> Result<Gathered<usize>, GatewayError> {
        let everybody = Broadcast::new(Arc::clone(self.hub()));
        match to {
            Audience::Room(room) => everybody.to(room.as_str()).count_all_sockets().await,
            Audience::User(user) => everybody.to(&personal_room(user)).count_all_sockets().await,
            Audience::All => everybody.count_all_sockets().await,
        }
    }

    /// How many sockets a user has, in every namespace that takes tokens and on all nodes.
    ///
    /// # Errors
    /// As [`Broadcast::count_all_sockets`].
    pub async fn count_of(&self, user: &UserId) -> Result<Gathered<usize>, GatewayError> {
        let room = personal_room(user);
        let mut counts = JoinSet::new();
        for hub in self.watched.read().clone() {
            let room = room.clone();
            counts.spawn(async move { Broadcast::new(hub).to(&room).count_all_sockets().await });
        }
        let mut all = Gathered::alone(0);
        for of_hub in counts.join_all().await {
            let of_hub = of_hub?;
            all.value += of_hub.value;
            all.missing_nodes = all.missing_nodes.max(of_hub.missing_nodes);
        }
        Ok(all)
    }

    /// Who is in a room on this node, in no order.
    fn members_here(&self, room: &RoomId) -> Vec<Member> {
        let mut members: AHashMap<UserId, Member> = AHashMap::new();
        for peer in self.members(room) {
            let member = members.entry(peer.user().clone()).or_insert_with(|| Member {
                user: peer.user().clone(),
                username: peer.member.username.to_string(),
                sockets: 0,
            });
            member.sockets += 1;
        }
        members.into_values().collect()
    }
}

impl Gateway {
    /// A user's presence, also of one that is not there.
    ///
    /// # Errors
    /// The cache that the nodes share does not answer, or they answer too much. So have the others.
    pub async fn presence(&self, user: &UserId) -> Result<Gathered<Presence>, BackendError> {
        let here = self.application.presence_of(user).into_iter().collect();
        let asked = Asked::Presence(user.clone());
        let found = self.application.gather(here, asked, &Part::one()).await?;
        Ok(found.map(|mut found| {
            found.pop().unwrap_or_else(|| Presence {
                user: user.clone(),
                status: OFFLINE.to_owned(),
                sockets: 0,
                status_at_ms: 0,
            })
        }))
    }

    /// Users that are there, in the order of their ids.
    ///
    /// # Errors
    /// See [`Self::presence`].
    pub async fn present(&self, part: &Part) -> Result<Gathered<Vec<Presence>>, BackendError> {
        let here = self.application.present(part);
        self.application.gather(here, Asked::Present(part.clone()), part).await
    }

    /// Who is in a room, in the order of their ids; nobody is in a room that does not exist.
    ///
    /// # Errors
    /// See [`Self::presence`].
    pub async fn members(
        &self,
        room: &RoomId,
        part: &Part,
    ) -> Result<Gathered<Vec<Member>>, BackendError> {
        let here = self.application.members_here(room);
        self.application.gather(here, Asked::Members(room.clone(), part.clone()), part).await
    }

    /// How many sockets there are of those that an event would be sent to, on all nodes.
    ///
    /// # Errors
    /// See [`Self::presence`].
    pub async fn count(&self, to: &Audience) -> Result<Gathered<usize>, GatewayError> {
        self.application.count(to).await
    }

    /// How many sockets a user has, on all nodes.
    ///
    /// # Errors
    /// See [`Self::presence`].
    pub async fn count_of(&self, user: &UserId) -> Result<Gathered<usize>, GatewayError> {
        self.application.count_of(user).await
    }

    /// The newest `count` messages of a room, the newest first: those that everybody in the room has
    /// been told of.
    ///
    /// # Errors
    /// A cache that does not answer.
    pub async fn history(
        &self,
        room: &RoomId,
        count: usize,
    ) -> Result<Vec<Box<RawValue>>, BackendError> {
        self.application.rooms.history(room, count).await
    }

    /// Disconnects a user's sockets on all nodes, and closes their connections; how many there were on this
    /// one. Stock clients find the reason `io server disconnect` and do not reconnect by themselves.
    pub fn disconnect_user(&self, user: &UserId) -> usize {
        self.application.disconnect_user(user)
    }

    /// As [`Self::disconnect_user`]; how many there were on all nodes, as of those that go nobody knows it
    /// afterwards. They are counted for 1.5 s at most. It is done also when nobody waits for it any more.
    ///
    /// # Errors
    /// The cache that the nodes share does not answer: whether it was done is unknown. A count that fails is no
    /// error, but the count of this node, with one that is missing.
    pub async fn disconnect_user_counted(
        &self,
        user: &UserId,
    ) -> Result<Gathered<usize>, BackendError> {
        let (application, user) = (Arc::clone(&self.application), user.clone());
        let disconnecting = tokio::spawn(async move {
            let counted = timeout(COUNTED_WITHIN, application.count_of(&user)).await;
            let here = application.disconnect_user_surely(&user).await?;
            Ok(match counted {
                Ok(Ok(all)) => all,
                Ok(Err(_)) | Err(_) => Gathered { value: here, missing_nodes: 1 },
            })
        });
        let ended = |_| Err(BackendError::CacheUnreachable("the gateway is ending".into()));
        disconnecting.await.unwrap_or_else(ended)
    }
}
