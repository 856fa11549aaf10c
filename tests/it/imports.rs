//! The table of imports in `docs/architecture.md` is held to the code, so that data keeps flowing one way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Table = BTreeMap<String, BTreeSet<String>>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documented() -> Table {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| module | may import")).skip(2);
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').collect();
            (names(cells[1])[0].clone(), names(cells[2]).into_iter().collect())
        })
        .collect()
}

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|suffix| suffix == "rs") {
            out.push(path);
        }
    }
}

/// The modules named right after `crate::`, also in braces.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let code =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let code = code.split("#[cfg(test)]").next().unwrap().to_owned();
    for after in code.split("crate::").skip(1) {
        let word = |text: &str| {
            text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
        };
        match after.strip_prefix('{') {
            Some(list) => found.extend(list.split('}').next().unwrap().split(',').map(word)),
            None => _ = found.insert(word(after)),
        }
    }
    found
}

fn actual() -> Table {
    let src = root().join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let mut table = Table::new();
    for path in all {
        let relative = path.strip_prefix(&src).unwrap();
        let first = relative.iter().next().unwrap().to_str().unwrap();
        let module = first.strip_suffix(".rs").unwrap_or(first);
        let is_test = relative.iter().any(|part| part == "tests.rs" || part == "tests");
        if matches!(module, "lib" | "main") || is_test {
            continue;
        }
        let uses = imports(&fs::read_to_string(&path).unwrap());
        table.entry(module.to_owned()).or_default().extend(uses.into_iter().filter(|used| used != module));
    }
    let modules: BTreeSet<String> = table.keys().cloned().collect();
    for uses in table.values_mut() {
        uses.retain(|used| modules.contains(used));
    }
    table
}

#[test]
fn every_import_stands_in_the_table_of_the_architecture() {
    let (documented, actual) = (documented(), actual());
    for (module, uses) in &actual {
        let allowed =
            documented.get(module).unwrap_or_else(|| panic!("{module} has no row in docs/architecture.md"));
        let beyond: Vec<_> = uses.difference(allowed).collect();
        assert!(beyond.is_empty(), "{module} imports {beyond:?}, which its row does not allow");
    }
}

#[test]
fn the_table_has_no_circle() {
    let table = documented();
    let mut order: Vec<&String> = Vec::new();
    while order.len() < table.len() {
        let ready = table
            .iter()
            .find(|(module, uses)| !order.contains(module) && uses.iter().all(|used| order.contains(&used)));
        let (module, _) = ready.unwrap_or_else(|| {
            panic!("circle among {:?}", table.keys().filter(|m| !order.contains(m)).collect::<Vec<_>>())
        });
        order.push(module);
    }
}
