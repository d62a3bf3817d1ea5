//! `generate`: converts lines of names and scopes to the YAML of a GitOps repository.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use acs_identity_operator::crd::Scope;
use clap::Args;

use crate::{
    cluster::{
        manifest::{self, Connection},
        session::ClusterArgs,
    },
    failure::{Exit, Failure},
    view::output,
};

/// Convert lines of `name,scopes` to the YAML of identities and tokens, for a GitOps repository
///
/// Each line, for example `alice,chat,voip` or `alice,chat voip`, becomes an AcsIdentity and an
/// AcsToken of that name. Empty lines, lines that begin with # and a first line `name,scopes` are
/// skipped. The command does not connect to a cluster.
#[derive(Clone, Debug, Args)]
pub struct Generate {
    /// File with the lines, or - for stdin
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Lifetime of each token, 1h to 24h, for example 90m [default: 24h]
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// Runs `generate`.
pub fn generate(place: &ClusterArgs, command: &Generate) -> Result<(), Failure> {
    let text = if command.file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(&command.file)
    };
    let file = command.file.display();
    let text =
        text.map_err(|error| Failure::new(Exit::Usage, format!("cannot read {file}: {error}")))?;
    let wanted = parse(&text).map_err(|errors| Failure::new(Exit::Usage, errors.join("\n")))?;
    let namespace = place.namespace.as_deref();
    let mut yaml = String::new();
    for (name, scopes) in wanted {
        let identity = manifest::identity(&name, &command.connection, None, None);
        let token = manifest::token(&name, &name, scopes, command.expires_in.clone(), None);
        yaml.push_str(&manifest::document(identity, namespace)?);
        yaml.push_str(&manifest::document(token, namespace)?);
    }
    output::print(&yaml);
    Ok(())
}

type Wanted = Vec<(String, BTreeSet<Scope>)>;

/// Parses the lines; returns all errors.
fn parse(text: &str) -> Result<Wanted, Vec<String>> {
    let mut wanted = Wanted::new();
    let mut errors = Vec::new();
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        // Spreadsheets put quotes around values.
        let plain = line.trim().trim_start_matches('\u{feff}').replace('"', "");
        if plain.is_empty()
            || plain.starts_with('#')
            || (wanted.is_empty() && plain == "name,scopes")
        {
            continue;
        }
        match parse_line(&plain) {
            Ok((name, scopes)) => {
                if let Some(former) = lines.insert(name.clone(), number) {
                    errors.push(format!("line {number}: {name} is already in line {former}"));
                }
                wanted.push((name, scopes));
            }
            Err(error) => errors.push(format!("line {number}: {error}")),
        }
    }
    if wanted.is_empty() && errors.is_empty() {
        errors.push("the input has no lines; write lines such as alice,chat,voip".to_owned());
    }
    if errors.is_empty() {
        Ok(wanted)
    } else {
        Err(errors)
    }
}

fn parse_line(line: &str) -> Result<(String, BTreeSet<Scope>), String> {
    let (name, scopes) = line.split_once(',').unwrap_or((line, ""));
    let name = manifest::name(name.trim())?;
    let words = scopes
        .split([',', ';', ' ', '\t'])
        .filter(|word| !word.is_empty());
    let scopes: BTreeSet<_> = words.map(manifest::scope).collect::<Result<_, _>>()?;
    if scopes.is_empty() {
        return Err(format!("{name} has no scopes; write {name},chat,voip"));
    }
    Ok((name, scopes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_may_stand_between_commas_or_blanks_and_in_quotes() {
        let text = "name,scopes\n# the web team\nalice,chat,voip\n\nbob, chat  voip.join\ncarol,\"chat;voip\"\n";
        let wanted = parse(text).unwrap();
        let said: Vec<_> = wanted
            .iter()
            .map(|(name, scopes)| {
                let scopes: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
                format!("{name}={}", scopes.join("+"))
            })
            .collect();
        assert_eq!(
            said,
            ["alice=chat+voip", "bob=chat+voip.join", "carol=chat+voip"]
        );
    }

    #[test]
    fn every_wrong_line_is_told_with_its_number() {
        let errors = parse("alice,chat\nBob,chat\ncarol\ndave,talk\nalice,voip\n").unwrap_err();
        let expected = [
            "line 2: `Bob` is not a Kubernetes name",
            "line 3: carol has no scopes",
            "line 4: `talk` is not a scope; the scopes are chat, chat.join",
            "line 5: alice is already in line 1",
        ];
        assert_eq!(errors.len(), expected.len(), "{errors:?}");
        for (error, expected) in errors.iter().zip(expected) {
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
