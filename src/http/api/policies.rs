//! Policies: settings for queues and exchanges by their names, in the form that RabbitMQ's management
//! interface takes and gives, and the retry policy beside it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::parameters::{Named, Parameters};
use super::refusal::refusal;
use super::{Shared, answer};
use crate::backend::BackendError;
use crate::broker::BrokerError;
use crate::http::{Json, Problem};
use crate::model::names::{ExchangeName, NameError, RoutingKey};
use crate::model::topology::{
    AppliesTo, Backoff, DeadLetter, Overflow, Policy, QueueSettings, RetryPolicy,
};

/// Every declaration looks at each of them.
const POLICIES_MAX: usize = 1_000;
const NAME_BYTES_MAX: usize = 255;
/// Ten years, as for the arguments of a queue.
const TIME_MS_MAX: u64 = 10 * 365 * 86_400_000;
const COUNT_MAX: u64 = i64::MAX as u64;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Form {
    /// The path names it; here it has to be the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    pattern: String,
    #[serde(default)]
    priority: i64,
    #[serde(default)]
    apply_to: ApplyTo,
    definition: Definition,
}

#[derive(Serialize, Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "lowercase")]
enum ApplyTo {
    #[default]
    All,
    Queues,
    Exchanges,
}

/// Times in milliseconds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Definition {
    #[serde(skip_serializing_if = "Option::is_none")]
    message_ttl: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_length_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overflow: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter_exchange: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter_routing_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer_timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alternate_exchange: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<Retry>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Retry {
    /// Deliveries in all, the first included.
    max_attempts: u32,
    backoff: BackoffKind,
    /// Before the second delivery.
    delay: u64,
    /// No later one waits longer; not for a fixed delay.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_delay: Option<u64>,
    #[serde(default)]
    jitter: f64,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum BackoffKind {
    Fixed,
    Linear,
    Exponential,
}

/// # Errors
/// A Problem that names the member of the definition.
fn number(
    member: &str,
    value: Option<u64>,
    range: RangeInclusive<u64>,
) -> Result<Option<u64>, Problem> {
    match value.filter(|number| !range.contains(number)) {
        None => Ok(value),
        Some(number) => {
            let (min, max) = (range.start(), range.end());
            let reason = format!("{number} is not from {min} to {max}");
            Err(Problem::field(&format!("definition.{member}"), &reason))
        }
    }
}

fn named<T>(member: &str, name: Result<T, NameError>) -> Result<T, Problem> {
    name.map_err(|error| Problem::field(&format!("definition.{member}"), &error.to_string()))
}

impl Form {
    fn into_policy(self, name: String) -> Result<Policy, Problem> {
        if let Some(other) = self.name.filter(|other| *other != name) {
            return Err(Problem::field("name", &format!("'{other}' is not what the path names")));
        }
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(Problem::field("name", &format!("it has 1 to {NAME_BYTES_MAX} bytes")));
        }
        let applies_to = match self.apply_to {
            ApplyTo::All => AppliesTo::All,
            ApplyTo::Queues => AppliesTo::Queues,
            ApplyTo::Exchanges => AppliesTo::Exchanges,
        };
        let alternate = self.definition.alternate_exchange.as_deref().map(ExchangeName::new);
        let alternate = named("alternate-exchange", alternate.transpose())?;
        let queue = self.definition.into_settings()?;
        let (pattern, priority) = (self.pattern, self.priority);
        Ok(Policy { name, pattern, priority, applies_to, queue, alternate })
    }

    fn of(policy: &Policy) -> Self {
        let QueueSettings { dead_letter, retry, .. } = &policy.queue;
        let settings = &policy.queue;
        let dead_letter_routing_key = dead_letter.as_ref().and_then(|to| to.routing_key.as_ref());
        Self {
            name: Some(policy.name.clone()),
            pattern: policy.pattern.clone(),
            priority: policy.priority,
            apply_to: match policy.applies_to {
                AppliesTo::All => ApplyTo::All,
                AppliesTo::Queues => ApplyTo::Queues,
                AppliesTo::Exchanges => ApplyTo::Exchanges,
            },
            definition: Definition {
                message_ttl: settings.message_ttl_ms,
                expires: settings.expires_ms,
                max_length: settings.length_max,
                max_length_bytes: settings.length_bytes_max,
                overflow: settings.overflow.map(|overflow| overflow.as_str().to_owned()),
                dead_letter_exchange: dead_letter.as_ref().map(|to| to.exchange.to_string()),
                dead_letter_routing_key: dead_letter_routing_key.map(ToString::to_string),
                delivery_limit: settings.delivery_limit,
                consumer_timeout: settings.consumer_timeout_ms,
                alternate_exchange: policy.alternate.as_ref().map(ToString::to_string),
                retry: retry.as_ref().map(Retry::of),
            },
        }
    }
}

