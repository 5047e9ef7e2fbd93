//! The launch order, and the same backwards.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};

use super::public_keys::PublicKeys;
use super::secret::{self, Secret};
use super::{Error, Settings, Storage};
use crate::backend::{Broker, Cache, Embedded};
use crate::demo::Demo;
use crate::gateway::{Authenticator, Gateway};
use crate::http::{Access, Api, ApiKey, Limits, Listener, Metrics, Open, Readiness, router};
use crate::journal::JournalOptions;
use crate::model::clock::{SharedClock, SystemClock};
use crate::resp;

/// What requests in flight, and then the workers, are given to finish when the server stops.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// How long a back end is waited for that does not answer when the server starts.
#[cfg(feature = "redis")]
const BACK_END_PATIENCE: Duration = Duration::from_secs(10);

/// A running server. Dropping it without [`Server::stop`] is a crash: what was confirmed is safe.
pub struct Server {
    address: SocketAddr,
    state: State,
    readiness: Readiness,
    gateway: Gateway,
    api: Api,
    demo: Option<Demo>,
    resp: Option<resp::Listener>,
    stop_accepting: oneshot::Sender<()>,
    accepting: JoinHandle<Open>,
    /// Tasks that never end by themselves.
    background: Vec<AbortHandle>,
}

impl Server {
    /// Opens the state, starts what works on it, and listens last, so that nobody is answered by half
    /// a server.
    ///
    /// # Errors
    /// When the data folder is in use or damaged, or the address can't be listened on.
    pub async fn start(settings: &Settings) -> Result<Self, Error> {
        // Before the engines: they take their counters when they are made.
        let metrics = Metrics::install();
        let clock = SystemClock::shared();
        let state = State::open(settings, clock.clone()).await?;
        if let Some(bytes) = settings.memory_limit.bytes() {
            state.broker.set_memory_limit(bytes);
        }
        let cache = state.engines.cache_engine();
        cache.change_settings(|changed| changed.appendfsync = settings.appendfsync);
        Self::start_on(state, settings, metrics, clock).await
    }

    async fn start_on(
        state: State,
        settings: &Settings,
        metrics: Metrics,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let authenticator = authenticator(&state, settings)?;
        let mut options = settings.gateway.options(authenticator.clone());
        options.limits.event_rate = settings.event_rate;
        let gateway = Gateway::new(options, state.cache.clone(), clock.clone());
        let bridge = gateway.bridge(&state.broker).await?;
        let channels = gateway.channels().await?;
        let replies = match settings.gateway.event_bridge.clone() {
            Some(events) => {
                let replies = gateway.bridge_events(&state.broker, events).await;
                let replies = replies.map_err(|error| {
                    Error::Refused(format!("clients' events can't be published: {error}"))
                })?;
                Some(tokio::spawn(replies).abort_handle())
            }
            None => None,
        };
        let demo = match settings.demo {
            true => Some(start_demo(&state, settings, authenticator, clock).await?),
            false => None,
        };

        let address = settings.http;
        let access = Access::of(address.ip(), settings.api_key.clone()).ok_or_else(|| {
            Error::Refused(format!("{address} is not a loopback address: it takes an API key"))
        })?;
        if settings.api_key.as_ref().is_some_and(ApiKey::is_short) {
            tracing::warn!("the API key is shorter than 16 characters: it can be guessed");
        }
        let api = Api::new(state.broker.clone(), gateway.clone(), access);
        let limits = Limits { head_read_timeout: settings.header_timeout, ..Limits::default() };
        let listener = Listener::bind(address, limits)
            .await
            .map_err(|source| Error::Listen { address, source })?;
        let engines = &state.engines;
        let readiness =
            Readiness::new(engines.journal().clone(), state.broker.clone(), state.cache.clone());
        let application = match &demo {
            Some(demo) => gateway.router().merge(demo.router()),
            None => gateway.router(),
        };
        let application = application.merge(api.router());
        let routes =
            router(readiness.clone(), metrics.clone(), &settings.gateway.path, application);
        let resp =
            settings.resp.map(|address| start_resp(&state, settings, address)).transpose()?;
        let address = listener.address();
        let (stop_accepting, stop) = oneshot::channel();
        let accepting = tokio::spawn(listener.run(routes, async {
            // A sender that is gone means the same as one that was used.
            let _ = stop.await;
        }));
        let background = [
            tokio::spawn(metrics.upkeep()).abort_handle(),
            tokio::spawn(bridge).abort_handle(),
            tokio::spawn(channels).abort_handle(),
            tokio::spawn(api.clone().upkeep()).abort_handle(),
        ];
        let background = background.into_iter().chain(replies).collect();
        Ok(Self {
            address,
            state,
            readiness,
            gateway,
            api,
            demo,
            resp,
            stop_accepting,
            accepting,
            background,
        })
    }

