//! One channel of a real RabbitMQ, frame by frame: what a client library keeps to itself (unknown
//! delivery tags, the order of deliveries to several consumers, a reused consumer tag) is asked here.

use std::collections::VecDeque;

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, queue};
use amq_protocol::types::{FieldTable, ShortString};
use leveret::backend::ConsumeOptions;
use leveret::model::message::Message;
use leveret::model::topology::QueueSpec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::channel_peer::{Delivered, Event, Refused};
use super::{DECLARED, short};

const CHANNEL: u16 = 1;
const BASIC: u16 = 60;
/// What this client takes in one frame.
const FRAME_BYTES_MAX: u32 = 128 * 1024;

/// A connection with one channel.
pub struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
    events: VecDeque<Event>,
    refused: Option<Refused>,
}

type Answer<T> = Result<T, Refused>;

impl Wire {
    /// Of the server that the suite runs beside.
    pub async fn open() -> Self {
        let url = std::env::var("LEVERET_RABBITMQ").expect("a server");
        let (_, address) = url.split_once('@').expect("a user in the URL");
        let address = address.split('/').next().expect("an address");
        let stream = TcpStream::connect(address).await.expect("it listens");
        let mut wire = Self { stream, read: Vec::new(), events: VecDeque::new(), refused: None };
        wire.stream.write_all(b"AMQP\x00\x00\x09\x01").await.expect("it reads");
        wire.handshake().await.expect("let in");
        wire
    }

