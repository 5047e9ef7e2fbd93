//! From a client's field tables to specifications, refused in RabbitMQ's words.

use super::error::BrokerError;
use crate::model::message::{Headers, Value};
use crate::model::names::{ExchangeName, QueueName, RoutingKey, VhostName};
use crate::model::topology::{
    DeadLetter, ExchangeKind, ExchangeSpec, Overflow, QueueKind, QueueSettings, QueueSpec,
};

/// Ten years: RabbitMQ takes no longer time.
const TIME_MS_MAX: i64 = 10 * 365 * 86_400_000;
/// More is accepted for a maximum length than for a time.
const NUMBER_MAX: i64 = i64::MAX;

/// The bits of queue.declare.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueueFlags {
    pub durable: bool,
    pub exclusive: bool,
    pub auto_delete: bool,
}

/// A queue's specification from its arguments. Unknown arguments are ignored, as in RabbitMQ.
///
/// # Errors
/// An argument with a value that can't be, or that this kind of queue does not have.
pub fn queue_arguments(
    name: QueueName,
    flags: QueueFlags,
    arguments: &Headers,
    vhost: &VhostName,
) -> Result<QueueSpec, BrokerError> {
    let table = Table { arguments, queue: &name, vhost };
    let kind = table.kind()?;
    table.check_belonging(kind)?;
    table.check_mode()?;
    let number = |name, range| table.number(name, range);
    let settings = QueueSettings {
        message_ttl_ms: number("x-message-ttl", 0..=TIME_MS_MAX)?,
        expires_ms: number("x-expires", 1..=TIME_MS_MAX)?,
        length_max: number("x-max-length", 0..=NUMBER_MAX)?,
        length_bytes_max: number("x-max-length-bytes", 0..=NUMBER_MAX)?,
        overflow: table.overflow()?,
        dead_letter: table.dead_letter()?,
        delivery_limit: table.delivery_limit()?,
        retry: None,
        consumer_timeout_ms: number("x-consumer-timeout", 0..=TIME_MS_MAX)?,
    };
    let priority_max = number("x-max-priority", 0..=255)?;
    let single_active_consumer = table.flag("x-single-active-consumer")?;
    let QueueFlags { durable, exclusive, auto_delete } = flags;
    Ok(QueueSpec {
        name,
        kind,
        durable,
        exclusive,
        auto_delete,
        priority_max: priority_max.and_then(|max| u8::try_from(max).ok()),
        single_active_consumer,
        settings,
    })
}

/// An exchange's specification from its type and arguments.
///
/// # Errors
/// An unknown type; an `alternate-exchange` that is no text.
pub fn exchange_arguments(
    name: ExchangeName,
    kind: &str,
    arguments: &Headers,
    vhost: &VhostName,
) -> Result<ExchangeSpec, BrokerError> {
    let Some(kind) = ExchangeKind::parse(kind) else {
        return Err(BrokerError::CommandInvalid(format!("unknown exchange type '{kind}'")));
    };
    let alternate = match arguments.get("alternate-exchange") {
        None => None,
        Some(Value::Text(alternate)) => Some(ExchangeName::new(alternate)?),
        Some(other) => {
            return Err(BrokerError::Precondition(format!(
                "invalid type '{}' for arg 'alternate-exchange' in exchange '{name}' in vhost \
                 '{vhost}'",
                other.type_name()
            )));
        }
    };
    Ok(ExchangeSpec { alternate, ..ExchangeSpec::transient(name, kind) })
}

/// The `x-priority` of basic.consume; 0 when it is not given.
///
/// # Errors
/// A value that is no integer.
pub fn consumer_priority(
    queue: &QueueName,
    arguments: &Headers,
    vhost: &VhostName,
) -> Result<i64, BrokerError> {
    const ARGUMENT: &str = "x-priority";
    Table { arguments, queue, vhost }.number(ARGUMENT, i64::MIN..=i64::MAX)?;
    Ok(arguments.get(ARGUMENT).and_then(Value::as_int).unwrap_or(0))
}

