//! Every command names its tests, and so does every row of what is promised of the cache.
//!
//! The commands are asked of the program itself. A test is named by a command when it sends it: as a
//! form of the random sequences, as a line of a session, as a step of a case that both servers are
//! asked, or in the body of a test. `--nocapture` shows the table.

use std::collections::BTreeMap;
use std::path::Path;

use crate::about::NEWER;
use crate::forms::FORMS;
use crate::servers::Server;
use crate::sessions::LINES;
use crate::wire::{Connection, elements};

/// A test, or a piece of one, and its text.
struct Proof {
    place: String,
    text: String,
}

impl Proof {
    /// Whether it sends the command (`get`, or `client|kill`).
    fn sends(&self, command: &str) -> bool {
        let words = command.to_ascii_uppercase().replace('|', " ");
        self.text.match_indices(&words).any(|(at, _)| {
            let (before, after) = (&self.text[..at], &self.text[at + words.len()..]);
            let begins = before.is_empty() || before.ends_with('"') || before.ends_with("\\n");
            let ends = after.is_empty() || after.starts_with([' ', '"', '\\']);
            begins && ends
        })
    }
}

/// The words of a form that are there in any case, and each of the first choice: `OBJECT (A|B)` is
/// `OBJECT A` and `OBJECT B`.
fn heads(form: &str) -> Vec<String> {
    let (name, rest) = form.split_once(' ').unwrap_or((form, ""));
    let mut heads = vec![name.to_owned()];
    if let Some(choice) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        heads.extend(choice.0.split('|').map(|word| format!("{name} {word}")));
    } else if let Some(word) = rest.split(' ').next().filter(|word| !word.contains('<')) {
        heads.push(format!("{name} {word}"));
    }
    heads
}

fn source(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    std::fs::read_to_string(folder.join(file).with_extension("rs")).unwrap_or_default()
}

fn files(folder: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let names = std::fs::read_dir(path).expect("the folder is there");
    let mut names: Vec<String> = names
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .filter_map(|name| Some(format!("{folder}/{}", name.strip_suffix(".rs")?)))
        .collect();
    names.sort();
    names
}

/// The tests of a source, each with what follows up to the next.
fn tests(source: &str) -> Vec<(&str, &str)> {
    let attributes = ["#[test]", "#[tokio::test"];
    let mut begins: Vec<usize> = attributes
        .iter()
        .flat_map(|attribute| source.match_indices(attribute).map(|(at, _)| at))
        .collect();
    begins.sort_unstable();
    let ends = begins.iter().skip(1).copied().chain([source.len()]);
    let pieces = begins.iter().zip(ends).map(|(&begin, end)| &source[begin..end]);
    pieces
        .filter_map(|piece| {
            let (_, named) = piece.split_once("fn ")?;
            Some((named.split_once('(')?.0, piece))
        })
        .collect()
}

fn proofs() -> Vec<Proof> {
    let forms = FORMS.iter().flat_map(|(form, _)| {
        let place = format!("random sequences: {form}");
        heads(form).into_iter().map(move |text| Proof { place: place.clone(), text })
    });
    let lines = LINES
        .iter()
        .map(|line| Proof { place: format!("sessions: {line}"), text: (*line).to_owned() });
    let mut proofs: Vec<Proof> = forms.chain(lines).collect();
    // This file itself shows nothing of a command.
    let read = ["cache_contract", "resp", "resp_differential"].into_iter().flat_map(files);
    for file in read.filter(|file| !file.ends_with("/promises")) {
        let source = source(&file);
        for case in source.split("name: \"").skip(1) {
            let (name, steps) = case.split_once('"').expect("a closing quote");
            // That arguments are counted shows nothing of what a command does.
            if name.ends_with("wrong numbers of arguments") {
                continue;
            }
            proofs.push(Proof { place: format!("{file}: {name}"), text: steps.to_owned() });
        }
        for (name, body) in tests(&source) {
            proofs.push(Proof { place: format!("{file}::{name}"), text: body.to_owned() });
        }
    }
    proofs
}

