//! The shape of the source: who may import whom, what is confined to one module, what is banned.
//!
//! `src/lib.rs` is the map: a comment `// N: ...` opens floor N, and each `pub mod` below it lies on
//! that floor. The last test plants a violation of every rule, which the same checker must find.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 500;

/// A crate, and the only place under src/ that may name it.
const CONFINED: &[(&str, &str)] = &[
    ("redb", "journal/"),
    ("bincode", "journal/"),
    ("fastwebsockets", "gateway/websocket.rs"),
    ("lapin", "backend/rabbitmq/"),
    ("redis", "backend/redis/"),
    ("clap", "server/"),
    ("tikv_jemallocator", "main.rs"),
];

struct Ban {
    words: &'static [&'static str],
    allowed_in: &'static [&'static str],
    instead: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        words: &["unbounded", "unbounded_channel", "unbounded_async"],
        allowed_in: &[],
        instead: "every queue has a bound: flume::bounded or tokio's mpsc::channel(n)",
    },
    Ban {
        words: &["std::sync::mpsc"],
        allowed_in: &[],
        instead: "its channel has no bound: flume::bounded",
    },
    Ban {
        words: &["SystemTime::now", "Utc::now", "Local::now"],
        allowed_in: &["model/clock.rs"],
        instead: "wall time comes from model::clock::Clock, so that tests can move it",
    },
    Ban {
        words: &["todo!", "unimplemented!"],
        allowed_in: &[],
        instead: "build it, or leave it out",
    },
    Ban {
        words: &["println!", "print!", "eprintln!", "eprint!", "dbg!"],
        allowed_in: &["main.rs", "server/"],
        instead: "log with tracing; only the program writes to its standard streams",
    },
    Ban {
        words: &["thread::sleep"],
        allowed_in: &[],
        instead: "wait for the event: a condition variable in threads, tokio::time in tasks",
    },
    Ban {
        words: &["process::exit", "process::abort"],
        allowed_in: &["server/signals.rs"],
        instead: "return an error: an exit skips the drain",
    },
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc"];

#[test]
fn the_source_keeps_its_shape() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let floors = Floors::read(&std::fs::read_to_string(root.join("lib.rs")).unwrap());
    let files = rust_files(&root);
    assert!(files.len() > 20, "the source was not found: {} files", files.len());

    let mut violations = Vec::new();
    for file in files {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        violations.extend(check(&path, &text, &floors));
    }
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn every_module_of_the_crate_lies_on_a_floor() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let floors = Floors::read(&std::fs::read_to_string(root.join("lib.rs")).unwrap());
    for (module, floor) in
        [("model", 0), ("journal", 1), ("broker", 2), ("backend", 3), ("gateway", 4), ("server", 7)]
    {
        assert_eq!(floors.of(module), Some(floor), "{module}");
    }
    for entry in std::fs::read_dir(&root).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        let known = matches!(module, "lib" | "main") || floors.of(module).is_some();
        assert!(known, "src/{name} is on no floor of src/lib.rs");
    }
}

/// The floor of every top-level module.
struct Floors(BTreeMap<String, u8>);

impl Floors {
    fn read(map: &str) -> Self {
        let mut floors = BTreeMap::new();
        let mut floor = None;
        for line in map.lines() {
            let opens = line.strip_prefix("// ").and_then(|rest| rest.split_once(':'));
            if let Some((number, _)) = opens {
                floor = number.parse::<u8>().ok().or(floor);
            }
            if let Some(module) = line.strip_prefix("pub mod ") {
                let module = module.trim_end_matches(';').to_owned();
                floors.insert(module, floor.expect("a module above the first floor"));
            }
        }
        Self(floors)
    }

    fn of(&self, module: &str) -> Option<u8> {
        self.0.get(module).copied()
    }
}

