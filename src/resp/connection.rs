//! A connection's life: read, run, write.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;

use super::client::{Client, Outcome};
use super::clients::Unblocked;
use super::scripted::{Ran, Scripted};
use super::shared::Counters;
use crate::cache::{AppendFsync, Published, Reply, Subscriber, Waiting};
use crate::wire::resp::{Decoder, Request};

/// Once this much is to be written, it is written before the next request is run.
pub(super) const OUTPUT_BYTES_SOFT: usize = 256 * 1024;

/// An output buffer that grew past this is given back.
const OUTPUT_BYTES_KEPT: usize = 64 * 1024;

/// How often a listener that is being written to is looked at: it may read too slowly.
const BEHIND_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What is read of a client that waits: the start of what it sends behind that.
const WAITING_BYTES_MAX: usize = 64 * 1024;

pub(super) struct Connection<S> {
    io: S,
    client: Client,
    decoder: Decoder,
    killed: oneshot::Receiver<()>,
    /// What was held, to be run before all that follows it.
    held: Option<Request>,
}

/// Why no more requests are run for now.
enum Pause {
    /// All that were there are answered.
    Read,
    /// Enough is to be written.
    Write,
    /// The last one waits for a key.
    Wait(Box<Waiting>),
    /// The last one has a turn of its own.
    Scripted(Box<Scripted>, Request),
    /// The next one is held.
    Held {
        request: Request,
        writes: bool,
    },
    Close,
}

