//! Every row of the promised semantics (`semantics.txt`) names its tests, and each of them is there.

use std::path::Path;

/// An area of the semantics, and the tests that hold it: a file, then its functions. What no port reaches is
/// held by the tests of another suite, or beside what they test.
type Row = (&'static str, &'static [(&'static str, &'static [&'static str])]);

const ROWS: [Row; 24] = [
    (
        "exchanges",
        &[
            ("declare", &["reserved_names_and_the_default_exchange_are_refused"]),
            (
                "exchange_life",
                &[
                    "an_auto_delete_exchange_goes_with_its_last_binding_and_never_before_the_first",
                    "a_chain_of_auto_delete_exchanges_goes_from_its_end",
                    "deleting_takes_the_bindings_along_and_if_unused_asks_first",
                    "system_exchanges_stay",
                ],
            ),
            (
                "routing_further",
                &[
                    "what_matches_nothing_goes_to_the_alternate_exchange",
                    "exchanges_pass_messages_on_in_cycles_too_and_each_queue_gets_one",
                    "an_internal_exchange_takes_messages_from_exchanges_alone",
                ],
            ),
        ],
    ),
    (
        "topic",
        &[
            ("routing", &["a_topic_exchange_gives_one_copy_however_many_patterns_match"]),
            ("../../src/broker/exchange/topic", &["words_stars_and_hashes"]),
            ("../../src/model/names", &["names_are_checked_where_they_are_made"]),
        ],
    ),
    (
        "headers",
        &[(
            "headers_exchange",
            &[
                "all_wants_every_argument_any_wants_one_and_void_wants_presence",
                "headers_with_an_x_count_only_where_a_binding_says_so",
                "bindings_that_differ_in_their_arguments_are_two",
                "an_x_match_that_is_none_is_refused",
            ],
        )],
    ),
    (
        "routing",
        &[
            ("routing", &["a_fanout_exchange_gives_one_copy_a_queue_however_it_is_bound"]),
            ("routing_further", &["cc_and_bcc_add_keys_and_bcc_is_not_delivered"]),
        ],
    ),
    (
        "declare",
        &[
            (
                "declare",
                &[
                    "the_same_declaration_twice_changes_nothing",
                    "another_declaration_under_the_same_name_names_what_differs",
                ],
            ),
            (
                "queue_life",
                &[
                    "what_is_not_there_is_named",
                    "an_exclusive_queue_is_its_connections_alone_and_goes_with_it",
                    "a_server_named_queue_has_a_name_of_its_own",
                ],
            ),
        ],
    ),
    (
        "queues",
        &[
            (
                "queue_life",
                &[
                    "an_auto_delete_queue_goes_with_its_last_consumer_and_never_before_the_first",
                    "an_unused_queue_expires_and_use_puts_that_off",
                    "a_transient_queue_need_not_be_exclusive",
                ],
            ),
            (
                "../../src/broker/arguments",
                &[
                    "good_values_are_kept_and_unknown_arguments_ignored",
                    "a_quorum_queue_has_a_delivery_limit_and_no_priorities",
                    // A stream among them.
                    "bad_values_are_refused_in_rabbitmqs_words",
                ],
            ),
            (
                "dead_letters",
                &["the_keys_of_cc_are_in_the_history_and_lead_on_unless_a_key_is_set"],
            ),
            (
                "queue_length",
                &[
                    "drop_head_dead_letters_the_oldest",
                    "reject_publish_nacks_the_newest_and_drops_it",
                    "reject_publish_dlx_dead_letters_what_it_nacks",
                    "bytes_are_those_of_the_ready_bodies",
                ],
            ),
            ("priorities", &["the_highest_is_delivered_first_and_the_oldest_among_equals"]),
            ("delivery_limit", &["after_two_returns_the_third_is_its_death"]),
            ("consumers", &["a_consumer_that_sits_on_a_delivery_is_ended_and_its_messages_return"]),
        ],
    ),
    (
        "messages",
        &[
            (
                "channel_consuming",
                &[
                    "a_mandatory_message_without_a_queue_returns_and_is_confirmed",
                    "a_message_says_who_sent_it_or_nothing",
                ],
            ),
            ("properties", &["every_property_and_field_type_comes_as_it_was_sent"]),
            ("priorities", &["without_a_maximum_priority_the_order_is_that_of_publishing"]),
            ("../../src/broker/arguments", &["an_expiration_is_a_text_of_milliseconds"]),
        ],
    ),
    (
        "TTL",
        &[(
            "ttl",
            &[
                "the_lower_of_message_and_queue_ttl_wins_and_the_expiration_is_removed",
                "a_message_expires_only_when_it_is_at_the_head",
                "ttl_zero_is_delivered_at_once_or_expires",
            ],
        )],
    ),
    (
        "dead letters",
        &[
            (
                "dead_letters",
                &[
                    "a_rejected_message_is_dead_lettered_once_with_its_history_and_error",
                    "the_keys_of_cc_are_in_the_history_and_lead_on_unless_a_key_is_set",
                    "a_second_death_in_the_same_queue_raises_the_count",
                    "a_cycle_of_expiry_alone_is_dropped",
                    "without_a_dead_letter_exchange_or_with_a_missing_one_the_message_is_dropped",
                ],
            ),
            ("ttl", &["a_queue_ttl_expires_messages_into_the_dead_letter_exchange"]),
            ("queue_length", &["drop_head_dead_letters_the_oldest"]),
            ("delivery_limit", &["after_two_returns_the_third_is_its_death"]),
        ],
    ),
    (
        "acks",
        &[
            (
                "channel_settling",
                &[
                    "acknowledging_is_single_or_up_to_a_tag_and_tag_zero_is_all",
                    "a_tag_that_is_not_outstanding_is_refused_and_settles_nothing",
                    "a_nack_requeues_in_order_or_dead_letters",
                    "recovering_to_the_same_consumer_is_not_there",
                    "a_closed_channel_returns_everything_to_its_old_place",
                ],
            ),
            ("channels", &["a_dropped_channel_returns_everything_to_its_old_place"]),
            ("delivery", &["a_requeued_message_returns_to_its_old_place_marked_as_redelivered"]),
            (
                "restart",
                &[
                    "after_a_stop_in_order_only_what_was_delivered_is_flagged",
                    "after_a_crash_whatever_may_have_been_delivered_is_flagged",
                    "a_message_that_ends_the_process_each_time_reaches_its_delivery_limit",
                ],
            ),
        ],
    ),
    (
        "prefetch",
        &[
            (
                "delivery",
                &[
                    "prefetch_bounds_what_is_unsettled_at_once",
                    "no_prefetch_limit_delivers_everything_in_order",
                ],
            ),
            (
                "channel_consuming",
                &[
                    "a_prefetch_holds_for_each_consumer_that_starts_after_it",
                    "getting_asks_no_prefetch",
                    "prefetch_is_each_consumers_or_the_whole_channels",
                ],
            ),
        ],
    ),
    (
        "consumers",
        &[
            ("delivery", &["consumers_take_turns"]),
            (
                "consumers",
                &[
                    "a_higher_priority_gets_all_while_it_can_take_them",
                    "an_exclusive_consumer_is_alone",
                    "a_single_active_consumer_hands_over_in_order",
                    "a_consumer_learns_why_it_ended",
                ],
            ),
            (
                "channel_consuming",
                &[
                    "consumer_tags_are_unique_in_a_channel_and_made_when_empty",
                    "a_consumer_whose_queue_goes_is_told_so",
                ],
            ),
        ],
    ),
    (
        "confirms",
        &[
            ("confirms", &["many_publishes_in_flight_are_all_confirmed"]),
            (
                "publish_all",
                &[
                    "they_keep_their_order_and_are_all_confirmed",
                    "a_full_queue_refuses_its_own_and_no_other",
                ],
            ),
            ("routing", &["an_unroutable_message_is_dropped_and_confirmed"]),
            ("queue_length", &["one_queue_that_refuses_does_not_keep_the_others_from_their_copy"]),
        ],
    ),
    (
        "order",
        &[
            ("delivery", &["one_consumer_gets_messages_in_publishing_order"]),
            ("channels", &["more_than_the_line_holds_arrives_in_order"]),
        ],
    ),
    (
        "flow",
        &[
            ("alarms", &["publishers_wait_until_consumers_made_room", "a_channel_hears_of_it"]),
            (
                "../journal_crash/broker",
                &[
                    "publishers_wait_for_a_disk_that_is_nearly_full_and_consumers_go_on",
                    "both_alarms_are_told_as_one",
                    "a_disk_that_failed_refuses_publishers_and_consumers_go_on",
                ],
            ),
            (
                "../journal_crash/full",
                &[
                    "draining_a_full_disk_ends_the_alarm_each_time",
                    "a_live_message_in_every_segment_does_not_hold_a_full_disk",
                ],
            ),
        ],
    ),
    (
        "direct reply-to",
        &[("channel_consuming", &["replies_come_directly_without_a_queue_of_ones_own"])],
    ),
    (
        "vhosts, users",
        &[
            (
                "vhosts",
                &[
                    "the_same_name_in_two_vhosts_is_two_queues",
                    "deleting_a_vhost_ends_everything_in_it_and_the_default_one_stays",
                ],
            ),
            (
                "users",
                &[
                    "each_operation_takes_its_permission",
                    "a_login_takes_the_password_and_a_vhost_with_permissions",
                    "guest_comes_from_this_machine_only",
                    "users_and_permissions_are_durable",
                ],
            ),
        ],
    ),
    // Of these, the back-off that is native, here on every queue.
    ("4.x news", &[("retry", &["a_failure_is_delivered_again_after_its_delay_with_its_count"])]),
    (
        "policies",
        &[(
            "policies",
            &[
                "a_policy_applies_to_the_queues_that_it_matches_at_once_and_until_it_is_cleared",
                "of_several_the_highest_priority_holds_alone",
                "of_an_argument_and_a_policy_the_lower_number_holds",
            ],
        )],
    ),
    (
        "retry and delay",
        &[
            ("retry", &["a_failure_is_delivered_again_after_its_delay_with_its_count"]),
            ("delayed", &["a_delayed_message_waits_and_others_pass_it"]),
        ],
    ),
    (
        "ack with effects",
        &[(
            "ack_with",
            &[
                "it_settles_publishes_and_sets_at_once",
                "an_effect_that_can_not_be_had_settles_nothing",
            ],
        )],
    ),
    (
        "dead letter workbench",
        &[
            (
                "redrive",
                &[
                    "a_redriven_message_is_as_it_was_before_it_died",
                    "looking_changes_neither_order_nor_flags",
                    "dead_letters_are_grouped_by_what_killed_them",
                    "a_dry_run_says_what_would_go_where_and_changes_nothing",
                    "a_message_whose_queue_is_gone_stays_with_the_reason",
                    "a_full_queue_is_never_flooded_and_a_run_waits_for_it",
                    "a_run_sends_all_back_in_order_each_to_where_it_died",
                    "a_message_that_dies_again_does_not_keep_the_run_going",
                ],
            ),
            ("restart", &["a_redrive_that_a_crash_ends_leaves_each_message_in_one_place"]),
        ],
    ),
    ("explain", &[("explain", &["a_path_leads_over_retry_death_and_redrive_to_what_was_caused"])]),
    ("durability", &[("restart", &["topology_policies_and_vhosts_come_back"])]),
];

/// What of the promised tests is not in the sources that `read` gives.
fn missing(rows: &[Row], read: impl Fn(&str) -> String) -> Vec<String> {
    let mut missing = Vec::new();
    for (area, files) in rows {
        if files.iter().all(|(_, tests)| tests.is_empty()) {
            missing.push(format!("{area}: no test"));
        }
        for (file, tests) in *files {
            let source = read(file);
            for test in *tests {
                if !has_test(&source, test) {
                    missing.push(format!("{area}: {file}::{test}"));
                }
            }
        }
    }
    missing
}

fn has_test(source: &str, test: &str) -> bool {
    let attributes = [("#[tokio::test]", "async fn"), ("#[test]", "fn")];
    attributes.into_iter().any(|(attribute, declares)| {
        let name = format!("{declares} {test}(");
        let mut declared = source.split(attribute).skip(1);
        declared.any(|rest| rest.trim_start().trim_start_matches("pub ").starts_with(&name))
    })
}

/// Where the areas of the rows and those of the fixture differ; its headings are no areas.
fn differing(rows: &[Row], fixture: &str) -> Vec<String> {
    let promised: Vec<&str> = fixture
        .split("\n\n")
        .flat_map(|part| part.lines().skip(1))
        .filter(|line| !line.is_empty())
        .collect();
    let named: Vec<&str> = rows.iter().map(|(area, _)| *area).collect();
    let absent = promised.iter().filter(|area| !named.contains(area));
    let strange = named.iter().filter(|area| !promised.contains(area));
    let twice = named.iter().enumerate().filter(|(at, area)| named[..*at].contains(area));
    let absent = absent.map(|area| format!("{area}: no row"));
    let strange = strange.map(|area| format!("{area}: not promised"));
    absent.chain(strange).chain(twice.map(|(_, area)| format!("{area}: two rows"))).collect()
}

fn source(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broker_contract");
    std::fs::read_to_string(folder.join(file).with_extension("rs")).unwrap_or_default()
}

#[test]
fn every_row_has_its_tests() {
    assert_eq!(missing(&ROWS, source), Vec::<String>::new());
}

#[test]
fn there_is_a_row_for_every_area_and_no_other() {
    assert_eq!(differing(&ROWS, include_str!("semantics.txt")), Vec::<String>::new());
}

#[test]
fn a_row_that_is_gone_or_new_is_found() {
    let rows: [Row; 3] = [("topic", &[]), ("topic", &[]), ("strange", &[])];
    let fixture = "One kind\ntopic\nheaders\n\nAnother\nexplain\n";
    let expected =
        ["headers: no row", "explain: no row", "strange: not promised", "topic: two rows"];
    assert_eq!(differing(&rows, fixture), expected);
}

#[test]
fn a_row_without_a_test_is_found() {
    let none: [Row; 2] =
        [("empty", &[]), ("renamed", &[("declare", &["a_test_that_is_not_there"])])];
    let expected = ["empty: no test", "renamed: declare::a_test_that_is_not_there"];
    assert_eq!(missing(&none, source), expected);
}
