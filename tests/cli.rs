//! The program as it is started: one clear line and exit code 2 for wrong values, 1 for what it can't
//! do, and a server that says where it listens and drains when it is asked to.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn leveret(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(arguments).env_remove("RABBITMQ_URL").env_remove("REDIS_URL");
    command
}

/// The one line on standard error, with the exit code that went with it.
fn refusal(command: &mut Command) -> (String, Option<i32>) {
    let Output { status, stderr, .. } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "one line, not: {stderr}");
    (stderr, status.code())
}

/// A server on a free port; killed when it is dropped.
struct Server {
    child: Child,
    /// What it printed, by the first word of each line.
    lines: Vec<String>,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let folder = folder.to_str().unwrap();
        let mut child =
            leveret(&["serve", "--demo", "--http", "127.0.0.1:0", "--data-dir", folder])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let lines = stdout.lines().take(3).map(Result::unwrap).collect();
        Self { child, lines }
    }

    fn line(&self, name: &str) -> &str {
        let found = self.lines.iter().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_else(|| panic!("no line '{name}' in {:?}", self.lines)).trim()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_wrong_value_is_one_line_that_names_it_and_exit_code_2() {
    let cases: [(&[&str], &str); 5] = [
        (&["serve", "--http", "nonsense"], "--http: 'nonsense'"),
        (&["serve", "--durability", "maybe"], "--durability: 'maybe'"),
        (&["serve", "--no-such-flag"], "'--no-such-flag'"),
        (&["serve", "--config", "no-such-file.toml"], "no-such-file.toml"),
        (&["token"], "--user"),
    ];
    for (arguments, named) in cases {
        let (line, code) = refusal(&mut leveret(arguments));
        assert!(line.contains(named), "{line}");
        assert_eq!(code, Some(2), "{line}");
    }
    let (line, code) = refusal(leveret(&["serve"]).env("REDIS_URL", "redis://localhost"));
    assert!(line.contains("REDIS_URL") && code == Some(2), "{line}");
}

#[test]
fn help_names_every_flag() {
    let help = leveret(&["serve", "--help"]).output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    for flag in ["--data-dir", "--in-memory", "--durability", "--http", "--jwt-secret", "--demo"] {
        assert!(text.contains(flag), "{flag}");
    }
    assert!(help.status.success());
}

#[test]
fn a_server_says_where_it_is_keeps_its_folder_to_itself_and_drains() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let path = folder.to_str().unwrap();
    let mut server = Server::start(&folder);
    let url = server.line("http").to_owned();
    let address = url.strip_prefix("http://").unwrap();
    assert_eq!(server.line("demo"), format!("{url}/demo"));
    assert_eq!(server.line("data"), format!("{path} (strict)"));

    let (line, code) =
        refusal(&mut leveret(&["serve", "--http", "127.0.0.1:0", "--data-dir", path]));
    assert!(line.contains("is in use") && code == Some(1), "{line}");
    let (line, code) = refusal(&mut leveret(&["check", "--data-dir", path]));
    assert!(line.contains("is in use") && code == Some(1), "{line}");
    let (line, code) = refusal(&mut leveret(&["serve", "--http", address, "--in-memory"]));
    assert!(line.contains(address) && code == Some(1), "{line}");

    let token = leveret(&["token", "--user", "ada", "--data-dir", path]).output().unwrap();
    assert_eq!(String::from_utf8(token.stdout).unwrap().trim().split('.').count(), 3);

    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(server.child.wait().unwrap().success());
    let check = leveret(&["check", "--data-dir", path]).output().unwrap();
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn a_damaged_folder_is_refused_with_the_file_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    drop(Server::start(folder.path()));
    let log = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let log =
        log.into_iter().find(|path| path.extension().is_some_and(|end| end == "redb")).unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    bytes.truncate(bytes.len() - 4096);
    std::fs::write(&log, &bytes).unwrap();
    for command in ["check", "serve"] {
        let mut command = leveret(&[command, "--data-dir", path]);
        let (line, code) = refusal(&mut command);
        let name = log.file_name().unwrap().to_str().unwrap();
        assert!(line.contains(name) && code == Some(1), "{line}");
        assert_eq!(std::fs::read(&log).unwrap(), bytes);
    }
}