/// Every violation in one file; `path` is relative to src/.
fn check(path: &str, text: &str, floors: &Floors) -> Vec<String> {
    let code = without_comments_and_literals(text);
    let production = if path.ends_with("tests.rs") { String::new() } else { without_tests(&code) };
    let mut found = Vec::new();
    let mut report = |rule: String| found.push(format!("src/{path}: {rule}"));

    let own = path.split('/').next().unwrap_or(path).trim_end_matches(".rs");
    let own_floor = floors.of(own);
    for module in imports(path, &code, floors) {
        match (own_floor, floors.of(&module)) {
            (Some(_), Some(_)) if module == own => {}
            (Some(mine), Some(theirs)) if theirs > mine => report(format!(
                "imports {module} (floor {theirs}) from floor {mine}: imports go down only"
            )),
            (Some(mine), Some(theirs)) if theirs == mine => report(format!(
                "imports its sibling {module} on floor {mine}: what both need lies lower"
            )),
            (Some(_), None) => report(format!(
                "imports crate::{module}, which is no module of the map: name the module itself"
            )),
            _ => {}
        }
    }

    for (name, home) in CONFINED {
        if !path.starts_with(home) && names_crate(&code, name) {
            report(format!("names {name}, which only {home} may: call that instead"));
        }
    }
    for ban in BANS {
        let allowed = ban.allowed_in.iter().any(|home| path.starts_with(home));
        for word in ban.words.iter().filter(|word| !allowed && has_word(&production, word)) {
            report(format!("{word} is banned: {}", ban.instead));
        }
    }

    let lines = production.trim_end().lines().count();
    if lines > LINES_MAX {
        report(format!("{lines} lines without tests: past {LINES_MAX} there is a second idea"));
    }
    let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
    if EMPTY_NAMES.contains(&stem) || path.split('/').any(|part| EMPTY_NAMES.contains(&part)) {
        report("the name says nothing: name the idea inside".to_owned());
    }
    if stem == "mod" && !text.starts_with("//!") {
        report("opens without saying what it owns, may import, and keeps".to_owned());
    }
    found
}

/// The top-level modules that a file's paths lead to: `crate::m`, `crate::{m, n::x}`, and `super::`
/// chains that climb out of the file's own top-level module.
fn imports(path: &str, code: &str, floors: &Floors) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("crate::").filter(|(at, _)| starts_a_path(code, *at)) {
        let rest = code[at + "crate::".len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => modules.extend(first_names(group)),
            None => modules.extend(identifier(rest)),
        }
    }
    // gateway/mod.rs is one step below the root, gateway/rooms.rs two.
    let steps = path.trim_end_matches("/mod.rs").split('/').count();
    let climb = "super::".repeat(steps);
    for (at, _) in code.match_indices(&climb) {
        // The same climb from a nested module ends inside the own one, at some name of that.
        let name = identifier(&code[at + climb.len()..]);
        modules.extend(name.filter(|name| floors.of(name).is_some()));
    }
    modules.sort();
    modules.dedup();
    modules
}

fn starts_a_path(code: &str, at: usize) -> bool {
    let before = code[..at].chars().next_back();
    !before.is_some_and(|last| last.is_alphanumeric() || last == '_' || last == ':')
}

fn identifier(text: &str) -> Option<String> {
    let name: String =
        text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// The first name of each entry of a `{...}` group, given from behind its brace.
fn first_names(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut expected) = (Vec::new(), 0, true);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expected = true,
            _ if expected && depth == 0 && !letter.is_whitespace() => {
                names.extend(identifier(&group[at..]));
                expected = false;
            }
            _ => {}
        }
    }
    names
}

/// Whether a path begins with the crate's name, or the crate itself is imported.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let after = code[at + name.len()..].trim_start();
        let imported = code[..at].trim_end().ends_with("use") && after.starts_with([';', ' ']);
        starts_a_path(code, at) && (after.starts_with("::") || imported)
    })
}

fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let inside = |letter: char| letter.is_alphanumeric() || letter == '_';
        let before = code[..at].chars().next_back().is_some_and(inside);
        let after = code[at + word.len()..].chars().next().is_some_and(inside);
        !before && (!after || word.ends_with('!'))
    })
}

/// Blanks comments and the insides of literals; line breaks stay.
fn without_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest, at == 0 || !joins(bytes[at - 1])) {
            length
        } else if rest.starts_with('"') {
            quoted(rest)
        } else if let Some(length) = character(rest) {
            length
        } else {
            let letter = rest.chars().next().unwrap();
            code.push(letter);
            at += letter.len_utf8();
            continue;
        };
        code.push(' ');
        code.extend(rest[..length].chars().filter(|letter| *letter == '\n'));
        at += length;
    }
    code
}

fn joins(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        match rest {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    text.len()
}

fn raw_string(text: &str, at_a_start: bool) -> Option<usize> {
    let body = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let inside = body[hashes..].strip_prefix('"').filter(|_| at_a_start)?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end).map_or(inside.len(), |found| found + end.len());
    Some(text.len() - inside.len() + length)
}

fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character literal, not a lifetime.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        return inside[2..].find('\'').map(|end| end + 4);
    }
    inside[first.len_utf8()..].starts_with('\'').then_some(first.len_utf8() + 2)
}

