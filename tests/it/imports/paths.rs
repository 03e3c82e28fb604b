//! Every path that a source file names, with its line.

use std::collections::BTreeSet;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One path in the source.
#[derive(Debug)]
pub(super) struct PathUse {
    /// Where it stands, from 1.
    pub(super) line: usize,
    /// Whether it leads into this crate; then the segments begin at the crate's root.
    pub(super) ours: bool,
    /// Its parts.
    pub(super) segments: Vec<String>,
    /// The name that a `use` gives it in this file.
    pub(super) imported_as: Option<String>,
    /// Whether that `use` is public, in whatever part of the crate.
    pub(super) public: bool,
}

/// The paths of `source`, the text of `file` (relative to `src`), apart from those in test modules.
pub(super) fn of(file: &Path, source: &str) -> Vec<PathUse> {
    read(file, source).0
}

/// The same, and every word outside `use`.
pub(super) fn read(file: &Path, source: &str) -> (Vec<PathUse>, BTreeSet<String>) {
    let tokens: TokenStream =
        source.parse().unwrap_or_else(|error| panic!("src/{}: {error}", file.display()));
    let mut reader = Reader { module: module_of(file), found: Vec::new(), words: BTreeSet::new() };
    reader.read(tokens);
    (reader.found, reader.words)
}

/// The segments of a file's module.
pub(super) fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<_> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

struct Reader {
    module: Vec<String>,
    found: Vec<PathUse>,
    words: BTreeSet<String>,
}

impl Reader {
    fn read(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        let mut in_test = false;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    in_test |= tokens
                        .get(at + 1)
                        .is_some_and(|next| next.to_string().replace(' ', "") == "[cfg(test)]");
                    at += 1;
                }
                TokenTree::Ident(word) if word == "mod" => {
                    at = self.module(&tokens, at, std::mem::take(&mut in_test))
                }
                TokenTree::Ident(word) if word == "use" => {
                    let end = (at..tokens.len())
                        .find(|&end| is_punct(&tokens, end, ';'))
                        .unwrap_or(tokens.len());
                    let public = is_public(&tokens[..at]);
                    self.tree(&tokens[at + 1..end], &[], public);
                    in_test = false;
                    at = end;
                }
                // `pub(in super::super)` imports nothing.
                TokenTree::Ident(word) if word == "pub" && is_visibility(tokens.get(at + 1)) => {
                    at += 2
                }
                TokenTree::Ident(_) => at = self.path(&tokens, at),
                TokenTree::Group(group) => {
                    self.read(group.stream());
                    // The braces end the item that an attribute belonged to.
                    in_test &= group.delimiter() != Delimiter::Brace;
                    at += 1;
                }
                // `<T as X>::y`, `a::<B>::c`: the rest of a path, not a new one.
                TokenTree::Punct(punct)
                    if punct.as_char() == '>' && is_separator(&tokens, at + 1) =>
                {
                    at = self.skip(&tokens, at + 1);
                }
                _ => at += 1,
            }
        }
    }

    /// `mod name { … }`, or `mod name;`.
    fn module(&mut self, tokens: &[TokenTree], at: usize, in_test: bool) -> usize {
        if let (Some(name), Some(TokenTree::Group(body))) = (tokens.get(at + 1), tokens.get(at + 2))
            && !in_test
        {
            self.module.push(name.to_string());
            self.read(body.stream());
            self.module.pop();
        }
        at + 3
    }

    /// A path outside `use`. A word alone is none.
    fn path(&mut self, tokens: &[TokenTree], start: usize) -> usize {
        self.words.insert(tokens[start].to_string());
        let mut segments = vec![tokens[start].to_string()];
        let mut at = start + 1;
        while is_separator(tokens, at)
            && let Some(TokenTree::Ident(word)) = tokens.get(at + 2)
        {
            segments.push(word.to_string());
            at += 3;
        }
        if segments.len() > 1 {
            self.note(tokens[start].span().start().line, segments, None, false);
        }
        at
    }

    fn skip(&mut self, tokens: &[TokenTree], mut at: usize) -> usize {
        while is_separator(tokens, at) && matches!(tokens.get(at + 2), Some(TokenTree::Ident(_))) {
            at += 3;
        }
        at
    }

    /// What stands between `use` and `;`, or between commas in its braces.
    fn tree(&mut self, tokens: &[TokenTree], prefix: &[String], public: bool) {
        for branch in
            tokens.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ','))
        {
            let mut segments = prefix.to_vec();
            let (mut line, mut alias) = (None, None);
            for (at, token) in branch.iter().enumerate() {
                match token {
                    TokenTree::Ident(word) if word == "as" => {
                        alias = branch.get(at + 1).map(ToString::to_string);
                        break;
                    }
                    TokenTree::Ident(word) => {
                        segments.push(word.to_string());
                        line = Some(token.span().start().line);
                    }
                    TokenTree::Group(group) => {
                        let inner: Vec<_> = group.stream().into_iter().collect();
                        self.tree(&inner, &segments, public);
                        line = None;
                    }
                    _ => {}
                }
            }
            if let Some(line) = line {
                // `a::{self}` is `a`.
                if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
                    segments.pop();
                }
                let name = alias.or_else(|| segments.last().cloned());
                self.note(line, segments, name, public);
            }
        }
    }

    fn note(
        &mut self,
        line: usize,
        segments: Vec<String>,
        imported_as: Option<String>,
        public: bool,
    ) {
        let (ours, segments) = match segments[0].as_str() {
            "crate" | "eni_gateway" => (true, segments[1..].to_vec()),
            "self" | "super" => {
                let mut module = self.module.clone();
                let ups = segments
                    .iter()
                    .take_while(|word| ["self", "super"].contains(&word.as_str()))
                    .count();
                let supers = segments[..ups].iter().filter(|word| *word == "super").count();
                module.truncate(module.len().saturating_sub(supers));
                module.extend_from_slice(&segments[ups..]);
                (true, module)
            }
            _ => (false, segments),
        };
        self.found.push(PathUse { line, ours, segments, imported_as, public });
    }
}

/// Whether what stands before a `use` ends in `pub` or `pub(…)`.
fn is_public(before: &[TokenTree]) -> bool {
    let is_pub =
        |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Ident(word)) if word == "pub");
    match before {
        [.., last] if is_pub(Some(last)) => true,
        [.., first, TokenTree::Group(_)] => is_pub(Some(first)),
        _ => false,
    }
}

fn is_visibility(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Group(group)) if group.stream().to_string().starts_with("in "))
}

fn is_punct(tokens: &[TokenTree], at: usize, character: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens, at, ':') && is_punct(tokens, at + 1, ':')
}
