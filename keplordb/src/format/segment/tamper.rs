//! For tests: a segment with something wrong in it under checksums that are right.

use super::{SECTION_ALIGN_BYTES, SectionKind, SegmentHeader, header_lengths};
use crate::format::bytes::align;

/// The contents of every section of a file, in the order of the header.
fn contents(header: &SegmentHeader, file: &[u8]) -> Vec<Vec<u8>> {
    let content = |section: &super::SectionEntry| section.content(0).and_then(|range| file.get(range));
    header.sections.iter().map(|section| content(section).unwrap_or_default().to_vec()).collect()
}

/// What a section of this file holds.
pub(crate) fn section_of(file: &[u8], kind: SectionKind, column: usize) -> Vec<u8> {
    let header = SegmentHeader::parse(file).expect("a whole segment");
    let index = header.section(kind, column).expect("the segment has the section");
    contents(&header, file).swap_remove(index)
}

/// The file with another content of one section.
pub(crate) fn with_section(
    file: &[u8],
    kind: SectionKind,
    column: usize,
    change: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    rebuilt(file, |header, contents| {
        let index = header.section(kind, column).expect("the segment has the section");
        change(contents.get_mut(index).expect("each section has a content"));
    })
}

/// The file with another header.
pub(crate) fn with_header(file: &[u8], change: impl FnOnce(&mut SegmentHeader)) -> Vec<u8> {
    rebuilt(file, |header, _| change(header))
}

fn rebuilt(file: &[u8], change: impl FnOnce(&mut SegmentHeader, &mut Vec<Vec<u8>>)) -> Vec<u8> {
    header_lengths(file).expect("a whole segment");
    let mut header = SegmentHeader::parse(file).expect("a whole segment");
    let mut contents = contents(&header, file);
    change(&mut header, &mut contents);
    for (section, content) in header.sections.iter_mut().zip(&mut contents) {
        let content_bytes = content.len();
        align(content, SECTION_ALIGN_BYTES);
        section.bytes = content.len() as u64;
        section.padding =
            u8::try_from(content.len() - content_bytes).expect("padding is shorter than 64 bytes");
        section.crc = crc32fast::hash(content);
    }
    [header.encode(), contents.concat()].concat()
}
