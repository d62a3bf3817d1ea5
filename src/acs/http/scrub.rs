//! Removal of secrets from messages of ACS.

/// Maximum length of a text that is kept, in bytes.
const LONGEST_TEXT: usize = 300;
/// Maximum length of a run of characters that keys and tokens consist of. An identity id has 73;
/// the shortest existing keys have 84, tokens have hundreds.
const LONGEST_RUN: usize = 80;
const REMOVED: &str = "[removed]";

/// Returns one line of at most a few hundred bytes, without `secrets` and without anything that
/// could be a key or token: the server may echo the request, and may not be ACS at all.
pub(in super::super) fn scrubbed(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, REMOVED);
    }
    let mut kept = String::with_capacity(LONGEST_TEXT);
    for run in text.split_inclusive(|c| !is_of_a_token(c)) {
        let (run, rest) = match run.char_indices().next_back() {
            Some((at, last)) if !is_of_a_token(last) => run.split_at(at),
            _ => (run, ""),
        };
        kept.push_str(if run.len() > LONGEST_RUN {
            REMOVED
        } else {
            run
        });
        kept.push_str(
            if rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
                " "
            } else {
                rest
            },
        );
    }
    let kept = kept.trim();
    match kept
        .char_indices()
        .find(|(at, c)| at + c.len_utf8() > LONGEST_TEXT)
    {
        Some((end, _)) => format!("{}...", kept.get(..end).unwrap_or_default()),
        None => kept.to_owned(),
    }
}

fn is_of_a_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-' | '_' | '.' | '%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_as_they_are() {
        for text in [
            "Provided identity doesn't belong to the resource.",
            "8:acs:4ccc92c8-9815-4422-bddc-ceea181dc774_00000006-19e0-2727-80f5-8b3a0d003502",
            "größer als €60",
            "",
        ] {
            assert_eq!(scrubbed(text, &[]), text);
        }
    }

    #[test]
    fn secrets_go_whether_known_or_not() {
        assert_eq!(
            scrubbed("bad token abc, abc", &["abc", ""]),
            "bad token [removed], [removed]"
        );
        let token = format!("eyJ{}.{}", "a".repeat(60), "b-_".repeat(60));
        assert_eq!(
            scrubbed(&format!("token:'{token}'!"), &[]),
            "token:'[removed]'!"
        );
        assert_eq!(scrubbed(&"A".repeat(84), &[]), REMOVED);
        assert_eq!(scrubbed(&format!("{}==", "A".repeat(86)), &[]), REMOVED);
    }

    #[test]
    fn a_text_becomes_one_short_line() {
        assert_eq!(scrubbed(" a\r\nb\tc\u{1b}[31m ", &[]), "a  b c [31m");
        let text = scrubbed(&"é ".repeat(1000), &[]);
        assert!(text.len() <= LONGEST_TEXT + 3, "{}", text.len());
        assert!(text.ends_with("..."));
        assert_eq!(scrubbed(&"ab ".repeat(100), &[]).len(), 299);
    }
}