/// A row a command: the places that prove it.
fn table<'a>(commands: &'a [String], proofs: &'a [Proof]) -> BTreeMap<&'a str, Vec<&'a str>> {
    commands
        .iter()
        .map(|command| {
            let sent = proofs.iter().filter(|proof| proof.sends(command));
            (command.as_str(), sent.map(|proof| proof.place.as_str()).collect())
        })
        .collect()
}

fn bulks(reply: &[u8]) -> Vec<String> {
    let (_, elements) = elements(reply).expect("an array");
    let text = |element: &Vec<u8>| {
        let text = String::from_utf8(element.clone()).expect("a name");
        text.split("\r\n").nth(usize::from(text.starts_with('$'))).expect("a line").to_owned()
    };
    elements.iter().map(text).collect()
}

fn ask(connection: &mut Connection, line: &str) -> Vec<u8> {
    connection.send_all(&[line.split(' ').map(|word| word.as_bytes().to_vec()).collect()]);
    connection.read()
}

/// Every command that the program knows; one with subcommands as those.
fn commands(connection: &mut Connection) -> Vec<String> {
    let mut names = bulks(&ask(connection, "COMMAND LIST"));
    names.retain(|name| !name.contains('|'));
    let rows = ask(connection, &format!("COMMAND INFO {}", names.join(" ")));
    let (_, rows) = elements(&rows).expect("an array");
    assert_eq!(rows.len(), names.len());
    names
        .iter()
        .zip(&rows)
        .flat_map(|(name, row)| {
            let (_, fields) = elements(row).expect("a row");
            let subcommands = elements(&fields[9]).map_or(Vec::new(), |(_, rows)| rows);
            let sub = |row: &Vec<u8>| bulks(row).swap_remove(0);
            match subcommands.is_empty() {
                true => vec![name.clone()],
                false => subcommands.iter().map(sub).collect(),
            }
        })
        .collect()
}

#[test]
fn every_command_names_its_tests() {
    let leveret = Server::leveret(&["--in-memory"]);
    let commands = commands(&mut Connection::open(leveret.address));
    assert!(commands.len() > 200, "{commands:?}");
    let proofs = proofs();
    let table = table(&commands, &proofs);
    for (command, places) in &table {
        println!("{command}: {}", places.join("; "));
    }
    let untested: Vec<&&str> =
        table.iter().filter(|(_, places)| places.is_empty()).map(|(command, _)| command).collect();
    assert!(untested.is_empty(), "commands without a test: {untested:?}");
}

#[test]
fn a_command_without_a_test_is_found() {
    let commands = ["get", "client|kill", "nosuch", "client|nosuch", "ge"].map(str::to_owned);
    let proofs = proofs();
    let empty: Vec<&str> = table(&commands, &proofs)
        .into_iter()
        .filter(|(_, places)| places.is_empty())
        .map(|(command, _)| command)
        .collect();
    // A wrong subcommand is one of the lines that are asked, but in capitals.
    assert_eq!(empty, ["ge", "nosuch"]);
}

