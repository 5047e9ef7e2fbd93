//! COMMAND DOCS: what each command is for, its group, and since which version of Redis it is there.

use std::sync::LazyLock;

use ahash::AHashMap;

/// What is said of a command.
pub(super) struct Docs {
    pub summary: &'static str,
    pub since: &'static str,
    pub group: &'static str,
}

/// A line a command: since when, its name, a summary; those of a group behind a line with its name.
const TEXT: &str = include_str!("docs.txt");

fn parse(text: &'static str) -> AHashMap<&'static str, Docs> {
    let mut group = "";
    let mut docs = AHashMap::new();
    for line in text.lines() {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("#"), Some(name), None) => group = name,
            (Some(since), Some(name), Some(summary)) => {
                docs.insert(name, Docs { summary, since, group });
            }
            _ => {}
        }
    }
    docs
}

/// What is said of the command or the subcommand of this name.
pub(super) fn of(name: &str) -> &'static Docs {
    static NOTHING: Docs = Docs { summary: "", since: "", group: "" };
    static DOCS: LazyLock<AHashMap<&'static str, Docs>> = LazyLock::new(|| parse(TEXT));
    DOCS.get(name).unwrap_or(&NOTHING)
}