/// A message's `expiration`, a text of milliseconds.
///
/// # Errors
/// A text that is no number of milliseconds from 0 to ten years.
pub fn parse_expiration_ms(text: &str) -> Result<u64, BrokerError> {
    let refuse =
        |why: String| BrokerError::Precondition(format!("invalid expiration '{text}': {why}"));
    let sign = usize::from(text.starts_with(['-', '+']));
    let digits = text.get(sign..).unwrap_or_default();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if digits.is_empty() {
        return Err(refuse("no_integer".to_owned()));
    }
    if !rest.is_empty() {
        return Err(refuse(format!("{{leftover_string,\"{rest}\"}}")));
    }
    match digits.parse::<i64>() {
        Ok(number) if text.starts_with('-') && number > 0 => {
            Err(refuse(format!("{{value_negative,-{number}}}")))
        }
        Ok(number) if number <= TIME_MS_MAX => Ok(number.unsigned_abs()),
        _ => Err(refuse(format!("{{value_too_large,{digits}}}"))),
    }
}

struct Table<'a> {
    arguments: &'a Headers,
    queue: &'a QueueName,
    vhost: &'a VhostName,
}

impl Table<'_> {
    fn invalid(&self, argument: &str, why: impl std::fmt::Display) -> BrokerError {
        BrokerError::Precondition(format!(
            "invalid arg '{argument}' for queue '{}' in vhost '{}': {why}",
            self.queue, self.vhost
        ))
    }

    fn unacceptable(&self, argument: &str, value: &Value) -> BrokerError {
        self.invalid(argument, format_args!("{{unacceptable_type,{}}}", value.type_name()))
    }

    fn number(
        &self,
        argument: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<u64>, BrokerError> {
        let number = match self.arguments.get(argument) {
            None => return Ok(None),
            Some(Value::Int(number)) => *number,
            Some(other) => {
                let why = format_args!("\"expected integer, got {}\"", other.type_name());
                return Err(self.invalid(argument, why));
            }
        };
        if range.contains(&number) {
            return Ok(Some(number.unsigned_abs()));
        }
        Err(match number {
            0 => self.invalid(argument, "{value_zero,0}"),
            ..0 => self.invalid(argument, format_args!("{{value_negative,{number}}}")),
            _ if argument == "x-max-priority" => {
                self.invalid(argument, format_args!("{{max_value_exceeded,{number}}}"))
            }
            _ => self.invalid(argument, format_args!("{{value_too_large,{number}}}")),
        })
    }

    fn text(&self, argument: &str) -> Result<Option<&str>, BrokerError> {
        match self.arguments.get(argument) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.unacceptable(argument, other)),
        }
    }

    fn flag(&self, argument: &str) -> Result<bool, BrokerError> {
        match self.arguments.get(argument) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.unacceptable(argument, other)),
        }
    }

    fn kind(&self) -> Result<QueueKind, BrokerError> {
        const ARGUMENT: &str = "x-queue-type";
        match self.text(ARGUMENT)? {
            None | Some("classic") => Ok(QueueKind::Classic),
            Some("quorum") => Ok(QueueKind::Quorum),
            Some("stream") => Err(self.invalid(
                ARGUMENT,
                "\"streams are not kept by this broker; declare a classic or quorum queue\"",
            )),
            Some(other) => {
                Err(self.invalid(ARGUMENT, format_args!("\"unsupported queue type '{other}'\"")))
            }
        }
    }

    /// Arguments that only the other kind of queue has.
    fn check_belonging(&self, kind: QueueKind) -> Result<(), BrokerError> {
        let (strange, kind_name): (&[&str], _) = match kind {
            QueueKind::Classic => (
                &[
                    "x-delivery-limit",
                    "x-quorum-initial-group-size",
                    "x-max-in-memory-length",
                    "x-max-in-memory-bytes",
                    "x-dead-letter-strategy",
                    "x-max-age",
                    "x-stream-max-segment-size-bytes",
                ],
                "rabbit_classic_queue",
            ),
            QueueKind::Quorum => (
                &["x-max-priority", "x-queue-mode", "x-queue-master-locator", "x-max-age"],
                "rabbit_quorum_queue",
            ),
        };
        match strange.iter().find(|argument| self.arguments.get(argument).is_some()) {
            None => Ok(()),
            Some(argument) => Err(BrokerError::Precondition(format!(
                "invalid arg '{argument}' for queue '{}' in vhost '{}' of queue type {kind_name}",
                self.queue, self.vhost
            ))),
        }
    }

    /// Accepted and without effect: every queue is as lazy as its backlog is long.
    fn check_mode(&self) -> Result<(), BrokerError> {
        const ARGUMENT: &str = "x-queue-mode";
        match self.text(ARGUMENT)? {
            None | Some("default" | "lazy") => Ok(()),
            Some(other) => {
                Err(self.invalid(ARGUMENT, format_args!("\"unsupported queue mode '{other}'\"")))
            }
        }
    }

    fn overflow(&self) -> Result<Option<Overflow>, BrokerError> {
        const ARGUMENT: &str = "x-overflow";
        let Some(text) = self.text(ARGUMENT)? else { return Ok(None) };
        let overflow = Overflow::parse(text);
        overflow.map(Some).ok_or_else(|| self.invalid(ARGUMENT, "invalid_overflow"))
    }

    fn dead_letter(&self) -> Result<Option<DeadLetter>, BrokerError> {
        const EXCHANGE: &str = "x-dead-letter-exchange";
        const ROUTING_KEY: &str = "x-dead-letter-routing-key";
        let routing_key = self.name_like(ROUTING_KEY)?.map(RoutingKey::new).transpose()?;
        match self.name_like(EXCHANGE)? {
            Some(exchange) => {
                Ok(Some(DeadLetter { exchange: ExchangeName::new(exchange)?, routing_key }))
            }
            None if routing_key.is_some() => {
                Err(self.invalid(ROUTING_KEY, "routing_key_but_no_dlx_defined"))
            }
            None => Ok(None),
        }
    }

    fn name_like(&self, argument: &str) -> Result<Option<&str>, BrokerError> {
        match self.arguments.get(argument) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(BrokerError::Precondition(format!(
                "invalid type '{}' for arg '{argument}' in queue '{}' in vhost '{}'",
                other.type_name(),
                self.queue,
                self.vhost
            ))),
        }
    }

    /// A negative limit is none, as on RabbitMQ's quorum queues.
    fn delivery_limit(&self) -> Result<Option<u32>, BrokerError> {
        const ARGUMENT: &str = "x-delivery-limit";
        let limit = self.number(ARGUMENT, i64::MIN..=i64::from(u32::MAX))?;
        let negative = self.arguments.get(ARGUMENT).and_then(Value::as_int).is_some_and(|l| l < 0);
        Ok(limit.filter(|_| !negative).and_then(|limit| u32::try_from(limit).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(argument: &str, value: Value) -> Result<QueueSpec, String> {
        let flags = QueueFlags { durable: true, ..QueueFlags::default() };
        queue_with(flags, &[(argument, value)])
    }

    fn queue_with(flags: QueueFlags, arguments: &[(&str, Value)]) -> Result<QueueSpec, String> {
        let arguments =
            arguments.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let name = QueueName::new("q").unwrap();
        queue_arguments(name, flags, &arguments, &VhostName::default_vhost())
            .map_err(|error| error.reply_text())
    }

    #[test]
    fn bad_values_are_refused_in_rabbitmqs_words() {
        let bad = |argument: &str, value: Value, why: &str| {
            let expected = format!(
                "PRECONDITION_FAILED - invalid arg '{argument}' for queue 'q' in vhost '/': {why}"
            );
            assert_eq!(queue(argument, value).err().as_deref(), Some(expected.as_str()));
        };
        bad("x-message-ttl", Value::Int(-1), "{value_negative,-1}");
        bad("x-message-ttl", Value::from("abc"), "\"expected integer, got longstr\"");
        bad("x-message-ttl", Value::Int(1 << 40), "{value_too_large,1099511627776}");
        bad("x-message-ttl", Value::Bool(true), "\"expected integer, got bool\"");
        bad("x-expires", Value::Int(0), "{value_zero,0}");
        bad("x-max-length", Value::Int(-1), "{value_negative,-1}");
        bad("x-max-priority", Value::Int(256), "{max_value_exceeded,256}");
        bad("x-overflow", Value::from("bad"), "invalid_overflow");
        bad("x-overflow", Value::Int(1), "{unacceptable_type,signedint}");
        bad("x-dead-letter-routing-key", Value::from("k"), "routing_key_but_no_dlx_defined");
        bad("x-queue-mode", Value::from("bad"), "\"unsupported queue mode 'bad'\"");
        bad("x-queue-type", Value::from("bad"), "\"unsupported queue type 'bad'\"");
        bad("x-single-active-consumer", Value::Int(1), "{unacceptable_type,signedint}");
        assert!(queue("x-queue-type", Value::from("stream")).unwrap_err().contains("streams"));
        assert_eq!(
            queue("x-delivery-limit", Value::Int(3)).unwrap_err(),
            "PRECONDITION_FAILED - invalid arg 'x-delivery-limit' for queue 'q' in vhost '/' of \
             queue type rabbit_classic_queue"
        );
        assert_eq!(
            queue("x-dead-letter-exchange", Value::Int(5)).unwrap_err(),
            "PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in \
             queue 'q' in vhost '/'"
        );
    }

    #[test]
    fn good_values_are_kept_and_unknown_arguments_ignored() {
        let flags = QueueFlags { durable: true, exclusive: false, auto_delete: true };
        let spec = queue_with(
            flags,
            &[
                ("x-message-ttl", Value::Int(5)),
                ("x-max-priority", Value::Int(255)),
                ("x-overflow", Value::from("reject-publish-dlx")),
                ("x-dead-letter-exchange", Value::from("")),
                ("x-dead-letter-routing-key", Value::from("k")),
                ("x-queue-mode", Value::from("lazy")),
                ("x-anything", Value::from("z")),
            ],
        )
        .unwrap();
        let expected = QueueSpec::durable(QueueName::new("q").unwrap())
            .auto_delete()
            .message_ttl_ms(5)
            .priorities(255)
            .dead_letter(ExchangeName::default_exchange(), Some(RoutingKey::new("k").unwrap()));
        let mut expected = expected;
        expected.settings.overflow = Some(Overflow::RejectPublishDlx);
        assert_eq!(spec, expected);
    }

    #[test]
    fn a_quorum_queue_has_a_delivery_limit_and_no_priorities() {
        let quorum = ("x-queue-type", Value::from("quorum"));
        let flags = QueueFlags { durable: true, ..QueueFlags::default() };
        let limited = queue_with(flags, &[quorum.clone(), ("x-delivery-limit", Value::Int(3))]);
        assert_eq!(limited.unwrap().settings.delivery_limit, Some(3));
        let unlimited = queue_with(flags, &[quorum.clone(), ("x-delivery-limit", Value::Int(-3))]);
        assert_eq!(unlimited.unwrap().settings.delivery_limit, None);
        let prioritised = queue_with(flags, &[quorum, ("x-max-priority", Value::Int(5))]);
        assert!(prioritised.unwrap_err().ends_with("of queue type rabbit_quorum_queue"));
    }

    #[test]
    fn a_consumers_priority_is_any_integer() {
        let priority = |value: Value| {
            let arguments = [("x-priority".to_owned(), value)].into_iter().collect();
            consumer_priority(
                &QueueName::new("q").unwrap(),
                &arguments,
                &VhostName::default_vhost(),
            )
        };
        assert_eq!(priority(Value::Int(-5)), Ok(-5));
        assert_eq!(
            priority(Value::from("a")).unwrap_err().reply_text(),
            "PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost '/': \"expected \
             integer, got longstr\""
        );
    }

    #[test]
    fn an_expiration_is_a_text_of_milliseconds() {
        let bad = |text: &str, why: &str| {
            let error = parse_expiration_ms(text).unwrap_err().reply_text();
            assert_eq!(error, format!("PRECONDITION_FAILED - invalid expiration '{text}': {why}"));
        };
        assert_eq!(parse_expiration_ms("0"), Ok(0));
        assert_eq!(parse_expiration_ms("4294967296"), Ok(4_294_967_296));
        bad("abc", "no_integer");
        bad("", "no_integer");
        bad(" 5", "no_integer");
        bad("-1", "{value_negative,-1}");
        bad("1.5", "{leftover_string,\".5\"}");
        bad("5 ", "{leftover_string,\" \"}");
        bad("99999999999999", "{value_too_large,99999999999999}");
    }
}
