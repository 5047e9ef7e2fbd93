//! What the broker port can't give on a server, or gives otherwise: one table, which the README shows.

/// What, embedded, and on RabbitMQ with the reason.
const DIFFERENCES: &[[&str; 3]] = &[
    [
        "`ack_with`",
        "one commit",
        "refused: two servers have no commit in common; `--demo` does what follows from an order first, and acknowledges then",
    ],
    [
        "policies, the path of a message",
        "set, listed, told",
        "refused: AMQP has no call for them; a retry policy is declared with its queue, by every process that consumes it",
    ],
    [
        "retry, dead letter with an error, redrive",
        "one commit",
        "a confirmed publish, then the acknowledgement: a crash in between leaves the message twice",
    ],
    [
        "`x-delay`, jitter",
        "exact",
        "one delay queue a delay (`leveret.delay.MS`): `x-delay` is rounded up by less than 1/32 and takes no expiration, jitter has five steps",
    ],
    [
        "a consumer's crash",
        "counts as a failed delivery, and as a return where nothing takes what failed",
        "goes back uncounted: the server has no place for the count",
    ],
    [
        "queues that are listed, and their counts",
        "all of them, everything",
        "those declared through this process, ready messages and consumers",
    ],
    [
        "looking at a queue, redriving",
        "changes nothing",
        "takes the messages and gives them back, flagged as delivered; 10,000 at most",
    ],
    ["prefetch 0", "no bound", "65,535, so that what waits in the process has one"],
    [
        "a mandatory publish",
        "known at once",
        "known with its confirm, on a channel of its own; `publish_all` does not tell what reached no queue",
    ],
];

#[test]
fn the_readme_tells_these_differences_and_no_others() {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("### The broker on a real RabbitMQ").expect("a section");
    let (_, rows) = section.split_once("| --- | --- | --- |\n").expect("a table");
    let (rows, _) = rows.split_once("\n\n").expect("its end");
    let shown: Vec<&str> = rows.lines().collect();
    let expected: Vec<String> =
        DIFFERENCES.iter().map(|cells| format!("| {} |", cells.join(" | "))).collect();
    assert_eq!(shown, expected);
}
