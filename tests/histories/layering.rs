//! Rules for imports: a shared module imports no slice, and slices have no circular imports.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Modules from bottom to top: each may import only those before it.
const LAYERS: [&[&str]; 12] = [
    &["digest", "claims"],
    &["pasted"],
    &["acs"],
    &["renewal"],
    &["crd"],
    &["cluster", "metrics"],
    &["health"],
    &["credentials", "cache"],
    &["engine"],
    &["context"],
    &["connection", "revocation", "token", "identity"],
    &["operator"],
];
/// Allowed imports between slices.
const SLICES: [(&str, &[&str]); 4] = [
    ("connection", &[]),
    ("revocation", &[]),
    ("token", &["connection"]),
    ("identity", &["token", "revocation"]),
];
/// Exceptions: imports of modules above or in the same layer, and the reason.
const EXCEPTIONS: [(&str, &str, &str); 2] = [
    (
        "metrics",
        "acs",
        "the client's metrics are among the operator's",
    ),
    ("cluster", "health", "a watch says how it is"),
];

#[test]
fn shared_modules_import_no_slice_and_no_module_one_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = BTreeSet::new();
    for (module, imported) in imports(&root) {
        let Some(layer) = layer_of(&module) else {
            continue;
        };
        for other in imported {
            let Some(above) = layer_of(&other).filter(|other| *other >= layer) else {
                continue;
            };
            let is_slice = SLICES.iter().any(|(slice, others)| {
                *slice == module && others.contains(&other.as_str()) && above == layer
            });
            let is_known = EXCEPTIONS
                .iter()
                .any(|(from, to, _)| *from == module && *to == other);
            if other != module && !is_slice && !is_known {
                wrong.insert(format!("{module} imports {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_process_reads_the_clock_and_calls_the_world() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for module in [
        "connection",
        "revocation",
        "token",
        "identity",
        "cache",
        "context",
    ] {
        for (path, text) in sources(&root, module) {
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in ["Timestamp::now()", "Instant::now()", "Api<", "kube::Client"] {
                assert!(!text.contains(word), "{path} contains {word}");
            }
        }
    }
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn imports(root: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for module in LAYERS.iter().copied().flatten() {
        for (_, text) in sources(root, module) {
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let names = text.split("crate::").skip(1).flat_map(names_in);
            found.entry((*module).to_owned()).or_default().extend(names);
        }
    }
    found
}

/// Returns the modules named directly after `crate::`: one, or those of a group.
fn names_in(text: &str) -> Vec<String> {
    let Some(group) = text.strip_prefix('{') else {
        return vec![first_word(text)];
    };
    let mut depth = 0;
    let mut names = Vec::new();
    let mut is_start = true;
    for (place, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            letter if is_start && letter.is_alphabetic() => {
                names.push(first_word(&group[place..]));
                is_start = false;
            }
            _ => {}
        }
    }
    names
}

fn first_word(text: &str) -> String {
    let is_part = |letter: &char| letter.is_alphanumeric() || *letter == '_';
    text.chars().take_while(is_part).collect()
}

/// Returns all files of a module, with their text.
fn sources(root: &Path, module: &str) -> Vec<(String, String)> {
    let mut files = vec![root.join(format!("{module}.rs"))];
    let mut folders = vec![root.join(module)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    let read = |path: std::path::PathBuf| {
        let text = fs::read_to_string(&path).ok()?;
        Some((path.display().to_string(), text))
    };
    files.into_iter().filter_map(read).collect()
}
