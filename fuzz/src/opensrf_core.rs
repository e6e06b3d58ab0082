//! Evergreen's own file: what is no XML, or has a DTD or an entity of its own, is refused; what is taken names only what stands in it.

use crate::file;

pub fn run(text: &[u8]) {
    let Ok(loaded) = file::opensrf_core(text) else { return };
    let text = std::str::from_utf8(text).expect("a file that is taken is UTF-8");
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
    let document = roxmltree::Document::parse_with_options(text, options).expect("a file that is taken is XML");
    let root = document.root_element();
    assert!(root.has_tag_name("config"));
    // Where a DTD may stand there are only comments and instructions.
    let before: Vec<_> = document.root().children().take_while(|node| *node != root).collect();
    let spaces: usize = before.iter().map(|node| node.range().len()).sum();
    let head = &text[..root.range().start];
    let outside: String = before.iter().rev().fold(head.to_owned(), |rest, node| {
        let mut rest = rest;
        rest.replace_range(node.range(), "");
        rest
    });
    assert!(spaces <= head.len() && !outside.contains("<!DOCTYPE"), "a DTD is taken");
    let gateway = root.children().find(|node| node.has_tag_name("gateway"));
    assert!(gateway.is_some());
    // A value is what stands between the comments inside it; names are taken in lower case.
    let texts: String = document.descendants().filter(|node| node.is_text()).filter_map(|node| node.text()).collect();
    let said = texts.to_lowercase();
    for name in loaded.config.domains.iter().chain([&loaded.config.username]).filter(|name| !name.is_empty()) {
        assert!(said.contains(&name.to_lowercase()), "{name:?} does not stand in the file");
    }
}
