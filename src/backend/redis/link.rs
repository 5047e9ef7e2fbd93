//! The connection, and the task that makes a new one when it is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, IntoConnectionInfo, Pipeline,
    ProtocolVersion, PushInfo, PushKind, RedisError, ScriptInvocation,
};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::channels::{Channels, Topic};
use super::failure::{ConnectError, ends_connection, of_server};
use crate::backend::BackendError;

/// A command that is not answered in this time ends its connection: it, or its server, is stuck.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// For a connection to be made, TLS and login included.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How long a call waits for a connection that is being made.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(2);

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A connection that was there for so long was a good one.
const LASTED: Duration = Duration::from_secs(5);

/// Commands that may wait to be written, before callers wait.
const COMMANDS_WAITING_MAX: usize = 1_024;

const LOST: &str = "the connection is lost";

#[derive(Clone)]
enum State {
    Up(Connected),
    Down(Arc<str>),
}

#[derive(Clone)]
struct Connected {
    number: u64,
    connection: MultiplexedConnection,
}

/// Clones share the connection. The last one that is dropped closes it.
#[derive(Clone)]
pub struct Link {
    state: watch::Receiver<State>,
    broken: Arc<Broken>,
    client: Arc<Client>,
}

/// The last connection that turned out to be broken.
#[derive(Default)]
struct Broken {
    number: AtomicU64,
    noted: Notify,
}

impl Broken {
    fn note(&self, number: u64) {
        self.number.fetch_max(number, Ordering::AcqRel);
        self.noted.notify_one();
    }

    async fn until(&self, number: u64) {
        while self.number.load(Ordering::Acquire) < number {
            self.noted.notified().await;
        }
    }
}

impl Link {
    /// # Errors
    /// A URL that is none; a server that refuses the user, or was not reached until `patience` passed.
    pub async fn connect(
        url: &str,
        patience: Duration,
        channels: Arc<Channels>,
    ) -> Result<Self, ConnectError> {
        let client = Arc::new(client(url)?);
        let broken = Arc::new(Broken::default());
        let maker = Maker { client: Arc::clone(&client), broken: Arc::clone(&broken), channels };
        let deadline = Instant::now() + patience;
        let mut backoff = Backoff::default();
        let first = loop {
            match maker.make(1).await {
                Ok(connected) => break connected,
                Err(error @ ConnectError::Unreachable(_)) => {
                    let pause = backoff.next();
                    if Instant::now() + pause > deadline {
                        return Err(error);
                    }
                    sleep(pause).await;
                }
                Err(error) => return Err(error),
            }
        };
        let (states, state) = watch::channel(State::Up(first));
        tokio::spawn(maker.keep(states));
        Ok(Self { state, broken, client })
    }

    /// Sends one command, once.
    ///
    /// # Errors
    /// No connection in time: it was not sent. A connection that was lost: it may have been done.
    pub async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, BackendError> {
        let mut connected = self.connected().await?;
        let outcome = command.query_async(&mut connected.connection).await;
        self.judge(&connected, outcome)
    }

    /// As [`Self::run`], for a script: by its SHA, and with its text when the server does not know it.
    pub async fn script<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, BackendError> {
        let mut connected = self.connected().await?;
        let outcome = script.invoke_async(&mut connected.connection).await;
        self.judge(&connected, outcome)
    }

    /// As [`Self::run`], for several commands in this order, with an answer each.
    pub async fn pipeline(
        &self,
        pipeline: &Pipeline,
    ) -> Result<Vec<Result<redis::Value, BackendError>>, BackendError> {
        let mut connected = self.connected().await?;
        let outcome = pipeline.query_async(&mut connected.connection).await;
        let answers: Vec<Result<redis::Value, RedisError>> = self.judge(&connected, outcome)?;
        Ok(answers.into_iter().map(|answer| answer.map_err(|error| of_server(&error))).collect())
    }

    pub async fn subscribe(&self, topic: Topic, name: &str) -> Result<(), BackendError> {
        let mut connected = self.connected().await?;
        let outcome = match topic {
            Topic::Channel => connected.connection.subscribe(name).await,
            Topic::Pattern => connected.connection.psubscribe(name).await,
        };
        self.judge(&connected, outcome)
    }

    pub async fn unsubscribe(&self, topic: Topic, name: &str) -> Result<(), BackendError> {
        let mut connected = self.connected().await?;
        let outcome = match topic {
            Topic::Channel => connected.connection.unsubscribe(name).await,
            Topic::Pattern => connected.connection.punsubscribe(name).await,
        };
        self.judge(&connected, outcome)
    }

    /// Where to connect to once more, for commands that block.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Over a new connection, holding the thread meanwhile: for the start.
    pub fn at_once<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, BackendError> {
        let of = |error: RedisError| of_server(&error);
        let mut connection = self.client.get_connection_with_timeout(CONNECT_WITHIN).map_err(of)?;
        connection.set_read_timeout(Some(ANSWER_WITHIN)).map_err(of)?;
        command.query(&mut connection).map_err(of)
    }

    fn judge<T>(
        &self,
        connected: &Connected,
        outcome: Result<T, RedisError>,
    ) -> Result<T, BackendError> {
        outcome.map_err(|error| {
            if ends_connection(&error) {
                self.broken.note(connected.number);
            }
            of_server(&error)
        })
    }

