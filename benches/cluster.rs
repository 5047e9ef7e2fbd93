//! Durable publishing with confirms on a real RabbitMQ: through the broker port beside plain lapin, by turns,
//! in one process. `tests/with-rabbitmq cargo bench --all-features --bench cluster`. Prints figures; asserts
//! nothing about speed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueuePurgeOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use leveret::backend::{Address, Broker, RabbitMq};
use leveret::model::clock::SystemClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::QueueSpec;
use rustix::time::{ClockId, clock_gettime};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

const QUEUE: &str = "leveret-bench";

fn main() -> Result<(), Failure> {
    let Ok(url) = std::env::var("LEVERET_RABBITMQ") else {
        println!("no RabbitMQ: tests/with-rabbitmq starts one");
        return Ok(());
    };
    // Cargo passes `--bench`; under `cargo test --benches` one short round is enough.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (rounds, time) = match is_bench {
        true => (5, Duration::from_secs(1)),
        false => (1, Duration::from_millis(50)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&url, rounds, time))
}

async fn run(url: &str, rounds: usize, time: Duration) -> Result<(), Failure> {
    let (ours, plain) = (Ours::connect(url).await?, Plain::connect(url).await?);
    println!(
        "| in flight | bytes | port, msg/s | lapin, msg/s | rate, port / lapin | CPU us a message | lapin's | CPU, port / lapin |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for in_flight in [1, 100, 1_000] {
        for bytes in [200, 1_024] {
            let body = bytes::Bytes::from(vec![b'x'; bytes]);
            let (mut of_ours, mut of_plain) = (Vec::new(), Vec::new());
            for round in 0..rounds {
                for turn in 0..2 {
                    // A server with a long queue would be another one.
                    plain.channel.queue_purge(QUEUE.into(), QueuePurgeOptions::default()).await?;
                    match (round + turn) % 2 {
                        0 => of_ours.push(ours.publish(&body, in_flight, time).await?),
                        _ => of_plain.push(plain.publish(&body, in_flight, time).await?),
                    }
                }
            }
            print_line(in_flight, bytes, &of_ours, &of_plain);
        }
    }
    plain.channel.queue_delete(QUEUE.into(), Default::default()).await?;
    ours.0.close().await?;
    Ok(())
}

/// What a round came to.
struct Figures {
    /// Confirmed messages a second.
    rate: f64,
    /// CPU time of this process a message, in microseconds.
    cpu_us: f64,
}

struct Meter {
    began: Instant,
    cpu: Duration,
    time: Duration,
}

impl Meter {
    fn start(time: Duration) -> Self {
        Self { began: Instant::now(), cpu: cpu(), time }
    }

    fn goes_on(&self) -> bool {
        self.began.elapsed() < self.time
    }

    fn stop(self, messages: usize) -> Figures {
        let messages = messages as f64;
        let cpu_us = (cpu() - self.cpu).as_secs_f64() * 1e6 / messages;
        Figures { rate: messages / self.began.elapsed().as_secs_f64(), cpu_us }
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The port, as the program uses it.
struct Ours(Broker);

impl Ours {
    async fn connect(url: &str) -> Result<Self, Failure> {
        let broker = RabbitMq::connect(Address::parse(url)?, SystemClock::shared()).await?;
        let broker = Broker::RabbitMq(broker);
        broker.declare_queue(QueueSpec::durable(QueueName::new(QUEUE)?)).await?;
        Ok(Self(broker))
    }

    async fn publish(
        &self,
        body: &bytes::Bytes,
        in_flight: usize,
        time: Duration,
    ) -> Result<Figures, Failure> {
        let (exchange, key) = (ExchangeName::default_exchange(), RoutingKey::new(QUEUE)?);
        let mut confirms = VecDeque::with_capacity(in_flight);
        let meter = Meter::start(time);
        let mut confirmed = 0;
        while meter.goes_on() {
            while confirms.len() < in_flight {
                let message = Message::new(exchange.clone(), key.clone(), body.clone());
                confirms.push_back(self.0.publish(message.persistent()).await?);
            }
            if let Some(confirm) = confirms.pop_front() {
                confirm.confirmed().await?;
                confirmed += 1;
            }
        }
        for confirm in confirms {
            confirm.confirmed().await?;
            confirmed += 1;
        }
        Ok(meter.stop(confirmed))
    }
}

/// lapin alone, with one channel.
struct Plain {
    channel: Channel,
    _connection: Connection,
}

impl Plain {
    async fn connect(url: &str) -> Result<Self, Failure> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { channel, _connection: connection })
    }

    async fn publish(
        &self,
        body: &[u8],
        in_flight: usize,
        time: Duration,
    ) -> Result<Figures, Failure> {
        let mut confirms = VecDeque::with_capacity(in_flight);
        let persistent = BasicProperties::default().with_delivery_mode(2);
        let meter = Meter::start(time);
        let mut confirmed = 0;
        while meter.goes_on() {
            while confirms.len() < in_flight {
                let options = BasicPublishOptions::default();
                let sent = self.channel.basic_publish(
                    "".into(),
                    QUEUE.into(),
                    options,
                    body,
                    persistent.clone(),
                );
                confirms.push_back(sent.await?);
            }
            if let Some(confirm) = confirms.pop_front() {
                is_ack(&confirm.await?)?;
                confirmed += 1;
            }
        }
        for confirm in confirms {
            is_ack(&confirm.await?)?;
            confirmed += 1;
        }
        Ok(meter.stop(confirmed))
    }
}

fn is_ack(confirmation: &lapin::Confirmation) -> Result<(), Failure> {
    match confirmation.is_ack() {
        true => Ok(()),
        false => Err("a message was not confirmed".into()),
    }
}

fn print_line(in_flight: usize, bytes: usize, ours: &[Figures], plain: &[Figures]) {
    let median =
        |values: &[Figures], of: fn(&Figures) -> f64| spread(values.iter().map(of).collect()).0;
    let ratio = |of: fn(&Figures) -> f64| {
        let ratios = ours.iter().zip(plain).map(|(ours, plain)| of(ours) / of(plain)).collect();
        let (median, least, most) = spread(ratios);
        format!("{median:.2} ({least:.2} to {most:.2})")
    };
    let rate: fn(&Figures) -> f64 = |it| it.rate;
    let cpu_us: fn(&Figures) -> f64 = |it| it.cpu_us;
    println!(
        "| {in_flight} | {bytes} | {:.0} | {:.0} | {} | {:.1} | {:.1} | {} |",
        median(ours, rate),
        median(plain, rate),
        ratio(rate),
        median(ours, cpu_us),
        median(plain, cpu_us),
        ratio(cpu_us),
    );
}

/// Median, least, most.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
    (at(values.len() / 2), at(0), at(values.len().saturating_sub(1)))
}
