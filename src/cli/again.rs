//! The command that was given, as it would be given again.

use std::ffi::OsString;

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
        line(self.0.get(1..).unwrap_or_default(), names)
    }

    /// The same for some of the inputs, or for all where they are many.
    pub(crate) fn for_inputs(&self, inputs: &[OsString], names: &[&str]) -> Option<String> {
        if inputs.len() > LISTED {
            return line(&[self.0.get(1..).unwrap_or_default(), &["--force".into()]].concat(), names);
        }
        let mut arguments = self.flags();
        let at = arguments.len().min(1);
        arguments.splice(at..at, inputs.iter().cloned());
        line(&arguments, names)
    }

    /// The command and its flags with their values, without the inputs.
    fn flags(&self) -> Vec<OsString> {
        let program = Cli::command();
        let convert = program.get_subcommands().find(|command| command.get_name() == "convert");
        let takes_value = |argument: &OsString| {
            let argument = argument.to_string_lossy();
            convert.into_iter().flat_map(clap::Command::get_arguments).any(|known| {
                let short = known.get_short().map(|short| format!("-{short}"));
                let long = known.get_long().map(|long| format!("--{long}"));
                known.get_action().takes_values() && (short.as_deref() == Some(&*argument) || long.as_deref() == Some(&*argument))
            })
        };
        let mut flags: Vec<OsString> = self.0.get(1..2).unwrap_or_default().to_vec();
        let mut arguments = self.0.iter().skip(2);
        while let Some(argument) = arguments.next() {
            if argument == "--" {
                break;
            }
            let is_flag = argument != "-" && argument.as_encoded_bytes().starts_with(b"-");
            if is_flag {
                flags.push(argument.clone());
                if takes_value(argument) {
                    flags.extend(arguments.next().cloned());
                }
            }
        }
        flags
    }
}

fn line(arguments: &[OsString], names: &[&str]) -> Option<String> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    if names.len() > LISTED {
        names = vec!["unknown"];
    }
    let inert = names.iter().flat_map(|name| match name.starts_with('-') {
        true => vec![OsString::from(format!("--inert={name}"))],
        false => vec!["--inert".into(), OsString::from(name)],
    });
    // Nothing that follows `--` is a flag.
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    let (flags, rest) = arguments.split_at_checked(end).unwrap_or((arguments, &[]));
    let all = flags.iter().cloned().chain(inert).chain(rest.iter().cloned());
    let quoted: Vec<String> = all.map(|argument| quote(&argument).into_owned()).collect();
    let line = format!("depickle {}", quoted.join(" "));
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
        let line = "depickle convert face.pt --inert 'a.$(x)' --inert=-b.c";
        assert_eq!(Again(&given).keeping(&["a.$(x)", "-b.c"]).unwrap().len(), line.len());
        let given = arguments("depickle convert -- -x.pt");
        assert_eq!(Again(&given).keeping(&["a.b"]).unwrap(), "depickle convert --inert a.b -- -x.pt");
    }

    #[test]
    fn inputs_are_replaced_and_flags_kept() {
        let given = arguments("depickle convert runs --root model -o out model --include=x -v --jobs 2");
        let line = "depickle convert runs/a.pt --root model -o out --include=x -v --jobs 2 --inert a.b";
        assert_eq!(Again(&given).for_inputs(&["runs/a.pt".into()], &["a.b", "a.b"]).unwrap(), line);
    }

    #[test]
    fn many_names_become_one_word() {
        let names: Vec<String> = (0..100).map(|i| format!("a.b{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let given = arguments("depickle convert x");
        assert_eq!(Again(&given).keeping(&names).unwrap(), "depickle convert x --inert unknown");
    }
}
