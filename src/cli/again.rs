//! The command that was given, as it would be given again.

use std::ffi::{OsStr, OsString};

use clap::CommandFactory;

use super::args::Cli;
use super::sanitize::is_plain;
use super::text::quote;

/// More names, or files, are not listed one by one.
const LISTED: usize = 24;

/// The arguments of this run, the program's name first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Again<'a>(pub(crate) &'a [OsString]);

impl Again<'_> {
    /// The command that keeps these names as inert data, too. `None` where one of them cannot be printed as it is.
    pub(crate) fn keeping(&self, names: &[&str]) -> Option<String> {
        let (flags, inputs) = self.split();
        line(&inputs, &flags, names)
    }

    /// The same for some of the inputs; for all, over what was written already, where they are many or `None`.
    pub(crate) fn for_inputs(&self, some: Option<&[OsString]>, names: &[&str]) -> Option<String> {
        let (mut flags, inputs) = self.split();
        if let Some(some) = some.filter(|some| some.len() <= LISTED) {
            return line(some, &flags, names);
        }
        let force = OsString::from("--force");
        flags.extend((!flags.contains(&force)).then_some(force));
        line(&inputs, &flags, names)
    }

    /// The flags with their values, and the inputs.
    fn split(&self) -> (Vec<OsString>, Vec<OsString>) {
        let program = Cli::command();
        let convert = program.get_subcommands().find(|command| command.get_name() == "convert");
        let takes_value = |argument: &OsString| {
            let mut known = convert.into_iter().flat_map(clap::Command::get_arguments);
            known.any(|known| {
                known.get_action().takes_values() && is_spelled(known, &argument.to_string_lossy())
            })
        };
        let (mut flags, mut inputs) = (Vec::new(), Vec::new());
        let mut arguments = self.0.iter().skip(2);
        while let Some(argument) = arguments.next() {
            if argument == "--" {
                inputs.extend(arguments.by_ref().cloned());
            } else if argument != "-" && argument.as_encoded_bytes().starts_with(b"-") {
                flags.push(argument.clone());
                flags.extend(takes_value(argument).then(|| arguments.next().cloned()).flatten());
            } else {
                inputs.push(argument.clone());
            }
        }
        (flags, inputs)
    }
}

fn is_spelled(known: &clap::Arg, argument: &str) -> bool {
    let short = known.get_short().map(|short| format!("-{short}"));
    let long = known.get_long().map(|long| format!("--{long}"));
    [short, long].into_iter().flatten().any(|spelled| spelled == argument)
}

fn line(inputs: &[OsString], flags: &[OsString], names: &[&str]) -> Option<String> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    if names.len() > LISTED {
        names = vec!["unknown"];
    }
    let is_flag = |argument: &&OsString| *argument != "-" && argument.as_encoded_bytes().starts_with(b"-");
    let (odd, plain): (Vec<_>, Vec<_>) = inputs.iter().partition(is_flag);
    let mut line = "depickle convert".to_owned();
    let mut push = |argument: &OsStr| {
        line.push(' ');
        line.push_str(&quote(argument));
    };
    for argument in plain.into_iter().chain(flags) {
        push(argument);
    }
    for name in names {
        if name.starts_with('-') {
            push(format!("--inert={name}").as_ref());
        } else {
            push("--inert".as_ref());
            push(name.as_ref());
        }
    }
    // Nothing that follows `--` is a flag.
    if !odd.is_empty() {
        push("--".as_ref());
        for argument in odd {
            push(argument);
        }
    }
    is_plain(&line).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_command_goes_on_with_the_names() {
        let given = arguments("/bin/depickle convert face.pt");
        let line = "depickle convert face.pt --inert shutil.which";
        assert_eq!(Again(&given).keeping(&["shutil.which"]).unwrap(), line);
        assert_eq!(Again(&given).keeping(&["a.b\u{202e}"]), None);
        let line = "depickle convert face.pt --inert=-b.c --inert 'a.$(x)'";
        assert_eq!(Again(&given).keeping(&["a.$(x)", "-b.c"]).unwrap(), line);
        let given = arguments("depickle convert -- -x.pt");
        assert_eq!(Again(&given).keeping(&["a.b"]).unwrap(), "depickle convert --inert a.b -- -x.pt");
    }

    #[test]
    fn inputs_are_replaced_and_flags_kept() {
        let given = arguments("depickle convert runs --root model -o out model --include=x -v --jobs 2");
        let line = "depickle convert runs/a.pt --root model -o out --include=x -v --jobs 2 --inert a.b";
        assert_eq!(Again(&given).for_inputs(Some(&["runs/a.pt".into()]), &["a.b", "a.b"]).unwrap(), line);
    }

    #[test]
    fn all_inputs_are_taken_again_over_what_was_written() {
        let given = arguments("depickle convert -o out runs");
        let line = "depickle convert runs -o out --force --inert a.b";
        assert_eq!(Again(&given).for_inputs(None, &["a.b"]).unwrap(), line);
    }

    #[test]
    fn many_names_become_one_word() {
        let names: Vec<String> = (0..100).map(|i| format!("a.b{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let given = arguments("depickle convert x");
        assert_eq!(Again(&given).keeping(&names).unwrap(), "depickle convert x --inert unknown");
    }
}
