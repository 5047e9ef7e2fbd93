//! Bindings of a headers exchange: arguments that are compared to a message's headers.

use super::super::error::BrokerError;
use crate::model::message::{Headers, Value};

const X_MATCH: &str = "x-match";

/// The arguments of one binding, ready to be compared.
pub(super) struct HeadersMatch {
    every: bool,
    /// `Void` matches whatever value is there.
    wanted: Vec<(String, Value)>,
}

impl HeadersMatch {
    /// # Errors
    /// An `x-match` that is none of the four.
    pub(super) fn new(arguments: &Headers) -> Result<Self, BrokerError> {
        let (every, with_x) = match arguments.get(X_MATCH) {
            None => (true, false),
            Some(Value::Text(mode)) => match mode.as_str() {
                "all" => (true, false),
                "any" => (false, false),
                "all-with-x" => (true, true),
                "any-with-x" => (false, true),
                other => {
                    return Err(BrokerError::Precondition(format!(
                        "Invalid x-match field value <<\"{other}\">>; expected all, any, \
                         all-with-x, or any-with-x"
                    )));
                }
            },
            Some(other) => {
                return Err(BrokerError::Precondition(format!(
                    "Invalid x-match field type {}; expected longstr",
                    other.type_name()
                )));
            }
        };
        let compared = |name: &str| name != X_MATCH && (with_x || !name.starts_with("x-"));
        let wanted = arguments
            .iter()
            .filter(|(name, _)| compared(name))
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect();
        Ok(Self { every, wanted })
    }

    pub(super) fn matches(&self, headers: &Headers) -> bool {
        let mut hits = self.wanted.iter().map(|(name, wanted)| {
            headers.get(name).is_some_and(|value| *wanted == Value::Void || value == wanted)
        });
        if self.every { hits.all(|hit| hit) } else { hits.any(|hit| hit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, Value)]) -> Headers {
        entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn hits(arguments: &[(&str, Value)], headers: &[(&str, Value)]) -> bool {
        HeadersMatch::new(&table(arguments)).unwrap().matches(&table(headers))
    }

    #[test]
    fn all_wants_every_entry_and_any_wants_one() {
        let (one, two) = (("a", Value::Int(1)), ("b", Value::from("x")));
        for mode in [None, Some("all")] {
            let mut arguments = vec![one.clone(), two.clone()];
            arguments.extend(mode.map(|mode| (X_MATCH, Value::from(mode))));
            assert!(hits(&arguments, &[one.clone(), two.clone(), ("c", Value::Bool(true))]));
            assert!(!hits(&arguments, std::slice::from_ref(&one)));
        }
        let any = [(X_MATCH, Value::from("any")), one.clone(), two.clone()];
        assert!(hits(&any, &[two]));
        assert!(!hits(&any, &[("a", Value::Int(2))]));
        assert!(!hits(&any, &[("a", Value::from("1"))]));
    }

    #[test]
    fn nothing_to_compare_matches_all_and_never_any() {
        assert!(hits(&[], &[]));
        assert!(hits(&[(X_MATCH, Value::from("all")), ("x-a", Value::Int(1))], &[]));
        assert!(!hits(&[(X_MATCH, Value::from("any"))], &[("a", Value::Int(1))]));
        let only_x = [(X_MATCH, Value::from("any")), ("x-a", Value::Int(1))];
        assert!(!hits(&only_x, &[("x-a", Value::Int(1))]));
    }

    #[test]
    fn names_that_begin_with_x_count_only_with_x() {
        let all = [(X_MATCH, Value::from("all-with-x")), ("x-a", Value::Int(1))];
        assert!(hits(&all, &[("x-a", Value::Int(1))]));
        assert!(!hits(&all, &[("a", Value::Int(1))]));
        let any =
            [(X_MATCH, Value::from("any-with-x")), ("x-a", Value::Int(1)), ("q", Value::Int(2))];
        assert!(hits(&any, &[("x-a", Value::Int(1))]));
    }

    #[test]
    fn a_void_argument_matches_on_presence() {
        let void = [("a", Value::Void)];
        assert!(hits(&void, &[("a", Value::from("anything"))]));
        assert!(!hits(&void, &[("b", Value::Int(1))]));
    }

    #[test]
    fn another_x_match_is_refused() {
        let refused = |value: Value| HeadersMatch::new(&table(&[(X_MATCH, value)])).err();
        let text = refused(Value::from("foo")).map(|error| error.reply_text());
        let expected = "PRECONDITION_FAILED - Invalid x-match field value <<\"foo\">>; expected all, \
                        any, all-with-x, or any-with-x";
        assert_eq!(text.as_deref(), Some(expected));
        assert!(refused(Value::Int(4)).is_some());
    }
}
