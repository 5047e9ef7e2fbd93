//! An order: what a client may send, what is kept, and what an operator may mend.

use serde::{Deserialize, Serialize};
use serde_json::Number;
use serde_json::value::RawValue;

use crate::model::names::UserId;

/// Arrays and objects inside one another in `items`, the array itself included. A reader that recurses
/// (most JSON parsers) stays far from its limit.
const ITEMS_DEPTH_MAX: usize = 64;
/// Bytes of the error text that an order keeps.
const ERROR_BYTES_MAX: usize = 1024;

/// How far an order came. It only moves away from `Processing`, except when a failed order is
/// redriven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    #[default]
    Processing,
    Completed,
    /// Dead-lettered, until someone redrives it.
    Failed,
}

/// An order as it is cached, published and answered. The elements of `items` are opaque and keep their
/// bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Order {
    pub order_id: String,
    pub user_id: UserId,
    pub items: Box<RawValue>,
    pub total: Number,
    #[serde(default)]
    pub status: Status,
    /// Milliseconds since the Unix epoch; events that others publish may lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<u64>,
    /// Failed attempts so far, and the latest one's error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Order {
    pub fn cache_key(order_id: &str) -> String {
        format!("order:{order_id}")
    }

    #[expect(
        clippy::expect_used,
        reason = "no writer that fails, no map with other keys than texts"
    )]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an order is plain JSON")
    }

    /// Why the order can't be processed, if it can't.
    pub fn check(&self) -> Result<(), String> {
        if self.order_id.is_empty() {
            return Err("the order has no id".to_owned());
        }
        match self.total.as_f64() {
            Some(total) if total >= 0.0 => Ok(()),
            _ => Err(format!("the order's total is negative: {}", self.total)),
        }
    }

    /// The same order after an attempt that failed with `error`.
    #[must_use]
    pub fn failed(mut self, attempts: u32, attempts_max: u32, error: &str) -> Self {
        self.status = if attempts < attempts_max { Status::Processing } else { Status::Failed };
        self.attempts = Some(attempts);
        self.error = Some(shortened(error).to_owned());
        self
    }

    #[must_use]
    pub fn completed(mut self) -> Self {
        self.status = Status::Completed;
        self.attempts = None;
        self.error = None;
        self
    }

    /// The same order with the members of `edit`, a JSON object that may hold a whole order: only its
    /// user, items and total may differ.
    pub fn edited(mut self, edit: &RawValue) -> Result<Self, Invalid> {
        if !edit.get().starts_with('{') {
            return Err(Invalid::new("order", "must be a JSON object"));
        }
        let edit: Edit<'_> = serde_json::from_str(edit.get())
            .map_err(|error| Invalid::new("order", format!("can't be read: {error}")))?;
        if edit.order_id.is_some_and(|id| *id != *self.order_id) {
            return Err(Invalid::new("order.orderId", "can't be changed"));
        }
        if edit.user_id.is_some() {
            self.user_id = user_id(edit.user_id)?;
        }
        if edit.items.is_some() {
            self.items = items(edit.items)?;
        }
        if edit.total.is_some() {
            self.total = total(edit.total)?;
        }
        Ok(self.redriven())
    }

    /// The same order with its failures forgotten.
    #[must_use]
    pub fn redriven(mut self) -> Self {
        self.status = Status::Processing;
        self.attempts = None;
        self.error = None;
        self
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Edit<'a> {
    #[serde(borrow)]
    order_id: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    items: Option<&'a RawValue>,
    #[serde(borrow)]
    total: Option<&'a RawValue>,
}

/// A field that was missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub(super) struct Invalid {
    pub field: &'static str,
    pub reason: String,
}

impl Invalid {
    pub fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}

/// The body of `POST /api/orders`, its members not yet looked at: the rate limit comes between reading
/// and checking.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OrderRequest<'a> {
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    items: Option<&'a RawValue>,
    #[serde(borrow)]
    total: Option<&'a RawValue>,
}

impl<'a> OrderRequest<'a> {
    pub fn parse(body: &'a RawValue) -> Result<Self, Invalid> {
        // serde would take an array for a struct, its elements for the fields.
        if !body.get().starts_with('{') {
            return Err(Invalid::new("body", "must be a JSON object"));
        }
        serde_json::from_str(body.get())
            .map_err(|error| Invalid::new("body", format!("can't be read: {error}")))
    }

    /// Whom the request is counted against. A request that names no user that could have orders is
    /// counted against nobody: it is refused before it costs anything.
    pub fn user_id(&self) -> Result<UserId, Invalid> {
        user_id(self.user_id)
    }

    pub fn accept(self, order_id: String, now_ms: u64) -> Result<Order, Invalid> {
        Ok(Order {
            order_id,
            user_id: user_id(self.user_id)?,
            items: items(self.items)?,
            total: total(self.total)?,
            status: Status::Processing,
            created_at: Some(now_ms),
            attempts: None,
            error: None,
        })
    }
}

fn user_id(raw: Option<&RawValue>) -> Result<UserId, Invalid> {
    let text = raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let text = text.ok_or_else(|| Invalid::new("userId", "must be a string"))?;
    UserId::new(text).map_err(|error| Invalid::new("userId", format!("is refused: {error}")))
}

fn items(raw: Option<&RawValue>) -> Result<Box<RawValue>, Invalid> {
    let raw = raw.filter(|raw| raw.get().starts_with('['));
    let raw = raw.ok_or_else(|| Invalid::new("items", "must be an array"))?;
    if depth(raw.get()) > ITEMS_DEPTH_MAX {
        return Err(Invalid::new("items", format!("nest deeper than {ITEMS_DEPTH_MAX} levels")));
    }
    Ok(raw.to_owned())
}

