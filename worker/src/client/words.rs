//! A command line cut into words, as a shell does it.

/// Cuts `line` at blanks. Single quotes keep everything, double quotes all but `\"` and `\\`, a
/// backslash outside of quotes keeps the next character.
///
/// # Errors
/// A sentence, if a quote has no end.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('\'') => break,
                        Some(other) => word.push(other),
                        None => return Err("a ' has no end; close the quote".to_owned()),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('"') => break,
                        Some('\\') => match characters.next() {
                            Some(escaped @ ('"' | '\\')) => word.push(escaped),
                            Some(other) => word.extend(['\\', other]),
                            None => return Err("a \" has no end; close the quote".to_owned()),
                        },
                        Some(other) => word.push(other),
                        None => return Err("a \" has no end; close the quote".to_owned()),
                    }
                }
            }
            '\\' => match characters.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err("nothing follows the \\ at the end".to_owned()),
            },
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_are_cut_as_a_shell_does() {
        assert_eq!(split("put  a 1\n").unwrap(), ["put", "a", "1"]);
        assert_eq!(
            split(r#"put 'a b' "c \"d\" \e" f\ g """#).unwrap(),
            ["put", "a b", "c \"d\" \\e", "f g", ""]
        );
        assert_eq!(split("a'b'\"c\"").unwrap(), ["abc"]);
        assert!(split("").unwrap().is_empty());
        for open in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(split(open).is_err(), "{open}");
        }
    }
}