/// Cuts every item under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut rest = code;
    let mut kept = String::new();
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        let mut depth = 0;
        let end = item.char_indices().find_map(|(at, letter)| {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            let ends = (letter == '}' || letter == ';') && depth == 0;
            ends.then_some(at + 1)
        });
        rest = &item[end.unwrap_or(item.len())..];
    }
    kept + rest
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn a_planted_violation_of_every_rule_is_found() {
    let floors = Floors::read(
        "// 0: values\npub mod model;\n// 1: bytes\npub mod journal;\npub mod wire;\n\
         // 4: sockets\npub mod gateway;\n// 7: the program\npub mod server;\n",
    );
    let too_long = "fn f() {}\n".repeat(LINES_MAX + 1);
    let planted: &[(&str, &str, &str)] = &[
        ("journal/a.rs", "use crate::gateway::Gateway;", "imports gateway (floor 4) from floor 1"),
        ("journal/a.rs", "use crate::{\n model::X,\n wire::{A, B}};", "imports its sibling wire"),
        ("model/a.rs", "fn f(x: crate::journal::Journal) {}", "imports journal (floor 1)"),
        ("wire/mod.rs", "//! x\nuse super::journal::Journal;", "imports its sibling journal"),
        ("wire/a.rs", "use super::super::journal::Journal;", "imports its sibling journal"),
        ("wire/a.rs", "use crate::Journal;", "no module of the map"),
        ("gateway/a.rs", "use redb::Database;", "names redb"),
        ("gateway/a.rs", "use redb;", "names redb"),
        ("gateway/a.rs", "let x = bincode::serde::encode();", "names bincode"),
        ("gateway/rooms.rs", "use fastwebsockets::Frame;", "names fastwebsockets"),
        ("gateway/a.rs", "let c = lapin::Connection::new();", "names lapin"),
        ("gateway/a.rs", "fn f(c: &redis::Client) {}", "names redis"),
        ("journal/a.rs", "let (a, b) = flume::unbounded::<u8>();", "unbounded is banned"),
        ("journal/a.rs", "let (a, b) = mpsc::unbounded_channel();", "unbounded_channel is banned"),
        ("journal/a.rs", "use std::sync::mpsc;", "std::sync::mpsc is banned"),
        ("journal/a.rs", "let t = SystemTime::now();", "SystemTime::now is banned"),
        ("journal/a.rs", "fn f() { todo!() }", "todo! is banned"),
        ("journal/a.rs", "fn f() { unimplemented!() }", "unimplemented! is banned"),
        ("journal/a.rs", "fn f() { println!(\"x\") }", "println! is banned"),
        ("journal/a.rs", "fn f() { std::thread::sleep(d) }", "thread::sleep is banned"),
        ("server/serve.rs", "fn f() { std::process::exit(1) }", "process::exit is banned"),
        ("journal/utils.rs", "", "the name says nothing"),
        ("journal/common/a.rs", "", "the name says nothing"),
        ("journal/mod.rs", "mod commit;", "opens without saying"),
        ("journal/a.rs", &too_long, "501 lines without tests"),
    ];
    for (path, text, expected) in planted {
        let found = check(path, text, &floors);
        let hit = found.iter().any(|violation| violation.contains(expected));
        assert!(hit, "{path}: {text:?} should give {expected:?}, gave {found:?}");
    }

    let tests = format!("#[cfg(test)]\nmod tests {{\n{}\n todo!() }}\n", too_long);
    let clean: &[(&str, &str)] = &[
        ("gateway/a.rs", "use crate::journal::Journal; use crate::{model::A, gateway::B};"),
        ("gateway/a.rs", "// redb::Database and todo!()\n/* crate::server */ fn f() {}"),
        ("gateway/a.rs", r##"const A: &str = "crate::server \" redb::x"; const B: char = '"';"##),
        (
            "gateway/a.rs",
            "fn f<'a>(x: &'a str) -> Unbounded<'a> { my_redis::go(crate::model::redis::X) }",
        ),
        ("gateway/websocket.rs", "use fastwebsockets::Frame;"),
        ("journal/store.rs", "use redb::Database;"),
        ("journal/a.rs", &tests),
        ("model/clock.rs", "fn now() { SystemTime::now(); }"),
        ("server/serve.rs", "fn f() { println!(); }"),
    ];
    for (path, text) in clean {
        assert_eq!(check(path, text, &floors), Vec::<String>::new(), "{path}: {text:?}");
    }
}