    async fn handshake(&mut self) -> Answer<()> {
        let _start = self.next_method().await?;
        let login = connection::StartOk {
            client_properties: client_properties(),
            mechanism: short("PLAIN"),
            response: "\0guest\0guest".into(),
            locale: short("en_US"),
        };
        self.send(0, connection_method(connection::AMQPMethod::StartOk(login))).await;
        let _tune = self.next_method().await?;
        let tune = connection::TuneOk { channel_max: 1, frame_max: FRAME_BYTES_MAX, heartbeat: 0 };
        self.send(0, connection_method(connection::AMQPMethod::TuneOk(tune))).await;
        let open = connection::Open { virtual_host: short("/") };
        self.send(0, connection_method(connection::AMQPMethod::Open(open))).await;
        let _open_ok = self.next_method().await?;
        self.send(CHANNEL, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))).await;
        let _open_ok = self.next_method().await?;
        Ok(())
    }

    pub async fn qos(&mut self, prefetch_count: u16, global: bool) -> Answer<()> {
        let qos = basic::Qos { prefetch_count, global };
        self.call(basic::AMQPMethod::Qos(qos)).await.map(drop)
    }

    /// The consumer's tag.
    pub async fn consume(
        &mut self,
        queue: &str,
        consumer_tag: &str,
        options: ConsumeOptions,
    ) -> Answer<String> {
        let consume = basic::Consume {
            queue: short(queue),
            consumer_tag: short(consumer_tag),
            no_local: false,
            no_ack: options.no_ack,
            exclusive: options.exclusive,
            nowait: false,
            arguments: FieldTable::default(),
        };
        match self.call(basic::AMQPMethod::Consume(consume)).await? {
            AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok)) => Ok(ok.consumer_tag.to_string()),
            other => panic!("{other:?} is no answer to a consume"),
        }
    }

    pub async fn cancel(&mut self, consumer_tag: &str) -> Answer<()> {
        let cancel = basic::Cancel { consumer_tag: short(consumer_tag), nowait: false };
        self.call(basic::AMQPMethod::Cancel(cancel)).await.map(drop)
    }

    pub async fn ack(&mut self, delivery_tag: u64, multiple: bool) -> Answer<()> {
        let ack = basic::Ack { delivery_tag, multiple };
        self.tell(basic::AMQPMethod::Ack(ack)).await
    }

    pub async fn nack(&mut self, delivery_tag: u64, multiple: bool, requeue: bool) -> Answer<()> {
        let nack = basic::Nack { delivery_tag, multiple, requeue };
        self.tell(basic::AMQPMethod::Nack(nack)).await
    }

    pub async fn recover(&mut self, requeue: bool) -> Answer<()> {
        self.call(basic::AMQPMethod::Recover(basic::Recover { requeue })).await.map(drop)
    }

    /// The message, and how many are ready after it.
    pub async fn get(&mut self, queue: &str, no_ack: bool) -> Answer<Option<(Delivered, usize)>> {
        let get = basic::Get { queue: short(queue), no_ack };
        match self.call(basic::AMQPMethod::Get(get)).await? {
            AMQPClass::Basic(basic::AMQPMethod::GetOk(ok)) => {
                let got = Delivered {
                    consumer_tag: String::new(),
                    delivery_tag: ok.delivery_tag,
                    redelivered: ok.redelivered,
                    body: self.next_body().await,
                };
                Ok(Some((got, usize::try_from(ok.message_count).unwrap())))
            }
            AMQPClass::Basic(basic::AMQPMethod::GetEmpty(_)) => Ok(None),
            other => panic!("{other:?} is no answer to a get"),
        }
    }

    pub async fn confirm_select(&mut self) -> Answer<()> {
        let select = confirm::AMQPMethod::Select(confirm::Select { nowait: false });
        self.ask(AMQPClass::Confirm(select)).await.map(drop)
    }

    /// Publishes; what comes back for it is an event.
    pub async fn publish(&mut self, message: Message, mandatory: bool) -> Answer<()> {
        let publish = basic::Publish {
            exchange: short(message.exchange.as_str()),
            routing_key: short(message.routing_key.as_str()),
            mandatory,
            immediate: false,
        };
        let body = message.body.to_vec();
        let header = AMQPContentHeader {
            class_id: BASIC,
            body_size: body.len() as u64,
            properties: super::properties(&message.properties),
        };
        self.send(CHANNEL, AMQPClass::Basic(basic::AMQPMethod::Publish(publish))).await;
        self.write(&AMQPFrame::Header(CHANNEL, header)).await;
        if !body.is_empty() {
            self.write(&AMQPFrame::Body(CHANNEL, body)).await;
        }
        self.barrier().await
    }

    pub async fn declare(&mut self, spec: QueueSpec, passive: bool) -> Answer<()> {
        let declare = queue::Declare {
            queue: short(spec.name.as_str()),
            passive,
            durable: spec.durable,
            exclusive: spec.exclusive,
            auto_delete: spec.auto_delete,
            nowait: false,
            arguments: super::queue_arguments(&spec),
        };
        let declare = AMQPClass::Queue(queue::AMQPMethod::Declare(declare));
        self.ask(declare).await?;
        DECLARED.lock().unwrap().queues.push(spec.name.to_string());
        Ok(())
    }

    /// The next event, which may be long in coming. Cancel safe.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            // A method that is no event answers nobody here.
            match self.next_method_or_event().await {
                Ok(Some(method)) => panic!("nobody asked for {method:?}"),
                Ok(None) => {}
                Err(refused) => panic!("refused late: {refused:?}"),
            }
        }
    }

    /// Closes the channel, if the server has not, and leaves the connection.
    pub async fn close(mut self) {
        if self.refused.is_none() {
            let close = channel::Close {
                reply_code: 200,
                reply_text: short("done"),
                class_id: 0,
                method_id: 0,
            };
            let close = AMQPClass::Channel(channel::AMQPMethod::Close(close));
            self.ask(close).await.expect("closed");
        }
    }

    async fn call(&mut self, method: basic::AMQPMethod) -> Answer<AMQPClass> {
        self.ask(AMQPClass::Basic(method)).await
    }

    async fn ask(&mut self, method: AMQPClass) -> Answer<AMQPClass> {
        self.send(CHANNEL, method).await;
        self.next_method().await
    }

    /// For a method that is answered only when it is refused.
    async fn tell(&mut self, method: basic::AMQPMethod) -> Answer<()> {
        self.send(CHANNEL, AMQPClass::Basic(method)).await;
        self.barrier().await
    }

    /// Waits until the channel has dealt with everything that was sent.
    async fn barrier(&mut self) -> Answer<()> {
        let flow = channel::AMQPMethod::Flow(channel::Flow { active: true });
        self.ask(AMQPClass::Channel(flow)).await.map(drop)
    }

    async fn next_method(&mut self) -> Answer<AMQPClass> {
        loop {
            if let Some(method) = self.next_method_or_event().await? {
                return Ok(method);
            }
        }
    }

    /// `None`: what came was an event.
    async fn next_method_or_event(&mut self) -> Answer<Option<AMQPClass>> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let method = match self.next_frame().await {
            AMQPFrame::Method(_, method) => method,
            other => panic!("{other:?} comes out of place"),
        };
        match method {
            AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)) => {
                let delivered = Delivered {
                    consumer_tag: deliver.consumer_tag.to_string(),
                    delivery_tag: deliver.delivery_tag,
                    redelivered: deliver.redelivered,
                    body: self.next_body().await,
                };
                self.events.push_back(Event::Deliver(delivered));
            }
            AMQPClass::Basic(basic::AMQPMethod::Return(back)) => {
                let body = self.next_body().await;
                let (code, text) = (back.reply_code, back.reply_text.to_string());
                self.events.push_back(Event::Return { code, text, body });
            }
            AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => {
                let (tag, multiple) = (ack.delivery_tag, ack.multiple);
                self.events.push_back(Event::Confirm { tag, multiple });
            }
            AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)) => {
                self.events.push_back(Event::Cancelled(cancel.consumer_tag.to_string()));
            }
            AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
                let (code, text) = (close.reply_code, close.reply_text.to_string());
                let ok = channel::AMQPMethod::CloseOk(channel::CloseOk {});
                self.send(CHANNEL, AMQPClass::Channel(ok)).await;
                return self.refuse(Refused { code, text, closes_connection: false });
            }
            AMQPClass::Connection(connection::AMQPMethod::Close(close)) => {
                let (code, text) = (close.reply_code, close.reply_text.to_string());
                let ok = connection::AMQPMethod::CloseOk(connection::CloseOk {});
                self.send(0, connection_method(ok)).await;
                return self.refuse(Refused { code, text, closes_connection: true });
            }
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    fn refuse<T>(&mut self, refused: Refused) -> Answer<T> {
        self.refused = Some(refused.clone());
        Err(refused)
    }

    async fn next_body(&mut self) -> String {
        let AMQPFrame::Header(_, header) = self.next_frame().await else {
            panic!("a header was expected")
        };
        let mut body = Vec::new();
        while (body.len() as u64) < header.body_size {
            match self.next_frame().await {
                AMQPFrame::Body(_, part) => body.extend(part),
                other => panic!("{other:?} comes instead of a body"),
            }
        }
        String::from_utf8(body).expect("text")
    }

    async fn next_frame(&mut self) -> AMQPFrame {
        loop {
            if let Ok((rest, frame)) = parse_frame(self.read.as_slice()) {
                let taken = self.read.len() - rest.len();
                self.read.drain(..taken);
                return frame;
            }
            let read = self.stream.read_buf(&mut self.read).await.expect("it writes");
            assert!(read > 0, "the server hung up on {:?}", self.read);
        }
    }

    async fn send(&mut self, channel: u16, method: AMQPClass) {
        self.write(&AMQPFrame::Method(channel, method)).await;
    }

    async fn write(&mut self, frame: &AMQPFrame) {
        let bytes = gen_frame(frame)(WriteContext::from(Vec::new())).expect("it fits").write;
        self.stream.write_all(&bytes).await.expect("it reads");
    }
}

fn connection_method(method: connection::AMQPMethod) -> AMQPClass {
    AMQPClass::Connection(method)
}

/// The server tells of cancelled consumers only those who say that they understand it.
fn client_properties() -> FieldTable {
    use amq_protocol::types::AMQPValue;
    let mut capabilities = FieldTable::default();
    for name in ["consumer_cancel_notify", "publisher_confirms", "basic.nack"] {
        capabilities.insert(ShortString::from(name), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert(ShortString::from("capabilities"), AMQPValue::FieldTable(capabilities));
    properties
}