/// The fuzzer begins with valid requests of every command: those of keys as lines, all of them as they
/// are on the wire.
#[test]
fn the_fuzzer_begins_with_every_command() {
    let leveret = Server::leveret(&["--in-memory"]);
    let folder = |target: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let files = std::fs::read_dir(path).expect("the folder is there");
        let read = |file: std::io::Result<std::fs::DirEntry>| {
            std::fs::read(file.expect("an entry").path()).expect("a file")
        };
        files.map(read).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
    };
    let (lines, requests): (Vec<String>, Vec<String>) =
        (folder("cache_commands"), folder("resp_request"));
    let mut missing = Vec::new();
    for command in commands(&mut Connection::open(leveret.address)) {
        let words: Vec<String> = command.to_uppercase().split('|').map(str::to_owned).collect();
        let line = words.join(" ");
        let is_line = |text: &String| {
            text.lines().any(|of| of == line || of.starts_with(&format!("{line} ")))
        };
        let sent: String =
            words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        let is_of_keys = leveret::cache::Spec::find(words[0].as_bytes()).is_some();
        if is_of_keys && !lines.iter().any(is_line) {
            missing.push(format!("cache_commands: {line}"));
        }
        if !requests.iter().any(|text| text.contains(&sent)) {
            missing.push(format!("resp_request: {line}"));
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

/// What is listed, counted and told is one and the same, and all that is played is in it.
#[test]
fn the_list_of_commands_is_the_table_and_redis_knows_each() {
    let (redis, leveret) = (Server::redis(&[]), Server::leveret(&["--in-memory"]));
    let mut ours = Connection::open(leveret.address);
    let mut listed = bulks(&ask(&mut ours, "COMMAND LIST"));
    listed.sort();
    let commands: Vec<String> = listed.iter().filter(|name| !name.contains('|')).cloned().collect();
    let count = format!(":{}\r\n", commands.len());
    assert_eq!(String::from_utf8(ask(&mut ours, "COMMAND COUNT")).unwrap(), count);
    let (_, rows) = elements(&ask(&mut ours, "COMMAND")).expect("an array");
    let mut told: Vec<String> = rows.iter().map(|row| bulks(row).swap_remove(0)).collect();
    told.sort();
    assert_eq!(told, commands);
    for spec in leveret::cache::Spec::all() {
        assert!(listed.iter().any(|name| name == spec.name), "{} is not listed", spec.name);
    }
    let mut theirs = Connection::open(redis.address);
    let known = bulks(&ask(&mut theirs, "COMMAND LIST"));
    for name in &listed {
        assert!(known.contains(name) || name == NEWER, "Redis has no {name}");
    }
    for (form, _) in FORMS {
        let name = heads(form).swap_remove(0).to_ascii_lowercase();
        assert!(listed.contains(&name) || name == "nosuchcommand", "{form} is not listed");
    }
}

/// A row of what is promised, and the tests that hold it: a file, then its functions.
type Row = (&'static str, &'static [(&'static str, &'static [&'static str])]);

const ROWS: [Row; 13] = [
    (
        "reply types and error texts",
        &[
            ("resp_differential/main", &["random_sequences_are_answered_with_the_same_bytes"]),
            (
                "resp_differential/sessions",
                &["a_client_is_told_the_same_of_itself_and_of_the_server"],
            ),
            (
                "cache_contract/main",
                &["every_case_is_answered_as_redis_answers_it", "the_cases_are_what_redis_answers"],
            ),
            ("resp_differential/about", &["help_has_the_lines_of_redis_on_what_is_there"]),
        ],
    ),
    (
        "an empty collection is no key; what keeps a time to live and what drops it",
        &[
            ("resp_differential/main", &["random_sequences_are_answered_with_the_same_bytes"]),
            ("cache_contract/durability", &["a_pipeline_records_its_outcome_and_not_its_way"]),
        ],
    ),
    (
        "indexes, ranges, scores",
        &[
            (
                "cache_contract/sorted_sets",
                &[
                    "any_commands_are_answered_as_redis_answers_them_also_after_a_restart",
                    "scores_are_doubles_and_pairs_are_told_from_lists",
                ],
            ),
            (
                "cache_contract/lists",
                &["any_commands_are_answered_as_redis_answers_them_also_after_a_restart"],
            ),
        ],
    ),
    (
        "globs and scans",
        &[
            ("cache_contract/keys", &["a_scan_meets_everything_that_stays"]),
            ("cache_contract/sorted_sets", &["a_scan_meets_every_member_that_stays"]),
            ("cache_contract/recipes", &["a_pattern_removes_what_it_matches_and_nothing_else"]),
        ],
    ),
    (
        "expiry",
        &[(
            "cache_contract/expiry",
            &[
                "keys_that_nobody_reads_leave_memory_at_their_deadline",
                "others_get_their_turn_while_many_keys_expire",
                "a_deadline_that_moves_is_kept",
            ],
        )],
    ),
    (
        "maxmemory",
        &[(
            "cache_contract/eviction",
            &[
                "what_grows_is_refused_when_nothing_may_go",
                "memory_stays_below_its_limit_under_every_policy",
                "the_keys_that_are_used_stay",
                "the_nearest_deadline_goes_first",
                "evicted_keys_are_gone_after_a_restart",
            ],
        )],
    ),
    (
        "transactions",
        &[(
            "resp/transactions",
            &[
                "what_is_queued_runs_as_one",
                "one_that_can_not_be_queued_spoils_all",
                "a_watched_key_that_another_one_changes_stops_it",
            ],
        )],
    ),
    (
        "blocking pops",
        &[(
            "resp/blocking",
            &[
                "the_one_that_came_first_is_served_first",
                "a_wait_ends_with_its_time_another_ones_word_or_its_client",
                "a_transaction_is_not_interrupted_and_does_not_wait",
            ],
        )],
    ),
    (
        "scripts",
        &[
            (
                "cache_contract/script",
                &["every_script_answers_as_on_redis", "the_commands_on_scripts_answer_as_on_redis"],
            ),
            (
                "resp/scripts",
                &[
                    "others_wait_for_a_script_and_are_told_when_it_takes_too_long",
                    "a_script_is_stopped_before_its_time_is_over_but_not_once_it_has_written",
                ],
            ),
        ],
    ),
    (
        "pub/sub",
        &[(
            "resp/pubsub",
            &[
                "a_listener_hears_what_is_published_and_may_say_little",
                "in_resp3_messages_are_pushes_and_a_listener_may_say_everything",
                "a_listener_that_does_not_read_is_cut",
            ],
        )],
    ),
    (
        "what a crash may take back",
        &[
            (
                "cache_crash/main",
                &[
                    "always_takes_back_nothing_that_was_acknowledged",
                    "everysec_takes_back_nothing_older_than_its_last_sync_and_keeps_the_order",
                    "a_power_failure_at_every_operation_leaves_whole_pipelines",
                ],
            ),
            (
                "cache_crash/faults",
                &[
                    "a_full_disk_refuses_what_grows_and_lets_removals_through",
                    "an_error_in_a_commit_stops_all_writes_and_a_restart_is_whole",
                ],
            ),
        ],
    ),
    (
        "what is rewritten takes no more space",
        &[
            ("cache_crash/space", &["rewriting_one_key_keeps_the_disk_within_a_bound"]),
            ("cache_contract/durability", &["ten_thousand_writes_of_one_key_leave_one_fact"]),
        ],
    ),
    (
        "planted faults are seen",
        &[
            (
                "resp_differential/main",
                &[
                    "planted_faults_are_found_and_shrunk",
                    "planted_faults_of_meaning_are_found_and_shrunk",
                ],
            ),
            ("cache_crash/main", &["the_model_catches_what_breaks_a_promise"]),
        ],
    ),
];

/// What of the promised tests is not in the sources.
fn missing(rows: &[Row]) -> Vec<String> {
    let mut missing = Vec::new();
    for (promise, files) in rows {
        if files.iter().all(|(_, tests)| tests.is_empty()) {
            missing.push(format!("{promise}: no test"));
        }
        for (file, names) in *files {
            let source = source(file);
            let there = tests(&source);
            let lacks = |name: &&&str| there.iter().all(|(other, _)| *other != **name);
            let lacking = names.iter().filter(lacks);
            missing.extend(lacking.map(|name| format!("{promise}: {file}::{name}")));
        }
    }
    missing
}

#[test]
fn every_promise_names_its_tests() {
    assert_eq!(missing(&ROWS), Vec::<String>::new());
}

#[test]
fn a_promise_without_a_test_is_found() {
    let none: [Row; 2] = [("empty", &[]), ("renamed", &[("resp/pubsub", &["no_such_test"])])];
    assert_eq!(missing(&none), ["empty: no test", "renamed: resp/pubsub::no_such_test"]);
}
