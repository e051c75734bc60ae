//! The page: the space-time diagram with its data and its script in one file.

use super::story::Story;

const HTML: &str = include_str!("page.html");
const CSS: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page of a story. Text of the run only ever stands inside the JSON, in which `<` is written
/// as an escape, so no key or value can end the script or begin a tag.
pub(super) fn text(story: &Story) -> String {
    let data = serde_json::to_string(story).expect("a story is plain data");
    let data = data.replace('<', "\\u003c").replace('\u{2028}', "\\u2028");
    let title = if story.held { "held" } else { "broken" };
    let mut page = String::with_capacity(HTML.len() + CSS.len() + SCRIPT.len() + data.len());
    let mut rest = HTML;
    for (mark, text) in
        [("{{title}}", title), ("{{css}}", CSS), ("{{data}}", &data), ("{{script}}", SCRIPT)]
    {
        let (before, after) = rest.split_once(mark).expect("page.html has each mark, in order");
        page.push_str(before);
        page.push_str(text);
        rest = after;
    }
    page.push_str(rest);
    page
}