    /// Where HTTP and Socket.IO are served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where Redis clients are served, if they are.
    pub fn resp_address(&self) -> Option<SocketAddr> {
        self.resp.as_ref().map(resp::Listener::address)
    }

    /// Drains: not ready, no new connections, sockets closed, requests in flight answered, deliveries in
    /// hand finished, the journal flushed and closed. Bounded by twice ten seconds and the last commit.
    ///
    /// # Errors
    /// When the journal could not be flushed: then something that was not yet confirmed may be lost.
    pub async fn stop(self) -> Result<(), Error> {
        self.readiness.drain();
        let _ = self.stop_accepting.send(());
        self.api.stop();
        let redis_clients = async {
            if let Some(resp) = self.resp {
                resp.stop().await;
            }
        };
        let http_clients = async {
            if let Ok(open) = self.accepting.await {
                let sockets = within(DRAIN_PATIENCE, "sockets", self.gateway.shutdown());
                let requests = within(DRAIN_PATIENCE, "requests", open.drain());
                tokio::join!(sockets, requests);
            }
        };
        tokio::join!(redis_clients, http_clients);
        if let Some(demo) = self.demo {
            within(DRAIN_PATIENCE, "deliveries", demo.stop()).await;
        }
        for task in &self.background {
            task.abort();
        }
        if self.state.broker.is_shared() {
            within(DRAIN_PATIENCE, "broker", async {
                // What it did not confirm, it was not promised.
                let _ = self.state.broker.close().await;
            })
            .await;
        }
        self.state.engines.close().await.map_err(Error::Close)
    }
}

/// Everything durable, and the secret that lies beside it.
struct State {
    engines: Embedded,
    /// That of the engines, unless a server is the broker.
    broker: Broker,
    /// The engine's, unless it is a server.
    cache: Cache,
    /// `None`: tokens are verified with public keys alone.
    secret: Option<Secret>,
}

impl State {
    async fn open(settings: &Settings, clock: SharedClock) -> Result<Self, Error> {
        // Before the data folder: a server that is not there is no reason to lock it.
        let remote = remote_cache(settings).await?;
        let remote_broker = remote_broker(settings, &clock).await?;
        let (engines, development) = match &settings.storage {
            Storage::Memory if remote.is_some() => (Embedded::in_memory_apart(clock), None),
            Storage::Memory => (Embedded::in_memory(clock), None),
            Storage::Folder { path, durability } => {
                let options =
                    JournalOptions { durability: *durability, ..JournalOptions::default() };
                let engines = match remote {
                    Some(_) => Embedded::open_apart(path, options, clock)?,
                    None => Embedded::open_with(path, options, clock)?,
                };
                (engines, Some(path.as_path()))
            }
        };
        let cache = remote.unwrap_or_else(|| engines.cache());
        let secret = match (&settings.secret, &settings.public_keys) {
            (Some(secret), _) => Some(given(secret)),
            (None, Some(_)) => None,
            (None, None) => Some(for_development(development)?),
        };
        let broker = remote_broker.unwrap_or_else(|| engines.broker());
        Ok(Self { engines, broker, cache, secret })
    }
}

