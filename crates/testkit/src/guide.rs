//! Guides whose commands are tested as they stand in the document.

/// What a guide has its readers type in the section of this title: the blocks marked `sh`, one after
/// the other. `text` is in Markdown, its sections begin with `## `.
///
/// # Panics
/// There is no such section, or it has no commands.
#[track_caller]
pub fn commands(text: &str, title: &str) -> String {
    let mut sections = text.split("\n## ");
    let section = sections.find(|section| section.lines().next() == Some(title));
    let section = section.unwrap_or_else(|| panic!("no section {title}"));
    let blocks = section.split("```sh\n").skip(1);
    let typed: String = blocks
        .filter_map(|rest| rest.split_once("```"))
        .map(|(block, _)| block)
        .collect();
    assert!(!typed.is_empty(), "{title} has no commands");
    typed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sections_commands_are_those_of_its_blocks() {
        let text = "# T\n\n## A\n```sh\na\n```\n\n## B\n\n```sh\nb\n```\nx\n```console\n# no\n```\n```sh\nc\n```\n";
        assert_eq!(commands(text, "A"), "a\n");
        assert_eq!(commands(text, "B"), "b\nc\n");
    }
}
