//! As much of HTML as is needed to read our own pages: tags with their attributes, and the text between them. It is strict: what a
//! browser would have to guess is a mistake here.

/// A tag that opens, or a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Open { name: String, attributes: Vec<(String, String)> },
    Close(String),
    Text(String),
}

/// Elements without an end.
const VOID: [&str; 5] = ["meta", "link", "input", "br", "wbr"];

/// The pieces of a page; panics where a tag is not closed by its own.
pub(crate) fn pieces(page: &str) -> Vec<Piece> {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a page begins so");
    let (mut pieces, mut open) = (Vec::new(), Vec::new());
    while let Some(at) = rest.find('<') {
        if at > 0 {
            pieces.push(Piece::Text(decoded(&rest[..at])));
        }
        let (tag, behind) = tag(&rest[at + 1..]);
        rest = behind;
        match &tag {
            Piece::Open { name, .. } if !VOID.contains(&name.as_str()) => open.push(name.clone()),
            Piece::Close(name) => {
                assert_eq!(open.pop().as_ref(), Some(name), "closed by another: {pieces:?}");
            }
            _ => {}
        }
        pieces.push(tag);
    }
    assert!(open.is_empty(), "{open:?} are not closed");
    assert!(rest.trim().is_empty(), "behind the page: {rest}");
    pieces
}

fn tag(text: &str) -> (Piece, &str) {
    if let Some(rest) = text.strip_prefix('/') {
        let (name, rest) = rest.split_once('>').expect("a tag ends");
        return (Piece::Close(name.to_owned()), rest);
    }
    let end = text.find([' ', '>']).expect("a tag ends");
    let name = text[..end].to_owned();
    assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{name:?} is no element of ours");
    let (mut rest, mut attributes) = (&text[end..], Vec::new());
    loop {
        rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix('>') {
            return (Piece::Open { name, attributes }, behind);
        }
        let end = rest.find(['=', ' ', '>']).expect("an attribute ends");
        let attribute = rest[..end].to_owned();
        rest = &rest[end..];
        let value = match rest.strip_prefix("=\"") {
            None => String::new(),
            Some(behind) => {
                let (value, behind) = behind.split_once('"').expect("a value ends");
                rest = behind;
                decoded(value)
            }
        };
        attributes.push((attribute, value));
    }
}

fn decoded(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

/// The attribute of a tag.
pub(crate) fn attribute<'a>(piece: &'a Piece, wanted: &str, name: &str) -> Option<&'a str> {
    match piece {
        Piece::Open { name: element, attributes } if element == wanted => {
            attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
        }
        _ => None,
    }
}

/// All text of a page, without its tags.
pub(crate) fn text(pieces: &[Piece]) -> String {
    pieces
        .iter()
        .filter_map(|piece| if let Piece::Text(text) = piece { Some(text.as_str()) } else { None })
        .collect()
}

/// Where an address of a page leads, from the path that the page has.
pub(crate) fn resolved(page: &str, href: &str) -> String {
    if href.starts_with('#') {
        return page.to_owned();
    }
    assert!(
        href.starts_with("./") || href.starts_with("../"),
        "{href:?} on {page} is not relative to the root"
    );
    let (href, query) = href.split_once('?').map_or((href, None), |(href, query)| (href, Some(query)));
    let page = page.split('?').next().unwrap();
    let mut segments: Vec<&str> = page.split('/').skip(1).collect();
    segments.pop();
    for segment in href.split('/') {
        match segment {
            "." => {}
            ".." => assert!(segments.pop().is_some(), "{href} on {page} leads above the root"),
            segment => segments.push(segment),
        }
    }
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("/{}{query}", segments.join("/"))
}

#[test]
fn addresses_are_resolved_as_browsers_do() {
    assert_eq!(resolved("/e/User/u", "../../e/User/v?x=1"), "/e/User/v?x=1");
    assert_eq!(resolved("/", "./"), "/");
    assert_eq!(resolved("/e?x=a/b", "./e/User"), "/e/User");
    assert_eq!(resolved("/e/User", "../"), "/");
}
