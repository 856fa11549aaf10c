//! m
#![allow(clippy::all, clippy::pedantic, clippy::print_stderr, clippy::expect_used, missing_docs)]
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let mut o = depickle::convert::Options::default();
    if a.iter().any(|x| x == "--all") {
        o.plan.all = true;
    }
    if a.iter().any(|x| x == "--no-manifest") {
        o.manifest = depickle::convert::ManifestAt::Nowhere;
    }
    let out = a.iter().skip_while(|x| *x != "-o").nth(1).expect("-o");
    match depickle::convert::convert(
        a.get(2).expect("in").as_ref(),
        out.as_ref(),
        &o,
        &depickle::progress::Silent,
    ) {
        Ok(_) => {}
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(match e.class() {
                depickle::Class::Refused => 1,
                depickle::Class::Misuse => 2,
                depickle::Class::Malformed => 3,
                _ => 4,
            })
        }
    }
}