/// The cache on a server, if the settings name one.
#[cfg(feature = "redis")]
async fn remote_cache(settings: &Settings) -> Result<Option<Cache>, Error> {
    use crate::backend::RedisCache;
    let Some(url) = &settings.cache_url else { return Ok(None) };
    let connected = RedisCache::connect(url.as_str(), BACK_END_PATIENCE).await;
    connected
        .map(|cache| Some(Cache::Redis(cache)))
        .map_err(|error| Error::Refused(format!("the cache can't be used: {error}")))
}

/// Settings name no server that this build has no client for.
#[cfg(not(feature = "redis"))]
async fn remote_cache(_: &Settings) -> Result<Option<Cache>, Error> {
    Ok(None)
}

/// The broker on a server, if the settings name one.
#[cfg(feature = "rabbitmq")]
async fn remote_broker(settings: &Settings, clock: &SharedClock) -> Result<Option<Broker>, Error> {
    let Some(url) = &settings.broker_url else { return Ok(None) };
    let broker = crate::backend::RabbitMq::connect(url.0.clone(), clock.clone()).await;
    broker.map(|broker| Some(Broker::RabbitMq(broker))).map_err(|error| {
        Error::Refused(format!("the broker at {} can't be used: {error}", url.shown()))
    })
}

/// Settings name no server that this build has no client for.
#[cfg(not(feature = "rabbitmq"))]
async fn remote_broker(_: &Settings, _: &SharedClock) -> Result<Option<Broker>, Error> {
    Ok(None)
}

fn authenticator(state: &State, settings: &Settings) -> Result<Authenticator, Error> {
    let signing = state.secret.as_ref().map(|secret| Authenticator::new(secret.as_bytes()));
    let keys = settings.public_keys.as_ref().map(PublicKeys::pem);
    match (signing, keys) {
        (Some(signing), Some(keys)) => Ok(signing.and_public_keys(keys)?),
        (Some(signing), None) => Ok(signing),
        (None, keys) => Ok(Authenticator::of_public_keys(keys.unwrap_or_default())?),
    }
}

fn given(secret: &Secret) -> Secret {
    if secret.is_short() {
        tracing::warn!("the secret for tokens is shorter than 32 bytes: it can be guessed");
    }
    secret.clone()
}

/// Made once a folder, or for this process alone when nothing is kept.
fn for_development(folder: Option<&Path>) -> Result<Secret, Error> {
    let Some(folder) = folder else { return Secret::random() };
    let secret = Secret::of_folder_or_new(folder)?;
    if let Some(path) = secret::readable_by_others(folder) {
        tracing::warn!(path = %path.display(), "others can read the development secret");
    }
    Ok(secret)
}

fn start_resp(
    state: &State,
    settings: &Settings,
    address: SocketAddr,
) -> Result<resp::Listener, Error> {
    let cache = state.engines.cache_engine().clone();
    let options =
        resp::Options { password: settings.resp_password.clone(), ..resp::Options::default() };
    resp::Listener::start(address, cache, SystemClock::shared(), options).map_err(|error| {
        match error {
            resp::ListenError::Io(source) => Error::Listen { address, source },
            error @ resp::ListenError::Unprotected(_) => Error::Refused(error.to_string()),
        }
    })
}

async fn start_demo(
    state: &State,
    settings: &Settings,
    authenticator: Authenticator,
    clock: SharedClock,
) -> Result<Demo, Error> {
    // Guests get a token only where the secret is a development one.
    let is_development = settings.secret.is_none() && settings.public_keys.is_none();
    let guest = is_development.then_some(authenticator);
    let (broker, cache) = (state.broker.clone(), state.cache.clone());
    let demo = Demo::start(broker, cache, clock, guest).await?;
    Ok(demo.with_client_origins(settings.client_origins.iter().cloned()))
}

/// Gives up on what does not end in time: a stop must end.
async fn within(patience: Duration, what: &str, ends: impl Future<Output = ()>) {
    if tokio::time::timeout(patience, ends).await.is_err() {
        tracing::warn!(what, "not finished within {} s", patience.as_secs());
    }
}