fn total(raw: Option<&RawValue>) -> Result<Number, Invalid> {
    raw.and_then(|raw| serde_json::from_str::<Number>(raw.get()).ok())
        .ok_or_else(|| Invalid::new("total", "must be a finite number"))
}

/// The most arrays and objects that are open at once in valid JSON.
fn depth(json: &str) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                open += 1;
                deepest = deepest.max(open);
            }
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn shortened(error: &str) -> &str {
    error.get(..error.floor_char_boundary(ERROR_BYTES_MAX)).unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(body: &str) -> Result<Order, Invalid> {
        let body: Box<RawValue> = serde_json::from_str(body).unwrap();
        OrderRequest::parse(&body)?.accept("o1".to_owned(), 1_000)
    }

    fn field_of(body: &str) -> &'static str {
        accept(body).expect_err(body).field
    }

    #[test]
    fn a_valid_order_keeps_its_items_byte_for_byte() {
        let order = accept(
            r#" {"userId":"ada","items":[1.0, {"sku":"x","n":12345678901234567890123}],"total":9.50}"#,
        )
        .unwrap();
        let json = serde_json::to_string(&order).unwrap();
        assert_eq!(
            json,
            r#"{"orderId":"o1","userId":"ada","items":[1.0, {"sku":"x","n":12345678901234567890123}],"total":9.5,"status":"processing","createdAt":1000}"#
        );
        let back: Order = serde_json::from_str(&json).unwrap();
        assert_eq!(back.items.get(), order.items.get());
    }

    #[test]
    fn a_wrong_field_is_named() {
        assert_eq!(field_of(r#"["ada",[],1]"#), "body");
        assert_eq!(field_of("null"), "body");
        assert_eq!(field_of(r#"{"items":[],"total":1}"#), "userId");
        assert_eq!(field_of(r#"{"userId":"","items":[],"total":1}"#), "userId");
        assert_eq!(field_of(r#"{"userId":7,"items":[],"total":1}"#), "userId");
        assert_eq!(field_of(r#"{"userId":null,"items":[],"total":1}"#), "userId");
        assert_eq!(field_of(r#"{"userId":"ada","total":1}"#), "items");
        assert_eq!(field_of(r#"{"userId":"ada","items":{},"total":1}"#), "items");
        assert_eq!(field_of(r#"{"userId":"ada","items":[]}"#), "total");
        assert_eq!(field_of(r#"{"userId":"ada","items":[],"total":"1"}"#), "total");
        assert_eq!(field_of(r#"{"userId":"ada","items":[],"total":1e999}"#), "total");
        let long = format!(r#"{{"userId":"{}","items":[],"total":1}}"#, "a".repeat(201));
        assert_eq!(field_of(&long), "userId");
    }

    #[test]
    fn a_field_may_not_come_twice() {
        let twice = accept(r#"{"total":1,"total":2}"#).unwrap_err();
        assert_eq!(twice.field, "body");
        assert!(twice.reason.contains("duplicate field `total`"), "{twice}");
    }

    #[test]
    fn items_may_not_nest_without_end() {
        let nested = |levels: usize| {
            let items = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            accept(&format!(r#"{{"userId":"ada","items":{items},"total":1}}"#))
        };
        assert!(nested(ITEMS_DEPTH_MAX).is_ok());
        assert_eq!(nested(ITEMS_DEPTH_MAX + 1).unwrap_err().field, "items");
        assert_eq!(depth(r#"["[[[\"[[", {"a":[]}]"#), 3);
    }

    #[test]
    fn a_negative_total_is_accepted_and_can_not_be_processed() {
        let order = accept(r#"{"userId":"ada","items":[],"total":-5}"#).unwrap();
        assert_eq!(order.check().unwrap_err(), "the order's total is negative: -5");
        let zero = accept(r#"{"userId":"ada","items":[],"total":-0.0}"#).unwrap();
        assert!(zero.check().is_ok());
    }

    #[test]
    fn only_the_last_attempt_fails_an_order() {
        let order = accept(r#"{"userId":"ada","items":[],"total":-5}"#).unwrap();
        let first = order.clone().failed(1, 3, "why");
        assert_eq!((first.status, first.attempts), (Status::Processing, Some(1)));
        let last = order.failed(3, 3, &"é".repeat(2_000));
        assert_eq!((last.status, last.attempts), (Status::Failed, Some(3)));
        assert_eq!(last.error.map(|error| error.len()), Some(ERROR_BYTES_MAX));
    }

    #[test]
    fn an_edit_changes_what_may_change() {
        let order =
            accept(r#"{"userId":"ada","items":["a"],"total":-5}"#).unwrap().failed(3, 3, "why");
        let edit = |json: &str| {
            let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
            order.clone().edited(&raw)
        };
        let mended = edit(r#"{"total":5}"#).unwrap();
        assert_eq!(mended.total.as_u64(), Some(5));
        assert_eq!(mended.items.get(), r#"["a"]"#);
        assert_eq!((mended.status, mended.attempts), (Status::Processing, None));
        let whole = edit(&serde_json::to_string(&order).unwrap()).unwrap();
        assert_eq!(whole.total, order.total);
        assert_eq!(edit(r#"{"orderId":"o2"}"#).unwrap_err().field, "order.orderId");
        assert_eq!(edit(r#"{"total":"5"}"#).unwrap_err().field, "total");
        assert_eq!(edit("[1]").unwrap_err().field, "order");
    }
}