    async fn connected(&self) -> Result<Connected, BackendError> {
        if let Some(connected) = self.usable(&self.state.borrow()) {
            return Ok(connected);
        }
        let mut state = self.state.clone();
        let is_usable = |state: &State| self.usable(state).is_some();
        match timeout(CONNECTION_PATIENCE, state.wait_for(is_usable)).await {
            Ok(Ok(state)) => self.usable(&state).ok_or_else(|| unreachable_for(&state)),
            Ok(Err(_)) => Err(BackendError::CacheUnreachable("its connection was closed".into())),
            Err(_) => Err(unreachable_for(&self.state.borrow())),
        }
    }

    /// One that is known to be broken is not used, though nobody has noted that yet.
    fn usable(&self, state: &State) -> Option<Connected> {
        match state {
            State::Up(connected) => {
                let is_broken = self.broken.number.load(Ordering::Acquire) >= connected.number;
                (!is_broken).then(|| connected.clone())
            }
            State::Down(_) => None,
        }
    }
}

fn unreachable_for(state: &State) -> BackendError {
    BackendError::CacheUnreachable(match state {
        State::Up(_) => LOST.into(),
        State::Down(reason) => Arc::clone(reason),
    })
}

fn client(url: &str) -> Result<Client, ConnectError> {
    let of = |error: RedisError| ConnectError::of(&error);
    let info = url.into_connection_info().map_err(of)?;
    if url.starts_with("rediss:") {
        // Another crate may have chosen already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    // Messages of channels come over the same connection.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Client::open(info.set_redis_settings(settings)).map_err(of)
}

/// Makes connections, one after the other.
struct Maker {
    client: Arc<Client>,
    broken: Arc<Broken>,
    channels: Arc<Channels>,
}

impl Maker {
    /// Runs until every [`Link`] is gone.
    async fn keep(self, states: watch::Sender<State>) {
        let mut number = 1;
        let mut backoff = Backoff::default();
        loop {
            let connected = Instant::now();
            tokio::select! {
                () = states.closed() => return,
                () = self.broken.until(number) => {}
            }
            // One that ends as soon as it is made is no reason to make the next at once.
            if connected.elapsed() >= LASTED {
                backoff = Backoff::default();
            }
            tracing::warn!("the connection to Redis is lost");
            states.send_replace(State::Down(LOST.into()));
            number += 1;
            loop {
                tokio::select! {
                    () = states.closed() => return,
                    () = sleep(backoff.next()) => {}
                }
                match self.make(number).await {
                    Ok(connected) => {
                        tracing::info!("connected to Redis again");
                        metrics::counter!("leveret_redis_reconnects_total").increment(1);
                        states.send_replace(State::Up(connected));
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "no connection to Redis");
                        states.send_replace(State::Down(error.to_string().into()));
                        number += 1;
                    }
                }
            }
        }
    }

    /// A connection that is subscribed to what is listened to.
    async fn make(&self, number: u64) -> Result<Connected, ConnectError> {
        let (broken, channels) = (Arc::clone(&self.broken), Arc::clone(&self.channels));
        let pushed = move |push: PushInfo| -> Result<(), ()> {
            match push.kind {
                PushKind::Disconnection => broken.note(number),
                PushKind::Message => channels.deliver(Topic::Channel, push.data),
                PushKind::PMessage => channels.deliver(Topic::Pattern, push.data),
                _ => {}
            }
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN))
            .set_pipeline_buffer_size(COMMANDS_WAITING_MAX)
            .set_push_sender(pushed);
        let made = async {
            let mut connection =
                self.client.get_multiplexed_async_connection_with_config(&config).await?;
            self.channels.listen_again(&mut connection).await?;
            Ok::<_, RedisError>(connection)
        };
        // The crate's own limit does not hold for what is said after the connection is made.
        match timeout(CONNECT_WITHIN, made).await {
            Ok(Ok(connection)) => Ok(Connected { number, connection }),
            Ok(Err(error)) => Err(ConnectError::of(&error)),
            Err(_) => {
                let text = format!("no answer within {} s", CONNECT_WITHIN.as_secs());
                Err(ConnectError::Unreachable(text.into()))
            }
        }
    }
}

/// Pauses that double, each a random part of its bound, so that many nodes do not come back at once.
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(BACKOFF_MIN)
    }
}

impl Backoff {
    pub fn next(&mut self) -> Duration {
        let bound = self.0;
        self.0 = (bound * 2).min(BACKOFF_MAX);
        let mut random = [0; 1];
        // Without randomness the pause is the longest.
        let share = getrandom::fill(&mut random).map_or(256, |()| 1 + u32::from(random[0]));
        bound / 2 + bound * share / 512
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let mut backoff = Backoff::default();
        let mut bound = BACKOFF_MIN;
        for _ in 0..20 {
            let pause = backoff.next();
            assert!(pause > bound / 2 && pause <= bound, "{pause:?} of {bound:?}");
            bound = (bound * 2).min(BACKOFF_MAX);
        }
        let pauses: Vec<Duration> = (0..64).map(|_| backoff.next()).collect();
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }

    #[test]
    fn a_url_that_is_none_is_named_and_no_password_is_shown() {
        for url in ["", "redis:", "amqp://host", "redis://host/notadb", "redis://host:port"] {
            let error = client(url).err().unwrap_or_else(|| panic!("{url} was taken"));
            assert!(matches!(error, ConnectError::Url(_)), "{url}: {error}");
        }
        let error = client("redis://:s3cret@host/notadb").err().unwrap().to_string();
        assert!(!error.contains("s3cret"), "{error}");
        let client = client("rediss://me:pass@example.org:7000/3").unwrap();
        let settings = client.get_connection_info().redis_settings();
        assert_eq!((settings.username(), settings.password()), (Some("me"), Some("pass")));
        assert_eq!(settings.db(), 3);
    }
}
