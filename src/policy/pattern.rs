//! Patterns with `*`.

/// A text in which each `*` stands for any number of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(String);

impl Pattern {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// Whether it matches every text.
    pub(super) fn is_any(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }

    /// Whether it matches the whole text.
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return self.0 == text;
        };
        let Some(mut text) = text.strip_prefix(first) else {
            return false;
        };
        let mut parts = rest.split('*');
        // `split` returns at least one part. The last one is at the end, the others are at the
        // first place where they fit.
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            let Some((_, after)) = text.split_once(part) else {
                return false;
            };
            text = after;
        }
        text.ends_with(last)
    }
}

/// Whether a pattern can match the name of a principal.
pub(super) fn is_caller(pattern: &str, aliases: &[String]) -> bool {
    let can_begin = |form: &str| {
        let literal = pattern.split('*').next().unwrap_or_default();
        literal.starts_with(form) || (form.starts_with(literal) && literal.len() < pattern.len())
    };
    pattern.bytes().all(|byte| byte.is_ascii_graphic())
        && (["spiffe://", "dns:"].into_iter().any(can_begin)
            || aliases.iter().any(|alias| can_begin(&format!("{alias}:"))))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("i-1", "i-1", true)]
    #[case("i-1", "i-12", false)]
    #[case("i-1", "xi-1", false)]
    #[case("*", "", true)]
    #[case("*", "anything/at:all", true)]
    #[case("i-*", "i-", true)]
    #[case("i-*", "j-i-", false)]
    #[case("*-web", "team-web", true)]
    #[case("*-web", "team-web2", false)]
    #[case("a*b*c", "abc", true)]
    #[case("a*b*c", "aXbYbZc", true)]
    #[case("a*b*c", "acb", false)]
    #[case("a*a", "a", false)]
    #[case("a*a", "aa", true)]
    #[case("ab*ba", "aba", false)]
    #[case("**", "x", true)]
    #[case("*bc*bc", "abc", false)]
    #[case("A*", "abc", false)]
    fn a_star_stands_for_any_text(
        #[case] pattern: &str,
        #[case] text: &str,
        #[case] matches: bool,
    ) {
        assert_eq!(Pattern::new(pattern.to_owned()).matches(text), matches);
    }
}
