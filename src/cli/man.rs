//! `depickle man`

use std::io;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::args::Cli;
use super::exit::Exit;
use super::printer::Printer;

/// Prints one page for the program and all of its commands.
pub(crate) fn run(printer: &mut Printer) -> Exit {
    match page() {
        Ok(page) => {
            printer.bytes(&page);
            Exit::Done
        }
        Err(error) => {
            printer.error(format_args!("man page: {error}"));
            Exit::Environment
        }
    }
}

fn page() -> io::Result<Vec<u8>> {
    let mut program = Cli::command();
    program.build();
    let mut page = Vec::new();
    let man = Man::new(program.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    for command in program.get_subcommands() {
        section(command, &mut page)?;
    }
    man.render_extra_section(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// A command as a section, with what would be sections of its own page as subsections.
fn section(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(command.clone());
    let mut body = Vec::new();
    man.render_synopsis_section(&mut body)?;
    man.render_description_section(&mut body)?;
    man.render_options_section(&mut body)?;
    man.render_extra_section(&mut body)?;
    let body = String::from_utf8_lossy(&body).replace(".SH ", ".SS ");
    let name = command.get_name().to_uppercase();
    page.extend_from_slice(format!(".SH \"DEPICKLE {name}\"\n{body}").as_bytes());
    Ok(())
}
