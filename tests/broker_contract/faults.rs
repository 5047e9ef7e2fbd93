//! The suite notices a broken promise: named cases fail, each for its own reason, when one is planted.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::planted::{Fault, Plant};
use crate::{
    channel_settling, consumers, dead_letters, declare, delivery, delivery_limit, priorities,
    queue_length, routing, routing_further, ttl,
};

/// A fault, a case that has to fail with it, and words of that failure.
type Planting = (Fault, fn(), &'static str);

const PLANTINGS: [Planting; 31] = [
    (
        Fault::LostPlace,
        delivery::a_requeued_message_returns_to_its_old_place_marked_as_redelivered,
        r#"q shows ["2", "1", "0"]"#,
    ),
    (
        Fault::Unflagged,
        delivery::a_requeued_message_returns_to_its_old_place_marked_as_redelivered,
        "again.redelivered()",
    ),
    (Fault::Unflagged, delivery_limit::after_two_returns_the_third_is_its_death, "right: true"),
    (
        Fault::FlaggedAtOnce,
        delivery::a_requeued_message_returns_to_its_old_place_marked_as_redelivered,
        "!first.redelivered()",
    ),
    (Fault::AckUndone, delivery::one_consumer_gets_messages_in_publishing_order, r#"right: "67""#),
    (Fault::Swapped, delivery::no_prefetch_limit_delivers_everything_in_order, r#"left: "1""#),
    (
        Fault::Twice,
        routing::a_fanout_exchange_gives_one_copy_a_queue_however_it_is_bound,
        "a holds (2, 0, 0)",
    ),
    (
        Fault::Twice,
        routing::a_topic_exchange_gives_one_copy_however_many_patterns_match,
        r#"a shows ["1", "1", "2", "2"]"#,
    ),
    (
        Fault::Lost,
        routing::the_default_exchange_routes_to_the_queue_that_the_key_names,
        "a shows []",
    ),
    (
        Fault::Lost,
        priorities::the_highest_is_delivered_first_and_the_oldest_among_equals,
        "left: []",
    ),
    (
        Fault::RefusalConfirmed,
        queue_length::reject_publish_nacks_the_newest_and_drops_it,
        "left: [true, true, true]",
    ),
    (
        Fault::RefusalConfirmed,
        queue_length::one_queue_that_refuses_does_not_keep_the_others_from_their_copy,
        "left: Ok(true)",
    ),
    (
        Fault::PriorityIgnored,
        priorities::the_highest_is_delivered_first_and_the_oldest_among_equals,
        r#"left: ["none", "0""#,
    ),
    (
        Fault::PriorityIgnored,
        priorities::a_full_queue_drops_from_where_it_delivers,
        r#"left: ["2", "0"]"#,
    ),
    (
        Fault::PrefetchIgnored,
        delivery::prefetch_bounds_what_is_unsettled_at_once,
        "nothing more may be delivered now",
    ),
    (
        Fault::ConsumerPriorityIgnored,
        consumers::a_higher_priority_gets_all_while_it_can_take_them,
        r#"left: "2""#,
    ),
    (Fault::ExclusiveIgnored, consumers::an_exclusive_consumer_is_alone, "left: None"),
    (Fault::KeyIgnored, routing::a_direct_exchange_compares_the_whole_key, "c holds (1, 0, 0)"),
    (
        Fault::BccShown,
        routing_further::cc_and_bcc_add_keys_and_bcc_is_not_delivered,
        r#"Some(List([Text("c")]))"#,
    ),
    (
        Fault::NotReturned,
        routing_further::an_alternate_exchange_that_is_not_there_leads_nowhere_and_alternates_end,
        "f.comes_back(message).await",
    ),
    (
        Fault::NeverExpires,
        ttl::a_queue_ttl_expires_messages_into_the_dead_letter_exchange,
        "a delivery in time",
    ),
    (
        Fault::LengthIgnored,
        queue_length::drop_head_dead_letters_the_oldest,
        r#"q shows ["1", "2", "3", "4"]"#,
    ),
    (
        Fault::LengthIgnored,
        queue_length::bytes_are_those_of_the_ready_bodies,
        r#"q shows ["1234", "5678", "9012"]"#,
    ),
    (
        Fault::DeliveryLimitIgnored,
        delivery_limit::after_two_returns_the_third_is_its_death,
        "f.try_get",
    ),
    (
        Fault::DeadLettersDropped,
        dead_letters::a_rejected_message_is_dead_lettered_once_with_its_history_and_error,
        "a delivery in time",
    ),
    (
        Fault::DeathUntold,
        dead_letters::a_rejected_message_is_dead_lettered_once_with_its_history_and_error,
        "x-death is None",
    ),
    (
        Fault::CountStays,
        dead_letters::a_second_death_in_the_same_queue_raises_the_count,
        r#"right: Headers([("count", Int(2))"#,
    ),
    (
        Fault::NothingRefused,
        declare::another_declaration_under_the_same_name_names_what_differs,
        "unwrap_err",
    ),
    (
        Fault::NothingRefused,
        declare::reserved_names_and_the_default_exchange_are_refused,
        "unwrap_err",
    ),
    (
        Fault::OneTagSettled,
        channel_settling::acknowledging_is_single_or_up_to_a_tag_and_tag_zero_is_all,
        "nothing more may come now",
    ),
    (
        Fault::TagUnchecked,
        channel_settling::a_tag_that_is_not_outstanding_is_refused_and_settles_nothing,
        "left: Ok(())",
    ),
];

/// What the case fails with; `None`: it passes.
fn failure(fault: Fault, case: fn()) -> Option<String> {
    let _planted = Plant::new(fault);
    let panic = catch_unwind(AssertUnwindSafe(case)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
}

#[test]
fn each_planted_fault_fails_its_cases_and_for_its_own_reason() {
    // A case that a fault is nothing to passes with it.
    let at_ease: fn() = routing::the_default_exchange_routes_to_the_queue_that_the_key_names;
    assert_eq!(failure(Fault::TagUnchecked, at_ease), None);
    let mut unnoticed = Vec::new();
    for (fault, case, words) in PLANTINGS {
        match failure(fault, case) {
            None => unnoticed.push(format!("{fault:?}: nobody noticed")),
            Some(text) if text.contains(words) => {}
            Some(text) => unnoticed.push(format!("{fault:?}: not {words:?} but {text}")),
        }
    }
    assert!(unnoticed.is_empty(), "{}", unnoticed.join("\n"));
}