impl Definition {
    fn into_settings(self) -> Result<QueueSettings, Problem> {
        let overflow = self.overflow.map(|text| {
            let reason = format!(
                "'{text}' is none of 'drop-head', 'reject-publish' and 'reject-publish-dlx'"
            );
            let parsed = Overflow::parse(&text);
            parsed.ok_or_else(|| Problem::field("definition.overflow", &reason))
        });
        let exchange = self.dead_letter_exchange.map(ExchangeName::new).transpose();
        let routing_key = self.dead_letter_routing_key.map(RoutingKey::new).transpose();
        let routing_key = named("dead-letter-routing-key", routing_key)?;
        let dead_letter = match named("dead-letter-exchange", exchange)? {
            Some(exchange) => Some(DeadLetter { exchange, routing_key }),
            None if routing_key.is_some() => {
                let reason = "it needs a dead-letter-exchange beside it";
                return Err(Problem::field("definition.dead-letter-routing-key", reason));
            }
            None => None,
        };
        Ok(QueueSettings {
            message_ttl_ms: number("message-ttl", self.message_ttl, 0..=TIME_MS_MAX)?,
            expires_ms: number("expires", self.expires, 1..=TIME_MS_MAX)?,
            length_max: number("max-length", self.max_length, 0..=COUNT_MAX)?,
            length_bytes_max: number("max-length-bytes", self.max_length_bytes, 0..=COUNT_MAX)?,
            overflow: overflow.transpose()?,
            dead_letter,
            delivery_limit: self.delivery_limit,
            retry: self.retry.map(Retry::into_policy).transpose()?,
            consumer_timeout_ms: number(
                "consumer-timeout",
                self.consumer_timeout,
                0..=TIME_MS_MAX,
            )?,
        })
    }
}

impl Retry {
    fn into_policy(self) -> Result<RetryPolicy, Problem> {
        let refuse = |member: &str, reason: &str| {
            Problem::field(&format!("definition.retry.{member}"), reason)
        };
        if self.max_attempts == 0 {
            return Err(refuse("max-attempts", "the first delivery is one"));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(refuse("jitter", "it is a part of the delay, from 0 to 1"));
        }
        number("retry.delay", Some(self.delay), 0..=TIME_MS_MAX)?;
        number("retry.max-delay", self.max_delay, 0..=TIME_MS_MAX)?;
        let first_ms = self.delay;
        let backoff = match (self.backoff, self.max_delay) {
            (BackoffKind::Fixed, None) => Backoff::Fixed { delay_ms: first_ms },
            (BackoffKind::Fixed, Some(_)) => {
                return Err(refuse("max-delay", "a fixed delay does not grow"));
            }
            (_, None) => return Err(refuse("max-delay", "a delay that grows needs it")),
            (_, Some(max_ms)) if max_ms < first_ms => {
                return Err(refuse("max-delay", "it is less than the first delay"));
            }
            (BackoffKind::Linear, Some(max_ms)) => Backoff::Linear { first_ms, max_ms },
            (BackoffKind::Exponential, Some(max_ms)) => Backoff::Exponential { first_ms, max_ms },
        };
        Ok(RetryPolicy { attempts_max: self.max_attempts, backoff, jitter: self.jitter })
    }

    fn of(policy: &RetryPolicy) -> Self {
        let (backoff, delay, max_delay) = match policy.backoff {
            Backoff::Fixed { delay_ms } => (BackoffKind::Fixed, delay_ms, None),
            Backoff::Linear { first_ms, max_ms } => (BackoffKind::Linear, first_ms, Some(max_ms)),
            Backoff::Exponential { first_ms, max_ms } => {
                (BackoffKind::Exponential, first_ms, Some(max_ms))
            }
        };
        let RetryPolicy { attempts_max, jitter, .. } = *policy;
        Self { max_attempts: attempts_max, backoff, delay, max_delay, jitter }
    }
}

/// All of them, the highest priority first.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.end()?;
    let policies = shared.broker.policies().await.map_err(refusal)?;
    let policies: Vec<Form> = policies.iter().map(Form::of).collect();
    Ok(answer(StatusCode::OK, &json!({ "policies": policies })))
}

/// # Errors
/// 404: there is none of that name.
async fn found(shared: &Shared, name: &str) -> Result<Policy, Problem> {
    let policies = shared.broker.policies().await.map_err(refusal)?;
    let policy = policies.into_iter().find(|policy| policy.name == name);
    policy.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("no policy '{name}'")))
}

pub(super) async fn one(
    State(shared): State<Arc<Shared>>,
    Named(name): Named,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.end()?;
    Ok(answer(StatusCode::OK, &Form::of(&found(&shared, &name).await?)))
}

/// Sets a policy, in the place of another of its name; answers when that is durable and holds.
pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    Named(name): Named,
    parameters: Parameters,
    Json(form): Json<Form>,
) -> Result<Response, Problem> {
    parameters.end()?;
    let policy = form.into_policy(name)?;
    let policies = shared.broker.policies().await.map_err(refusal)?;
    if policies.len() >= POLICIES_MAX && policies.iter().all(|other| other.name != policy.name) {
        let reason = format!("there are {POLICIES_MAX} policies, and no more are kept");
        return Err(Problem::new(StatusCode::CONFLICT, reason));
    }
    let shown = Form::of(&policy);
    shared.broker.set_policy(policy).await.map_err(|error| match error {
        BackendError::Broker(BrokerError::Precondition(reason)) => {
            Problem::field("pattern", &reason)
        }
        other => refusal(other),
    })?;
    Ok(answer(StatusCode::OK, &shown))
}

/// What it set ends at once; answers when that is durable.
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Named(name): Named,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.end()?;
    let policy = found(&shared, &name).await?;
    shared.broker.clear_policy(&name).await.map_err(refusal)?;
    Ok(answer(StatusCode::OK, &Form::of(&policy)))
}