/// Why a connection ends without a word.
struct Gone;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(io: S, client: Client, killed: oneshot::Receiver<()>) -> Self {
        Self { io, client, decoder: Decoder::default(), killed, held: None }
    }

    pub(super) async fn run(mut self) {
        // Whoever leaves, and whoever is cut off, hears no more.
        let _ = self.serve().await;
    }

    async fn serve(&mut self) -> Result<(), Gone> {
        loop {
            let (mut pause, changed) = self.run_requests().await?;
            self.settle(changed).await?;
            if let Pause::Scripted(scripted, request) = pause {
                let (closes, changed) = self.run_scripted(*scripted, request).await?;
                self.settle(changed).await?;
                pause = match closes {
                    true => Pause::Close,
                    false if self.client.out.len() > OUTPUT_BYTES_SOFT => Pause::Write,
                    false => continue,
                };
            }
            self.client.take_messages();
            self.settle(false).await?;
            if let Some(at) = self.client.answers_at.take() {
                self.client.handle.idle.store(true, Ordering::Relaxed);
                self.attend(tokio::time::sleep_until(at)).await?;
                self.client.handle.idle.store(false, Ordering::Relaxed);
            }
            self.write().await?;
            match pause {
                Pause::Write | Pause::Scripted(..) => {}
                Pause::Wait(waiting) => self.wait(*waiting).await?,
                Pause::Held { request, writes } => self.hold(request, writes).await?,
                Pause::Close => return self.close().await,
                Pause::Read => self.read().await?,
            }
        }
    }

    /// Runs what was read, under one visit to the keyspace; whether that has changed something.
    async fn run_requests(&mut self) -> Result<(Pause, bool), Gone> {
        let Self { client, decoder, killed, held, .. } = self;
        // Without a whole request nobody has to wait.
        let mut next = match held.take() {
            Some(request) => Ok(Some(request)),
            None => match decoder.next(&client.limits()) {
                Ok(None) => return Ok((Pause::Read, false)),
                next => next,
            },
        };
        let shared = Arc::clone(&client.shared);
        let turn = match shared.cache.try_turn() {
            Some(turn) => Some(turn),
            // It comes for the script that has the turn.
            None if matches!(&next, Ok(Some(request)) if client.kills(request)) => None,
            None => unless(killed, shared.cache.turn()).await?.ok(),
        };
        client.is_busy = turn.is_none();
        let mut commands = 0;
        {
            let config = shared.config.lock();
            client.slow_us = config.slow_log_us;
            client.request_bytes_max = config.request_bytes_max;
        }
        let (pause, commit) = shared.cache.visit_with(None, |visit| {
            let mut begun = Instant::now();
            loop {
                match next {
                    Ok(Some(request)) => {
                        let outcome = client.answer(&request, visit);
                        let is_held = matches!(outcome, Outcome::Held { .. });
                        commands += usize::from(!is_held);
                        if client.slow_us.is_some() && !is_held {
                            let ended = Instant::now();
                            if client.is_timed {
                                client.log_slow(&request, ended - begun);
                            }
                            begun = ended;
                        }
                        match outcome {
                            Outcome::Answered => decoder.reuse(request),
                            Outcome::Waits(waiting) => return Pause::Wait(waiting),
                            Outcome::Scripted(scripted) => {
                                return Pause::Scripted(scripted, request);
                            }
                            Outcome::Held { writes } => return Pause::Held { request, writes },
                            Outcome::Close => return Pause::Close,
                        }
                    }
                    Ok(None) => return Pause::Read,
                    Err(error) => {
                        client.error(format!("ERR {error}"));
                        return Pause::Close;
                    }
                }
                if client.out.len() > OUTPUT_BYTES_SOFT {
                    return Pause::Write;
                }
                next = decoder.next(&client.limits());
            }
        });
        drop(turn);
        Counters::add(&shared.counters.commands, commands);
        client.info.last_at = Instant::now();
        client.info.query_bytes = decoder.held_bytes();
        client.publish_info();
        Ok((pause, commit.is_some()))
    }

    /// Runs what has a turn of its own; whether to close then, and whether that has changed something.
    async fn run_scripted(
        &mut self,
        scripted: Scripted,
        request: Request,
    ) -> Result<(bool, bool), Gone> {
        let Self { client, killed, .. } = self;
        let Ran { commit, closes } = unless(killed, client.run_scripted(scripted, request)).await?;
        client.publish_info();
        Ok((closes, commit.is_some()))
    }

    /// Waits for a key, its time, or another client's word.
    async fn wait(&mut self, mut waiting: Waiting) -> Result<(), Gone> {
        if self.client.shared.draining.load(Ordering::Relaxed) {
            return Err(Gone);
        }
        let mut unblocked = self.client.begin_wait();
        self.client.handle.idle.store(true, Ordering::Relaxed);
        let end = {
            let answer = waiting.answer();
            let answer_or_word = async {
                tokio::select! {
                    biased;
                    answer = answer => Ok(answer),
                    Ok(how) = &mut unblocked => Err(how),
                }
            };
            self.attend(answer_or_word).await?
        };
        let answer = match end {
            Ok(answer) => answer,
            Err(how) => waiting.give_up().unwrap_or_else(|| match how {
                Unblocked::AsTimedOut => waiting.nothing(),
                Unblocked::WithError => {
                    Reply::ErrorText("UNBLOCKED client unblocked via CLIENT UNBLOCK".into())
                }
            }),
        };
        self.client.handle.idle.store(false, Ordering::Relaxed);
        self.client.end_wait(&answer);
        let took = !matches!(answer, Reply::NilArray | Reply::Error(_) | Reply::ErrorText(_));
        self.settle(took).await
    }

    /// Waits for as long as the request is held.
    async fn hold(&mut self, request: Request, writes: bool) -> Result<(), Gone> {
        if self.client.shared.draining.load(Ordering::Relaxed) {
            return Err(Gone);
        }
        let shared = Arc::clone(&self.client.shared);
        self.client.set_blocked(true);
        self.client.handle.idle.store(true, Ordering::Relaxed);
        self.attend(shared.pause.wait(writes)).await?;
        self.client.handle.idle.store(false, Ordering::Relaxed);
        self.client.set_blocked(false);
        self.held = Some(request);
        Ok(())
    }

    /// Works while nothing is run. What is sent meanwhile is read, so that one that leaves is noticed,
    /// and what it listens to is written.
    async fn attend<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Gone> {
        let mut work = pin!(work);
        loop {
            let Self { io, client, decoder, killed, .. } = &mut *self;
            let has_room = decoder.held_bytes() < WAITING_BYTES_MAX;
            let mut room = decoder.room();
            tokio::select! {
                biased;
                _ = &mut *killed => return Err(Gone),
                result = &mut work => return Ok(result),
                read = io.read_buf(&mut room), if has_room => match read {
                    Ok(0) | Err(_) => return Err(Gone),
                    Ok(bytes) => Counters::add(&client.shared.counters.input_bytes, bytes),
                },
                message = next_message(&mut client.subscriber) => {
                    drop(room);
                    client.write_message(&message.ok_or(Gone)?);
                    client.take_messages();
                    self.settle(false).await?;
                    self.write().await?;
                }
            }
        }
    }

    /// Under `appendfsync always` waits for the disk: nobody hears of what a crash may take back, whoever
    /// has changed it.
    async fn settle(&mut self, changed: bool) -> Result<(), Gone> {
        let cache = &self.client.shared.cache;
        if cache.fsync() != AppendFsync::Always {
            return Ok(());
        }
        let flush = cache.journal().flush();
        match self.unless_killed(flush).await? {
            // Whether the changes survive is not known, so neither answer would be true.
            Err(error) if changed => {
                tracing::warn!(%error, "a client is cut off: its changes could not be written");
                Err(Gone)
            }
            // Reads go on when nothing can be written.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn write(&mut self) -> Result<(), Gone> {
        if self.client.out.is_empty() {
            return Ok(());
        }
        let mut out = std::mem::take(&mut self.client.out);
        if self.client.is_behind(out.len()) {
            return Err(Gone);
        }
        Counters::add(&self.client.shared.counters.output_bytes, out.len());
        let Self { io, client, killed, .. } = self;
        let mut write = pin!(io.write_all(&out));
        let written = loop {
            if client.subscriber.is_none() {
                break unless(killed, write.as_mut()).await?;
            }
            let write = unless(killed, write.as_mut());
            match tokio::time::timeout(BEHIND_CHECK_INTERVAL, write).await {
                Ok(written) => break written?,
                Err(_) if client.is_behind(out.len()) => return Err(Gone),
                Err(_) => {}
            }
        };
        written.map_err(|_| Gone)?;
        self.client.pushed_bytes = 0;
        out.clear();
        out.shrink_to(OUTPUT_BYTES_KEPT);
        self.client.out = out;
        Ok(())
    }

    async fn read(&mut self) -> Result<(), Gone> {
        if self.client.shared.draining.load(Ordering::Relaxed) {
            return Err(Gone);
        }
        let timeout = self.client.shared.config.lock().timeout;
        let timeout = timeout.filter(|_| self.client.subscriber.is_none());
        self.client.handle.idle.store(true, Ordering::Relaxed);
        let Self { io, killed, decoder, client, .. } = self;
        let mut room = decoder.room();
        let read = unless(killed, io.read_buf(&mut room));
        let read = match (&mut client.subscriber, timeout) {
            (Some(subscriber), _) => tokio::select! {
                biased;
                read = read => read?,
                message = subscriber.recv() => {
                    client.handle.idle.store(false, Ordering::Relaxed);
                    client.write_message(&message.ok_or(Gone)?);
                    return Ok(());
                }
            },
            (None, Some(timeout)) => {
                tokio::time::timeout(timeout, read).await.map_err(|_| Gone)??
            }
            (None, None) => read.await?,
        };
        drop(room);
        client.handle.idle.store(false, Ordering::Relaxed);
        match read {
            Ok(0) | Err(_) => Err(Gone),
            Ok(bytes) => {
                Counters::add(&client.shared.counters.input_bytes, bytes);
                self.wait_for_room(bytes).await
            }
        }
    }

    /// Waits while too much is not yet on disk. Under the disk alarm the commands themselves say so.
    async fn wait_for_room(&mut self, bytes: usize) -> Result<(), Gone> {
        let journal = self.client.shared.cache.journal().clone();
        if journal.has_room(bytes) {
            return Ok(());
        }
        // What may wait for a second is in the way now.
        drop(journal.flush());
        self.unless_killed(journal.room(bytes)).await
    }

    /// Ends the stream so that what was written arrives.
    async fn close(&mut self) -> Result<(), Gone> {
        const UNREAD_PATIENCE: Duration = Duration::from_millis(100);
        let Self { io, killed, .. } = self;
        // A peer that is gone has closed by itself.
        let _: io::Result<()> = unless(killed, io.shutdown()).await?;
        // Unread bytes would turn the close into a reset, which may take the answer with it.
        let drain = async {
            let mut unread = [0; 4096];
            while matches!(io.read(&mut unread).await, Ok(1..)) {}
        };
        let _ = tokio::time::timeout(UNREAD_PATIENCE, drain).await;
        Ok(())
    }

    async fn unless_killed<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Gone> {
        unless(&mut self.killed, work).await
    }
}

/// The next message of one that listens; of one that does not there is none.
async fn next_message(subscriber: &mut Option<Subscriber>) -> Option<Published> {
    match subscriber {
        Some(subscriber) => subscriber.recv().await,
        None => std::future::pending().await,
    }
}

/// Polls the kill switch first: that costs less than a select over two sources.
async fn unless<T>(
    killed: &mut oneshot::Receiver<()>,
    work: impl Future<Output = T>,
) -> Result<T, Gone> {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        // A switch that nobody can use any more is as good as one that was used.
        if Pin::new(&mut *killed).poll(context).is_ready() {
            return Poll::Ready(Err(Gone));
        }
        work.as_mut().poll(context).map(Ok)
    })
    .await
}
