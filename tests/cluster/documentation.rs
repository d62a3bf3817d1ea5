//! The tables of the documentation name everything that the operator says.

use std::{collections::BTreeSet, fs, path::Path};

use crate::support::kubernetes::root;

/// Words in quotes that are no reasons: kinds and types, operators of selectors, and parts of
/// messages.
const NO_REASONS: [&str; 21] = [
    "AcsConnection",
    "AcsIdentities",
    "AcsIdentity",
    "AcsRevocation",
    "AcsToken",
    "ClusterAcsConnection",
    "ClusterAcsRevocation",
    "DoesNotExist",
    "Events",
    "Exists",
    "False",
    "In",
    "Inputs",
    "Namespace",
    "Normal",
    "NotIn",
    "Opaque",
    "True",
    "Unrecorded",
    "ValidatingAdmissionPolicy",
    "Warning",
];

/// The reasons of conditions, Events, failures and issues: the words in quotes that begin with a
/// capital, in the code that gives them, without its tests.
fn reasons_in_the_code() -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for folder in [
        "identity",
        "token",
        "revocation",
        "connection",
        "cluster",
        "context",
        "operator",
    ] {
        collect(Path::new(&root(&format!("src/{folder}"))), &mut words);
    }
    for file in [
        "src/context.rs",
        "src/credentials.rs",
        "src/crd/condition.rs",
        "src/acs/error.rs",
    ] {
        collect(Path::new(&root(file)), &mut words);
    }
    for word in NO_REASONS {
        words.remove(word);
    }
    words
}

fn collect(path: &Path, words: &mut BTreeSet<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("readable") {
            collect(&entry.expect("readable").path(), words);
        }
        return;
    }
    let text = fs::read_to_string(path).expect("readable");
    let code = text.split("#[cfg(test)]").next().expect("code");
    let quoted = code.split('"').skip(1).step_by(2);
    words.extend(quoted.filter(|word| is_reason(word)).map(ToOwned::to_owned));
}

fn is_reason(word: &str) -> bool {
    let begins = word.starts_with(|first: char| first.is_ascii_uppercase());
    begins && word.chars().all(|letter| letter.is_ascii_alphabetic())
}

#[test]
fn every_reason_that_the_operator_gives_is_in_the_documentation() {
    let page = fs::read_to_string(root("docs/behaviour.md")).expect("the page");
    let told: BTreeSet<_> = page.split('`').skip(1).step_by(2).collect();
    let reasons = reasons_in_the_code();
    assert!(reasons.len() > 40, "{reasons:?}");
    let untold: Vec<_> = reasons
        .iter()
        .filter(|word| !told.contains(word.as_str()))
        .collect();
    assert!(untold.is_empty(), "docs/behaviour.md lacks {untold:?}");
}
