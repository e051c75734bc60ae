//! Just enough of Rust's lexer to tell code from comments and literals, and to read imports.
//!
//! Invariant: blanking keeps every line break, so line numbers stay true.

/// Every path after `root::`, imports in braces written out.
pub(crate) fn paths_after(code: &str, root: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let needle = format!("{root}::");
    for (at, _) in code.match_indices(&needle) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| is_ident(c) || c == ':' || c == '$' || c == '.') {
            continue;
        }
        read_tree(&code[at + needle.len()..], "", &mut paths);
    }
    paths
}

/// Reads one import tree and returns what follows it.
pub(crate) fn read_tree<'a>(code: &'a str, prefix: &str, paths: &mut Vec<String>) -> &'a str {
    let code = code.trim_start();
    let name_length = code.find(|c: char| !is_ident(c)).unwrap_or(code.len());
    let (name, rest) = code.split_at(name_length);
    let joined = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    if let Some(inside) = code.strip_prefix('{') {
        let mut rest = inside;
        loop {
            rest = read_tree(rest, prefix, paths).trim_start();
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    match rest.strip_prefix("::") {
        Some(rest) if rest.starts_with(|c: char| is_ident(c) || c == '{') => {
            read_tree(rest, &joined, paths)
        }
        _ => {
            if !name.is_empty() {
                paths.push(joined);
            }
            rest
        }
    }
}

pub(crate) fn is_ident(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether `word` stands in `text` with no letter, digit or underscore right beside it.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let open = !word.ends_with(is_ident) || !after.is_some_and(is_ident);
        open && !before.is_some_and(is_ident)
    })
}

/// The code with comments, strings and characters replaced by spaces; line breaks stay.
pub(crate) fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` itself if none begins there.
pub(crate) fn literal_end(chars: &[char], at: usize) -> usize {
    let next = |offset: usize| chars.get(at + offset).copied().unwrap_or('\0');
    let fresh = at == 0 || !is_ident(chars[at - 1]);
    match (chars[at], next(1)) {
        ('/', '/') => chars[at..].iter().position(|&c| c == '\n').map_or(chars.len(), |n| at + n),
        ('/', '*') => block_comment_end(chars, at),
        ('"', _) => string_end(chars, at + 1),
        ('b', '"') if fresh => string_end(chars, at + 2),
        ('r', '"' | '#') if fresh => raw_string_end(chars, at, at + 1),
        ('b', 'r') if fresh && matches!(next(2), '"' | '#') => raw_string_end(chars, at, at + 2),
        ('\'', '\\') => chars[at + 3..].iter().position(|&c| c == '\'').map_or(at, |n| at + n + 4),
        ('\'', _) if next(2) == '\'' => at + 3,
        _ => at,
    }
}

pub(crate) fn block_comment_end(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at < chars.len() {
        let pair = (chars[at], chars.get(at + 1).copied().unwrap_or('\0'));
        match pair {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    at
}

pub(crate) fn string_end(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

pub(crate) fn raw_string_end(chars: &[char], start: usize, from: usize) -> usize {
    let hashes = chars[from..].iter().take_while(|&&c| c == '#').count();
    if chars.get(from + hashes) != Some(&'"') {
        return start;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = from + hashes + 1;
    let found = chars[body..].windows(close.len()).position(|window| window == close);
    found.map_or(chars.len(), |n| body + n + close.len())
}
