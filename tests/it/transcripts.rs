//! Runs the console transcripts of the documentation: what a page shows is what the program prints.
//!
//! A block begins with three backticks and `console`. A line `$ depickle …` is a command, what follows is its output,
//! standard output before standard error. `...` as a line stands for any lines, within a line for any text. `? 1` is
//! the exit code, if it is not 0. All blocks of a page run in one folder, which holds `tiny_gpt.ckpt` and a
//! pair of keys; `$ mkdir`, `cp`, `cat`, `printf` and what is joined by `|`, `>` or `&&` goes to a shell.

use std::path::Path;
use std::process::{Command, Stdio};

/// A command with what it is to print.
#[derive(Debug)]
struct Step {
    line: usize,
    command: String,
    expected: Vec<String>,
    exit: i32,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for (i, line) in page.lines().enumerate() {
        if line.starts_with("```") {
            inside = line == "```console";
            continue;
        }
        if !inside {
            continue;
        }
        if let Some(command) = line.strip_prefix("$ ") {
            let command = command.to_owned();
            steps.push(Step { line: i + 1, command, expected: Vec::new(), exit: 0 });
        } else if let Some(step) = steps.last_mut() {
            match line.strip_prefix("? ") {
                Some(exit) => step.exit = exit.parse().expect("an exit code"),
                None => step.expected.push(line.to_owned()),
            }
        }
    }
    steps
}

/// Whether a line fits; `...` stands for any text.
fn fits_line(expected: &str, line: &str) -> bool {
    let Some((head, mut tail)) = expected.split_once("...") else { return expected == line };
    let Some(mut rest) = line.strip_prefix(head) else { return false };
    while let Some((part, more)) = tail.split_once("...") {
        let Some((_, after)) = rest.split_once(part) else { return false };
        (rest, tail) = (after, more);
    }
    rest.ends_with(tail)
}

/// Whether lines fit; a line `...` stands for any lines.
fn fits(expected: &[String], lines: &[&str]) -> bool {
    match (expected, lines) {
        ([], lines) => lines.is_empty(),
        ([any, more @ ..], _) if any == "..." => (0..=lines.len()).any(|skip| fits(more, &lines[skip..])),
        ([first, more @ ..], [line, rest @ ..]) => fits_line(first, line) && fits(more, rest),
        _ => false,
    }
}

fn run(page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path.join(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(path.join("examples/tiny_gpt.ckpt"), folder.path().join("tiny_gpt.ckpt")).unwrap();
    for (from, to) in [("p256.key", "key"), ("p256.pub", "key.pub"), ("p384.pub", "other.pub")] {
        let from = path.join("tests/fixtures/signing").join(format!("{from}.pem"));
        std::fs::copy(from, folder.path().join(format!("{to}.pem"))).unwrap();
    }
    let steps = steps(&text);
    assert!(!steps.is_empty(), "{page} has no transcript");
    let program = Path::new(env!("CARGO_BIN_EXE_depickle"));
    let own = program.parent().unwrap().to_str().unwrap();
    let paths = format!("{own}:{}", std::env::var("PATH").unwrap_or_default());
    for step in steps {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(&step.command)
            .current_dir(folder.path())
            .env("PATH", &paths)
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8(printed).unwrap();
        let lines: Vec<&str> = printed.lines().collect();
        assert!(
            fits(&step.expected, &lines) && output.status.code() == Some(step.exit),
            "{page}:{}: $ {}\nexpected, with {}:\n{}\n\ngot, with {:?}:\n{printed}",
            step.line,
            step.command,
            step.exit,
            step.expected.join("\n"),
            output.status.code(),
        );
    }
}

#[cfg(unix)]
#[test]
fn the_page_about_the_command_line_is_true() {
    run("docs/cli.md");
}

#[cfg(unix)]
#[test]
fn the_page_about_weights_only_is_true() {
    run("docs/weights-only.md");
}

#[test]
fn wildcards() {
    assert!(fits_line("a ... c", "a b c") && fits_line("...", "") && !fits_line("a", "ab"));
    assert!(fits_line("took ... s, ... MB", "took 1 s, 2 MB") && !fits_line("a...b", "ac"));
    let expected = ["a".to_owned(), "...".to_owned(), "z".to_owned()];
    assert!(
        fits(&expected, &["a", "b", "c", "z"]) && fits(&expected, &["a", "z"]) && !fits(&expected, &["a"])
    );
}
